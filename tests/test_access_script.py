"""The script that run command executes: by real shells, as root, for real accounts in a mount namespace of its own."""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure.access_answer import REFUSALS, USER, Answer, parse, refusal, script
from jupyter_dsvm.compute.azure.runcommand import INERT, checked, output
from jupyter_dsvm.emulator.network import can_isolate
from jupyter_dsvm.errors import ComputeError
from jupyter_dsvm.ssh.hostkeys import HostKey

REASON = can_isolate()
as_root = pytest.mark.skipif(bool(REASON), reason=f"needs namespaces: {REASON}")
UID = 61500
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAI" + "b" * 43
MARK = "jupyter-dsvm:0123456789abcdef"
NONCE = "ab" * 16
HOST = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVkmVSFyBBzQ4r5u0r7PKxBZ5cXl5V8cPjyYYpYbV5A root@vm"


@dataclass
class Machine:
    """Accounts ``ann`` (with a home folder) and ``bob``, system accounts, and what root sees as /etc/ssh."""

    folder: Path
    mounts: list[str] = field(default_factory=list)
    shell: str = "/usr/bin/dash"

    @property
    def home(self) -> Path:
        return self.folder / "home/ann"

    @property
    def keys(self) -> Path:
        return self.home / ".ssh/authorized_keys"

    def put(self, path: Path, text: str, owner: int = UID, mode: int = 0o600) -> Path:
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700)
            os.chown(path.parent, owner, owner)
        path.write_text(text)
        os.chown(path, owner, owner)
        path.chmod(mode)
        return path

    def run(self, action: str = "grant", user: str = "ann", **others: str) -> Answer:
        values = {"key": KEY, "until": str(int(time.time()) + 86400), "mark": MARK, "nonce": NONCE, **others}
        program = self.folder / "script.sh"
        program.write_text(script())
        binds = [
            f"mount --bind {self.folder}/passwd /etc/passwd",
            f"mount --bind {self.folder}/shadow /etc/shadow",
            f"mount --bind {self.folder}/defs /etc/login.defs",
            f"mount --bind {self.folder}/ssh /etc/ssh",
            *self.mounts,
            f"exec {self.shell} {program}",
        ]
        done = subprocess.run(
            ["unshare", "--mount", "/bin/sh", "-e", "-c", "\n".join(binds)],
            env={"PATH": os.environ["PATH"], "dsvm_action": action, "dsvm_user": user}
            | {f"dsvm_{name}": value for name, value in values.items()},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.stderr = done.stderr
        return parse(done.stdout, NONCE)


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Not pytest's own folder, which other accounts may not enter.
    folder = Path(tempfile.mkdtemp(prefix="jdsvm-script-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        made = Machine(folder)
        made.home.mkdir(parents=True)
        made.home.chmod(0o700)
        os.chown(made.home, UID, UID)
        (folder / "ssh").mkdir()
        (folder / "ssh/ssh_host_ed25519_key.pub").write_text(HOST + "\n")
        (folder / "ssh/ssh_host_rsa_key.pub").write_text("ssh-rsa nonsense\n")
        (folder / "defs").write_text("# UID_MIN 5\nUID_MIN 1000\n")
        (folder / "passwd").write_text(
            "root:x:0:0:root:/root:/bin/bash\n"
            "sshd:x:115:65534::/run/sshd:/usr/sbin/nologin\n"
            "daemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
            "service:x:998:998::/:/bin/sh\n"
            "nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"
            f"ann:x:{UID}:{UID}::{made.home}:/bin/bash\n"
            f"locked:x:{UID + 1}:{UID + 1}::/home/locked:/usr/sbin/nologin\n"
            f"bob:x:{UID + 2}:{UID + 2}::{folder}/home/bob:/bin/sh\n"
        )
        (folder / "shadow").write_text("".join(f"{n}:*:19700:0:99999:7:::\n" for n in ("root", "ann", "bob")))
        yield made
    finally:
        shutil.rmtree(folder)


@as_root
@pytest.mark.parametrize("shell", ["/usr/bin/dash", "/usr/bin/bash"])
def test_grant_and_revoke(machine: Machine, shell: str):
    machine.shell = shell
    until = int(time.time()) + 3600
    answer = machine.run(until=str(until))
    assert answer == Answer((HostKey.parse(HOST),), (), "ann", True, "", "", True), machine.stderr
    local = datetime.fromtimestamp(until).strftime("%Y%m%d%H%M%S")
    assert machine.keys.read_text() == f'restrict,pty,expiry-time="{local}" ssh-ed25519 {KEY} {MARK}\n'
    for path, mode in ((machine.keys, 0o600), (machine.keys.parent, 0o700)):
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (UID, mode)
    assert machine.run("revoke").done
    assert machine.keys.read_text() == ""
    assert [p.name for p in machine.keys.parent.iterdir()] == ["authorized_keys"], "nothing is left beside it"


@as_root
@pytest.mark.parametrize("hidden", [["runuser"], ["runuser", "setpriv"]])
def test_without_runuser(machine: Machine, hidden: list[str]):
    machine.mounts = [f"mount --bind /dev/null {shutil.which(name)}" for name in hidden]
    assert machine.run().done, machine.stderr
    assert machine.keys.stat().st_uid == UID


@as_root
def test_revoking_where_nothing_is_makes_nothing(machine: Machine):
    assert machine.run("revoke").done
    assert not machine.keys.parent.exists()


@as_root
def test_looking_writes_nothing(machine: Machine):
    answer = machine.run("look")
    assert (answer.user, answer.done, len(answer.host_keys)) == ("ann", False, 1)
    assert not machine.keys.parent.exists()


@as_root
def test_other_lines_stay(machine: Machine):
    machine.put(machine.keys, f"# {MARK} is a comment\nssh-rsa AAAA a b\n\nssh-ed25519 {KEY} mine")
    for _ in range(2):
        assert machine.run().done
    lines = machine.keys.read_text().splitlines()
    assert lines[:4] == [f"# {MARK} is a comment", "ssh-rsa AAAA a b", "", f"ssh-ed25519 {KEY} mine"]
    assert len(lines) == 5
    assert machine.run("revoke").done
    assert machine.keys.read_text().splitlines() == lines[:4]


@as_root
def test_attacks_and_accidents(machine: Machine):
    """Nothing is written through a link or into what is not the account's own; what was there stays as it was."""
    victim = machine.folder / "victim"

    def refused(code: str) -> None:
        before = victim.read_text()
        answer = machine.run()
        assert (answer.refused, answer.done) == (code, False), machine.stderr
        assert code in REFUSALS
        assert victim.read_text() == before
        assert "{" not in str(refusal(answer, "vm", "ann", ""))

    def afresh() -> None:
        if machine.keys.parent.is_symlink():
            machine.keys.parent.unlink()
        elif machine.keys.parent.exists():
            shutil.rmtree(machine.keys.parent)

    machine.put(victim, "precious\n", owner=0, mode=0o666)
    machine.put(machine.keys, "").unlink()
    machine.keys.symlink_to(victim)
    refused("FileIsLink")
    machine.keys.unlink()
    machine.keys.symlink_to(machine.folder / "nowhere")
    refused("FileIsLink")
    assert not (machine.folder / "nowhere").exists()
    machine.keys.unlink()
    os.link(victim, machine.keys)
    refused("FileOfAnother")
    machine.keys.unlink()
    machine.keys.mkdir()
    os.chown(machine.keys, UID, UID)
    refused("FileIsNone")
    afresh()
    elsewhere = machine.folder / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    machine.keys.parent.symlink_to(elsewhere)
    refused("FolderIsLink")
    assert not list(elsewhere.iterdir())
    afresh()
    machine.keys.parent.mkdir()
    machine.keys.parent.chmod(0o777)
    refused("FolderOfAnother")
    afresh()
    machine.keys.parent.write_text("")
    refused("FolderIsNone")
    machine.keys.parent.unlink()
    machine.put(machine.keys, "kept\n").parent.chmod(0o500)
    refused("CannotWrite")
    assert machine.keys.read_text() == "kept\n"
    afresh()
    machine.home.chmod(0o500)
    refused("CannotWrite")
    machine.home.chmod(0o700)
    shutil.rmtree(machine.home)
    refused("Home")


@as_root
def test_a_full_disk_leaves_the_file_as_it_was(machine: Machine):
    seen = machine.folder / "seen"
    machine.mounts = [
        f"mount -t tmpfs -o size=16k,mode=700,uid={UID},gid={UID} none {machine.home}",
        f"mkdir -m 700 {machine.home}/.ssh; echo kept > {machine.keys}; chown -R {UID}:{UID} {machine.home}/.ssh",
        f"dd if=/dev/zero of={machine.home}/full bs=4k 2>/dev/null || true",
        f"trap 'cat {machine.keys} > {seen}; ls -A {machine.home}/.ssh >> {seen}' EXIT",
    ]
    # So that the trap runs: not in place of this shell.
    machine.shell = "env /usr/bin/dash"
    machine.mounts.append(f"{machine.shell} {machine.folder}/script.sh; exit 0")
    answer = machine.run()
    assert answer.refused == "CannotWrite", machine.stderr
    assert seen.read_text() == "kept\nauthorized_keys\n"


@as_root
@pytest.mark.parametrize(
    ("user", "code"),
    [
        ("root", "SystemAccount"),
        ("daemon", "SystemAccount"),
        ("service", "SystemAccount"),
        ("nobody", "SystemAccount"),
        ("locked", "NoShell"),
        ("ghost", "NoAccount"),
        (str(UID), "Parameter"),
        ("-", "UserNameNeeded"),
        ("bob", "Home"),
    ],
)
def test_accounts(machine: Machine, user: str, code: str):
    answer = machine.run(user=user)
    assert (answer.refused, answer.done) == (code, False), machine.stderr
    if code in ("NoAccount", "UserNameNeeded"):
        assert answer.people == ("ann", "bob")
    assert answer.host_keys or code == "Parameter", "they are read in any case"


@as_root
def test_the_only_account_is_the_one(machine: Machine):
    passwd = machine.folder / "passwd"
    passwd.write_text("".join(line for line in passwd.read_text().splitlines(True) if not line.startswith("bob")))
    answer = machine.run(user="-")
    assert (answer.user, answer.done) == ("ann", True)


@as_root
def test_sshd_that_looks_elsewhere(machine: Machine):
    (machine.folder / "ssh/sshd_config").write_text(
        f"AuthorizedKeysFile /etc/keys/%u\nHostKey {machine.folder}/host_key\n"
    )
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", machine.folder / "host_key"], check=True)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    assert machine.run().refused == "KeysElsewhere"
    assert not machine.keys.exists()


NASTY = st.text(alphabet="aA0$`\"';|&<>(){}[]*?!~#\\\n\t -=:./", min_size=1, max_size=40)


@as_root
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["user", "key", "until", "mark", "action"]), text=NASTY)
def test_the_script_itself_checks_its_parameters(machine: Machine, name: str, text: str):
    canary = machine.folder / "canary"
    value = f"{text}$(touch {canary})`touch {canary}`';touch {canary};'"
    if name == "action":
        answer = machine.run(value)
    elif name == "user":
        answer = machine.run(user=value)
    else:
        answer = machine.run(**{name: value})
    assert (answer.refused, answer.done) == ("Parameter", False)
    assert not canary.exists()
    assert not machine.keys.exists()


# -- pure ---------------------------------------------------------------------------------------------------------------


@given(st.one_of(st.text(max_size=60), NASTY, st.from_regex(INERT, fullmatch=True)))
def test_no_parameter_is_more_than_a_word(value: str):
    try:
        rows = checked({"dsvm_user": value})
    except ComputeError:
        return
    assert rows == [{"name": "dsvm_user", "value": value}]
    assert shlex.quote(value) == value


@given(st.one_of(st.text(max_size=40), st.from_regex(USER, fullmatch=True)))
def test_a_user_name_is_no_option_and_no_path(name: str):
    if USER.fullmatch(name):
        assert INERT.fullmatch(name)
        assert not name.startswith(("-", "."))
        assert "/" not in name


def test_a_parameter_has_a_name_of_ours():
    with pytest.raises(ComputeError):
        checked({"PATH": "x"})


@given(st.text(max_size=300))
def test_whatever_a_vm_prints_is_no_success(text: str):
    answer = parse(text, NONCE)
    assert not answer.done
    assert not answer.host_keys


def test_only_lines_with_the_nonce_count():
    blob = base64.b64encode(b"\0\0\0\x0bssh-unknown").decode()
    text = "\n".join(
        [
            f"host {HOST}",
            f"{NONCE[::-1]} done",
            f"{NONCE} host {HOST}",
            f"{NONCE} host ssh-unknown {blob}",
            f"{NONCE} host rubbish",
            f"{NONCE} person ann",
            f"{NONCE} person -rf",
            f"{NONCE} person {'a' * 99}",
            *(f"{NONCE} person p{n}" for n in range(100)),
        ]
    )
    answer = parse(text, NONCE)
    assert answer.host_keys == (HostKey.parse(HOST),)
    assert not answer.done
    assert not answer.complete
    assert answer.people[0] == "ann"
    assert len(answer.people) == 20
    assert "did not answer as it should. It printed: oops" in str(refusal(answer, "vm", "", "oops"))


def test_every_refusal_is_a_sentence_and_a_next_step():
    for code in [*REFUSALS, "Something"]:
        error = refusal(Answer(refused=code, complete=True), "gpu-vm", "", "")
        assert error.code == code
        assert "gpu-vm" in error.message
        assert error.advice
        assert "{" not in str(error)


def test_output():
    message = "Enable succeeded: \n[stdout]\nfirst\n[stderr]\nsecond\n"
    rows = {"value": [{"code": "ProvisioningState/succeeded", "message": message}]}
    assert output(rows) == ("first", "second\n")
    assert output({"properties": {"output": rows}}) == ("first", "second\n")
    for odd in ({}, {"value": None}, {"value": [None, {}]}, {"properties": []}, {"value": [{"message": 1}]}):
        assert output(odd) == ("", "")
