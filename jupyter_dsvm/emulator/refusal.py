"""A request that Azure answers with an error; raised anywhere behind ``routes``, which writes the answer."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        target: str | None = None,
        retry_after: int | None = None,
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.target, self.retry_after = status, code, message, target, retry_after
        self.details = details or []
        self.headers = headers or {}
        """Beside ``Retry-After``, which ``retry_after`` is for."""
