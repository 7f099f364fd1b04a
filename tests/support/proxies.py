"""Proxies between the application and its database that freeze, cut or refuse connections."""

import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from sqlalchemy import make_url

STATEMENT = b"; EXECUTE "  # of a prepared statement, after SET LOCAL
READY = b"Z\0\0\0\5I"  # the end of each result: ReadyForQuery, idle


class Wire:
    """Passes bytes between clients and the database."""

    def __init__(self, database_url: str) -> None:
        self.there = make_url(database_url)
        self.ends: list[socket.socket] = []
        self.port = 0
        self.listen()

    @property
    def url(self) -> str:
        here = self.there.set(host="127.0.0.1", port=self.port, query={"sslmode": "disable"})
        return here.render_as_string(hide_password=False)

    def listen(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=[self.listener], daemon=True).start()

    def close(self) -> None:
        """Close all connections and refuse new ones until `listen` is called again."""
        for end in (self.listener, *self.ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.ends.clear()

    def _connect(self) -> socket.socket:
        folder = self.there.query.get("host")
        if folder is None:
            return socket.create_connection((self.there.host or "127.0.0.1", self.there.port or 5432))
        wire = socket.socket(socket.AF_UNIX)
        wire.connect(f"{folder}/.s.PGSQL.{self.there.port or 5432}")
        return wire

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = self._connect()
                self.ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=[source, target, source is far], daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                self.deliver(part, target, is_answer)
        for wire in (source, target):
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def deliver(self, part: bytes, target: socket.socket, is_answer: bool) -> None:
        """Pass bytes on. An OSError cuts the connection."""
        target.sendall(part)


class Socket(Wire):
    """Uses a Unix socket: sending to a closed peer fails at once, and what it sent before can still be read."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.folder = folder
        super().__init__(database_url)

    @property
    def url(self) -> str:
        return self.there.set(query={"host": str(self.folder)}).render_as_string(hide_password=False)

    def listen(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{self.folder}/.s.PGSQL.{self.there.port or 5432}")
        self.listener.listen()
        threading.Thread(target=self._accept, args=[self.listener], daemon=True).start()

    def die(self, kind: bytes, severity: bytes, code: bytes) -> None:
        """Close all connections after an error or notice (PostgreSQL's documentation, 55.8)."""
        fields = b"S%b\0C%b\0MThis is the end\0\0" % (severity, code)
        for near in self.ends[::2]:
            near.sendall(kind + struct.pack("!i", len(fields) + 4) + fields)
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.ends.clear()


class Freezer(Wire):
    """Stops passing bytes when `flowing` is cleared or a client sends `last_words`."""

    def __init__(self, database_url: str) -> None:
        self.flowing = threading.Event()
        self.flowing.set()
        self.last_words: bytes | None = None
        super().__init__(database_url)

    def deliver(self, part: bytes, target: socket.socket, is_answer: bool) -> None:
        if self.last_words and not is_answer and self.last_words in part:
            self.last_words = None
            self.flowing.clear()
        self.flowing.wait()
        super().deliver(part, target, is_answer)

    def close(self) -> None:
        self.flowing.set()
        super().close()


class Cutter(Wire):
    """Cuts connections as planned for the next statements.

    `before`: the statement does not arrive. `after`: it is executed, but its result is lost. `pass`: nothing happens.
    """

    def __init__(self, database_url: str) -> None:
        self.plan: deque[str] = deque()
        self.statements = 0
        self._answer_is_lost = False
        super().__init__(database_url)

    def deliver(self, part: bytes, target: socket.socket, is_answer: bool) -> None:
        if is_answer and self._answer_is_lost:
            if part.endswith(READY):
                self._answer_is_lost = False
                raise ConnectionAbortedError
            return
        if not is_answer and STATEMENT in part:
            self.statements += 1
            fate = self.plan.popleft() if self.plan else "pass"
            if fate == "before":
                raise ConnectionAbortedError
            self._answer_is_lost = fate == "after"
        super().deliver(part, target, is_answer)
