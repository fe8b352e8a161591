"""Whether somebody works in a shared document now: the rooms of jupyter-collaboration, as the server's extensions have them."""

from __future__ import annotations

from logging import Logger, LoggerAdapter
from typing import Any

YDOC = ("jupyter_server_ydoc", "jupyter_collaboration")
"""Extensions (the second before version 3) that keep a document in a room, and save it from there, as long as a page has it open
and for a while after that. A room's name ends with the id that the file id manager has given the file."""
OTHERS = ("jupyter_server_documents",)
"""Extensions that keep documents in the server for good, and put outputs there themselves."""


class SharedRooms:
    """Called on the server's loop."""

    def __init__(self, server: Any, log: Logger | LoggerAdapter[Logger]) -> None:
        self._server = server
        self._log = log
        self._said = False

    @property
    def are_used(self) -> bool:
        return any(self._apps(name) for name in YDOC + OTHERS)

    def have(self, path: str) -> bool:
        """Whether that file has a live room, or may have one: what cannot be found out counts as live."""
        if any(map(self._apps, OTHERS)):
            return True
        apps = [app for name in YDOC for app in self._apps(name)]
        try:
            rooms = [room for app in apps for room in app.ywebsocket_server.rooms]
            if not rooms:
                return False
            file_id = self._server.web_app.settings["file_id_manager"].get_id(path)
        except Exception as e:
            if not self._said:
                self._said = True
                self._log.info("Which notebooks are shared now is not known, so none is saved without a page: %r", e)
            return True
        return file_id is not None and any(room.rpartition(":")[2] == file_id for room in rooms)

    def _apps(self, name: str) -> set[Any]:
        found: set[Any] = self._server.extension_manager.extension_apps.get(name, set())
        return found
