"""``%dsvm`` about variables: ``--carry``, ``carry`` and ``load``. A part of ``calls``.

A kernel that runs a line of ``%dsvm`` is busy with it, so it cannot be asked over its channels. Its magic looks or loads by itself:
the answer to the line is code (``run``), the same that the gate would have put in, and the magic sends the line once more, with
what came of that as ``ran``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from .carrying import Carry, CarryNeedsYes
from .carrywords import plan_html, plan_text, unsupported
from .compute.provider import Cancel
from .errors import Cancelled, NotAllowed, OperationRefused
from .kernelvariables import PLAN_SECONDS, VariablesError, moved_of, planned_of, worded
from .models import FREE, CarryState, Compute, Variables
from .questions import question_of
from .tables import place

if TYPE_CHECKING:
    from collections.abc import Callable

    from .kernels.registry import Call
    from .service import DSVMService

Answer = dict[str, Any]

TOO_OLD = "Restart the kernel, so that it gets the %dsvm of the installed version."


def wanted(arguments: argparse.Namespace) -> Carry:
    """What ``--carry`` says: all without names, none where it is absent."""
    names: list[str] | None = arguments.carry
    return False if names is None else names or True


def check(service: DSVMService, call: Call, row: Compute, carry: Carry, asking: Callable[[], None]) -> None:
    """These variables may go there, or it raises. Where they come from a VM a person is asked in the page, once for that VM."""
    try:
        service.carrying.check(call.proxy, row, carry, None)
        return
    except CarryNeedsYes as e:
        refused = NotAllowed(
            e.message.partition(": allow it")[0] + ", which a person has to allow in the page first.",
            advice="Run the cell with the notebook open in JupyterLab, or leave out --carry.",
            code=e.code,
        )
        told = e.message
    kernel_id = call.proxy.kernel_id
    if not service.page_is_open(kernel_id):
        raise refused
    service.look_for_paths()
    source = service.known.find(call.proxy.status.compute)
    target = place(row.id, row.name)
    question = question_of(
        "carry",
        replace(source, price=None),
        kernel_id,
        service.path(kernel_id),
        call.running,
        f"to bring its variables from {source.name} to {target}",
    )
    try:
        service.questions.ask(
            replace(question, text=f"{question.text} {told}"),
            about="",
            name=source.name,
            cancel=cast(Cancel, call.cancelled),
            page_is_open=lambda: service.page_is_open(kernel_id),
            needless=lambda: service.carrying.permits.holds(source.id),
            without_page=refused,
            asking=asking,
            keep=False,  # it is kept for the VM, not for this notebook
        )
    except (Cancelled, NotAllowed) as e:
        e.message = e.message.replace("so nothing was started", "so the notebook stays where it is")
        raise
    service.carrying.check(call.proxy, row, carry, True)


def carry(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    """The dry run."""
    status = call.proxy.status
    if arguments.name:
        row = service.known.find(arguments.name)
        compute, name = row.id, row.name
    else:
        compute, name = (FREE, "Free tier") if status.compute != FREE else ("", "")
    if status.language and status.language.lower() != "python":
        return {"text": unsupported(status.language)}
    ran = call.request.get("ran")
    if ran is None:
        there = service.carrying.hello_of(compute)
        return _run("plan", names=None, there=None if there is None else there.raw, seconds=PLAN_SECONDS)
    planned = planned_of(worded(ran))
    known = planned.size is not None and bool(compute)
    plan = Variables(
        call.proxy.kernel_id,
        compute,
        CarryState.READY,
        "",
        planned.variables,
        planned.more,
        planned.bytes,
        service.carrying.seconds(status.compute, compute, planned.bytes) if known else None,
        bool(compute) and service.carrying.needs_yes(status.compute, compute),
    )
    return {"text": plan_text(plan, name), "html": plan_html(plan, name)}


def load(service: DSVMService, call: Call, _: argparse.Namespace) -> Answer:
    """Variables that were saved before the machine was stopped."""
    save = service.carrying.loadable(call.proxy)
    ran = call.request.get("ran")
    if ran is None:
        return _run("load", path=save.file, names=None)
    try:
        moved = moved_of(worded(ran), "received")
    except VariablesError as e:
        raise OperationRefused(e.message, advice="The file may be gone or damaged.", code="NotLoaded") from None
    return {"text": service.carrying.loaded(call.proxy.kernel_id, moved, forget=True)}


def _run(function: str, **arguments: Any) -> Answer:
    from .kernels.variables_source import call, source  # late: of use only to who carries

    return {"text": TOO_OLD, "run": {"code": source(), "expression": call(function, **arguments)}}
