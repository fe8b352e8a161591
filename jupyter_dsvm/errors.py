"""Every error that leaves this package, as one tree.

    DSVMError                      code, message, advice, retry_after
    ├── ConfigurationError         a setting cannot work
    ├── ComputeError               what a cloud or a machine said
    │   ├── UnknownCompute         no compute has that name (the nearest names are in the advice)
    │   ├── MissingResource        something else of a cloud's is not there: a network interface, an image
    │   ├── AmbiguousCompute       several have it (the longer names are in the advice)
    │   ├── SignInRequired         no credential, or it has expired
    │   ├── Forbidden              the account may see it but not do that
    │   ├── Throttled              asked too often; retry_after says when again
    │   ├── OperationRefused       Azure refused to start, stop or change a VM
    │   │   └── KernelsRunning     notebooks run there, which the change would end
    │   ├── ComputeNotRunning      it would have to be started first
    │   └── StaysOn                no failure: a stop was asked for, and it stays on for others, who use it
    ├── SSHError                   the way to the machine
    │   ├── HostKeyError           unknown or changed host key, with both fingerprints
    │   ├── AuthenticationError    the machine does not accept our key
    │   └── Unreachable            no answer at that address and port
    ├── RelayError                 the process on the machine
    │   ├── BootstrapError         it could not be started; what the machine printed is in the message
    │   ├── ProtocolError          it said something that is no frame of ours
    │   └── KernelStartError       the kernel there ended, or never answered
    ├── SwapError                  a change of backend that did not happen; the old backend is untouched
    │   ├── LanguageMismatch       the kernel there speaks another language
    │   └── Cancelled              somebody interrupted it, or a later one took its place
    ├── SyncError                  a notebook's files, here or there
    │   ├── FolderRefused          a folder that is no workspace: home, or one with keys in it
    │   ├── ChangedMeanwhile       a file is not what the plan was made for; the next sync looks again
    │   ├── UnsafePath             a path or link that would lead out of the workspace
    │   ├── SecretRefused          a private key; it stays where it is
    │   ├── DiskFull               no room; what was begun is removed and nothing was replaced
    │   └── Superseded             another connection has taken over the folder on the VM
    ├── NotAllowed                 the caller may not do this (from a VM, from code, as a guest)
    │   ├── BudgetExceeded         what would begin to cost money is refused, since a budget is spent
    │   └── RefusedByPolicy        a rule of the hub's administrator, which is named
    ├── BadRequest                 what was asked cannot be understood (a line of %dsvm, a body that is no JSON)
    └── NotFound                   no kernel or operation has that id

A message says what was tried and what the other side said; the advice says what to do next. Both are shown
to people, in the page, in a cell and in a terminal, so they are whole sentences and carry no secret.
``code`` is the machine's word: Azure's own error code where the error is Azure's, otherwise the class's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DSVMError(Exception):
    """Base of all of them; raised itself only where nothing below fits."""

    code = "Error"
    status = 500  # what the REST API answers with

    def __init__(
        self,
        message: str,
        *,
        advice: str = "",
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        if code is not None:
            self.code = code
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()

    def to_json(self) -> dict[str, Any]:
        """The ``error`` shape of DESIGN section 6."""
        data: dict[str, Any] = {"code": self.code, "message": self.message, "advice": self.advice}
        if self.retry_after is not None:
            data["retry_after"] = self.retry_after
        return data


class ConfigurationError(DSVMError):
    code = "Configuration"


class ComputeError(DSVMError):
    code = "Compute"
    status = 502


class UnknownCompute(ComputeError):
    code = "UnknownCompute"
    status = 404


class MissingResource(ComputeError):
    code = "MissingResource"
    status = 404


class AmbiguousCompute(ComputeError):
    code = "AmbiguousCompute"
    status = 409


class SignInRequired(ComputeError):
    code = "SignInRequired"
    status = 403


class Forbidden(ComputeError):
    code = "Forbidden"
    status = 403


class Throttled(ComputeError):
    code = "Throttled"
    status = 429


class OperationRefused(ComputeError):
    code = "OperationRefused"
    status = 409


class KernelsRunning(OperationRefused):
    """Raised before anything is asked of the cloud; who asks again may say that the kernels may end."""

    code = "KernelsRunning"

    def __init__(self, name: str, notebooks: Sequence[str]) -> None:
        some = f"{', '.join(notebooks[:5])}{f' and {len(notebooks) - 5} more' if len(notebooks) > 5 else ''}"
        run, kernels = ("runs", "its kernel") if len(notebooks) == 1 else ("run", "their kernels")
        super().__init__(
            f"{some} {run} on {name}; a resize ends {kernels}, and what is in memory there is lost.",
            advice="Save what you need and bring the notebooks back (`%dsvm detach`), or confirm that the kernels may end: "
            "`end_kernels` in the REST API, `--yes` with %dsvm.",
        )


class ComputeNotRunning(ComputeError):
    code = "ComputeNotRunning"
    status = 409


class StaysOn(ComputeError):
    """A provider's ``stop`` raises it. ``Changes`` ends that stop well, with the message, which says who uses it."""

    code = "StaysOn"
    status = 409


class SSHError(DSVMError):
    code = "SSH"
    status = 502


class HostKeyError(SSHError):
    code = "HostKey"


class AuthenticationError(SSHError):
    code = "Authentication"


class Unreachable(SSHError):
    code = "Unreachable"


class RelayError(DSVMError):
    code = "Relay"
    status = 502


class BootstrapError(RelayError):
    code = "Bootstrap"


class ProtocolError(RelayError):
    code = "Protocol"


class KernelStartError(RelayError):
    code = "KernelStart"


class SwapError(DSVMError):
    code = "Swap"
    status = 409


class LanguageMismatch(SwapError):
    code = "LanguageMismatch"


class Cancelled(SwapError):
    code = "Cancelled"


class SyncError(DSVMError):
    code = "Sync"
    status = 409


class FolderRefused(SyncError):
    code = "FolderRefused"


class ChangedMeanwhile(SyncError):
    code = "ChangedMeanwhile"


class UnsafePath(SyncError):
    code = "UnsafePath"


class SecretRefused(SyncError):
    code = "SecretRefused"


class DiskFull(SyncError):
    code = "DiskFull"
    status = 507


class Superseded(SyncError):
    code = "Superseded"


class NotAllowed(DSVMError):
    code = "NotAllowed"
    status = 403


class BudgetExceeded(NotAllowed):
    """Raised before anything is asked of the cloud. Nobody can allow it in the page: the configuration decides."""

    code = "BudgetExceeded"


class RefusedByPolicy(NotAllowed):
    code = "RefusedByPolicy"

    def __init__(self, message: str, *, advice: str = "", rule: str = "") -> None:
        """``rule``: the setting of ``HubPolicy`` that refuses; it is in the message too."""
        super().__init__(message, advice=advice)
        self.rule = rule


class BadRequest(DSVMError):
    code = "BadRequest"
    status = 400


class NotFound(DSVMError):
    code = "NotFound"
    status = 404


def printable(text: str | bytes, limit: int = 2000) -> str:
    """What a remote machine printed, safe to show: the last ``limit`` characters, control characters neutralised.

    Called wherever text from a VM or from Azure goes into a message.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    clean = "".join(c if c.isprintable() or c == "\n" else "�" for c in text.replace("\r\n", "\n")).strip()
    return clean if len(clean) <= limit else "… " + clean[-limit:]


def reason(error: BaseException) -> str:
    """What an exception of the system, of SSH or of a library says, for use in a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(str(error), 500) or type(error).__name__
