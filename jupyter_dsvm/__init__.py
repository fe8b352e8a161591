"""Attach a notebook to an Azure Data Science VM and back: same notebook, same kernel, more machine."""

from __future__ import annotations

from typing import Any


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Asked by JupyterLab for the panel that is shipped in this package."""
    return [{"src": "labextension", "dest": "jupyter-dsvm"}]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Asked by jupyter_server for the extension; imported only then, since kernels import this package too."""
    from .extension import DSVMExtension

    return [{"module": "jupyter_dsvm.extension", "app": DSVMExtension}]


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext jupyter_dsvm``: register ``%dsvm``, or say what is missing where this kernel was started without us."""
    import os

    from .relay import magic

    if os.environ.get(magic.VARIABLE):
        magic.load(shell)
    else:
        print(magic.NO_SOCKET)  # noqa: T201  (to the user, in the cell's output)
