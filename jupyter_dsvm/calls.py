"""``%dsvm`` on the server's side: a line in, progress and one answer out.

Who may do what follows where the call came from, never what it says:

=================  ======================================  =====================================================
verb               from a kernel on this server            from a kernel on a VM, while a request of the user runs there
=================  ======================================  =====================================================
list status help   yes                                     yes
advise             yes                                     yes; nothing of files here but which libraries and calls
attach             yes; starting as *may it start* says    to a machine that runs
                                                           (not ``--yes``); ``--carry`` as for detach
detach             yes                                     yes; ``--carry`` where a person has allowed that VM, and
                                                           asked for in the page where not yet
carry load         yes                                     yes: its own variables
sync               yes                                     yes, but nothing that a person has to agree to: ``--force``,
                                                           ``--yes``, ``--fetch``
stop keep autostop yes                                     no
start restart      as *may it start* says                  no
resize             the same, with the new size's price     no
signin             yes; the code is in the cell            no
spend              yes                                     no: it says what other machines cost
(completion)       yes                                     yes, also while a completion is asked for
=================  ======================================  =====================================================

*May it start*: what ``kernel_may_start`` allows is done. What it does not allow is asked for in the page, if one has this
kernel open (``questions``), and refused where there is none.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from . import carry_calls
from .accounts import ended, outcome_text, prompt_text
from .advice import advice_html, advice_text
from .carrying import Carry
from .compute.provider import Cancel
from .compute.sizing import canonical, chosen
from .computes import OFF, PowerKind
from .errors import BadRequest, Cancelled, DSVMError, NotAllowed, OperationRefused
from .filewords import force_lines, todo_lines
from .idle_calls import autostop, keep
from .kernels.registry import Call
from .livesteps import LiveSteps, as_html, moved_text, said, waiting_for_answer
from .models import (
    FREE,
    Compute,
    Operation,
    OperationState,
    PowerState,
    SignInState,
    StepState,
    WorkspaceState,
)
from .operations import Running, problem_of
from .questions import question_of
from .spendwords import spend_html, spend_text
from .statuswords import full_status
from .tables import about_words, computes_html, computes_text, place, size_words, state_words
from .verbs import VERBS, brief_text, check_version, help_text, parse

if TYPE_CHECKING:
    from .service import DSVMService

log = logging.getLogger("jupyter_dsvm.calls")

POLL_SECONDS = 0.1
"""How often a wait for a sync looks whether its cell was interrupted."""

VM_MAY_NOT = {"signin": "sign in to Azure", "spend": "see what machines cost"}

SPEND_DAYS = 7
"""Of which ``%dsvm spend`` has a row for each machine."""

Answer = dict[str, Any]


def handle(service: DSVMService, call: Call) -> None:
    """Answer one call. Blocks while what was asked for goes on; every call gets a result or an error."""
    try:
        if "complete" in call.request:
            answer = _complete(service, call)
        else:
            verb, arguments = parse(call.request)
            _check_rights(call, verb, arguments)
            answer = ACTS[verb](service, call, arguments)
    except DSVMError as e:
        call.fail(e)
    except Exception as e:
        log.exception("%%dsvm failed")
        problem = problem_of(e)
        call.fail(DSVMError(problem.message, advice=problem.advice, code=problem.code))
    else:
        call.finish(answer)


# Rights


def _check_rights(call: Call, verb: str, arguments: argparse.Namespace) -> None:
    if call.trusted:
        return
    if verb and not VERBS[verb].from_vm:
        raise NotAllowed(
            f"A kernel on a VM may not {VM_MAY_NOT.get(verb, f'{verb} machines')}.",
            advice="Use the Compute panel, `jupyter dsvm` on the server, or %dsvm in a notebook on the free tier.",
        )
    for option in VERBS[verb].options if verb else ():
        if not option.from_vm and getattr(arguments, option.name.strip("-").replace("-", "_")):
            raise NotAllowed(
                f"A kernel on a VM may not use {option.name}.",
                advice="Say it in the Compute panel, or with %dsvm in a notebook on the free tier.",
            )
    if not call.running:
        raise NotAllowed(
            "A kernel on a VM may use %dsvm only while a cell of yours runs there.",
            advice="Run it in a cell.",
        )


def _may_start(service: DSVMService, call: Call, row: Compute, asking: Callable[[], None], *, size: str = "") -> None:
    """A kernel of this server is about to start ``row``, or to give it the ``size`` and price that it has here. Raises unless the
    configuration or a person allows it; blocks while that one is asked."""
    if not size:
        service.spending.check_start(row)
    try:
        service.allowance.take(row, resize=bool(size))
        return
    except NotAllowed as e:
        refused = e
    kernel_id = call.proxy.kernel_id
    if not service.page_is_open(kernel_id):
        raise refused
    service.look_for_paths()
    words = size_words(row.size)
    about = f" ({words})" if words and words != (row.size.name if row.size else "") else ""
    wants = f"to give {row.name} the size {size}{about}" if size else f"to start {row.name}{about}"

    def needless() -> bool:
        known = service.known.known(row.id)
        return not size and known is not None and known.power_state is PowerState.RUNNING

    question = question_of("resize" if size else "start", row, kernel_id, service.path(kernel_id), call.running, wants)
    service.questions.ask(
        replace(question, text=f"{question.text} {service.spending.remark(row)}".strip()),
        about=size,
        name=row.name,
        cancel=cast(Cancel, call.cancelled),
        page_is_open=lambda: service.page_is_open(kernel_id),
        needless=needless,
        without_page=refused,
        asking=asking,
    )


# Completion


def _complete(service: DSVMService, call: Call) -> Answer:
    """Words for the place of the cursor. It asks nobody who could let a person wait."""
    check_version(call.request)
    line = call.request["complete"]
    if not isinstance(line, str):
        raise BadRequest("What is to be completed is no text.", advice="Restart the kernel.")
    if not call.trusted and not call.running and not call.completing:
        raise NotAllowed("A kernel on a VM may complete only what a client of it asks for.")
    record = service.workspaces.of_kernel(call.proxy.kernel_id) if call.trusted else None
    left_there = [f.path for f in record.left_there] if record is not None else []
    return {"matches": service.completion.matches(line, from_vm=not call.trusted, left_there=left_there)}


# The verbs


def _list(service: DSVMService, call: Call, _: argparse.Namespace) -> Answer:
    listing = service.computes()
    here = call.proxy.status.compute
    computes = [replace(c, attached=_as_seen_from(call.proxy.kernel_id, service, c)) for c in listing.computes]
    # A VM learns no paths of other notebooks.
    return {
        "text": computes_text(computes, listing.problems, here, notebooks=call.trusted),
        "html": computes_html(computes, listing.problems, here, notebooks=call.trusted),
    }


def _as_seen_from(kernel_id: str, service: DSVMService, compute: Compute) -> tuple[str, ...]:
    """The notebooks on a compute, where the one that asks is "this notebook" if nobody knows its path."""
    own = next((r.notebook for r in service.kernels()[0] if r.id == kernel_id and r.path is None), None)
    return tuple("this notebook" if name == own else name for name in compute.attached)


def _status(service: DSVMService, call: Call, _: argparse.Namespace) -> Answer:
    return {"text": full_status(service, call.proxy, private=not call.trusted)}


def _advise(service: DSVMService, call: Call, _: argparse.Namespace) -> Answer:
    service.look_for_paths()
    # A VM learns nothing of the files here, their sizes included.
    advice = service.advising.of_kernel(call.proxy.kernel_id, private=not call.trusted)
    return {"text": advice_text(advice), "html": advice_html(advice)}


def _spend(service: DSVMService, call: Call, _: argparse.Namespace) -> Answer:
    spend, days = service.spending.record(), service.spending.days(SPEND_DAYS)
    return {"text": spend_text(spend, days), "html": spend_html(spend, days)}


def _help(_service: DSVMService, _call: Call, arguments: argparse.Namespace) -> Answer:
    return {"text": help_text(arguments.verb)}


def _bare(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    """Where it runs, what there is, and what can be said: rich where the front end shows HTML."""
    status, listed, verbs = (
        full_status(service, call.proxy, private=not call.trusted),
        _list(service, call, arguments),
        brief_text(),
    )
    return {
        "text": f"{status}\n\n{listed['text']}\n\n{verbs}",
        "html": as_html(*status.splitlines()) + listed["html"] + as_html(*verbs.splitlines()),
    }


def _attach(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    if arguments.no_sync and arguments.yes:
        raise BadRequest(
            "%dsvm attach: --no-sync and --yes do not go together.",
            advice="--yes copies the notebook's folder although it is large, --no-sync copies nothing.",
        )
    sync = False if arguments.no_sync else True if arguments.yes else None
    carry = carry_calls.wanted(arguments)
    return _move(service, call, service.known.find(arguments.name), arguments.kernel, sync, carry)


def _detach(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    return _move(service, call, service.known.find(FREE), None, carry=carry_calls.wanted(arguments))


def _move(
    service: DSVMService, call: Call, row: Compute, kernel: str | None, sync: bool | None = None, carry: Carry = False
) -> Answer:
    proxy = call.proxy
    target = place(row.id, row.name)
    if service.stays(proxy, row, kernel):
        if service.moves.withdraw(proxy, f"The notebook stays on {target}."):
            return said(f"This notebook stays on {target}; the move that was waiting is called off.")
        return said(f"This notebook runs on {target} already.")
    here = place(proxy.status.compute, proxy.status.compute_name)
    carry_calls.check(
        service, call, row, carry, lambda: call.progress(waiting_for_answer(call.proxy.status.compute_name))
    )
    running = service.moves.begin(proxy, row, cast(Cancel, call.cancelled), carry=bool(carry))
    job = service.carrying.job(running, proxy, row, carry, tell=True)
    with _shown(running, call, here, row.name) as notes:

        def may_start(now: Compute) -> None:
            if not call.trusted:
                _refuse_to_start(now)
            asked = waiting_for_answer(now.name)["text"]
            _may_start(service, call, now, lambda: running.insert("ask", asked))
            running.report("Allowed in the page")

        service.moves.run(running, proxy, row, kernel, may_start, set_up=call.trusted, sync=sync, carry=job)
    now = service.known.known(row.id) or row
    # The change comes when this cell has ended, so these are read before it.
    missing = service.attach_notes(proxy.kernel_id, kernel) if row.id != FREE else []
    if waiting := service.carrying.arrived(proxy.kernel_id, row.id):
        missing.append(waiting)
    about = "" if row.id == FREE else about_words(now)
    return said(moved_text(row.id, row.name, about, here, call.running, carries=bool(carry)), missing, notes)


def _sync(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    record = service.workspaces.of_kernel(call.proxy.kernel_id)
    if record is None:
        raise OperationRefused(
            f"No files travel with this notebook: it runs on {_here(call)}."
            if call.proxy.status.compute == FREE
            else f"No files travel with this notebook on {_here(call)}.",
            advice="%dsvm attach NAME takes its folder along."
            if call.proxy.status.compute == FREE
            else "Bring it back with %dsvm detach, and attach it again without --no-sync.",
            code="NoWorkspace",
        )
    if record.state is WorkspaceState.OFF:
        raise OperationRefused(
            f"No files travel with this notebook on {_here(call)}. {record.text}".strip(),
            advice="Bring it back with %dsvm detach, and attach it again without --no-sync.",
            code="NoWorkspace",
        )
    if arguments.fetch:
        operation = service.workspaces.fetch(record.id, arguments.fetch)
    else:
        operation = service.workspaces.sync(record.id, "both", arguments.force, arguments.yes)
    running = service.operations_store.get(operation.id)
    with _shown(running, call, _here(call), service.known.name(record.compute)) as notes:
        ended = _followed(service, running, cast(Cancel, call.cancelled))
        now = service.workspaces.of_kernel(call.proxy.kernel_id) or record
        if ended.error is not None:
            problem, kind = ended.error, Cancelled if ended.state is OperationState.CANCELLED else DSVMError
            advice = " ".join([problem.advice, *force_lines(now, [problem.advice])]).strip()
            raise kind(problem.message, advice=advice, code=problem.code)
    return said(ended.notice or f"{now.text.rstrip('.')}.", todo_lines(now), notes)


def _followed(service: DSVMService, running: Running, cancel: Cancel) -> Operation:
    """An operation that somebody else carries out, to its end. An interrupt of the cell cancels it."""
    asked = False
    while True:
        try:
            return running.finished.result(timeout=POLL_SECONDS)
        except FutureTimeout:
            if cancel.is_set() and not asked:
                asked = True
                service.operations_store.cancel(running.id, "The cell was interrupted.", quiet=True)


def _refuse_to_start(row: Compute) -> None:
    raise NotAllowed(
        f"{row.name} is {state_words(row)}, and a kernel on a VM may not start another one.",
        advice=f"Start it in the Compute panel, or with `jupyter dsvm start {row.name}`.",
    )


def _power(kind: PowerKind) -> Callable[[DSVMService, Call, argparse.Namespace], Answer]:
    def run(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
        row = service.known.find(arguments.name)
        if kind != "stop" and row.id != FREE:
            row = service.known.fresh(row.id)
            if row.power_state in OFF or row.power_state is PowerState.UNKNOWN:
                _may_start(service, call, row, lambda: call.progress(waiting_for_answer(row.name)))
        running = service.changes.begin_power(kind, row.id, cast(Cancel, call.cancelled))
        with _shown(running, call, _here(call), row.name) as notes:
            try:
                service.changes.run_power(running, kind)
            except Cancelled as e:
                raise Cancelled(
                    f"Waiting for {row.name} was interrupted. {e.message}",
                    advice=f"To release it, so that it costs nothing but its disk: %dsvm stop {row.name}."
                    if kind == "start"
                    else "What was asked of the cloud may still happen; look with %dsvm list.",
                ) from None
        return said(running.value.notice, mentioned=notes)

    return run


def _resize(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    row = service.known.find(arguments.name)
    offers, notice = service.known.sizes(row.id)
    offer = chosen(arguments.size, offers, row.name, row.location)
    if offer.current:
        return said(f"{row.name} has the size {offer.size.name} already.")
    if not arguments.yes:
        service.resizes.check_kernels(row)  # before a start is counted
    row = service.known.fresh(row.id)
    service.spending.check_start(row, canonical(offer.size.name))
    # Also of one that is off: it is the next start that would cost more.
    wanted = replace(row, size=offer.size, price=offer.price)
    _may_start(service, call, wanted, lambda: call.progress(waiting_for_answer(row.name)), size=offer.size.name)
    running = service.resizes.begin(row.id, offer.size.name, cast(Cancel, call.cancelled), arguments.yes)
    with _shown(running, call, _here(call), row.name) as notes:
        running.mention(notice)
        service.resizes.run(running, offer.size.name)
    return said(running.value.notice, mentioned=[n for n in notes if n != notice])


def _keep(service: DSVMService, _call: Call, arguments: argparse.Namespace) -> Answer:
    return said(keep(service, arguments.name, arguments.hours))


def _autostop(service: DSVMService, _call: Call, arguments: argparse.Namespace) -> Answer:
    return said(autostop(service, arguments.name, arguments.minutes, arguments.hard))


def _signin(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    if not arguments.new and not arguments.tenant:
        present = service.accounts.status()
        if present.state is SignInState.SIGNED_IN:
            return {"text": outcome_text(present)}
    status = service.accounts.begin(arguments.tenant or "")
    if status.code is None or status.id is None:
        return {"text": ended(status)}
    call.progress({"text": prompt_text(status)})
    return {"text": ended(service.accounts.wait(status.id, cast(Cancel, call.cancelled)))}


def _here(call: Call) -> str:
    return place(call.proxy.status.compute, call.proxy.status.compute_name)


@contextlib.contextmanager
def _shown(running: Running, call: Call, here: str, name: str) -> Iterator[list[str]]:
    """Show each step in the cell as it comes, and how they stand where it fails. Gives a list that fills with the sentences
    that were no progress."""
    steps, notes = LiveSteps(here, name), list[str]()

    def tell(text: str) -> None:
        if all(text != step.text for step in running.value.steps):
            notes.append(text)
        call.progress(steps.progress(running.value, text, notes, running.starts))

    running.listeners.append(tell)
    begun = next((s.text for s in running.value.steps if s.state is StepState.RUNNING), None)
    if begun is not None:  # somebody else carries it out, and may have begun
        tell(begun)
    try:
        yield notes
    except BaseException:
        call.progress(steps.progress(running.value, "", notes, running.starts))
        raise
    finally:
        running.listeners.remove(tell)


ACTS: dict[str, Callable[[DSVMService, Call, argparse.Namespace], Answer]] = {
    "": _bare,
    "help": _help,
    "list": _list,
    "status": _status,
    "advise": _advise,
    "spend": _spend,
    "attach": _attach,
    "detach": _detach,
    "carry": carry_calls.carry,
    "load": carry_calls.load,
    "sync": _sync,
    "start": _power("start"),
    "stop": _power("stop"),
    "restart": _power("restart"),
    "resize": _resize,
    "keep": _keep,
    "autostop": _autostop,
    "signin": _signin,
}
"""By verb, with "" for a bare ``%dsvm``; ``verbs.VERBS`` says the rest of them."""
