"""Issuers of tokens: a real Better Auth server, and a JWKS endpoint that can be made to fail."""

import base64
import fcntl
import http.client
import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.programs import Program, environment, running

FOLDER = Path(__file__).parent / "better_auth"
SECRET = "a-Better-Auth-secret-of-the-tests-0123456789-zyxwvu"


def install(folder: Path = FOLDER) -> None:
    """Run `npm ci` in a folder, once for all test processes."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("There is no Node.js: install version 20 or newer, with npm (https://nodejs.org)")
    wanted, have = folder / "package-lock.json", folder / "node_modules" / "installed"
    with wanted.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not have.exists() or have.read_text() != wanted.read_text():
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
            have.write_text(wanted.read_text())


class BetterAuth:
    """A running Better Auth server and the requests of its users."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.origin = program.wait_for("ready ").split()[1]
        self.users = count()

    def ask(self, path: str, body: Any = None, session: str = "") -> tuple[Any, Any]:
        """Return the body and the headers of the response."""
        headers = {"Origin": self.origin, "Content-Type": "application/json", "Authorization": f"Bearer {session}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.origin}/api/auth/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response), response.headers

    def sign_up(self, name: str) -> tuple[str, str, dict[str, str]]:
        """Return the new user's id, session token and cookies."""
        body = {"email": f"{name}-{next(self.users)}@example.com", "password": "correct-horse-battery", "name": name}
        answer, headers = self.ask("sign-up/email", body)
        pairs = [line.partition(";")[0].partition("=") for line in headers.get_all("Set-Cookie")]
        return answer["user"]["id"], answer["token"], {key: unquote(value) for key, _, value in pairs}

    def token(self, session: str) -> str:
        answer, _ = self.ask("token", session=session)
        return str(answer["token"])

    def approve(self, request: str, session: str, scopes: str | None = None) -> str:
        """Grant the request of an agent, whose URL the browser opened, as the consent page does.

        By default grant all scopes that it asks for. Return the URL to which the browser is sent.
        """
        target = urlsplit(request)
        with closing(http.client.HTTPConnection(target.netloc, timeout=30)) as connection:
            connection.request("GET", f"{target.path}?{target.query}", headers={"Authorization": f"Bearer {session}"})
            page = urlsplit(connection.getresponse().headers["Location"])
        assert page.path == "/consent", page
        consent = {"accept": True, "oauth_query": page.query} | ({"scope": scopes} if scopes else {})
        answer, _ = self.ask("oauth2/consent", consent, session)
        return str(answer["url"])


@contextmanager
def better_auth(**settings: Any) -> Iterator[BetterAuth]:
    """Run a Better Auth server; server.mjs lists its settings."""
    install()
    options = json.dumps({"secret": SECRET, **settings})
    with running("node", "server.mjs", options, cwd=FOLDER, env=environment()) as program:
        yield BetterAuth(program)


def write_certificate(folder: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    here = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = (
        made.add_extension(here, critical=False)
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )
    (folder / "fullchain.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


Behaviour = Callable[[BaseHTTPRequestHandler], None]


class KeyServer:
    """A JWKS endpoint on 127.0.0.1 whose behaviour a test sets; `asked` lists the requested paths."""

    def __init__(self, *keys: dict[str, Any], certificate: Path | None = None) -> None:
        self.behaviour: Behaviour
        self.serve(*keys)
        self.asked: list[str] = []
        self.agents: list[str | None] = []  # the User-Agent of each request
        key_server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key_server.asked.append(self.path)
                key_server.agents.append(self.headers["User-Agent"])
                key_server.behaviour(self)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """Ignore clients that hang up: tests make them do so."""

        self.server = Server(("127.0.0.1", 0), Handler)
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate / "fullchain.pem", certificate / "privkey.pem")
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.origin = f"http{'s' if certificate else ''}://127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{self.origin}/jwks"
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()

    def serve(self, *keys: dict[str, Any]) -> None:
        self.behaviour = respond_with(200, json.dumps({"keys": keys}).encode())

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def respond_with(status: int, body: bytes, **headers: str) -> Behaviour:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Send nothing until the client hangs up."""
    handler.rfile.read(1)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """Send a byte at a time, each within a timeout for one read."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + b" " * 10_000:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


class Key:
    """A key pair of one algorithm; `jwk` is its public key (RFC 7517)."""

    def __init__(self, algorithm: str, kid: str, *, rsa_bits: int = 2048) -> None:
        self.algorithm, self.kid = algorithm, kid
        makers: dict[str, Callable[[], Any]] = {
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        }
        self.private = makers.get(algorithm, lambda: rsa.generate_private_key(65537, rsa_bits))()

    @property
    def jwk(self) -> dict[str, Any]:
        algorithm: Any = jwt.get_algorithm_by_name(self.algorithm)
        public = algorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "alg": self.algorithm, "kid": self.kid} | {"key_ops": ["verify"]}

    def token(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token for alice, valid for 15 minutes; omit each claim or header that is None."""
        now = int(time.time())
        body = {"sub": "alice", "iat": now, "exp": now + 900, **claims}
        head = {"kid": self.kid, "typ": None, **(headers or {})}
        if head["kid"] is None:
            del head["kid"]
        kept = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(kept, self.private, algorithm=self.algorithm, headers=head)


def segment(value: Any) -> str:
    """Return base64url of bytes, or of a value as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
