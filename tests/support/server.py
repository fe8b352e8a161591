"""A real Jupyter server inside a test that also looks at what is left behind (``leaves_nothing`` of conftest.py).

pytest-jupyter ends its server and closes its loop after all other fixtures; here both end before that look. Import the two
fixtures into a test module to have them there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_core.utils import ensure_event_loop
from jupyter_server.serverapp import ServerApp


@pytest.fixture(autouse=True)
def jp_asyncio_loop(leaves_nothing: None) -> Iterator[asyncio.AbstractEventLoop]:
    loop = ensure_event_loop(prefer_selector_loop=True)  # the one in which pytest-jupyter runs the test
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())  # tornado's client looks names up there
    loop.close()


@pytest.fixture(autouse=True)
def jp_server_cleanup(jp_asyncio_loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    KernelProvisionerFactory.clear_instance()
    yield
    if ServerApp.initialized():
        app: Any = ServerApp.instance()
        if hasattr(app, "kernel_manager"):
            jp_asyncio_loop.run_until_complete(app._cleanup())
            app.kernel_manager.context.destroy()
        ServerApp.clear_instance()
    KernelProvisionerFactory.clear_instance()
