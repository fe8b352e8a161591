"""Where sign-ins are kept beyond the server's life, for users who ask for that: encrypted by the system's own store (libsecret,
Keychain, DPAPI) through msal-extensions, as azure-identity's persistent cache does.

Called by ``signin`` on worker threads. Never falls back to a plain file: where nothing can encrypt, nothing is kept.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError

log = logging.getLogger("jupyter_dsvm.signin")


class SignInStore:
    def __init__(self, file: Path) -> None:
        """``file`` says that something is kept; on Linux and macOS the secrets themselves are in the system's store."""
        self._file = file

    def check(self) -> None:
        """Raises ``ConfigurationError`` where nothing can be kept."""
        self._persistence()

    def load(self) -> list[dict[str, Any]]:
        """What is kept; what cannot be read is not there, with one line in the log."""
        if not self._file.exists():
            return []
        try:
            kept = json.loads(self._persistence().load())
            return [dict(row) for row in kept] if isinstance(kept, list) else []
        except Exception as error:
            # Whatever it is (no keyring in this session, another machine's file): people can still sign in.
            log.warning("The kept sign-in cannot be read: %s. Sign in again.", type(error).__name__)
            return []

    def save(self, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            self._persistence().save(json.dumps(list(rows)))
        elif self._file.exists():
            try:
                self._persistence().save("[]")
            finally:
                self._file.unlink(missing_ok=True)

    def _persistence(self) -> Any:
        from msal_extensions import build_encrypted_persistence

        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return build_encrypted_persistence(str(self._file))
        except Exception as error:  # gi, dbus, pywin32: each system's store has its own
            raise ConfigurationError(
                f"The sign-in cannot be kept: this computer has no encrypted store that works here ({type(error).__name__}).",
                advice="Sign in without keeping it (it then lasts as long as the server), or install libsecret with a keyring.",
                code="NoEncryptedStore",
            ) from None
