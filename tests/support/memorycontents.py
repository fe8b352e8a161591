"""A contents manager that is none of jupyter_server's: notebooks in memory, plain methods, no hashes and no events, as managers of
an object store are. For a server that has ``tests/`` on its ``PYTHONPATH``."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from jupyter_server.services.contents.manager import ContentsManager
from tornado import web


class MemoryContents(ContentsManager):  # type: ignore[misc]
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._files: dict[str, tuple[str, datetime]] = {}
        """By path: the notebook's JSON, and when it was written."""

    def dir_exists(self, path: str) -> bool:
        return not path.strip("/")

    def is_hidden(self, path: str) -> bool:
        return False

    def file_exists(self, path: str = "") -> bool:
        return path.strip("/") in self._files

    def get(
        self, path: str, content: bool = True, type: str | None = None, format: str | None = None
    ) -> dict[str, Any]:
        path = path.strip("/")
        if not path:
            return self._model("", "directory", datetime.now(timezone.utc), [] if content else None)
        if path not in self._files:
            raise web.HTTPError(404, f"No such file: {path}")
        text, written = self._files[path]
        return self._model(path, "notebook", written, json.loads(text) if content else None)

    def _model(self, path: str, kind: str, at: datetime, content: Any) -> dict[str, Any]:
        shown = {"format": None if content is None else "json", "content": content, "mimetype": None}
        return {"name": path, "path": path, "type": kind, "writable": True, "created": at, "last_modified": at, **shown}

    def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        self._files[path.strip("/")] = json.dumps(model["content"]), datetime.now(timezone.utc)
        return self.get(path, content=False)

    def delete_file(self, path: str) -> None:
        del self._files[path.strip("/")]

    def rename_file(self, old_path: str, new_path: str) -> None:
        self._files[new_path.strip("/")] = self._files.pop(old_path.strip("/"))
