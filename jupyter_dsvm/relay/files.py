"""The VM's side of a workspace: one process, one SSH channel, one folder. The loader calls ``files.main()``.

It does what frames ask for (``fileframes``), in the order in which they come; what takes long (a scan, a digest, a file that is
sent) goes step by step between reading and writing, so that a PING is always answered. It keeps nothing that would be missed, and
ends when its input does.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

from .archive import Archive
from .fileframes import MAX_WAITING, SILENT, VERSION, Code, Op, failed, frame, read
from .filescan import Refused, scan, why
from .filestore import Digests, Incoming, contents, digest_of, link, part
from .filetree import Tree
from .inflight import InFlight
from .marks import PIPE_MARK, mark
from .stream import Stream
from .wire import PIPE, Frame, Type, WireError, read_u64, u64_body

FULL = 512 * 1024
"""Bytes that wait for the channel above which nothing is added but short answers."""

SYNCING = 8
"""Threads that wait for the disk. One file after the other is three times slower (measured)."""

MAX_SYNCING = 256
MAX_SYNCING_BYTES = 64 * 1024 * 1024
"""Files that are whole and not on the disk yet, above which nothing more is read."""

F_SETPIPE_SZ = 1031
PIPE_SIZE = 1024 * 1024

Step = Optional[Frame]


class Files:
    def __init__(self, stdin_fd: int, stdout_fd: int) -> None:
        self._channel = Stream(stdin_fd, stdout_fd)
        self._archive = Archive()
        self._flight = InFlight()
        self._tree: Optional[Tree] = None
        self._jobs: Deque[Tuple[int, Iterator[Step]]] = deque()
        self._incoming: Optional[Incoming] = None
        self._digests = Digests()
        self._whole: Deque[Incoming] = deque()
        """To be made durable, or just now."""
        self._durable: Deque[Tuple[Incoming, Optional[OSError]]] = deque()
        self._whole_bytes = 0
        self._pool: Any = None
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        self._open = True
        self._asked_to_leave = False
        self._heard = time.monotonic()
        self._at_once: Dict[int, Callable[[int, Dict[str, Any]], Optional[Dict[str, Any]]]] = {
            Op.OPEN: self._open_tree,
            Op.STORE: self._store,
            Op.END: self._end,
            Op.DELETE: self._delete,
            Op.MOVE: self._move,
            Op.MKDIR: self._mkdir,
            Op.RMDIR: self._rmdir,
            Op.LINK: self._link,
        }
        self._in_steps: Dict[int, Callable[[int, Dict[str, Any]], Iterator[Step]]] = {
            Op.SCAN: self._scan,
            Op.DIGEST: self._digest,
            Op.FETCH: self._fetch,
            Op.PART: self._part,
        }

    def leave(self, *_: object) -> None:
        """A newer process wants the folder. Called by the signal's handler, which does not end a poll by itself."""
        self._asked_to_leave = True
        os.write(self._wake, b"-")

    def run(self) -> None:
        try:
            while self._open and time.monotonic() < self._heard + SILENT:
                self._archive.keep()
                self._turn()
                if self._asked_to_leave:
                    self._queue(failed(0, Code.SUPERSEDED, "another connection works on this folder now"))
                    self._flush()
                    break
        finally:
            self._stop()

    def _stop(self) -> None:
        if self._incoming is not None:
            self._incoming.drop()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        for incoming in self._whole:
            incoming.drop()
        if self._tree is not None:
            self._tree.close()

    # The loop

    def _turn(self) -> None:
        poll = select.poll()
        reading = len(self._whole) < MAX_SYNCING and self._whole_bytes < MAX_SYNCING_BYTES
        if reading:
            poll.register(self._channel.read_fd, select.POLLIN)
        # With nothing to write this still says when the reader has gone.
        if self._channel.write_fd != self._channel.read_fd or not reading:
            poll.register(self._channel.write_fd, select.POLLOUT if self._channel.pending else 0)
        elif self._channel.pending:
            poll.modify(self._channel.read_fd, select.POLLIN | select.POLLOUT)
        poll.register(self._woken, select.POLLIN)
        working = bool(self._jobs) and self._has_room
        if not (working or self._jobs or self._incoming or self._whole) and self._tree is not None:
            self._tree.forget()
        for fd, events in poll.poll(0 if working else 30_000):
            if fd == self._woken:
                os.read(self._woken, 4096)
            elif fd == self._channel.read_fd and events & ~select.POLLOUT:
                self._read()
            elif events & (select.POLLERR | select.POLLNVAL):
                self._open = False
        self._place()
        self._work()
        self._flush()

    def _read(self) -> None:
        frames = self._channel.read()
        if frames is None:
            self._open = False
            return
        self._heard = time.monotonic()
        for each in frames:
            self._frame(each)

    def _flush(self) -> None:
        try:
            self._channel.flush()
        except OSError:
            self._open = False

    @property
    def _has_room(self) -> bool:
        return self._channel.pending < FULL and self._flight.room > 0

    def _queue(self, *frames: Frame) -> None:
        self._channel.queue(frames)

    def _work(self) -> None:
        """The first job, step by step, as long as what it says has room and nobody else has waited for long."""
        until = time.monotonic() + 0.02
        while self._jobs and self._has_room and time.monotonic() < until:
            seq, job = self._jobs[0]
            try:
                step = next(job)
            except StopIteration:
                self._jobs.popleft()
                continue
            except (Refused, OSError) as e:
                self._jobs.popleft()
                self._refuse(seq, e)
                continue
            if step is not None:
                self._queue(step)
                self._flight.sent(step.size, time.monotonic())
                self._ask()

    def _ask(self) -> None:
        question = self._flight.question(time.monotonic())
        if question is not None:
            self._queue(Frame(Type.PING, PIPE, 0, u64_body(question)))

    def _refuse(self, seq: int, error: Exception) -> None:
        refused = why(error) if isinstance(error, OSError) else error
        assert isinstance(refused, Refused)
        self._queue(failed(seq, refused.code, str(refused)))

    # What comes

    def _frame(self, each: Frame) -> None:
        seq, body = each.seq, each.body
        if each.type == Op.BYTES:
            incoming = self._incoming
            if incoming is not None and incoming.seq == seq:
                try:
                    incoming.write(body)
                except OSError as e:
                    self._give_up(e)
            return  # or it is of a file that was refused already
        if each.type == Type.PING:
            self._channel.queue([Frame(Type.PONG, PIPE, 0, bytes(body))], urgent=True)
            return
        if each.type == Type.PONG:
            self._flight.answered(read_u64(body), time.monotonic())
            self._ask()
            return
        if each.type == Op.CANCEL:
            for waiting, _job in self._jobs:
                self._queue(failed(waiting, Code.CANCELLED, "it was cancelled"))
            self._jobs.clear()
            if self._incoming is not None:
                self._give_up(Refused(Code.CANCELLED, "it was cancelled"))
            return
        if self._tree is None and self._incoming is not None:
            self._incoming = None  # its folder is gone
        if each.type == Op.END and (self._incoming is None or self._incoming.seq != seq):
            return
        if self._tree is None and each.type != Op.OPEN:
            self._queue(failed(seq, Code.MISSING, "the workspace's folder is not there"))
            return
        asked = read(body)
        step_by_step = self._in_steps.get(each.type)
        if step_by_step is not None:
            if len(self._jobs) >= MAX_WAITING:
                raise WireError("too many requests at once")
            self._jobs.append((seq, step_by_step(seq, asked)))
            return
        at_once = self._at_once.get(each.type)
        if at_once is None:
            self._queue(failed(seq, Code.OTHER, "this version of the relay does not know that request"))
            return
        try:
            answer = at_once(seq, asked)
        except (Refused, OSError) as e:
            self._refuse(seq, e)
        else:
            if answer is not None:
                self._queue(frame(Op.DONE, seq, answer))

    def _open_tree(self, seq: int, asked: Dict[str, Any]) -> Dict[str, Any]:
        if self._tree is not None:
            raise WireError("a second OPEN")
        about: Dict[str, Any] = {"version": VERSION, "exists": False, "fresh": False}
        try:
            tree = Tree(asked.get("root"), bool(asked.get("make")))  # type: ignore[arg-type]  # which checks it
        except Refused as e:
            if e.code != Code.MISSING:
                raise
            return about
        self._tree = tree
        free, total = tree.room()
        about.update(
            exists=True, fresh=tree.fresh, free=free, total=total, folds_case=tree.folds_case(), parts=tree.parts
        )
        threading.Thread(target=tree.purge, daemon=True).start()
        return about

    # Files that arrive

    def _store(self, seq: int, asked: Dict[str, Any]) -> None:
        if self._incoming is not None:
            raise WireError("a file begins before the one before it has ended")
        assert self._tree is not None
        self._incoming = Incoming(self._tree, seq, asked, self._digests)

    def _give_up(self, error: Exception) -> None:
        incoming, self._incoming = self._incoming, None
        assert incoming is not None
        refused = why(error) if isinstance(error, OSError) else error
        # What does not fit on the disk makes room again; what was cut off is gone on with.
        incoming.drop(all=isinstance(refused, Refused) and refused.code in (Code.FULL, Code.DAMAGED))
        self._refuse(incoming.seq, error)

    def _end(self, seq: int, asked: Dict[str, Any]) -> None:
        incoming = self._incoming
        assert incoming is not None
        try:
            incoming.end(asked)
        except (Refused, OSError) as e:
            self._give_up(e)
            return
        self._incoming = None
        self._whole.append(incoming)
        self._whole_bytes += incoming.size
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(SYNCING)
        self._pool.submit(self._sync, incoming)

    def _sync(self, incoming: Incoming) -> None:
        """On a thread of the pool."""
        self._durable.append((incoming, incoming.sync()))
        os.write(self._wake, b"-")

    def _place(self) -> None:
        while self._durable:
            incoming, error = self._durable.popleft()
            self._whole.remove(incoming)
            self._whole_bytes -= incoming.size
            try:
                if error is not None:
                    raise error
                self._queue(frame(Op.DONE, incoming.seq, {"row": incoming.place()}))
            except (Refused, OSError) as e:
                self._refuse(incoming.seq, e)
            finally:
                incoming.drop(all=True)

    # Other changes

    def _delete(self, _seq: int, asked: Dict[str, Any]) -> Dict[str, Any]:
        tree, path = self._tree, str(asked.get("path"))
        assert tree is not None
        if tree.there(path) is not None:  # or else an earlier try did it, whose answer was lost
            tree.check(path, asked.get("expect"))
            tree.to_trash(path)
        return {}

    def _move(self, _seq: int, asked: Dict[str, Any]) -> Dict[str, Any]:
        tree, path = self._tree, str(asked.get("path"))
        assert tree is not None
        tree.check(path, asked.get("expect"))
        tree.move(path, asked.get("to"))
        return {}

    def _mkdir(self, _seq: int, asked: Dict[str, Any]) -> Dict[str, Any]:
        assert self._tree is not None
        self._tree.make_folder(str(asked.get("path")))
        return {}

    def _rmdir(self, _seq: int, asked: Dict[str, Any]) -> Dict[str, Any]:
        assert self._tree is not None
        return {"gone": self._tree.remove_folder(str(asked.get("path")))}

    def _link(self, seq: int, asked: Dict[str, Any]) -> Dict[str, Any]:
        assert self._tree is not None
        return {"row": link(self._tree, seq, asked)}

    # What is sent, in steps

    def _scan(self, seq: int, asked: Dict[str, Any]) -> Iterator[Step]:
        assert self._tree is not None
        self._tree.forget()
        if not self._tree.is_there():
            tree, self._tree = self._tree, None
            tree.close()
            raise Refused(Code.MISSING, "the workspace's folder is not there any more")
        pruned = frozenset(name for name in asked.get("pruned", ()) if isinstance(name, str))
        for found in scan(self._tree.folder, pruned):
            yield frame(Op.ROWS, seq, {"rows": found.rows, "unknown": found.unknown, "unnamed": found.unnamed})
        yield frame(Op.DONE, seq, {})

    def _digest(self, seq: int, asked: Dict[str, Any]) -> Iterator[Step]:
        assert self._tree is not None
        for path in asked.get("paths", ()):
            rows: List[Any] = []
            unknown: List[List[str]] = []
            try:
                for row in digest_of(self._tree, path):
                    if row is not None:
                        rows.append(row)
                    else:
                        yield None
            except (Refused, OSError) as e:
                unknown = [[str(path), (why(e) if isinstance(e, OSError) else e).code]]
            yield frame(Op.ROWS, seq, {"rows": rows, "unknown": unknown, "unnamed": []})
        yield frame(Op.DONE, seq, {})

    def _fetch(self, seq: int, asked: Dict[str, Any]) -> Iterator[Step]:
        tree, path = self._tree, str(asked.get("path"))
        assert tree is not None
        tree.check(path, asked.get("expect"))
        yield from contents(tree, seq, asked)
        yield frame(Op.DONE, seq, {"row": tree.row(path)})

    def _part(self, seq: int, asked: Dict[str, Any]) -> Iterator[Step]:
        assert self._tree is not None
        for found in part(self._tree, asked, self._digests):
            yield None if found is None else frame(Op.DONE, seq, found)


def main(stdin_fd: int = 0, stdout_fd: int = 1) -> None:
    """Called by the loader, when what stands on stdin from here on is frames. Returns when stdin ends."""
    logging.basicConfig(stream=sys.stderr, format="files: %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    mark(PIPE_MARK)
    try:
        import fcntl

        fcntl.fcntl(stdin_fd, F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        pass  # it is a socket, or not Linux
    files = Files(stdin_fd, stdout_fd)
    signal.signal(signal.SIGTERM, files.leave)
    files.run()
