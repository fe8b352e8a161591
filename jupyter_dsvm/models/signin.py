"""Who is signed in to the cloud."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from .computes import Problem
from .shape import Shape


class SignInState(str, enum.Enum):
    SIGNED_OUT = "signed_out"
    PROMPTING = "prompting"
    SIGNED_IN = "signed_in"
    FAILED = "failed"


@dataclass(frozen=True)
class SignInStatus(Shape):
    """Who is signed in to the cloud, or how a sign-in stands.

    ``url`` and ``code`` are filled in the answer to whoever asked for the code, and nowhere else.
    """

    state: SignInState
    cloud: str | None = None
    method: str | None = None
    """device_code, pasted_token, token_file, environment, workload_identity, managed_identity, azure_cli or hub."""
    account: str | None = None
    tenant: str | None = None
    tenants: tuple[str, ...] = ()
    """All tenants that somebody signed in to by name, the first being the one used elsewhere."""
    kept: bool = False
    """Whether it outlives the server, in the encrypted store."""
    id: str | None = None
    """Of the attempt that was begun or asked for."""
    url: str | None = None
    code: str | None = field(default=None, repr=False)
    expires: str | None = None
    error: Problem | None = None
