"""``SSHHosts``: machines of the user's SSH configuration, as computes.

They need no Azure. Whether one runs is known only once somebody connects, so its power state is ``unknown``, and it
is started and stopped by hand. The file is read at each call; paramiko is imported only if there is one.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Unicode
from traitlets import List as ListTrait
from traitlets.config import Configurable

from ..errors import ComputeError, OperationRefused, UnknownCompute
from ..models import Compute, ComputeKind, PowerState, Problem, SizeOffer, SSHTarget
from .provider import Cancel, Listing, Memo, Report

if TYPE_CHECKING:
    from paramiko import SSHConfig

ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""An alias that can be part of an id: no pattern, nothing that a URL would have to escape, no option of ssh."""

GIT_HOSTS = {"github.com", "gist.github.com", "ssh.github.com", "gitlab.com", "bitbucket.org", "ssh.dev.azure.com"}

MAX_INCLUDES = 16
"""How deep files may include files: OpenSSH's own limit."""


class SSHHosts(Configurable):
    """Hosts of ``~/.ssh/config`` as computes."""

    prefix = "host:"

    enabled = Bool(True, help="Whether to show hosts of the SSH configuration.").tag(config=True)
    config_file = Unicode("~/.ssh/config", help="The SSH configuration to read.").tag(config=True)
    aliases = ListTrait(
        Unicode(),
        None,
        allow_none=True,
        help="The hosts to show. The default is every alias in `config_file` without a pattern, except for hosts "
        "that only serve Git (user `git`, github.com and the like).",
    ).tag(config=True)
    allowed_addresses = ListTrait(
        Unicode(),
        help="Addresses, networks (10.0.0.0/8) and names that hosts may have although they are this computer's own, loopback, "
        "link-local or the hub's. For administrators: a user's server should not be a way to what only it can reach.",
    ).tag(config=True)
    python = Unicode("", help="Path of the Python to try first on the hosts, to run the relay.").tag(config=True)

    def list(self) -> Listing:
        if not self.enabled:
            return Listing(())
        try:
            return Listing(tuple(map(_compute, self._aliases())))
        except ComputeError as error:
            return Listing((), (Problem(error.code, error.message, error.advice),))

    def get(self, compute_id: str) -> Compute:
        return _compute(self._alias(compute_id))

    def start(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        raise self._by_hand(compute_id, "started")

    def stop(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        raise self._by_hand(compute_id, "stopped")

    def restart(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        raise self._by_hand(compute_id, "restarted")

    def sizes(self, compute_id: str) -> tuple[Sequence[SizeOffer], str]:
        raise self._by_hand(compute_id, "resized")

    def resize(self, compute_id: str, size: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        raise self._by_hand(compute_id, "resized")

    def ssh_target(self, compute_id: str) -> SSHTarget:
        """From the configuration, as ``ssh ALIAS`` would take it, for the options that this package honours: HostName,
        Port, User, IdentityFile, HostKeyAlias, UserKnownHostsFile, ProxyCommand, ProxyJump, and Match blocks without
        ``exec``."""
        alias = self._alias(compute_id)
        found = self._lookup(self._config(), alias)
        host, user = str(found["hostname"]), found.get("user")
        try:
            port = int(found.get("port", 22))
        except ValueError:
            raise self._unusable(f"the port of {alias} is {found['port']!r}") from None
        return SSHTarget(
            compute=compute_id,
            name=alias,
            host=host,
            allowed_addresses=tuple(self.allowed_addresses),
            port=port,
            user=user,
            key_files=tuple(os.path.expanduser(k) for k in found.get("identityfile", ()) if k.lower() != "none"),
            host_key_alias=found.get("hostkeyalias"),
            known_hosts=_known_hosts(found.get("userknownhostsfile")),
            proxy_command=_proxy_command(found, host, port, self._other_file()),
            python=self.python or None,
        )

    def way_to(self, alias: str, host: str, port: int) -> tuple[str | None, tuple[str, ...], str | None]:
        """User, keys and proxy command that a Host block of this very name has, for a machine whose address is known otherwise:
        an Azure VM. Nothing where no block names it."""
        nothing = (None, (), None)
        if not self.enabled or not ALIAS.fullmatch(alias):
            return nothing
        try:
            text = self._text() or ""
        except ComputeError:
            return nothing  # which nobody has said is about this machine
        named = (_words(o[1]) for line in text.splitlines() if (o := _option(line)) and o[0] == "host")
        if not any(alias in words for words in named):
            return nothing
        found = self._lookup(self._parse(text), alias)
        keys = tuple(os.path.expanduser(k) for k in found.get("identityfile", ()) if k.lower() != "none")
        # A ProxyCommand may have the block's own HostName in it.
        jump = {"proxyjump": found.get("proxyjump")}
        return found.get("user"), keys, _proxy_command(jump, host, port, self._other_file())

    def _other_file(self) -> Sequence[str]:
        """What tells ssh which configuration to read, where that is not the one that it reads anyway."""
        path = Path(self.config_file).expanduser()
        return () if path == Path("~/.ssh/config").expanduser() else ("-F", str(path))

    def close(self) -> None:
        """Nothing is held open."""

    def _alias(self, compute_id: str) -> str:
        alias = compute_id.removeprefix(self.prefix)
        if not self.enabled or alias not in self._aliases():
            raise UnknownCompute(
                f"There is no host {alias!r} in {self.config_file}.",
                advice="Add a Host entry for it, or name another. `%dsvm list` shows what there is.",
            )
        return alias

    def _aliases(self) -> tuple[str, ...]:
        """In the order in which they are named."""
        chosen: Sequence[str] | None = self.aliases
        if chosen is not None:
            return tuple(alias for alias in dict.fromkeys(chosen) if ALIAS.fullmatch(alias))
        text = self._text()
        if text is None:
            return ()
        config = self._parse(text)
        named = [
            alias
            for line in text.splitlines()
            if (option := _option(line)) and option[0] == "host"
            for alias in _words(option[1])
            if ALIAS.fullmatch(alias)
        ]
        return tuple(alias for alias in dict.fromkeys(named) if not self._serves_git(config, alias))

    def _serves_git(self, config: SSHConfig, alias: str) -> bool:
        found = self._lookup(config, alias)
        return found.get("user") == "git" or str(found["hostname"]).lower() in GIT_HOSTS

    def _config(self) -> SSHConfig:
        return self._parse(self._text() or "")

    def _parse(self, text: str) -> SSHConfig:
        from ..ssh.library import paramiko

        try:
            return paramiko.SSHConfig.from_text(text)
        except (paramiko.ConfigParseError, ValueError) as error:
            raise self._unusable(str(error)) from None

    def _lookup(self, config: SSHConfig, alias: str) -> dict[str, Any]:
        from ..ssh.library import paramiko, with_match_exec

        try:
            return dict(config.lookup(alias))
        except ImportError:
            if with_match_exec():
                return self._lookup(config, alias)
            raise self._unusable("`Match exec` is not supported") from None
        except (paramiko.SSHException, ValueError) as error:
            raise self._unusable(str(error)) from None

    def _text(self) -> str | None:
        """The configuration with its includes in place, which paramiko does not do; None if there is no file."""
        path = Path(self.config_file).expanduser()
        if not path.exists():
            return None
        try:
            return "".join(_with_includes(path, "", 0))
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(str(error)) from None

    def _unusable(self, reason: str) -> ComputeError:
        return ComputeError(
            f"The SSH configuration {self.config_file} cannot be used: {reason}.",
            advice="Correct it (`ssh -G HOST` shows what OpenSSH makes of it), or set SSHHosts.config_file.",
            code="SSHConfig",
        )

    def _by_hand(self, compute_id: str, what: str) -> OperationRefused:
        alias = self._alias(compute_id)
        return OperationRefused(
            f"{alias} is a host of your SSH configuration: it can be {what} only by hand.",
            advice="Notebooks can be attached to it whenever it answers over SSH.",
        )


def _compute(alias: str) -> Compute:
    return Compute(id=SSHHosts.prefix + alias, name=alias, kind=ComputeKind.HOST, power_state=PowerState.UNKNOWN)


def _with_includes(path: Path, block: str, depth: int) -> Iterator[str]:
    """The file's lines, with included files in place of ``Include``; ``block`` is the Host or Match line above it.

    An included file ends in whatever block it opened last, so the one around the ``Include`` is opened again after it.
    """
    for line in path.read_text("utf-8").splitlines(keepends=True):
        option = _option(line)
        if option is None or option[0] != "include":
            if option is not None and option[0] in {"host", "match"}:
                block = line.strip() + "\n"
            yield line if line.endswith("\n") else line + "\n"
            continue
        if depth >= MAX_INCLUDES:
            raise OSError(f"{path} includes too many files, one in another")
        for pattern in _words(option[1]):
            # Relative names are relative to ~/.ssh, whichever file names them (ssh_config(5)).
            for name in sorted(glob.glob(str(Path("~/.ssh").expanduser() / Path(pattern).expanduser()))):
                yield from _with_includes(Path(name), block, depth + 1)
                yield block or "Host *\n"


def _option(line: str) -> tuple[str, str] | None:
    """Keyword, lower-case, and its argument; both forms, ``Keyword value`` and ``Keyword=value``."""
    match = re.match(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*\S)", line)
    return (match.group(1).lower(), match.group(2)) if match else None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an open quote: paramiko says so with the line
        return []


def _known_hosts(value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return tuple(os.path.expanduser(name) for name in _words(value) if name.lower() != "none")


def _proxy_command(found: dict[str, Any], host: str, port: int, file: Sequence[str] = ()) -> str | None:
    """``ProxyCommand`` as it is; ``ProxyJump`` as the command that OpenSSH runs for it."""
    command = found.get("proxycommand")
    if command:
        return str(command)
    jump = str(found.get("proxyjump") or "none").strip()
    if jump.lower() == "none":
        return None
    *before, last = [hop.strip() for hop in jump.split(",") if hop.strip()]
    via = ["-J", ",".join(before)] if before else []
    target = f"[{host}]:{port}"
    match = re.fullmatch(r"(?:ssh://)?(.+?)(?::(\d+))?/?", last)
    name, jump_port = (match.group(1), match.group(2)) if match else (last, None)
    at_port = ["-p", jump_port] if jump_port else []
    # Nobody is there to answer a question of this ssh.
    return shlex.join(
        [
            "ssh",
            *file,
            "-o",
            "BatchMode=yes",
            *via,
            *at_port,
            "-W",
            target,
            "--",
            name.replace("[", "").replace("]", ""),
        ]
    )
