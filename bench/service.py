"""The service under load: one started for it on a PostgreSQL of its own, or one that runs; and who calls it."""

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection, HTTPSConnection
from ipaddress import ip_address
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlsplit

import jwt

from tests.support import postgres
from tests.support.programs import GUNICORN, ROOT, Program, Server, environment, run, running
from todo_api import config

SIGNING = config.KEYS[0]  # the variable of the shared secret
ISSUER = (SIGNING, f"{SIGNING}_FILE", "BETTER_AUTH_URL", "JWT_ALGORITHM", "JWT_ISSUER", "JWT_AUDIENCE")
TASKS = "/api/tasks"
TOKEN_SECONDS = 1800  # longer than any run


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def issuer() -> dict[str, Any]:
    """Read the environment as the service does; without a secret it is the one that `make run` made."""
    named = {name: os.environ[name] for name in ISSUER if name in os.environ}
    settings = config.read({**named, "ENVIRONMENT": "development"}, ROOT / "instance")
    if not settings["JWT_SECRET_KEY"]:
        raise config.ConfigError(f"{SIGNING} is required: the callers' tokens are signed with the shared secret")
    return settings


def token(user: str) -> str:
    settings, now = issuer(), int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + TOKEN_SECONDS}
    claims |= {"iss": settings["JWT_ENCODE_ISSUER"], "aud": settings["JWT_ENCODE_AUDIENCE"]}
    said = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(said, settings["JWT_SECRET_KEY"], algorithm=settings["JWT_ALGORITHM"])


class Client:
    """One connection to the service."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(str(parts.hostname), parts.port, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def __call__(self, method: str, path: str, bearer: str, body: Any = None) -> bytes:
        """Return the body of an answer; anything but success ends the run."""
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise SystemExit(f"{method} {path} was answered {response.status}: {answer.decode(errors='replace')}")
        return answer


@contextmanager
def database() -> Iterator[str]:
    """Yield the URL of a throw-away PostgreSQL that keeps what it commits, unlike the tests'."""
    for name in ISSUER:
        os.environ.pop(name, None)
    os.environ[SIGNING] = secrets.token_urlsafe(48)
    with postgres.server(mkdtemp(prefix="todo-bench-"), "fsync=on") as url:
        yield url


@contextmanager
def started(database_url: str) -> Iterator[tuple[str, Program]]:
    """Migrate the database and serve it as in production; yield the URL and the program."""
    env = {name: value for name, value in os.environ.items() if name.startswith(("WEB_", "DB_")) or name == SIGNING}
    env = environment(**env, ENVIRONMENT="production", DATABASE_URL=database_url)
    migrated = run(sys.executable, "-m", "flask", "db", "upgrade", cwd=ROOT, env=env)
    if migrated.returncode:
        raise SystemExit(migrated.stderr)
    with running(*GUNICORN, cwd=ROOT, env=env) as program:
        yield f"http://127.0.0.1:{Server(program).port}", program
