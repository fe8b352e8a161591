"""What code may start."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from jupyter_dsvm.allowance import DAY_SECONDS, Allowance
from jupyter_dsvm.errors import ConfigurationError, NotAllowed
from jupyter_dsvm.models import PowerState, Price
from support.fakes import dsvm

VM = dsvm("gpu-vm", PowerState.DEALLOCATED)


def take(rule: dict, compute=VM) -> None:
    Allowance(lambda: rule, None).take(compute)


def test_by_default_code_may_start_nothing():
    with pytest.raises(NotAllowed) as e:
        take({})
    assert "panel" in e.value.advice
    assert "kernel_may_start" in e.value.advice
    with pytest.raises(NotAllowed):
        take({"starts_per_day": 5})  # without names, nothing may


@pytest.mark.parametrize("names", [["gpu-vm"], ["GPU-*"], ["lab/gpu-vm"], ["sub1/lab/gpu-vm"], ["*"], "gpu-vm"])
def test_names_and_patterns(names):
    take({"names": names})
    with pytest.raises(NotAllowed):
        take({"names": ["other", "lab2/*"]})


def test_price():
    cheap = dsvm("cheap", PowerState.DEALLOCATED, price=Price(0.5, "USD", "2026-01-01"))
    take({"names": ["*"], "price_per_hour": 0.5}, cheap)
    with pytest.raises(NotAllowed, match=r"0\.5 USD"):
        take({"names": ["*"], "price_per_hour": 0.4}, cheap)
    with pytest.raises(NotAllowed, match="not known"):
        take({"names": ["*"], "price_per_hour": 100}, VM)


def test_starts_per_day_are_counted_over_processes(tmp_path: Path):
    log = tmp_path / "data" / "starts.jsonl"
    now = [1_000_000.0]
    rule = {"names": ["*"], "starts_per_day": 2}
    for _ in range(2):
        Allowance(lambda: rule, log, lambda: now[0]).take(VM)
        now[0] += 3600
    with pytest.raises(NotAllowed, match="2 machines") as e:
        Allowance(lambda: rule, log, lambda: now[0]).take(VM)
    assert e.value.retry_after == pytest.approx(DAY_SECONDS - 7200)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    now[0] += DAY_SECONDS - 7200
    Allowance(lambda: rule, log, lambda: now[0]).take(VM)


def test_a_damaged_log_is_no_obstacle(tmp_path: Path):
    log = tmp_path / "starts.jsonl"
    log.write_text('[1, "a"]\n[2\nnull\n')
    Allowance(lambda: {"names": ["*"], "starts_per_day": 1}, log).take(VM)


def test_two_at_a_time_take_two():
    allowance = Allowance(lambda: {"names": ["*"], "starts_per_day": 5}, None)
    refused = []

    def work() -> None:
        try:
            allowance.take(VM)
        except NotAllowed:
            refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(refused) == 3


def test_a_misspelt_key_is_said():
    with pytest.raises(ConfigurationError, match="'name'"):
        take({"name": ["*"]})
