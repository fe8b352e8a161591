"""Hosts of the SSH configuration, held against what OpenSSH itself makes of the same file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_dsvm.compute.hosts import SSHHosts
from jupyter_dsvm.compute.provider import Cancel, ComputeProvider
from jupyter_dsvm.errors import ComputeError, OperationRefused, UnknownCompute
from jupyter_dsvm.models import ComputeKind, PowerState

CONFIG = """\
Include more.conf
Host tower basement
    HostName tower.example.org
    Port 2222
    User ada
    IdentityFile ~/.ssh/tower_key
Host *.cluster !login
    User grace
Host node1
    HostName 10.1.0.1
    ProxyJump gate@bastion.example.org:2200
Host node2
    ProxyJump first,second
Host node3
    ProxyCommand nc -X 5 %h %p
Host direct
    ProxyJump none
Host github.com
Host work-git
    HostName git.example.org
    User git
Host odd/name wild*card
Host *
    User everyone
    Port 2022
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir(mode=0o700)
    (tmp_path / ".ssh/config").write_text(CONFIG)
    (tmp_path / ".ssh/more.conf").write_text("Host included\n  HostName 192.0.2.7\n")
    return tmp_path


def test_lists_plain_aliases_without_git_hosts(home: Path) -> None:
    computes = SSHHosts().list().computes
    assert [c.name for c in computes] == ["included", "tower", "basement", "node1", "node2", "node3", "direct"]
    assert computes[1].id == "host:tower"
    assert {(c.kind, c.power_state) for c in computes} == {(ComputeKind.HOST, PowerState.UNKNOWN)}


def test_the_hosts_to_show_can_be_named(home: Path) -> None:
    hosts = SSHHosts(aliases=["work-git", "elsewhere", "no/id"])
    assert [c.name for c in hosts.list().computes] == ["work-git", "elsewhere"]
    assert hosts.ssh_target("host:elsewhere").host == "elsewhere"
    assert SSHHosts(enabled=False).list().computes == ()


def test_target_has_what_the_configuration_says(home: Path) -> None:
    target = SSHHosts(python="/opt/python").ssh_target("host:tower")
    assert (target.host, target.port, target.user) == ("tower.example.org", 2222, "ada")
    assert target.key_files == (str(home / ".ssh/tower_key"),)
    assert (target.pinned_key_id, target.proxy_command, target.python) == (None, None, "/opt/python")
    assert target.compute == "host:tower"


def test_jump_hosts_become_a_command(home: Path) -> None:
    hosts = SSHHosts()
    jump = "ssh -o BatchMode=yes -p 2200 -W '[10.1.0.1]:2022' -- gate@bastion.example.org"
    assert hosts.ssh_target("host:node1").proxy_command == jump
    assert hosts.ssh_target("host:node2").proxy_command == "ssh -o BatchMode=yes -J first -W '[node2]:2022' -- second"
    assert hosts.ssh_target("host:node3").proxy_command == "nc -X 5 node3 2022"
    assert hosts.ssh_target("host:direct").proxy_command is None


@pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client is not installed (openssh-client)")
@pytest.mark.parametrize("alias", ["included", "tower", "node1", "node3", "direct"])
def test_agrees_with_openssh(home: Path, alias: str) -> None:
    config = (home / ".ssh/config").read_text().replace("Include more.conf", f"Include {home}/.ssh/more.conf")
    (home / ".ssh/config").write_text(config)
    printed = subprocess.run(
        ["ssh", "-F", str(home / ".ssh/config"), "-G", alias], capture_output=True, text=True, check=True
    ).stdout
    said = dict(line.partition(" ")[::2] for line in printed.splitlines())
    target = SSHHosts().ssh_target(f"host:{alias}")
    assert (target.host, str(target.port), target.user) == (said["hostname"], said["port"], said["user"])


def test_options_after_an_include_stay_in_their_block(home: Path) -> None:
    (home / ".ssh/config").write_text("Host tower\n  Include more.conf\n  User ada\nHost other\n")
    hosts = SSHHosts()
    assert hosts.ssh_target("host:tower").user == "ada"
    assert hosts.ssh_target("host:included").user is None


def test_files_that_include_each_other_end(home: Path) -> None:
    (home / ".ssh/more.conf").write_text("Include more.conf\n")
    (problem,) = SSHHosts().list().problems
    assert "too many files" in problem.message


@pytest.mark.parametrize("text", ["Host a\n  Port many\n", "Host 'a\n", "Host a\n!!\n"])
def test_a_faulty_file_is_named(home: Path, text: str) -> None:
    (home / ".ssh/config").write_text(text)
    hosts = SSHHosts()
    if hosts.list().computes:
        with pytest.raises(ComputeError, match=r"~/\.ssh/config"):
            hosts.ssh_target("host:a")
    else:
        (problem,) = hosts.list().problems
        assert "~/.ssh/config" in problem.message
        assert problem.advice


def test_a_power_state_changes_only_by_hand(home: Path) -> None:
    hosts: ComputeProvider = SSHHosts()
    for change, word in ((hosts.start, "started"), (hosts.stop, "stopped"), (hosts.restart, "restarted")):
        with pytest.raises(OperationRefused, match=f"tower .*{word} only by hand"):
            change("host:tower", lambda text, done: None, Cancel())


def test_an_unknown_host_is_no_compute(home: Path) -> None:
    with pytest.raises(UnknownCompute, match="nowhere"):
        SSHHosts().ssh_target("host:nowhere")


def test_without_a_file_there_is_nothing_and_paramiko_stays_out(tmp_path: Path) -> None:
    code = (
        "import sys; from jupyter_dsvm.compute.hosts import SSHHosts;"
        f"assert SSHHosts(config_file={str(tmp_path / 'none')!r}).list().computes == ();"
        "assert 'paramiko' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_match_exec_loads_what_paramiko_needs_for_it_and_nothing_else_does(home: Path) -> None:
    (home / ".ssh/config").write_text('Match exec "test -d /"\n  User matched\nHost lab\n  HostName 10.0.0.1\n')
    plain = home / "plain"
    plain.write_text("Host lab\n  HostName 10.0.0.1\n")
    code = (
        "import sys; from jupyter_dsvm.compute.hosts import SSHHosts;"
        f"assert SSHHosts(config_file={str(plain)!r}).ssh_target('host:lab').user != 'matched';"
        "assert 'paramiko' in sys.modules and 'invoke' not in sys.modules;"
        "assert SSHHosts().ssh_target('host:lab').user == 'matched'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_where_host_keys_are_looked_up(home: Path) -> None:
    (home / ".ssh/config").write_text(
        "Host lab\n  HostKeyAlias lab-key\n  UserKnownHostsFile ~/.ssh/lab_hosts /etc/lab_hosts\n"
        "Host none\n  UserKnownHostsFile none\nHost usual\n"
    )
    hosts = SSHHosts()
    lab = hosts.ssh_target("host:lab")
    assert (lab.host_key_alias, lab.known_hosts) == ("lab-key", (str(home / ".ssh/lab_hosts"), "/etc/lab_hosts"))
    assert hosts.ssh_target("host:none").known_hosts == ()
    usual = hosts.ssh_target("host:usual")
    assert (usual.host_key_alias, usual.known_hosts) == (None, None)


def test_a_block_of_a_vms_name_says_how_to_get_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir(exist_ok=True)
    config = tmp_path / ".ssh/config"
    config.write_text(
        "Host gpu-vm\n  HostName ignored.example.org\n  ProxyJump jump.example.org\n  IdentityFile ~/.ssh/lab\n"
        "Host *\n  User everybody\n"
    )
    user, keys, proxy = SSHHosts().way_to("gpu-vm", "10.0.0.4", 2222)
    assert (user, keys) == ("everybody", (str(tmp_path / ".ssh/lab"),))
    assert proxy == "ssh -o BatchMode=yes -W '[10.0.0.4]:2222' -- jump.example.org"
    assert SSHHosts().way_to("other-vm", "10.0.0.4", 22) == (None, (), None), "no block names it"
    assert SSHHosts(enabled=False).way_to("gpu-vm", "10.0.0.4", 22) == (None, (), None)
    config.unlink()
    assert SSHHosts().way_to("gpu-vm", "10.0.0.4", 22) == (None, (), None)
