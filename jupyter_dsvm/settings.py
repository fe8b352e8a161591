"""What can be configured of the service, and where outside a server: ``jupyter_dsvm_config.{json,py}`` on Jupyter's path
(``jupyter --paths``).

Inside a server jupyter_server reads the same files for the extension, together with its own.
"""

from __future__ import annotations

import logging

from jupyter_core.paths import jupyter_config_path
from traitlets import Bool, Dict, Enum, Float, Int, List, Unicode, default
from traitlets.config import Application, Config, LoggingConfigurable

from .budgets import BudgetRules
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
    guests_may_change = Bool(
        False,
        help="""Whether others than its owner may change something through a server of a hub: attach, start, stop, sign in.
        Collaborators with whom the server is shared, and administrators who look in, act with the owner's account and on
        their bill, so by default they see everything and change nothing. For an account that a group shares, set this to True.""",
    ).tag(config=True)
    carry_from_vms = Bool(
        True,
        help="""Whether variables may be carried from a VM, to this server or to another VM. Loading them runs what the VM
        sends, beside this server's token, so a person is asked once for each VM; with False it cannot be done at all.
        Variables that go from this server to a VM are not meant.""",
    ).tag(config=True)
    save_variables_gib = Float(
        8.0,
        min=0,
        help="""GiB that the variables of one notebook may take on a VM's OS disk when it is stopped because nobody uses it, and
        at most four fifths of what is free there. They are offered when the notebook is attached to that VM again, and removed
        after 30 days. 0: nothing is saved.""",
    ).tag(config=True)
    start_timeout = Float(
        120.0, help="Seconds that a new kernel may take to answer before an attach gives up and the old one stays."
    ).tag(config=True)
    connection_idle = Float(
        300.0,
        help="""Seconds after which the connection to a VM without any kernel of ours is closed, unless it is watched so that it can
        be stopped when nobody uses it (`idle_stop_minutes`).""",
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
    save_outputs_without_page = Bool(
        True,
        help="""Whether what cells have put out while no page was open is saved into their notebook's file when they have ended,
        so that whoever reads the file finds it. What is saved so is not trusted by the page that opens it next.""",
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
    idle_stop_minutes = Float(
        30.0,
        min=0.0,
        help="""Minutes after which a VM that was started from here, or has the tag `idle_tag`, is stopped (deallocated) if nobody
        uses it: no cell, terminal or connection, and CPU, GPUs, disks and network at rest. 0: none is stopped for being idle,
        unless its tag or a person says so.""",
    ).tag(config=True)
    hard_limit_hours = Float(
        None,
        allow_none=True,
        min=0.1,
        help="""Hours after its start at which a VM that was started from here is stopped whatever runs there; it is announced.
        None: no limit.""",
    ).tag(config=True)
    safety_stop = Bool(
        True,
        help="""Whether such a VM's own auto-shutdown schedule in Azure is kept some hours ahead while it is watched here, so that
        Azure stops it where this server is no more. A schedule of somebody else's is left alone.""",
    ).tag(config=True)
    idle_tag = Unicode(
        "jupyter-dsvm-idle-stop",
        help="""Azure tag by which a VM is stopped when nobody uses it, whoever has started it. Its value is a number of minutes,
        "true" for `idle_stop_minutes`, or "off" for a VM that is never stopped for being idle. Empty: tags are not looked at.""",
    ).tag(config=True)
    idle_ignore = List(
        Enum(["cpu", "gpu", "disk", "network", "terminal", "connection"]),
        help="""Kinds of activity that do not keep a VM on, where something always makes a little of them. What runs in a kernel
        always counts.""",
    ).tag(config=True)
    idle_check_seconds = Float(
        60.0, min=0.1, max=240.0, help="Seconds between two looks at what a VM does that may be stopped for being idle."
    ).tag(config=True)
    budget = Float(
        None,
        allow_none=True,
        min=0,
        help="""What may be spent on VMs in a month (or a day, see budget_period), in the currency of AzureCompute.currency: an
        estimate of hours times price, disks and traffic not counted. From 80 % on it warns. None: no budget.""",
    ).tag(config=True)
    budgets = Dict(
        key_trait=Unicode(),
        value_trait=Float(min=0),
        help="""What may be spent on a single VM, by its name or a pattern (NAME, GROUP/NAME), beside the budget for all of them.
        Each VM has the budget of the first name that fits. Example: {"gpu-vm": 50, "*": 10}.""",
    ).tag(config=True)
    budget_period = Enum(
        ["month", "day"],
        default_value="month",
        help="Of which time budgets are: a calendar month or a day, in this server's time zone.",
    ).tag(config=True)
    budget_refuses = Bool(
        True,
        help="""Whether a VM that is off is not started from here, and none is made or given a dearer size, once a budget is spent.
        What runs goes on. False: it only warns.""",
    ).tag(config=True)
    spend_names = List(
        Unicode(),
        default_value=["*"],
        help="""Names or patterns (NAME, GROUP/NAME) of the VMs whose cost counts. Where a subscription is shared, name your own: by
        default every VM in the list counts, whoever has started it.""",
    ).tag(config=True)
    compute_providers = List(
        Enum(["free", "hosts", "azure", "hub"]),
        help="Where computes come from: this server (free), Azure (azure) or the broker of a hub (hub), and the hosts of the SSH "
        "configuration (hosts). The default has hub in place of azure where the hub has named its broker.",
    ).tag(config=True)

    @default("compute_providers")
    def _default_compute_providers(self) -> list[str]:
        from .compute.broker import from_hub

        return ["free", "hub" if from_hub() else "azure", "hosts"]

    def budget_rules(self) -> BudgetRules:
        """The budgets as they are set now."""
        return BudgetRules(self.budget, self.budget_period, self.budgets, self.budget_refuses)
