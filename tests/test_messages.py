"""Messages on the wire: what is read, what is written anew, and that nothing a hostile sender makes up raises anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import DELIM, Session

from jupyter_dsvm.kernels.messages import (
    MAX_CONTENT,
    MAX_DEPTH,
    REMEMBERED,
    Intake,
    MalformedMessage,
    Message,
    Signer,
)

KEY = b"secret"


def signer(key: bytes = KEY) -> Signer:
    return Signer(key, "front", "hmac-sha256", "k1")


def request(kind: str = "execute_request", content: dict[str, Any] | None = None, **header: Any) -> list[bytes]:
    session = Session(key=KEY, session="client")
    message = session.msg(kind, content=content or {})
    message["header"].update(header)
    return [b"client-1", *session.serialize(message)]


def read(parts: list[bytes]) -> dict[str, Any]:
    """As a client reads it, signature checked."""
    session = Session(key=KEY, session="reader")
    _idents, rest = session.feed_identities(parts)
    message: dict[str, Any] = session.deserialize(rest)
    return message


def test_a_message_is_read_where_it_is_asked() -> None:
    message = Message(request(content={"code": "1"}))
    assert (message.type, message.idents, message.content) == ("execute_request", [b"client-1"], {"code": "1"})
    assert message.key == ("execute_request", message.id)
    assert message.parent_key == ("", "")


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"x"],
        [DELIM],
        [DELIM, b"", b"{}", b"{}", b"{}"],
        [DELIM, b"", b"[]", b"{}", b"{}", b"{}"],
        [DELIM, b"", b"nonsense", b"{}", b"{}", b"{}"],
        [DELIM, b"", b"\xff\xfe\xff", b"{}", b"{}", b"{}"],
        [DELIM, b"", b"[" * 100_000, b"{}", b"{}", b"{}"],
        [DELIM, b"", b'{"a":' * 100_000, b"{}", b"{}", b"{}"],
    ],
)
def test_what_is_no_message_is_malformed(parts: list[bytes]) -> None:
    with pytest.raises(MalformedMessage):
        Message(parts).type


@given(st.lists(st.one_of(st.just(DELIM), st.binary(max_size=20), st.sampled_from([b"{}", b'{"msg_id":[]}', b"null"]))))
def test_garbage_is_malformed_or_reads_as_empty(parts: list[bytes]) -> None:
    try:
        message = Message(parts)
        texts = (message.type, message.id, *message.parent_key)
    except MalformedMessage:
        return
    assert all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize("value", [None, 3, [], {}, True])
def test_fields_of_another_kind_count_as_absent(value: object) -> None:
    assert Message(request(msg_id=value, msg_type=value)).key == ("", "")


def test_own_messages_are_signed_in_the_fronts_session_and_name_their_parent() -> None:
    asked = Message(request())
    said = read(signer().published("status", {"execution_state": "busy"}, asked))
    assert said["header"]["session"] == "front"
    assert said["parent_header"]["msg_id"] == asked.id
    assert said["content"] == {"execution_state": "busy"}
    assert signer().published("status", {}, None)[0] == b"kernel.k1.status"


def test_a_parent_given_as_a_header_is_written() -> None:
    said = read(signer().published("stream", {"name": "stdout", "text": "x"}, {"msg_id": "m", "msg_type": "t"}))
    assert said["parent_header"]["msg_id"] == "m"


def test_a_message_in_the_fronts_session_is_not_copied() -> None:
    ours = Message(signer().published("status", {"execution_state": "idle"}, None))
    assert signer().in_session(ours) is ours.parts


def test_another_session_is_rewritten_and_signed_again_with_buffers_kept() -> None:
    theirs = Message([*request(content={"code": "é"}), b"buffer"])
    rewritten = signer().in_session(theirs)
    said = read(rewritten)
    assert (said["header"]["session"], said["content"], bytes(said["buffers"][0])) == (
        "front",
        {"code": "é"},
        b"buffer",
    )
    assert said["header"]["msg_id"] == theirs.id
    assert theirs.header["session"] == "client", "the original is as it was"


@pytest.mark.parametrize("text", ["\ud800 and \udcff", "a\u0000b", "🙂"])
def test_any_text_can_be_written_again(text: str) -> None:
    parts = request()
    parts[3] = json.dumps({**json.loads(parts[3]), "username": text}).encode()
    assert Message(signer().in_session(Message(parts))).header["username"] == text


def test_a_header_too_deep_to_be_written_again_is_malformed() -> None:
    parts = request()
    for depth in range(100, 1200, 20):
        parts[3] = b'{"msg_id":"m","deep":' + b"[" * depth + b"]" * depth + b"}"
        try:
            signer().in_session(Message(parts))
        except MalformedMessage:
            return
    pytest.fail("no depth was too deep")


def test_a_signature_is_checked() -> None:
    parts = request(content={"code": "1"})
    signer().check(Message(parts))
    parts[6] = b'{"code":"2"}'
    with pytest.raises(MalformedMessage, match="signature"):
        signer().check(Message(parts))
    signer(b"").check(Message(parts))  # the user turned signing off


def test_intake_takes_a_message_once() -> None:
    intake = Intake(signer())
    parts = request()
    assert intake.take(parts).parts is parts
    with pytest.raises(MalformedMessage, match="twice"):
        intake.take(parts)
    with pytest.raises(MalformedMessage, match="without an id"):
        intake.take(request(msg_id=""))


def test_what_an_earlier_process_took_is_not_taken_again() -> None:
    intake = Intake(signer())
    parts = request()
    intake.taken(Message(parts))
    with pytest.raises(MalformedMessage, match="twice"):
        intake.take(parts)


def test_a_subshell_is_named_as_the_kernel_calls_it_or_not_at_all() -> None:
    for header in ({"subshell_id": "front"}, {"subshell_id": None}, {"subshell_id": 7}, {}):
        message = Message([*request(content={"code": "é"}, **header), b"buffer"])
        named = read(signer().to_subshell(message, "theirs"))
        assert (named["header"]["subshell_id"], named["content"]) == ("theirs", {"code": "é"})
        for_main = signer().to_subshell(message, "")
        assert read(for_main)["header"].get("subshell_id") is None
        assert (for_main is message.parts) is (header.get("subshell_id") is None)


def test_a_parent_can_be_written_anew_with_and_without_the_session() -> None:
    theirs = Message(request())
    said = read(signer().in_session(theirs, {"msg_id": "m"}))
    assert (said["parent_header"], said["header"]["session"]) == ({"msg_id": "m"}, "front")
    ours = Message(signer().published("status", {}, None))
    assert read(signer().in_session(ours, {"msg_id": "m"}))["parent_header"] == {"msg_id": "m"}


def test_without_signatures_nothing_counts_as_sent_twice() -> None:
    intake = Intake(signer(b""))
    session = Session(key=b"", session="client")
    for _ in range(2):
        intake.take(session.serialize(session.msg("execute_request")))


def test_what_was_sent_is_remembered_by_side_and_not_for_ever() -> None:
    intake = Intake(signer())
    intake.sent_to(1, "first")
    assert intake.was_sent_to(1, "first")
    assert not intake.was_sent_to(2, "first")
    for n in range(REMEMBERED):
        intake.sent_to(1, str(n))
    assert not intake.was_sent_to(1, "first")


def nested(depth: int, text: str = "") -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + json.dumps(text).encode() + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "content",
    [
        b'{"text": "plain"}',
        nested(MAX_DEPTH),
        b'{"text": ' + json.dumps('[{"' * 100_000 + "\\").encode() + b"}",  # brackets in a text are no nesting
        b'{"a": [' + b"[], {}, " * 10_000 + b"[]]}",
        b'{"a": "' + b"x" * MAX_CONTENT + b'"}',
        nested(MAX_DEPTH, "x" * 100_000),
    ],
    ids=["plain", "deep", "text", "wide", "long", "deep and large"],
)
def test_what_any_client_can_read_passes_the_check(content: bytes) -> None:
    Message([DELIM, b"", b"{}", b"{}", b"{}", content, b"\xff"], bounded=True).check()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"a": \xff}',
        b'{"a"',
        nested(MAX_DEPTH + 1),
        nested(MAX_DEPTH + 1, "x" * 100_000),
        b'{"a":' + b"[" * MAX_DEPTH,
        nested(100_000),
        nested(2000, '"[[' * 50_000),
    ],
)
@pytest.mark.parametrize("offset", [2, 3, 4, 5])
def test_what_a_client_could_not_read_does_not(content: bytes, offset: int) -> None:
    parts = [DELIM, b"", b"{}", b"{}", b"{}", b"{}"]
    parts[offset] = content
    with pytest.raises(MalformedMessage):
        Message(parts, bounded=True).check()


def test_of_a_message_from_a_vm_only_so_much_is_read() -> None:
    long = b'{"msg_id": "' + b"x" * MAX_CONTENT + b'"}'
    for offset, read in ((2, "header"), (3, "parent"), (5, "content")):
        parts = [DELIM, b"", b"{}", b"{}", b"{}", b"{}"]
        parts[offset] = long
        assert getattr(Message(parts), read)["msg_id"]
        with pytest.raises(MalformedMessage, match="bytes"):
            getattr(Message(parts, bounded=True), read)
