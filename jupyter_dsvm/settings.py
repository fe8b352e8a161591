"""What can be configured of the service, and where outside a server: ``jupyter_dsvm_config.{json,py}`` on Jupyter's path
(``jupyter --paths``).

Inside a server jupyter_server reads the same files for the extension, together with its own.
"""

from __future__ import annotations

import logging

from jupyter_core.paths import jupyter_config_path
from traitlets import Bool, Dict, Enum, Float, Int, List, Unicode
from traitlets.config import Application, Config, LoggingConfigurable

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


class ServiceSettings(LoggingConfigurable):
    """The traits of ``DSVMService``: ``c.DSVMService.…``."""

    kernel_may_start = Dict(
        help="""What code may start: a line of %dsvm, or a kernelspec of a VM. Starting a VM costs money, so by default
        nothing may be started from code. Keys: "names", a list of VM names or patterns (NAME, GROUP/NAME; "*" for all),
        without which nothing may; "price_per_hour", the highest price, above which or when it is not known nothing may;
        "starts_per_day", how many starts in 24 hours. A resize counts as a start, with the price
        of the new size. Example: {"names": ["gpu-vm"], "starts_per_day": 5}.""",
    ).tag(config=True)
    start_timeout = Float(
        120.0, help="Seconds that a new kernel may take to answer before an attach gives up and the old one stays."
    ).tag(config=True)
    connection_idle = Float(
        300.0, help="Seconds after which the connection to a VM without any kernel of ours is closed."
    ).tag(config=True)
    kernel_env = List(
        Unicode(),
        default_value=["LANG", "LC_ALL", "LC_CTYPE", "TZ"],
        help="""Names of this server's environment variables that a kernel on a VM gets too. Nothing else of the server's
        environment travels; name no variable that holds a secret.""",
    ).tag(config=True)
    spare_interpreters = Bool(
        True,
        help="""Whether a VM that runs a Python kernel keeps one more interpreter ready, which becomes the next kernel of
        that kind in a tenth of a second. It takes about 60 MB there, and ends with the last such kernel.""",
    ).tag(config=True)
    journal_limit_mib = Int(
        1024,
        min=0,
        help="""MiB of what one kernel on a VM has said that its machine keeps, on disk, until this server and the pages have it:
        while a laptop sleeps, or the server is away. What is beyond it is left out, and the cell says how much. 0: no limit
        but the VM's disk, of which 512 MiB always stay free.""",
    ).tag(config=True)
    kept_outputs_mib = Int(
        64,
        min=0,
        help="""MiB of what a notebook's cells have put out that are kept here for each kernel, on disk, as long as the kernel is
        there, so that a page which is opened later finds it all; one cell may take a quarter of that. What is beyond it is
        left out, and the cell says how much. 0: nothing is kept.""",
    ).tag(config=True)
    sync_files = Bool(
        True,
        help="""Whether a notebook's folder travels with it to a VM and what is written there comes back, where who attaches says
        nothing else.""",
    ).tag(config=True)
    project_folders = List(
        Unicode(),
        help="""Folders that travel whole with any notebook in them, where a notebook needs what lies beside its own folder;
        relative to the server's root, or absolute. The innermost counts. Of a notebook in none of them its own folder
        travels. Example: ["courses/vision"].""",
    ).tag(config=True)
    sync_ask_above_mib = Int(
        500, min=0, help="MiB of a notebook's folder above which it is not copied to a VM before somebody has agreed."
    ).tag(config=True)
    compute_providers = List(
        Enum(["free", "hosts", "azure"]),
        default_value=["free", "azure", "hosts"],
        help="Where computes come from: this server, Azure, and the hosts of the SSH configuration.",
    ).tag(config=True)
