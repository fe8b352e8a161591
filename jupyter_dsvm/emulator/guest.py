"""The first process of an emulated VM: makes what is the VM's own, runs its SSH server, ends all that it started.

``vm.py`` starts this file as a program of its own (standard library only) with a specification as JSON on stdin, and
reads one JSON line from stdout: ``{"pid": …}``, the process to end, or ``{"error": …}``.

With ``isolate`` (root only) the VM has its own process, network, host-name, IPC and mount namespaces: this program
forks, and the child is the VM's process 1. The parent stays outside to make the network link and to wait. Ending
process 1 ends every process of the VM, daemons included, and with the last one the kernel removes namespaces, mounts
and link; so nothing has to be cleaned up, whoever is killed first.

Without it, this process becomes the *subreaper* of all that the SSH server starts: a daemon that leaves its session
becomes its child instead of process 1's, so the processes of the VM are exactly its descendants.

Signals: USR1 start the SSH server if it does not run, USR2 kill it with its sessions, TERM end the VM (without
``isolate``). It is bound to its parent's life by ``PR_SET_PDEATHSIG``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000,
    0x4000000,
    0x8000000,
    0x20000000,
    0x40000000,
)
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
NOT_SHARED = {
    "jupyter",
    "ipython",
    "ssh",
    "mtab",
    "passwd",
    "group",
    "shadow",
    "gshadow",
    "subuid",
    "subgid",
    ".pwd.lock",
}
"""Of this computer's /etc. What useradd writes, and locks, has to be the VM's own."""
HANDLED = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    # The C function takes paths as bytes and 0 for "no data".
    check(
        libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None),
        f"mount {source} on {target}",
    )


def bind(source: str, target: str, read_only: bool = False) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        mount(source, target, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def ip(*lines: str) -> None:
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip ({'; '.join(lines)}): {done.stderr.strip()}")


# -- the VM's own view of the world -----------------------------------------------------------------------------------


def build_root(spec: dict[str, Any]) -> None:
    """A root folder of its own: the system's programs read only, everything that can be written its own."""
    root = spec["root"]
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID, "mode=755,size=64m")
    for name in os.listdir("/"):
        source = "/" + name
        if os.path.islink(source):
            os.symlink(os.readlink(source), root + source)
        elif name in ("usr", "bin", "sbin", "opt") or name.startswith("lib"):
            bind(source, root + source, read_only=True)
    bind("/etc", root + "/.system/etc", read_only=True)
    os.mkdir(root + "/etc")
    for name in os.listdir("/etc"):
        if name not in spec["etc"] and name.rstrip("-") not in NOT_SHARED:
            os.symlink(f"/.system/etc/{name}", f"{root}/etc/{name}")
    for name, text in spec["etc"].items():
        with open(f"{root}/etc/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(f"{root}/etc/{name}", 0o640 if name == "shadow" else 0o644)
    for folder, mode in (
        ("dev", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("run/sshd", 0o755),
        ("var", 0o755),
        ("root", 0o711),
    ):
        os.makedirs(f"{root}/{folder}", mode)
    os.symlink("/run", root + "/var/run")
    for folder in ("run/lock", "mnt", "var/log", "var/lib", "var/cache"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    mount("proc", root + "/proc", "proc", MS_NOSUID)
    mount("sysfs", root + "/sys", "sysfs", MS_NOSUID | MS_RDONLY)
    mount("tmpfs", root + "/dev", "tmpfs", MS_NOSUID, "mode=755,size=1m")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        bind("/dev/" + name, f"{root}/dev/{name}")
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(target, f"{root}/dev/{name}")
    os.mkdir(root + "/dev/pts")
    mount("devpts", root + "/dev/pts", "devpts", MS_NOSUID, "newinstance,ptmxmode=0666,mode=620")
    for folder in ("/dev/shm", "/tmp", "/var/tmp"):  # noqa: S108 - the VM's own
        os.makedirs(root + folder, exist_ok=True)
        mount("tmpfs", root + folder, "tmpfs", MS_NOSUID, "mode=1777")
    for source, target, read_only in spec["binds"]:
        bind(source, root + target, read_only)
    os.chroot(root)
    os.chdir("/")


def enter_namespaces(spec: dict[str, Any]) -> int:
    """Fork into the VM. Returns 0 in the VM's process 1, and its process id in the parent, once the link is up."""
    ours = os.open("/proc/self/ns/pid", os.O_RDONLY)
    check(libc.unshare(CLONE_NEWPID), "unshare")
    born, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        bind_to_parent(signal.SIGKILL)
        os.close(born[0])
        os.close(go[1])
        check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET), "unshare")
        os.write(born[1], b"+")
        if os.read(go[0], 1) != b"+":
            os._exit(1)  # the parent could not make the link, and has said why
        socket.sethostname(spec["hostname"])
        ip(f"addr add {spec['address']}/30 dev eth0", "link set lo up", "link set eth0 up")
        os.write(born[1], b"+")
        return 0
    # Only that one child was to be in there: `ip` below has to count processes as we do.
    check(libc.setns(ours, CLONE_NEWPID), "setns")
    os.close(ours)
    os.close(born[1])
    os.close(go[0])
    if os.read(born[0], 1) != b"+":
        raise OSError("the VM's first process ended before it had its namespaces")
    link = spec["link"]
    ip(
        f"link add {link} type veth peer name eth0 netns {pid}",
        f"addr add {spec['gateway']}/30 dev {link}",
        # No IPv6 address of its own: a browser on this computer drops its connections whenever an address comes or goes.
        f"link set {link} addrgenmode none",
        f"link set {link} up",
    )
    os.write(go[1], b"+")
    # Whoever connects before both ends are up waits a second for the next ARP request.
    if os.read(born[0], 1) != b"+":
        raise OSError("the VM could not set up its end of the network link")
    return pid


# -- processes --------------------------------------------------------------------------------------------------------


def bind_to_parent(number: int) -> None:
    libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def processes() -> dict[int, tuple[int, str]]:
    """Parent and name of every process that can be seen."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    line = file.read().decode("utf-8", "replace")
            except OSError:
                continue
            # The name is in parentheses and may hold anything; state and parent follow the last one.
            name, fields = line[line.index("(") + 1 : line.rindex(")")], line[line.rindex(")") + 2 :].split()
            if fields[0] != "Z":
                found[int(entry)] = (int(fields[1]), name)
    return found


def descendants() -> dict[int, str]:
    table, mine = processes(), {os.getpid()}
    names: dict[int, str] = {}
    grown = True
    while grown:
        more = {pid for pid, (parent, _) in table.items() if parent in mine and pid not in mine}
        grown = bool(more)
        mine |= more
        names.update({pid: table[pid][1] for pid in more})
    return names


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def reap() -> list[int]:
    ended: list[int] = []
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append(pid)


def end_everything() -> None:
    """Until no descendant is left: one that forks while it is being counted is caught by the next round."""
    for _ in range(200):
        left = list(descendants())
        if not left:
            return
        kill(left)
        time.sleep(0.01)
        reap()


def run_server(spec: dict[str, Any]) -> int:
    with open(os.devnull) as null:
        argv: list[str] = spec["server"]
        actions = [(os.POSIX_SPAWN_DUP2, null.fileno(), 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
        return os.posix_spawn(argv[0], argv, spec["env"], file_actions=actions, setsigmask=())


def live(spec: dict[str, Any]) -> None:
    server = run_server(spec)
    while True:
        number = signal.sigwait(HANDLED)
        if number == signal.SIGCHLD:
            if server in reap():
                server = 0
        elif number == signal.SIGUSR1 and not server:
            server = run_server(spec)
        elif number == signal.SIGUSR2:
            kill([pid for pid, name in descendants().items() if pid == server or name.startswith("sshd")])
            if server:
                os.waitpid(server, 0)  # so that the next USR1 does not find it still there
                server = 0
        elif number == signal.SIGTERM:
            end_everything()
            return


def report(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 1)


def main() -> int:
    spec = json.load(sys.stdin)
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    parent = spec["parent"]
    bind_to_parent(signal.SIGKILL if spec["isolate"] else signal.SIGTERM)
    if os.getppid() != parent:
        return 1  # it ended before we were bound to it
    try:
        if not spec["isolate"]:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            report({"pid": os.getpid()})
            live(spec)
            return 0
        pid = enter_namespaces(spec)
        if pid:
            report({"pid": pid})
            os.waitpid(pid, 0)
            # The kernel removes the link with the namespace, but later than somebody who looks right now.
            subprocess.run(["ip", "link", "del", spec["link"]], capture_output=True)
            return 0
        build_root(spec)
        if spec.get("probe"):
            return 0
        live(spec)
    except OSError as error:
        sys.stderr.write(f"guest: {error}\n")
        report({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
