"""The registry: which proxies there are, who answers their %dsvm, and that a service loaded here goes with the last of them."""

from __future__ import annotations

import threading
from importlib import metadata
from typing import Any, cast

import pytest

from jupyter_dsvm.errors import ConfigurationError, DSVMError, NotAllowed
from jupyter_dsvm.kernels import registry as module
from jupyter_dsvm.kernels.proxy import Proxy
from jupyter_dsvm.kernels.registry import Call, Registry


class FakeProxy:
    def __init__(self, kernel_id: str) -> None:
        self.kernel_id = kernel_id


def proxy(kernel_id: str = "k1") -> Proxy:
    return cast(Proxy, FakeProxy(kernel_id))


class FakeService:
    made = 0

    def __init__(self) -> None:
        FakeService.made += 1
        self.raises: Exception | None = None
        self.closed = threading.Event()

    def handle_call(self, call: Call) -> None:
        call.progress({"text": "looking"})
        if self.raises is not None:
            raise self.raises
        call.finish({"text": call.request["line"]})

    def close(self) -> None:
        self.closed.set()


class EntryPoint:
    def load(self) -> type[FakeService]:
        return FakeService


def ask(registry: Registry) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    over = threading.Event()

    def answer(value: dict[str, Any]) -> None:
        answers.append(value)
        if "progress" not in value:
            over.set()

    registry.dispatch(Call(proxy(), {"line": "list"}, trusted=True, running=True, answer=answer))
    assert over.wait(5)
    return answers


def test_proxies_come_and_go_and_listeners_hear_of_it(caplog: pytest.LogCaptureFixture) -> None:
    registry, heard = Registry(), []
    unsubscribe = registry.subscribe(heard.append)
    registry.subscribe(lambda _id: 1 // 0)
    first, again = proxy(), proxy()
    registry.add(first)
    assert registry.get("k1") is first
    registry.add(again)
    registry.remove(first)
    assert registry.all() == [again], "another proxy of that id stays"
    unsubscribe()
    unsubscribe()
    registry.remove(again)
    assert registry.get("k1") is None
    assert heard == ["k1"] * 3
    assert "a listener failed" in caplog.text


def test_a_service_that_was_supplied_answers_and_stays() -> None:
    registry, service, only = Registry(), FakeService(), proxy()
    registry.service = cast(Any, service)
    registry.add(only)
    assert ask(registry) == [{"progress": {"text": "looking"}}, {"result": {"text": "list"}}]
    registry.remove(only)
    assert registry.service is service
    assert not service.closed.is_set()


def test_outside_a_server_the_service_is_loaded_once_and_closed_with_the_last_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: [EntryPoint()] if group == module.ENTRY_POINTS else [])
    registry, FakeService.made = Registry(), 0
    proxies = [proxy("k1"), proxy("k2")]
    for p in proxies:
        registry.add(p)
    assert registry.service is None
    ask(registry)
    ask(registry)
    service = cast(FakeService, registry.service)
    assert FakeService.made == 1
    registry.remove(proxies[0])
    assert not service.closed.is_set()
    registry.remove(proxies[1])
    assert service.closed.wait(5)
    assert registry.service is None


def test_every_call_gets_an_answer_whatever_the_service_raises() -> None:
    registry, service = Registry(), FakeService()
    registry.service = cast(Any, service)
    service.raises = NotAllowed("No.", advice="Ask.")
    assert ask(registry)[-1] == {"error": {"code": "NotAllowed", "message": "No.", "advice": "Ask."}}
    service.raises = ZeroDivisionError("oops")
    error = ask(registry)[-1]["error"]
    assert "ZeroDivisionError: oops" in error["message"]
    assert error["advice"]


def test_without_the_package_the_answer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: [])
    registry = Registry()
    with pytest.raises(ConfigurationError):
        registry.load_service()
    error = ask(registry)[-1]["error"]
    assert error["code"] == ConfigurationError.code
    assert "pip install" in error["advice"]
    assert issubclass(ConfigurationError, DSVMError)
