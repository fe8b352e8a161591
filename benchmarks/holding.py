"""``python -m benchmarks.holding``: what runs in the contender's own environment, with asyncio and the restarter as in a server.

It reads a command per line of stdin and answers each with a line, both JSON; it ends its kernels and itself with its stdin.
Commands: ``launch``, ``end``, ``busy``. It imports nothing of ours unless ours is the contender.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

PATIENCE = 120.0
"""Seconds that a kernel may take to answer."""


class Kernels:
    def __init__(self) -> None:
        self._managers: dict[int, Any] = {}
        self._count = 0
        self._work: asyncio.Task[None] | None = None

    async def launch(self, kernel: str) -> dict[str, Any]:
        from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager

        km = AsyncIOLoopKernelManager(kernel_name=kernel)
        begun = time.perf_counter()
        await km.start_kernel()
        kc = km.client()
        kc.start_channels(stdin=False, hb=False)
        try:
            request = kc.execute("pass", silent=True)
            while True:
                reply = await kc.get_shell_msg(timeout=PATIENCE)
                if reply["parent_header"]["msg_id"] == request:
                    break
            seconds = time.perf_counter() - begun
        finally:
            kc.stop_channels()
        self._count += 1
        self._managers[self._count] = km
        connection = {**km.get_connection_info(), "key": km.session.key.decode()}
        return {"seconds": seconds, "connection": connection, "number": self._count}

    async def end(self, number: int) -> dict[str, Any]:
        await self._managers.pop(number).shutdown_kernel(now=True)
        return {}

    async def busy(self, share: float) -> dict[str, Any]:
        from .busyloop import keep_busy

        if self._work is not None:
            self._work.cancel()
            self._work = None
        if share:
            self._work = asyncio.ensure_future(keep_busy(share))
        return {}

    async def close(self) -> None:
        for number in list(self._managers):
            await self.end(number)


async def serve(ours: bool) -> None:
    # Imported here as a server has them imported before its first kernel.
    import jupyter_client.asynchronous.client
    import jupyter_client.ioloop  # noqa: F401
    from jupyter_client.provisioning.factory import KernelProvisionerFactory

    factory = KernelProvisionerFactory.instance()
    factory.provisioners["dsvm-provisioner" if ours else "local-provisioner"].load()
    service = None
    if ours:
        from jupyter_dsvm.kernels.registry import registry
        from jupyter_dsvm.service import load_service

        factory.default_provisioner_name = "dsvm-provisioner"
        registry.service = service = load_service()
    elif "sshpyk-provisioner" in factory.provisioners:
        factory.provisioners["sshpyk-provisioner"].load()

    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    kernels = Kernels()
    print("{}", flush=True)
    while line := await commands.readline():
        command = json.loads(line)
        try:
            answer = await getattr(kernels, command.pop("do"))(**command)
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(answer), flush=True)
    await kernels.close()
    if service is not None:
        await asyncio.to_thread(service.close)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1] == "ours"))
