"""What cannot move to another process, and in which words that is said.

By the names of types, since what defines them need not be imported here. A value's own class and those it derives from are
looked up, so that a subclass in the notebook is known too.
"""

from __future__ import annotations

import sys
from typing import Any, Dict, Optional, Tuple

MAX_REASON = 300

FILE = "An open file cannot move."
CONNECTION = "An open connection cannot move."
LOCK = "A lock cannot move."
THREAD = "A running thread cannot move."
PROCESS = "A handle of another process cannot move."
RUNNING = "What asyncio is running cannot move."
GENERATOR = "A generator cannot move: its place in the middle of the code is not known elsewhere."
ITERATOR = "What reads data on demand cannot move."
WIDGET = "A widget cannot move; run its cell again."
MEMORY_MAP = "A memory map cannot move: it is a file of this machine. Open it there."
SHARED_MEMORY = "Memory that is shared with another process cannot move."
WEAK = "A weak reference cannot move."
FRAME = "A frame of running code cannot move."
POINTER = "A pointer into this process's memory cannot move."
SESSION = "A session with another service cannot move."
STREAMS = "An output stream of this kernel cannot move."

UNMOVABLE: Dict[Tuple[str, str], str] = {
    ("_io", "_IOBase"): FILE,
    ("_io", "FileIO"): FILE,
    ("_io", "TextIOWrapper"): FILE,
    ("_io", "BufferedReader"): FILE,
    ("_io", "BufferedWriter"): FILE,
    ("_io", "BufferedRandom"): FILE,
    ("tempfile", "_TemporaryFileWrapper"): FILE,
    ("tempfile", "TemporaryDirectory"): "A temporary folder cannot move.",
    ("zipfile", "ZipFile"): FILE,
    ("tarfile", "TarFile"): FILE,
    ("gzip", "GzipFile"): FILE,
    ("bz2", "BZ2File"): FILE,
    ("lzma", "LZMAFile"): FILE,
    ("csv", "reader"): FILE,
    ("_csv", "reader"): FILE,
    ("_csv", "writer"): FILE,
    ("h5py._hl.base", "HLObject"): FILE,
    ("pandas.io.pytables", "HDFStore"): FILE,
    ("pandas.io.excel._base", "ExcelFile"): FILE,
    ("pandas.io.excel._base", "ExcelWriter"): FILE,
    ("pyarrow.lib", "NativeFile"): FILE,
    ("netCDF4._netCDF4", "Dataset"): FILE,
    ("ipykernel.iostream", "OutStream"): STREAMS,
    ("socket", "socket"): CONNECTION,
    ("_socket", "socket"): CONNECTION,
    ("ssl", "SSLContext"): "A TLS context cannot move.",
    ("_ssl", "_SSLContext"): "A TLS context cannot move.",
    ("sqlite3", "Connection"): CONNECTION,
    ("sqlite3", "Cursor"): CONNECTION,
    ("_sqlite3", "Connection"): CONNECTION,
    ("http.client", "HTTPConnection"): CONNECTION,
    ("http.client", "HTTPResponse"): CONNECTION,
    ("psycopg2.extensions", "connection"): CONNECTION,
    ("psycopg2.extensions", "cursor"): CONNECTION,
    ("psycopg", "Connection"): CONNECTION,
    ("pymysql.connections", "Connection"): CONNECTION,
    ("pyodbc", "Connection"): CONNECTION,
    ("pyodbc", "Cursor"): CONNECTION,
    ("duckdb", "DuckDBPyConnection"): CONNECTION,
    ("_duckdb", "DuckDBPyConnection"): CONNECTION,
    ("duckdb.duckdb", "DuckDBPyConnection"): CONNECTION,
    ("sqlalchemy.engine.base", "Connection"): CONNECTION,
    ("sqlalchemy.engine.base", "Engine"): CONNECTION,
    ("sqlalchemy.orm.session", "Session"): CONNECTION,
    ("paramiko.client", "SSHClient"): CONNECTION,
    ("paramiko.transport", "Transport"): CONNECTION,
    ("zmq.sugar.socket", "Socket"): CONNECTION,
    ("zmq.sugar.context", "Context"): CONNECTION,
    ("pymongo.mongo_client", "MongoClient"): CONNECTION,
    ("pymongo.synchronous.mongo_client", "MongoClient"): CONNECTION,
    ("redis.client", "Redis"): CONNECTION,
    ("aiohttp.client", "ClientSession"): CONNECTION,
    ("httpx", "Client"): CONNECTION,
    ("_thread", "lock"): LOCK,
    ("_thread", "RLock"): LOCK,
    ("threading", "Condition"): LOCK,
    ("threading", "Semaphore"): LOCK,
    ("threading", "Event"): LOCK,
    ("threading", "Barrier"): LOCK,
    ("multiprocessing.synchronize", "SemLock"): LOCK,
    ("queue", "Queue"): "A queue of threads cannot move.",
    ("_queue", "SimpleQueue"): "A queue of threads cannot move.",
    ("threading", "Thread"): THREAD,
    ("_thread", "_local"): "What belongs to a thread cannot move.",
    ("concurrent.futures._base", "Executor"): "A pool of workers cannot move.",
    ("concurrent.futures._base", "Future"): "What a pool of workers will answer cannot move; take its result first.",
    ("multiprocessing.pool", "Pool"): "A pool of workers cannot move.",
    ("joblib.parallel", "Parallel"): "A pool of workers cannot move.",
    ("multiprocessing.process", "BaseProcess"): PROCESS,
    ("subprocess", "Popen"): PROCESS,
    ("asyncio.subprocess", "Process"): PROCESS,
    ("multiprocessing.managers", "BaseManager"): PROCESS,
    ("multiprocessing.managers", "BaseProxy"): PROCESS,
    ("multiprocessing.connection", "_ConnectionBase"): CONNECTION,
    ("multiprocessing.shared_memory", "SharedMemory"): SHARED_MEMORY,
    ("_asyncio", "Future"): RUNNING,
    ("_asyncio", "Task"): RUNNING,
    ("asyncio.events", "AbstractEventLoop"): RUNNING,
    ("asyncio.locks", "Lock"): RUNNING,
    ("asyncio.queues", "Queue"): RUNNING,
    ("builtins", "coroutine"): RUNNING,
    ("builtins", "async_generator"): GENERATOR,
    ("builtins", "generator"): GENERATOR,
    ("builtins", "frame"): FRAME,
    ("builtins", "traceback"): FRAME,
    ("builtins", "weakref"): WEAK,
    ("weakref", "ReferenceType"): WEAK,
    ("builtins", "weakproxy"): WEAK,
    ("ipywidgets.widgets.widget", "Widget"): WIDGET,
    ("comm.base_comm", "BaseComm"): WIDGET,
    ("mmap", "mmap"): MEMORY_MAP,
    ("numpy", "memmap"): MEMORY_MAP,
    ("numpy.memmap", "memmap"): MEMORY_MAP,
    ("numpy.core.memmap", "memmap"): MEMORY_MAP,
    ("numpy._core.memmap", "memmap"): MEMORY_MAP,
    ("numpy.lib.npyio", "NpzFile"): FILE,
    ("numpy.lib._npyio_impl", "NpzFile"): FILE,
    ("_ctypes", "_Pointer"): POINTER,
    ("_ctypes", "CFuncPtr"): POINTER,
    ("ctypes", "CDLL"): "A loaded library cannot move.",
    ("pyspark.sql.session", "SparkSession"): SESSION,
    ("pyspark.context", "SparkContext"): SESSION,
    ("pyspark.sql.dataframe", "DataFrame"): SESSION,
    ("pyspark.sql.classic.dataframe", "DataFrame"): SESSION,
    ("distributed.client", "Client"): SESSION,
    ("ray.client_builder", "ClientContext"): SESSION,
    ("torch.utils.data.dataloader", "_BaseDataLoaderIter"): ITERATOR,
    ("torch._C", "Generator"): "A random generator of a device cannot move.",
    ("torch.cuda.streams", "Stream"): "A stream of a GPU cannot move.",
    ("contextvars", "Context"): "A context of running code cannot move.",
    ("_contextvars", "Context"): "A context of running code cannot move.",
    ("_contextvars", "ContextVar"): "A context variable cannot move.",
    ("IPython.core.interactiveshell", "InteractiveShell"): "The kernel's own shell cannot move.",
    ("ipykernel.kernelbase", "Kernel"): "The kernel itself cannot move.",
}

SAME_THERE = frozenset([("_io", "BytesIO"), ("_io", "StringIO")])
"""Derive from the above, and are memory."""


class CannotMove(Exception):
    """One name, and with it only those that it shares objects with, stays behind. The message is the reason, a sentence."""


def unmovable(kind: type) -> Optional[str]:
    """Why no instance of ``kind`` can move; None where that is not known. Asked for each class once (``Pickler`` remembers)."""
    for base in kind.__mro__:
        key = (base.__module__, base.__name__)
        if key in SAME_THERE:
            return None
        if key in UNMOVABLE:
            return UNMOVABLE[key]
    return None


def sentence(text: str) -> str:
    """One line of bounded length that ends as sentences do."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    if len(line) > MAX_REASON:
        line = line[: MAX_REASON - 1] + "…"
    return line if line.endswith((".", "…", "!", "?")) else line + "."


def why(error: BaseException, there: str = "") -> str:
    """The reason for what was raised while a name was sent or received. ``there`` is empty at the end that receives."""
    if isinstance(error, CannotMove):
        return sentence(str(error))
    if isinstance(error, ModuleNotFoundError):
        module = (error.name or "").partition(".")[0]
        if module and module not in sys.modules:
            return sentence(f"{module} is not installed there")
        return sentence(f"The libraries differ there: {error}")
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return "It is nested too deeply."
    if isinstance(error, MemoryError):
        return "There is not enough memory for it."
    text = str(error)
    if isinstance(error, AttributeError) and "attribute" in text and not there:
        return sentence(f"The libraries differ there: {text}")
    return sentence(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def type_name(kind: type) -> str:
    """As Python names it, with the public package rather than the module that defines it: ``pandas.DataFrame``."""
    module, name = str(kind.__module__), kind.__qualname__
    if module in ("builtins", "__main__"):
        return name[:200]
    root = sys.modules.get(module.partition(".")[0])
    if root is not None and getattr(root, kind.__name__, None) is kind:
        module = root.__name__
    return f"{module}.{name}"[:200]


def is_plain(value: Any) -> bool:
    """What pickles by itself, shares nothing that can change, and cannot fail."""
    return value is None or type(value) in (bool, int, float, complex, str, bytes)
