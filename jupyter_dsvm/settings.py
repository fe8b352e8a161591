"""Configuration outside a server: ``jupyter_dsvm_config.{json,py}`` on Jupyter's path (``jupyter --paths``).

Inside a server jupyter_server reads the same files for the extension, together with its own.
"""

from __future__ import annotations

import logging

from jupyter_core.paths import jupyter_config_path
from traitlets.config import Application, Config

from .errors import ConfigurationError

NAME = "jupyter_dsvm_config"


def load_config(log: logging.Logger) -> Config:
    """All of them, the first folder of the path winning. Raises ``ConfigurationError`` with what is wrong in which file."""
    reader = Application(log=log, raise_config_file_errors=True)
    path = jupyter_config_path()
    try:
        reader.load_config_file(NAME, path=path)
    except Exception as e:
        raise ConfigurationError(
            f"The configuration {NAME} cannot be read: {type(e).__name__}: {e}",
            advice=f"Correct it; it is looked for in {', '.join(path)}.",
        ) from e
    return reader.config
