"""The keys with which a connection signs in: those of files and the SSH agent, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import printable, reason
from ..models import SSHTarget
from .hostkeys import HostKey
from .keys import exposed

if TYPE_CHECKING:
    import paramiko

DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
MAX_TRIES = 6
"""sshd hangs up after six failed keys by default (``MaxAuthTries``)."""


class KeysToTry:
    """The keys to try, in order, and why some could not be tried."""

    def __init__(self, target: SSHTarget, passphrase: str | None, agent: bool, first: str = "") -> None:
        """``first``: the label of the one to begin with, if it is there."""
        self._first = first
        self._target = target
        self._passphrase = passphrase
        self._use_agent = agent
        self._agent: paramiko.Agent | None = None
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, paramiko.PKey]]:
        for index, found in enumerate(self._in_order()):
            if index == MAX_TRIES:
                self.skipped.append(f"no more than {MAX_TRIES} keys, since sshd hangs up then")
                return
            yield found

    def _in_order(self) -> Iterator[tuple[str, paramiko.PKey]]:
        keys, passed = self._all(), []
        if self._first:
            for found in keys:
                if found[0] == self._first:
                    yield found
                    break
                passed.append(found)
        yield from passed
        yield from keys

    def _all(self) -> Iterator[tuple[str, paramiko.PKey]]:
        for key in self._target.certificates:
            yield f"the certificate for {self._target.user} ({_fingerprint(key)})", key
        if self._target.own_key is not None:
            yield from self._from_file(self._target.own_key, named=True)
        for name in self._target.key_files:
            yield from self._from_file(name, named=True)
        if self._use_agent:
            yield from self._from_agent()
        if not self._target.key_files:
            for name in DEFAULT_KEYS:
                yield from self._from_file(name, named=False)

    def _from_file(self, name: str, named: bool) -> Iterator[tuple[str, paramiko.PKey]]:
        from .library import UnknownKeyType, paramiko

        path = Path(name).expanduser()
        try:
            problem = exposed(path)
            if problem:
                self.skipped.append(f"{path} was not used because it {problem}; run `chmod 600 {path}`")
                return
            key = paramiko.PKey.from_path(path, self._passphrase.encode() if self._passphrase else None)  # type: ignore[arg-type]
        except FileNotFoundError:
            if named:
                self.skipped.append(f"{path} does not exist")
            return
        except TypeError:  # cryptography's way to say that it is encrypted
            self.skipped.append(f"{path} is encrypted; add it to an SSH agent")
            return
        except (OSError, ValueError, paramiko.SSHException, UnknownKeyType) as e:
            self.skipped.append(f"{path} cannot be read ({printable(reason(e), 200)})")
            return
        yield f"{path} ({_fingerprint(key)})", key

    def _from_agent(self) -> Iterator[tuple[str, paramiko.PKey]]:
        from .library import paramiko

        try:
            self._agent = paramiko.Agent()
            keys = self._agent.get_keys()
        except (paramiko.SSHException, OSError) as e:
            self.skipped.append(f"the SSH agent does not work ({reason(e)})")
            return
        for key in keys:
            yield f"the agent's {key.comment or 'key'} ({_fingerprint(key)})", key

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()


def _fingerprint(key: paramiko.PKey) -> str:
    return str(HostKey(key.get_name(), key.asbytes()))
