"""Proxies between the application and its database that freeze, cut or refuse connections."""

import re
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from sqlalchemy import make_url

from tests.support.databases import PATIENT
from tests.support.programs import free_port

STATEMENT = re.compile(b"; (EXECUTE|SELECT|WITH|INSERT|UPDATE|DELETE) ")  # prepared or not, after SET LOCAL
PREPARED_WRITE = re.compile(rb"PREPARE (\w+) AS .*\b(INSERT|UPDATE|DELETE) ", re.DOTALL)
CALL = re.compile(rb"EXECUTE (\w+)")
READY = b"Z\0\0\0\5I"  # the end of each result: ReadyForQuery, idle


class Proxy:
    """Forwards bytes between clients and the database."""

    def __init__(self, database_url: str) -> None:
        self.database_url = make_url(database_url)
        self.sockets: list[socket.socket] = []  # a client's and the database's in turn
        self.port = free_port()
        self.listen()

    @property
    def url(self) -> str:
        url = self.database_url.set(host="127.0.0.1", port=self.port, query={"sslmode": "disable", **PATIENT})
        return url.render_as_string(hide_password=False)

    def listen(self) -> None:
        self._accept_from(socket.create_server(("127.0.0.1", self.port)))

    def close(self) -> None:
        """Close all connections and refuse new ones until `listen` is called again."""
        close_all([self.listener, *self.sockets])
        self.sockets.clear()

    def _connect(self) -> socket.socket:
        folder = self.database_url.query.get("host")
        port = self.database_url.port or 5432
        if folder is None:
            return socket.create_connection((self.database_url.host or "127.0.0.1", port))
        database = socket.socket(socket.AF_UNIX)
        database.connect(f"{folder}/.s.PGSQL.{port}")
        return database

    def _accept_from(self, listener: socket.socket) -> None:
        self.listener = listener
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                database = self._connect()
                self.sockets += [client, database]
                for source, target in ((client, database), (database, client)):
                    threading.Thread(
                        target=self._forward, args=[source, target, source is database], daemon=True
                    ).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_result: bool) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                self.deliver(part, target, is_result)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def deliver(self, part: bytes, target: socket.socket, is_result: bool) -> None:
        """Forward bytes. An OSError cuts the connection."""
        target.sendall(part)


def close_all(sockets: list[socket.socket]) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


class UnixSocketProxy(Proxy):
    """Listens on a Unix socket: sending to a closed peer fails at once, and what it sent before can still be read."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.folder = folder
        super().__init__(database_url)

    @property
    def url(self) -> str:
        return self.database_url.set(query={"host": str(self.folder), **PATIENT}).render_as_string(hide_password=False)

    def listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self.folder}/.s.PGSQL.{self.database_url.port or 5432}")
        listener.listen()
        self._accept_from(listener)

    def end_connections(self, kind: bytes, severity: bytes, code: bytes) -> None:
        """Close all connections after an error or notice (PostgreSQL's documentation, 55.8)."""
        fields = b"S%b\0C%b\0MThis is the end\0\0" % (severity, code)
        for client in self.sockets[::2]:
            client.sendall(kind + struct.pack("!i", len(fields) + 4) + fields)
        close_all(self.sockets)
        self.sockets.clear()


class FreezingProxy(Proxy):
    """Stops forwarding when `is_open` is cleared, or before a client's bytes that contain `freeze_before`."""

    def __init__(self, database_url: str) -> None:
        self.is_open = threading.Event()
        self.is_open.set()
        self.freeze_before: bytes | None = None
        super().__init__(database_url)

    def deliver(self, part: bytes, target: socket.socket, is_result: bool) -> None:
        if self.freeze_before and not is_result and self.freeze_before in part:
            self.freeze_before = None
            self.is_open.clear()
        self.is_open.wait()
        super().deliver(part, target, is_result)

    def close(self) -> None:
        self.is_open.set()
        super().close()


class SwallowingProxy(Proxy):
    """Swallows all writes while `swallows` is set: they get no answer, as where commits wait. Reads pass."""

    def __init__(self, database_url: str) -> None:
        self.swallows = False
        self.swallowed = 0
        self._writes: set[bytes] = set()  # names of prepared statements
        super().__init__(database_url)

    def deliver(self, part: bytes, target: socket.socket, is_result: bool) -> None:
        if prepared := PREPARED_WRITE.search(part):
            self._writes.add(prepared[1])
        called = CALL.search(part)
        if self.swallows and called and called[1] in self._writes:
            self.swallowed += 1
        else:
            super().deliver(part, target, is_result)


class CuttingProxy(Proxy):
    """Cuts connections as planned for the next statements.

    `before`: the statement does not arrive. `after`: it is executed, but its result is lost. `pass`: nothing happens.
    """

    def __init__(self, database_url: str) -> None:
        self.plan: deque[str] = deque()
        self.statements = 0
        self._result_is_lost = False
        super().__init__(database_url)

    def deliver(self, part: bytes, target: socket.socket, is_result: bool) -> None:
        if is_result and self._result_is_lost:
            if part.endswith(READY):
                self._result_is_lost = False
                raise ConnectionAbortedError
            return
        if not is_result and STATEMENT.search(part):
            self.statements += 1
            fate = self.plan.popleft() if self.plan else "pass"
            if fate == "before":
                raise ConnectionAbortedError
            self._result_is_lost = fate == "after"
        super().deliver(part, target, is_result)
