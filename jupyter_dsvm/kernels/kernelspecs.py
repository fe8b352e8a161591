"""Which kernel of a VM a notebook gets, and the kernelspec that starts one there directly. Pure.

A notebook keeps its language when it moves. Over there the kernelspec is chosen by the notebook's kernelspec name, then
by language; a user can name one instead. What the VM says about its kernelspecs is checked here before use, since the VM
is not trusted; what does not fit is left out.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import KernelStartError, LanguageMismatch, printable
from .registry import PROVISIONER

MAX_SPECS = 500
MAX_ARGV = 200

COMMON_NAMES = {"python": ("python3",), "R": ("ir",), "r": ("ir",)}
"""Names that installers give a language's plain kernel; preferred among several of one language."""


@dataclass(frozen=True)
class RemoteSpec:
    """A kernelspec as a VM describes it."""

    name: str
    display_name: str
    language: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    interrupt_mode: str = "signal"
    resource_dir: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, str]:
        """The ``Kernelspec`` of the REST API."""
        return {"name": self.name, "display_name": self.display_name, "language": self.language}


def parse_specs(listing: Any) -> list[RemoteSpec]:
    """From the list that the relay's ``kernelspecs`` call answers; in the order in which an attach without a name prefers
    them."""
    if not isinstance(listing, list | tuple):
        return []
    specs = [spec for entry in listing[:MAX_SPECS] if (spec := _parse(entry)) is not None]
    return sorted(specs, key=_rank)


def _parse(entry: Any) -> RemoteSpec | None:
    if not isinstance(entry, Mapping):
        return None
    name, argv, env, metadata = (entry.get(k) for k in ("name", "argv", "env", "metadata"))
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        return None
    if not isinstance(argv, list) or not 0 < len(argv) <= MAX_ARGV or not all(isinstance(a, str) for a in argv):
        return None
    return RemoteSpec(
        name=printable(name),
        display_name=printable(str(entry.get("display_name") or name), 200),
        language=printable(str(entry.get("language") or ""), 100),
        argv=tuple(argv),
        env={k: v for k, v in env.items() if isinstance(k, str) and isinstance(v, str)}
        if isinstance(env, Mapping)
        else {},
        interrupt_mode="message" if entry.get("interrupt_mode") == "message" else "signal",
        resource_dir=str(entry.get("resource_dir") or ""),
        metadata=dict(metadata) if isinstance(metadata, Mapping) else {},
    )


def _rank(spec: RemoteSpec) -> tuple[int, str]:
    common = COMMON_NAMES.get(spec.language, ())
    if spec.language.lower() == "python":
        return (0 if spec.name in common else 1, spec.name)
    return (2, spec.name)


def same_language(one: str, other: str) -> bool:
    """Kernelspecs differ in case (``R``, ``r``); a language that is not said is taken as fitting, and checked against the
    kernel's own ``kernel_info_reply`` later."""
    return not one or not other or one.lower() == other.lower()


def choose(
    specs: Sequence[RemoteSpec],
    *,
    machine: str,
    language: str,
    local_name: str | None = None,
    wanted: str | None = None,
) -> RemoteSpec:
    """The kernelspec for a notebook of ``language`` whose own kernelspec is ``local_name``; ``wanted`` is what the user
    named. Raises ``KernelStartError`` when there is none, ``LanguageMismatch`` when the named one speaks another."""
    if wanted:
        named = [s for s in specs if s.name == wanted] or [
            s for s in specs if wanted.lower() in (s.name.lower(), s.display_name.lower())
        ]
        if not named:
            near = difflib.get_close_matches(wanted, [s.name for s in specs], 3, 0.5)
            raise KernelStartError(
                f"{machine} has no kernel named {wanted!r}.",
                advice=f"Did you mean {' or '.join(near)}?" if near else _available(specs),
            )
        if not same_language(named[0].language, language):
            raise LanguageMismatch(
                f"The kernel {named[0].name!r} on {machine} speaks {named[0].language}, and this notebook {language}.",
                advice=f"A notebook keeps its language when it moves. {_available(specs, language)}",
            )
        return named[0]
    for spec in specs:
        if spec.name == local_name and same_language(spec.language, language):
            return spec
    fitting = [s for s in specs if s.language and same_language(s.language, language)]
    if not fitting:
        what = f"{language} kernel" if language else "kernel"
        raise KernelStartError(
            f"{machine} has no {what}.",
            advice=f"Install one there (for Python: pip install ipykernel). {_available(specs)}",
        )
    common = COMMON_NAMES.get(fitting[0].language, ())
    return min(fitting, key=lambda s: (s.name not in common, s.name))


def _available(specs: Sequence[RemoteSpec], language: str = "") -> str:
    fitting = [s for s in specs if same_language(s.language, language)]
    if not fitting:
        return "It has none that fits." if specs else "It has no kernels."
    return "It has: " + ", ".join(f"{s.name} ({s.language or 'unknown language'})" for s in fitting[:12]) + "."


def start_spec(
    spec: RemoteSpec,
    *,
    kernel_id: str,
    key: bytes,
    signature_scheme: str,
    session: str,
    env: Mapping[str, str],
    cwd: str | None = None,
) -> dict[str, Any]:
    """The body of ``START``. ``env`` is only what the configuration lists: nothing else of this server's environment
    travels; the kernelspec's own variables win over it."""
    return {
        "kernel_id": kernel_id,
        "argv": list(spec.argv),
        "env": {**env, **spec.env},
        "cwd": cwd,
        "key": key.decode("ascii"),
        "signature_scheme": signature_scheme,
        "session": session,
        "kernel_name": spec.name,
        "interrupt_mode": spec.interrupt_mode,
        "resource_dir": spec.resource_dir,
    }


# Kernelspecs of this server that start a kernel there


def installed_name(compute_name: str, kernelspec: str) -> str:
    """``dsvm-NAME-KERNEL``, in the letters that jupyter_client allows in a kernelspec's name."""
    return re.sub(r"[^a-z0-9._-]+", "-", f"dsvm-{compute_name}-{kernelspec}".lower()).strip("-")


def installed_spec(compute_id: str, compute_name: str, spec: RemoteSpec) -> dict[str, Any]:
    """The ``kernel.json`` for it: "Python 3 on gpu-vm", for papermill, nbclient, consoles and the kernel picker.

    What runs over there is the VM's word, so ``argv`` is not it: should the provisioner be unable to do its work, or be turned off,
    jupyter_client would run that here. The provisioner asks the VM again.
    """
    plain = re.sub(r"\s*\(ipykernel\)$", "", spec.display_name)
    refusal = f"This kernel runs on {compute_name}, and jupyter-dsvm's provisioner was not there to start it."
    metadata: dict[str, Any] = {}
    if spec.metadata.get("debugger") is True:
        metadata["debugger"] = True
    metadata["kernel_provisioner"] = {
        "provisioner_name": PROVISIONER,
        "config": {"compute": compute_id, "kernelspec": spec.name},
    }
    return {
        "argv": [sys.executable, "-c", f"raise SystemExit({refusal!r})", "{connection_file}"],
        "display_name": f"{plain} on {compute_name}",
        "language": spec.language,
        "interrupt_mode": spec.interrupt_mode,
        "metadata": metadata,
    }
