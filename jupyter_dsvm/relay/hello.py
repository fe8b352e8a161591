"""The first frame of a connection, read and checked. Pure; ``docs/protocol.md`` says what its fields mean."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Tuple

from .wire import Buffer, WireError, read_json

MAX_WORD = 200
"""Characters of an epoch or of a GOODBYE's reason."""

ADOPTION = 2
"""The first version whose relays can be adopted."""


class Hello(NamedTuple):
    version: int
    epoch: str
    process: str
    connection: int
    received_upto: int
    credit: int
    adopt: bool
    all: Dict[str, Any]
    """As it came, with what only some receivers look at."""


class Base(NamedTuple):
    """Where both directions go on after an adoption."""

    seq: int
    """The last frame from the relay that does not come again, and the bytes of bodies up to there."""
    end: int
    received_upto: int
    """The last frame that the relay has, and the bytes of bodies up to there."""
    received_end: int


def read_hello(body: Buffer) -> Hello:
    """Raises ``WireError``. What versions before 2 do not say has the value that means nothing."""
    value = read_json(body)
    version = _natural(value, "version")
    epoch, process, adopt = value.get("epoch"), value.get("process", ""), value.get("adopt", False)
    if version < 1:
        raise WireError(f"there is no protocol version {version}")
    if not isinstance(epoch, str) or not 0 < len(epoch) <= MAX_WORD:
        raise WireError("a HELLO without epoch")
    if not isinstance(process, str) or len(process) > MAX_WORD:
        raise WireError("a HELLO whose process is no word")
    if not isinstance(adopt, bool) or (adopt and version < ADOPTION):
        raise WireError("a HELLO that adopts what it cannot adopt")
    connection = _natural(value, "connection") if "connection" in value else 0
    upto, credit = _natural(value, "received_upto"), _natural(value, "credit")
    return Hello(version, epoch, process, connection, upto, credit, adopt, value)


def read_base(hello: Hello) -> Base:
    """Of a relay's answer to an adopter. Raises ``WireError``."""
    base = hello.all.get("base")
    if not isinstance(base, dict):
        raise WireError("a HELLO to an adopter without base")
    sent: Tuple[int, int] = (_natural(base, "seq"), _natural(base, "bytes"))
    return Base(*sent, hello.received_upto, _natural(hello.all, "received_bytes"))


def _natural(value: Dict[str, Any], name: str) -> int:
    number = value.get(name)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 63:
        raise WireError(f"a HELLO whose {name} is no number")
    return number
