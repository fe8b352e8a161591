"""``%dsvm`` on the server's side: a line in, progress and one answer out.

Who may do what follows where the call came from, never what it says:

=================  ==================================  =========================================================
verb               from a kernel on this server        from a kernel on a VM, while a request of the user runs there
=================  ==================================  =========================================================
list status help   yes                                 yes
attach             yes; starting only as allowed       to a machine that runs
detach             yes                                 yes
stop               yes                                 no
start restart      as ``kernel_may_start`` allows      no
resize             the same, with the new size's price  no
signin             yes; the code is in the cell        no
=================  ==================================  =========================================================
"""

from __future__ import annotations

import argparse
import difflib
import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

from .accounts import ended, outcome_text, prompt_text
from .compute.provider import Cancel
from .compute.sizing import chosen
from .computes import OFF, PowerKind
from .errors import BadRequest, Cancelled, DSVMError, NotAllowed
from .kernels.registry import Call
from .models import FREE, Compute, LinkPhase, PowerState, SignInState
from .operations import Running, problem_of
from .tables import computes_html, computes_text, place, state_words

if TYPE_CHECKING:
    from .service import DSVMService

log = logging.getLogger("jupyter_dsvm.calls")

VERSION = 1
MAX_LINE = 4096

HELP = """\
%dsvm list                       what there is to run on
%dsvm attach NAME [--kernel K]   the following cells run there
%dsvm detach                     the following cells run on the free tier again
%dsvm status                     where this notebook runs
%dsvm start|stop|restart NAME    change a VM; stop releases it, so that it costs nothing but its disk
%dsvm resize NAME SIZE [--yes]   give a VM another size; --yes: kernels that run there may end
%dsvm signin [--tenant T]        sign in to Azure with a code; --new for another account than the present one
%dsvm help                       this text"""

Answer = dict[str, Any]


def handle(service: DSVMService, call: Call) -> None:
    """Answer one call. Blocks while what was asked for goes on; every call gets a result or an error."""
    try:
        verb, arguments = parse(call.request)
        _check_rights(call, verb)
        answer = VERBS[verb].run(service, call, arguments)
    except DSVMError as e:
        call.fail(e)
    except Exception as e:
        log.exception("%%dsvm failed")
        problem = problem_of(e)
        call.fail(DSVMError(problem.message, advice=problem.advice, code=problem.code))
    else:
        call.finish(answer)


# The line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadRequest(f"{self.prog}: {message}.", advice=f"Usage: {self.format_usage()[len('usage: ') :].strip()}")


def _parser(verb: str) -> _Parser:
    words = {
        "attach": " NAME [--kernel K]",
        "start": " NAME",
        "stop": " NAME",
        "restart": " NAME",
        "resize": " NAME SIZE [--yes]",
        "signin": " [--tenant T] [--new]",
    }.get(verb, "")
    parser = _Parser(prog=f"%dsvm {verb}", usage=f"%(prog)s{words}", add_help=False, allow_abbrev=False)
    if verb in ("attach", "start", "stop", "restart", "resize"):
        parser.add_argument("name", metavar="NAME")
    if verb == "attach":
        parser.add_argument("--kernel", metavar="K", default=None)
    if verb == "resize":
        parser.add_argument("size", metavar="SIZE")
        parser.add_argument("--yes", action="store_true")
    if verb == "signin":
        # No token and no password: a cell's text is kept in the notebook.
        parser.add_argument("--tenant", metavar="T", default="")
        parser.add_argument("--new", action="store_true")
    return parser


def parse(request: dict[str, Any]) -> tuple[str, argparse.Namespace]:
    """The verb and its arguments; a bare ``%dsvm`` is the verb "". Raises ``BadRequest`` with one readable sentence."""
    line = request.get("line")
    if request.get("version") != VERSION or not isinstance(line, str) or len(line) > MAX_LINE:
        raise BadRequest(
            "This %dsvm does not speak the language of this server.",
            advice="Restart the kernel, so that it gets the magic of the installed version.",
        )
    line = line.partition("#")[0] if line.lstrip().startswith("#") else line
    try:
        words = shlex.split(line, comments=True)
    except ValueError as e:
        raise BadRequest(f"%dsvm {line.strip()}: {e}.", advice="Close the quotation mark.") from None
    if not words:
        return "", argparse.Namespace()
    verb, *rest = words
    if verb in ("-h", "--help"):
        verb = "help"
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, [v for v in VERBS if v], 1)
        advice = f"Did you mean %dsvm {near[0]}? " if near else ""
        raise BadRequest(f"%dsvm has no verb {verb!r}.", advice=advice + "%dsvm help shows all of them.")
    return verb, _parser(verb).parse_args(rest)


def _check_rights(call: Call, verb: str) -> None:
    if call.trusted:
        return
    if not VERBS[verb].from_vm:
        raise NotAllowed(
            f"A kernel on a VM may not {'sign in to Azure' if verb == 'signin' else f'{verb} machines'}.",
            advice="Use the Compute panel, `jupyter dsvm` on the server, or %dsvm in a notebook on the free tier.",
        )
    if not call.running:
        raise NotAllowed(
            "A kernel on a VM may use %dsvm only while a cell of yours runs there.",
            advice="Run it in a cell.",
        )


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
    return {"text": status_text(service, call.proxy)}


def status_text(service: DSVMService, proxy: Any) -> str:
    """Where a notebook runs, whether it is reached, and what is under way for it."""
    status = proxy.status
    row = service.known.known(status.compute)
    kernel = f" with the kernel {status.kernelspec}" if status.kernelspec else ""
    lines = [f"This notebook runs on {place(status.compute, status.compute_name)}{kernel}."]
    if row is not None and row.id != FREE and row.power_state is not PowerState.UNKNOWN:
        lines.append(f"{row.name} is {state_words(row)}.")
    link = status.link
    if link.state in (LinkPhase.CONNECTING, LinkPhase.RECONNECTING, LinkPhase.GONE):
        words = {
            LinkPhase.CONNECTING: "It is being connected to",
            LinkPhase.RECONNECTING: f"It is out of reach and being reconnected to (try {link.attempt})",
            LinkPhase.GONE: "Its kernel there has ended",
        }[link.state]
        lines.append(f"{words}{': ' + link.reason if link.reason else '.'}")
    operations = [o for o in service.operations()[0] if o.kernel == proxy.kernel_id]
    for operation in operations:
        if operation.ended is None and operation.compute is not None:
            step = next((s.text for s in operation.steps if s.state.value == "running"), "")
            target = place(operation.compute, service.known.name(operation.compute))
            lines.append(f"It is moving to {target}{': ' + step if step else ''}.")
    if operations and operations[0].error is not None and operations[0].ended is not None:
        lines.append(
            f"The last move did not happen: {operations[0].error.message} {operations[0].error.advice}".strip()
        )
    return "\n".join(lines)


def _help(_service: DSVMService, _call: Call, _: argparse.Namespace) -> Answer:
    return {"text": HELP}


def _bare(service: DSVMService, call: Call, _: argparse.Namespace) -> Answer:
    return {"text": status_text(service, call.proxy) + "\n\n" + HELP}


def _attach(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    return _move(service, call, service.known.find(arguments.name), arguments.kernel)


def _detach(service: DSVMService, call: Call, _: argparse.Namespace) -> Answer:
    return _move(service, call, service.known.find(FREE), None)


def _move(service: DSVMService, call: Call, row: Compute, kernel: str | None) -> Answer:
    proxy = call.proxy
    target = place(row.id, row.name)
    if service.stays(proxy, row, kernel):
        if service.moves.withdraw(proxy, f"The notebook stays on {target}."):
            return {"text": f"This notebook stays on {target}; the move that was waiting is called off."}
        return {"text": f"This notebook runs on {target} already."}
    here = place(proxy.status.compute, proxy.status.compute_name)
    running = service.moves.begin(proxy, row, cast(Cancel, call.cancelled))
    _follow(running, call)
    may_start = service.code_may_start if call.trusted else _refuse_to_start
    service.moves.run(running, proxy, row, kernel, may_start, set_up=call.trusted)
    # The change comes when this cell has ended, so these are read before it.
    notes = service.attach_notes(proxy.kernel_id, kernel) if row.id != FREE else []
    if not call.running:
        return {"text": "\n".join([f"This notebook moves to {target}; its variables stay on {here}.", *notes])}
    text = (
        f"The following cells run on {target}. Code after this line in the same cell still runs on {here}, "
        "and variables stay there."
    )
    return {"text": "\n".join([text, *notes])}


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
                service.code_may_start(row)
        running = service.changes.begin_power(kind, row.id, cast(Cancel, call.cancelled))
        _follow(running, call)
        try:
            service.changes.run_power(running, kind)
        except Cancelled as e:
            raise Cancelled(
                f"Waiting for {row.name} was interrupted. {e.message}",
                advice=f"To release it, so that it costs nothing but its disk: %dsvm stop {row.name}."
                if kind == "start"
                else "What was asked of the cloud may still happen; look with %dsvm list.",
            ) from None
        return {"text": running.value.notice}

    return run


def _resize(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    row = service.known.find(arguments.name)
    offers, notice = service.known.sizes(row.id)
    offer = chosen(arguments.size, offers, row.name, row.location)
    if offer.current:
        return {"text": f"{row.name} has the size {offer.size.name} already."}
    if not arguments.yes:
        service.resizes.check_kernels(row)  # before a start is counted
    # Also of one that is off: it is the next start that would cost more.
    service.allowance.take(replace(service.known.fresh(row.id), size=offer.size, price=offer.price), resize=True)
    running = service.resizes.begin(row.id, offer.size.name, cast(Cancel, call.cancelled), arguments.yes)
    _follow(running, call)
    call.progress({"text": notice})
    service.resizes.run(running, offer.size.name)
    return {"text": running.value.notice}


def _signin(service: DSVMService, call: Call, arguments: argparse.Namespace) -> Answer:
    if not arguments.new and not arguments.tenant:
        present = service.accounts.status()
        if present.state is SignInState.SIGNED_IN:
            return {"text": outcome_text(present)}
    status = service.accounts.begin(arguments.tenant)
    if status.code is None or status.id is None:
        return {"text": ended(status)}
    call.progress({"text": prompt_text(status)})
    return {"text": ended(service.accounts.wait(status.id, cast(Cancel, call.cancelled)))}


def _follow(running: Running, call: Call) -> None:
    """Show each step in the cell as it comes."""
    running.listeners.append(lambda text: call.progress({"text": text}))


@dataclass(frozen=True)
class Verb:
    run: Callable[[DSVMService, Call, argparse.Namespace], Answer]
    from_vm: bool
    """Whether a kernel on a VM may use it."""


VERBS: dict[str, Verb] = {
    "": Verb(_bare, True),
    "help": Verb(_help, True),
    "list": Verb(_list, True),
    "status": Verb(_status, True),
    "attach": Verb(_attach, True),
    "detach": Verb(_detach, True),
    "start": Verb(_power("start"), False),
    "stop": Verb(_power("stop"), False),
    "restart": Verb(_power("restart"), False),
    "resize": Verb(_resize, False),
    "signin": Verb(_signin, False),
}
