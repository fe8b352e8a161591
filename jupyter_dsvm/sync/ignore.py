"""What travels: ``.dsvmignore`` with gitignore's rules, defaults, and what never comes from a VM. Pure.

Three groups, from the weakest to the strongest:

- ``DEFAULTS`` and ``PRIVATE`` stay where they are unless a ``.dsvmignore`` of this side lists them again with ``!name``.
- Names of ours (``OURS``) never travel.
- ``never_pulled`` is never written here, whatever is listed: what would run here, or change how things run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Any

from .entries import IGNORE_FILE, STAGING, TRASH, Entry, Kind, Tree

PRUNED = (
    ".git", ".hg", ".svn", ".ipynb_checkpoints", "node_modules", "__pycache__", ".venv", ".virtualenv", ".tox", ".nox", ".cache",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".eggs", ".Trash-0", ".Trash-1000", ".vscode", ".idea",
)  # fmt: skip
"""Folders that are left out wherever they are."""
DEFAULTS = (
    "*.py[cod]", ".DS_Store", "Thumbs.db", "desktop.ini", "*.swp", "*~", ".~*", ".nfs*", ".fuse_hidden*",
)  # fmt: skip
PRIVATE = (
    ".*",
    "*.pem", "*.key", "*.ppk", "*.pfx", "*.p12", "*.jks", "*.keystore", "*.kdbx", "*.publishsettings",
    "id_*", "authorized_keys", "known_hosts",
    "*credentials*.json", "credentials", "client_secret*.json", "service-account*.json", "azureProfile.json", "accessTokens.json",
    "msal_token_cache*", "*.tfstate", "*.tfstate.backup", "secrets.toml", "secrets.y*ml", "secrets.json",
)  # fmt: skip
"""What may hold a secret, or is hidden: it travels only if it is listed."""
OURS = frozenset({STAGING, TRASH, IGNORE_FILE})
# None of the defaults has a slash, so that one expression on the name does for all of them.
_DEFAULTS = re.compile("|".join(translate(pattern) for pattern in (*DEFAULTS, *PRIVATE)))
_PRUNED = frozenset(PRUNED)

RUNS_BY_ITSELF = (
    (r"(^|/)\.(git|hg|svn)(/|$)", "a version control folder can hold hooks, which would run here"),
    (r"(^|/)\.(ipython|jupyter|ssh|azure|aws|kube|gnupg|docker|config|local|vscode|idea)(/|$)",
     "such a folder holds settings, which would count here"),
    (r"(^|/)\.(bash\w*|profile|z\w*sh\w*|zprofile|zlogin|zlogout|login|logout|cshrc|tcshrc|kshrc|inputrc|pam_environment|xsession\w*|"
     r"xprofile|xinitrc|gitconfig|gitmodules|gitattributes|envrc|netrc|npmrc|pypirc|condarc|pythonrc\w*|pre-commit-config\.ya?ml|"
     r"forward|rhosts|shosts|vimrc|exrc|emacs|pdbrc|gdbinit|lldbinit|hgrc|curlrc|wgetrc|mailcap)$",
     "such a file runs by itself, or changes what does"),
    (r"(^|/)profile_[^/]*/startup(/|$)", "startup files run by themselves"),
    (r"\.(pth|egg-link)$", "Python runs such a file when it starts"),
    (r"(^|/)(sitecustomize|usercustomize)(\.[^/]*)?(/|$)", "Python runs such a file when it starts"),
    (r"(^|/)(jupyter\w*_config|ipython\w*_config|nbconfig|pyvenv)(\.[^/]*)?(/|$)", "it is a configuration, which would count here"),
    (r"(^|/)\.dsvm(ignore|-sync|-trash)(/|$)", "it is this extension's own"),
    (r"(^|/)autorun\.inf$", "such a file runs by itself"),
)  # fmt: skip
_NEVER = [(re.compile(pattern, re.IGNORECASE), reason) for pattern, reason in RUNS_BY_ITSELF]

_UNSEEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


class Rules:
    """What the defaults and the ``.dsvmignore`` files of this side leave out. The files of the VM are never asked."""

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        """``files``: by folder ("" is the workspace), the text of its ``.dsvmignore``. A nested one counts for its folder, after
        those above it. A line that is no pattern is in ``problems`` and counts for nothing."""
        # Imported only here: a server that starts loads no more than it needs.
        from pathspec import GitIgnoreSpec

        self.problems: list[str] = []
        self._files = {folder: text for folder, text in sorted((files or {}).items()) if text.strip()}
        self._patterns: list[tuple[str, list[Any]]] = []
        lists_again = False
        for folder, text in self._files.items():
            good = []
            for number, line in enumerate(text.splitlines(), 1):
                try:
                    GitIgnoreSpec.from_lines([line])
                except ValueError as e:
                    self.problems.append(f"{folder + '/' if folder else ''}{IGNORE_FILE}, line {number}: {e}")
                    continue
                good.append(line)
                lists_again = lists_again or line.startswith("!")
            self._patterns.append((folder, _patterns(GitIgnoreSpec.from_lines(good))))
        self._lists_again = lists_again
        self._seen: dict[str, bool] = {"": False}

    def ignores(self, path: str, folder: bool) -> bool:
        """Whether ``path`` stays where it is, on either side. As with git, nothing in a folder that is left out can be listed
        again; the folder must be listed itself."""
        parent = path.rpartition("/")[0]
        return self._out(parent) or self._matches(path, folder)

    def _out(self, folder: str) -> bool:
        known = self._seen.get(folder)
        if known is None:
            known = self._seen[folder] = self.ignores(folder, True)
        return known

    def _matches(self, path: str, folder: bool) -> bool:
        name = path.rpartition("/")[2]
        if name in OURS:
            return True
        ignored = bool(_DEFAULTS.match(name)) or (folder and name in _PRUNED)
        for above, patterns in self._patterns:
            if above and not path.startswith(above + "/"):
                continue
            asked = path[len(above) + 1 if above else 0 :] + ("/" if folder else "")
            for pattern in patterns:
                if _hits(pattern.regex, asked):
                    ignored = pattern.include
        return ignored

    @property
    def pruned(self) -> tuple[str, ...]:
        """Names of folders that the VM's scan need not enter, wherever they are. It is told them since it has no rules
        of its own; what it finds is held against the rules here (``kept``)."""
        if not self._lists_again:
            return (*PRUNED, STAGING, TRASH)
        # A line may list one of them again somewhere; only those that no such line names are sure to stay out.
        again = [line for text in self._files.values() for line in text.splitlines() if line.startswith("!")]
        vague = any(set("*?[") & set(line) for line in again)
        named = "\n".join(again)
        return (*(n for n in PRUNED if not vague and n not in named), STAGING, TRASH)

    def kept(self, tree: Tree) -> dict[str, Entry]:
        """``tree`` without what is ignored, and without environments; for what the VM's scan found."""
        environments = {p.rpartition("/")[0] for p in tree if p.rpartition("/")[2] == "pyvenv.cfg"} - {""}
        found = {}
        for path, entry in tree.items():
            parts = path.split("/")
            in_environment = environments and any("/".join(parts[:i]) in environments for i in range(1, len(parts) + 1))
            if not in_environment and not self.ignores(path, entry.kind is Kind.FOLDER):
                found[path] = entry
        return found


def _patterns(spec: Any) -> list[Any]:
    """Without comments and empty lines."""
    return [p for p in spec.patterns if p.include is not None]


def _hits(regex: re.Pattern[str], asked: str) -> bool:
    """Whether a pattern of pathspec's means ``asked`` itself. They match what is in a folder together with the folder; but folders
    were asked about before (``Rules._out``), and a line that lists a folder again does not, to git, list all that is in it."""
    if "ps_d" not in regex.groupindex:  # ``*``, or ``a/**``: what is in a folder, and not the folder
        return regex.search(asked.rstrip("/")) is not None
    if not regex.pattern.startswith("^"):  # ``*/``
        return asked.endswith("/")
    found = regex.match(asked)
    return found is not None and (found["ps_d"] is None or found.end("ps_d") == len(asked))


def never_pulled(path: str) -> str:
    """Why this path is never written here, whatever is listed, or "": for ``Options.never_pull``."""
    # A Mac's file system reads some characters that nobody sees as if they were not there.
    seen = _UNSEEN.sub("", path)
    for pattern, reason in _NEVER:
        if pattern.search(seen):
            return reason
    return ""
