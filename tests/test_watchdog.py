"""A database that hangs: it takes connections and statements, and answers nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.conftest import Caller, MakeApp, assert_error, dispose, environ_for
from todo_api import create_app


class Freezer:
    """A wire to the database that can be made to carry nothing."""

    def __init__(self, database_url: str) -> None:
        self.url = make_url(database_url)
        self.flowing = threading.Event()
        self.flowing.set()
        self.wires: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def frozen_url(self) -> str:
        there = self.url.set(host="127.0.0.1", port=self.listener.getsockname()[1], query={"sslmode": "disable"})
        return there.render_as_string(hide_password=False)

    def _connect(self) -> socket.socket:
        folder = self.url.query.get("host")
        if folder is None:
            return socket.create_connection((self.url.host or "127.0.0.1", self.url.port or 5432))
        wire = socket.socket(socket.AF_UNIX)
        wire.connect(f"{folder}/.s.PGSQL.{self.url.port or 5432}")
        return wire

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = self._connect()
                self.wires += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=[source, target], daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                self.flowing.wait()
                target.sendall(part)
        for wire in (source, target):
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.flowing.set()
        for wire in (self.listener, *self.wires):
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()


@pytest.fixture
def freezer(databases: dict[str, str]) -> Iterator[Freezer]:
    freezer = Freezer(databases["postgresql"])
    yield freezer
    freezer.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_hangs_is_unavailable_in_time_and_does_well_again(
    freezer: Freezer, make_app: MakeApp, tmp_path: Path
) -> None:
    """`make_app` is asked for to begin with an empty database."""
    app = create_app(environ_for(freezer.frozen_url, DB_STATEMENT_TIMEOUT="1"), tmp_path)
    alice = Caller(app.test_client(), "alice")
    task = alice.create("Kept")
    requests = {"GET": {}, "PUT": {"json": {"title": "New"}}, "DELETE": {}}
    for method, more in requests.items():
        assert alice.get("/api/tasks").status_code == 200  # on a connection that works
        freezer.flowing.clear()
        began = time.monotonic()
        assert_error(alice(method, f"/api/tasks/{task['id']}", **more), 503, "DATABASE_UNAVAILABLE")
        assert 1.9 < time.monotonic() - began < 4
        freezer.flowing.set()
    assert alice.get("/api/tasks").status_code == 200
    dispose(app)
