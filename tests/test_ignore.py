"""What travels, and what never does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_dsvm.errors import FolderRefused
from jupyter_dsvm.sync.entries import Entry, Kind
from jupyter_dsvm.sync.ignore import Rules, never_pulled
from jupyter_dsvm.sync.refusals import PERSONAL, check_workspace, project_folder, workspace_name


def travels(path: str, **files: str) -> bool:
    return not Rules({"": files.get("rules", "")}).ignores(path, path.endswith("/"))


@pytest.mark.parametrize(
    "path", ["a.py", "d/data.csv", "n.ipynb", "model.pkl", "README", "environment.yml", "idle", "keys.csv", "pem"]
)
def test_ordinary_files_travel(path: str):
    assert travels(path)


LEFT_OUT = [
    ".git/config", "d/.git/hooks/x", ".ipynb_checkpoints/n-checkpoint.ipynb", "node_modules/x/y.js", "d/__pycache__/x.pyc",
    ".venv/bin/python", "x.pyc", ".DS_Store", ".mypy_cache/x", ".cache/x", ".env", "d/.env", ".netrc", ".hidden", ".ssh/id_rsa",
    "key.pem", "d/server.key", "id_rsa", "d/id_ed25519", "id_rsa.pub", "credentials", "credentials.json", "my-credentials-2.json",
    "client_secret_123.json", "azureProfile.json", "terraform.tfstate", "secrets.toml", ".dsvm-trash/2026-11-28/a", ".dsvm-sync/x",
]  # fmt: skip


@pytest.mark.parametrize("path", LEFT_OUT)
def test_the_defaults(path: str):
    assert not travels(path)


def test_what_is_listed_travels():
    rules = "!.env\n!id_mapping.csv\n!certs/*.pem\n!.github/\n"
    for path in (".env", "d/.env", "id_mapping.csv", "certs/ca.pem", ".github/x.yml"):
        assert travels(path, rules=rules), path
    for path in ("ca.pem", ".netrc", ".github/.x", ".dsvm-trash/a", ".dsvmignore"):
        assert not travels(path, rules=rules + "!.dsvm-trash/\n!.dsvmignore\n"), path


def test_nested_files_count_for_their_folder():
    rules = Rules({"": "*.log\n/top.txt\n", "d": "!keep.log\n*.tmp\n/top.csv\n"})
    left_out = ["a.log", "d/a.log", "top.txt", "d/x.tmp", "d/e/x.tmp", "d/top.csv"]
    assert [
        p for p in [*left_out, "d/keep.log", "d/top.txt", "x.tmp", "d/e/top.csv"] if rules.ignores(p, False)
    ] == left_out


def test_a_line_that_is_no_pattern_is_told_and_the_others_count():
    rules = Rules({"d": "*.log\n!\n*.tmp\n"})
    assert rules.problems == [] or "line 2" in rules.problems[0]
    assert rules.ignores("d/x.tmp", False)
    assert rules.ignores("d/x.log", False)


def test_what_the_vm_told_is_held_against_the_rules_here():
    def entry(path: str, kind: Kind = Kind.FILE) -> Entry:
        return Entry(path, kind)

    tree = {p: entry(p) for p in ("a.py", ".env", "e/pyvenv.cfg", "e/lib/x.py", "d/x.log", "e2.py")}
    tree |= {p: entry(p, Kind.FOLDER) for p in ("e", "e/lib", "d")}
    assert set(Rules({"": "*.log"}).kept(tree)) == {"a.py", "d", "e2.py"}


def test_what_the_vms_scan_need_not_enter():
    assert {".git", "node_modules", ".dsvm-trash"} <= set(Rules().pruned)
    assert "node_modules" not in Rules({"": "!node_modules/\n"}).pruned
    assert ".git" in Rules({"": "!node_modules/\n"}).pruned
    assert ".git" not in Rules({"": "!.*\n"}).pruned


segment = st.sampled_from(["*", "a", "b", "a*", "?", "[ab]", "[!a]", "ab"])
line = st.one_of(
    st.builds(
        lambda before, parts, after: before + "/".join(parts) + after,
        st.sampled_from(["", "", "!", "/", "!/"]),
        st.lists(segment, min_size=1, max_size=3),
        st.sampled_from(["", "", "/"]),
    ),
    st.sampled_from(["**/b", "a/**", "a/**/a", "!a/**", "!**/b"]),
)
"""pathspec reads a few more lines otherwise than git does, such as ``***/*`` and ``a/**/``; nobody writes those."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(folder)], check=True, timeout=30)
    return folder


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(line, min_size=1, max_size=4))
def test_the_rules_are_gits(repository: Path, lines: list[str]):
    """Held against git itself. What the defaults leave out is not asked of it."""
    paths = ["a", "b", "a/b", "b/a/b", "ab", "a/ab/a", "bb/a"]
    (repository / ".gitignore").write_text("\n".join(lines) + "\n")
    shown = subprocess.run(
        ["git", "-C", str(repository), "check-ignore", "--stdin", "--no-index"],
        input="\n".join(paths), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    rules = Rules({"": "\n".join(lines)})
    assert [p for p in paths if rules.ignores(p, False)] == shown.stdout.split("\n")[:-1]


NEVER = [
    ".git/hooks/post-checkout", "sub/.git/config", ".git", ".ipython/profile_default/startup/00.py", "profile_x/startup/a.py",
    ".bashrc", "d/.profile", ".zshrc", ".bash_profile", ".jupyter/custom.js", "x.pth", "d/evil.PTH", "sitecustomize.py",
    "SiteCustomize.py", "usercustomize.py", "sitecustomize/__init__.py", "sitecustomize.cpython-311-x86_64-linux-gnu.so",
    "jupyter_server_config.py", "jupyter_notebook_config.json", "jupyter_config.py", "jupyter_server_config.d/x.json",
    ".ssh/authorized_keys", ".gitconfig", ".config/systemd/user/x.service", "ipython_config.py", ".envrc", ".g\u200cit/config",
    "env/pyvenv.cfg", ".dsvmignore", "d/.dsvm-trash/x", ".dsvm-sync", ".vscode/tasks.json",
]  # fmt: skip


@pytest.mark.parametrize("path", NEVER)
def test_what_is_never_pulled(path: str):
    assert never_pulled(path)


@pytest.mark.parametrize(
    "path", ["a.py", ".env", "startup/a.py", "site.py", "jupyter.py", "my_config.py", "git/x", "x.pth.txt", "my.git/x"]
)
def test_what_may_be_pulled(path: str):
    assert never_pulled(path) == ""


# Which folder.


def test_ordinary_folders_may_travel(tmp_path: Path):
    folder = tmp_path / "home/project"
    folder.mkdir(parents=True)
    assert check_workspace(folder, home=tmp_path / "home") == folder
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert check_workspace(link, home=tmp_path / "home") == folder


def test_folders_that_may_not(tmp_path: Path):
    home = tmp_path / "users/me"
    runtime = home / ".local/share/jupyter"
    runtime.mkdir(parents=True)
    cases = {home: "Your home folder", home.parent: "your home folder is in it", tmp_path: "your home folder is in it",
             Path("/"): "All of this server's disk", Path("/etc"): "this system's", Path("/usr/lib"): "this system's",
             Path("/tmp"): "this system's", home / "gone": "is not there", home / ".local": "Jupyter keeps",
             runtime: "Jupyter keeps"}  # fmt: skip
    for folder, said in cases.items():
        with pytest.raises(FolderRefused, match=said):
            check_workspace(folder, home=home, own=[runtime])
    for name in PERSONAL:
        folder = home / f"has{name}"
        (folder / name / "deep").mkdir(parents=True)
        for refused in (folder, folder / name, folder / name / "deep"):
            with pytest.raises(FolderRefused, match="keys or settings"):
                check_workspace(refused, home=home)
    sneaky = tmp_path / "sneaky"
    sneaky.symlink_to(home)
    with pytest.raises(FolderRefused, match="Your home folder"):
        check_workspace(sneaky, home=home)


def test_the_notebooks_folder_or_the_one_that_was_chosen():
    root = Path("/srv/files")
    assert project_folder("a/b/n.ipynb", root) == root / "a/b"
    assert project_folder("n.ipynb", root) == root
    assert project_folder("a/b/n.ipynb", root, "a") == root / "a"
    assert project_folder("a/b/n.ipynb", root, "/a/b/") == root / "a/b"
    for chosen in ("b", "a/b/c", "..", "a/../..", "../files/a"):
        with pytest.raises(FolderRefused):
            project_folder("a/b/n.ipynb", root, chosen)
    with pytest.raises(FolderRefused):
        project_folder("../../etc/n.ipynb", root)


def test_names_on_the_vm(tmp_path: Path):
    def name(folder: str, server: str = "s") -> str:
        return workspace_name(tmp_path / folder, server)

    assert name("a/project") == name("a/project")
    assert name("a/project").startswith("project-")
    assert len({name("a/project"), name("b/project"), name("a/project", "other")}) == 3
    assert name("Überblick 2026 (neu)!").startswith("Uberblick-2026-neu-")
    assert name("名前").startswith("notebook-")
    assert len(name("x" * 250)) == 49
    assert not name("..hidden").startswith(".")
