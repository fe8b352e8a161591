"""Host keys from a VM's serial console: cloud-init prints them there at the first boot, and boot diagnostics keep it.

For accounts that may not run commands: reading that log takes less. Only root on the VM, and cloud-init, write to that console.
Called by ``access`` on a worker thread.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from ...errors import ComputeError, reason
from ...ssh.hostkeys import ALGORITHMS, HostKey
from .credentials import is_loopback, origin

BEGIN, END = "BEGIN SSH HOST KEY KEYS", "END SSH HOST KEY KEYS"

STORES = (
    ".blob.core.windows.net",
    ".blob.storage.azure.net",
    ".blob.core.usgovcloudapi.net",
    ".blob.core.chinacloudapi.cn",
)
"""Where the log may be: Azure's own stores. The address has a secret of its own in it, and gets no token."""

MOST = 4 * 1024 * 1024
TIMEOUT = 30.0

_KEY = re.compile(r"((?:ssh|ecdsa)-[a-z0-9-]{3,40} [A-Za-z0-9+/]{20,4000}={0,2})(?:\s|$)")


def host_keys(text: str) -> tuple[HostKey, ...]:
    """Those of the last complete block; none where there is none. Pure."""
    end = text.rfind(END)
    begin = text.rfind(BEGIN, 0, max(end, 0))
    if begin < 0:
        return ()
    found: dict[HostKey, None] = {}
    for line in text[begin:end].splitlines():
        match = _KEY.search(line)
        try:
            key = HostKey.parse(match[1]) if match else None
        except ValueError:
            continue
        if key is not None and key.type in ALGORITHMS:
            found[key] = None
    return tuple(found)


def address(answer: Any, endpoint: str) -> str:
    """Where the log is, of the answer to ``retrieveBootDiagnosticsData``. Raises ``ComputeError`` for any other place."""
    url = str(answer.get("serialConsoleLogBlobUri") or "") if isinstance(answer, dict) else ""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        azure = parts.scheme == "https" and host.endswith(STORES) and parts.port in (None, 443)
        here = is_loopback(host) and origin(url) == origin(endpoint)
    except ValueError:
        azure = here = False
    if not (azure or here):
        raise ComputeError(
            "Azure named no place of its own for the VM's serial log.",
            advice="Turn boot diagnostics on for the VM (portal, Boot diagnostics).",
            code="NoSerialLog",
        )
    return url


def read(url: str) -> str:
    """The log's first megabytes, where the first boot is. Blocks; raises ``ComputeError``."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=TIMEOUT) as response:
            data: bytes = response.read(MOST)
    except (OSError, ValueError, urllib.error.URLError) as error:
        # Without the address: it has a secret in it.
        raise ComputeError(f"The VM's serial log cannot be read: {reason(error)}.", code="NoSerialLog") from None
    return data.decode("utf-8", "replace")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None
