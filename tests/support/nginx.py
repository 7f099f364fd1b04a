"""A real nginx with the configuration of `deploy/`, in front of gunicorn or a fake."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, NamedTuple

from tests.support.programs import GUNICORN, ROOT, Program, environment, free_port, production_environment, run, running
from tests.support.threads import wait_until
from tests.support.tokens import lines_with_secrets

DEPLOY = ROOT / "deploy"
ORIGIN = "https://app.example.com"
ORIGINS = f"{ORIGIN},https://other.example.com:8443"
PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
MISSING = "There is no nginx: install it (Debian, Ubuntu: apt install nginx)"
MAIN = """
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    include {folder}/conf.d/*.conf;
}}
"""
Change = tuple[str, str]


class Response(NamedTuple):
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Nginx:
    """A running nginx and the requests sent to it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def connect(self, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        if tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(source, 0))

    def request(
        self, method: str, path: str, body: Any = None, *, source: str = "127.0.0.1", **headers: str
    ) -> Response:
        """Return the response to a request on a new connection from `source`, an address of this machine."""
        with closing(self.connect(source)) as connection:
            return ask(connection, method, path, body, **headers)

    def raw(self, text: str) -> Response | None:
        """Return the only response to these bytes, or None."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=15) as connection:
            connection.sendall(text.encode())
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
            except http.client.RemoteDisconnected:
                return None
            result = Response(response.status, response.headers, response.read())
            assert response.will_close
            connection.shutdown(socket.SHUT_WR)  # else nginx reads on for some seconds
            assert connection.recv(65536) == b""
            return result

    @property
    def log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "todo-api.log").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str) -> Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, sent, encode_chunked=sent.get("Transfer-Encoding") == "chunked")
    response = connection.getresponse()
    return Response(response.status, response.headers, response.read())


def install(folder: Path, port: int, *changes: Change, origins: str, connections: int) -> Path:
    """Install the files of `deploy/` as an operator does, with the paths and port of a test; return the main file."""
    settings = folder / "settings.env"
    settings.write_text(f"ENVIRONMENT=production\nCORS_ORIGINS={origins}\n")
    script = run(str(DEPLOY / "cors-origins.sh"), str(settings), cwd=folder, env=environment())
    assert script.returncode == 0, script.stderr
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    places = [
        ("/run/todo-api/gunicorn.sock", str(folder / "app.sock")),
        ("/var/log/nginx/", f"{folder}/"),
        ("\n    listen 80 default_server;", f"\n    listen 127.0.0.1:{port} default_server;"),
    ]
    for old, new in [*changes, *places]:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "todo-api.conf").write_text(text)
    (folder / "conf.d" / "todo-api-cors.conf").write_text(script.stdout)
    main = folder / "nginx.conf"
    text = MAIN.format(folder=folder, connections=connections, files=2 * connections + 64)
    main.write_text(("user root;" if os.getuid() == 0 else "") + text)
    return main


@contextmanager
def nginx(folder: Path, *changes: Change, origins: str = ORIGINS, connections: int = 1024) -> Iterator[Nginx]:
    """Run nginx in front of whatever listens on app.sock in that folder."""
    port = free_port()
    main = install(folder, port, *changes, origins=origins, connections=connections)
    tested = run(str(PROGRAM), "-t", "-q", "-c", str(main), cwd=folder, env=environment())
    assert (tested.returncode, tested.stderr) == (0, "")
    with running(str(PROGRAM), "-c", str(main), "-g", "daemon off;", cwd=folder, env=environment()):
        wait_until(lambda: is_listening(port))
        yield Nginx(folder, port)
    assert lines_with_secrets((folder / "todo-api.log").read_text(encoding="utf-8")) == []


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def gunicorn(folder: Path, env: dict[str, str]) -> Iterator[None]:
    command = (sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"unix:{folder / 'app.sock'}")
    with running(*command, cwd=ROOT, env=env) as program:
        program.wait_for("Listening at: ")
        yield


@contextmanager
def gunicorn_and_nginx(folder: Path, url: str, **settings: str) -> Iterator[tuple[Program, dict[str, int]]]:
    """Run one worker of gunicorn, with nginx in front if it is installed; yield gunicorn and the ports of both.

    With one worker, any bytes left over on nginx's connection reach the next request.
    """
    env = production_environment(url, JWT_ISSUER="i", JWT_AUDIENCE="a", WEB_CONCURRENCY="1", **settings)
    with ExitStack() as stack:
        program = stack.enter_context(running(*GUNICORN, "--bind", f"unix:{folder / 'app.sock'}", cwd=ROOT, env=env))
        listening = program.wait_for("Listening at: ")
        ports = {"gunicorn": int(listening.partition("127.0.0.1:")[2].partition(",")[0])}
        if PROGRAM:
            ports["nginx"] = stack.enter_context(nginx(folder)).port
        yield program, ports


class FakeGunicorn(ThreadingMixIn, UnixStreamServer):
    """Counts connections, records requests, and delays the response of /api/slow until `released` is set."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.connections = 0
        self.received: list[tuple[str, Message]] = []
        self.waiting, self.released = threading.Event(), threading.Event()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeGunicorn

    def log_message(self, *_: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        self.server.received.append((self.path, self.headers))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/slow":
            self.server.waiting.set()
            self.server.released.wait(30)
        body = b'{"padding": "%s"}' % (b"x" * 5000)
        self.send_response(200)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "ETag": '"2026-02-08T09:30:00.123456Z"',
            "X-Content-Type-Options": "nosniff",
            "X-Request-ID": self.headers["X-Request-ID"],
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def fake_gunicorn(folder: Path) -> Iterator[FakeGunicorn]:
    server = FakeGunicorn(folder / "app.sock")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def uncommented(text: str, *prefixes: str) -> list[Change]:
    """Return the changes that uncomment the settings with these prefixes, or all settings."""
    lines = re.findall(r"^ *#(?=\S).*$", text, re.MULTILINE)
    chosen = [line for line in lines if line.strip().removeprefix("#").startswith(prefixes or "")]
    return [(f"\n{line}", f"\n{line.replace('#', '', 1)}") for line in chosen]
