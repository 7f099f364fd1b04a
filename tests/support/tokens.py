"""Tokens made independently of the code under test."""

import re
import time
from typing import Any

import jwt

SECRET = "the-secret-of-the-tests-long-enough-for-each-algorithm-0123456789-abcdef"


def token(
    sub: Any = "alice", *, secret: str = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any
) -> str:
    """Return a signed token, valid for 15 minutes; omit each claim that is None."""
    now = int(time.time())
    body = {"sub": sub, "iat": now, "exp": now + 900, **claims}
    return jwt.encode(
        {name: value for name, value in body.items() if value is not None}, secret, algorithm=algorithm, headers=headers
    )


LOG_LINE = re.compile(r'\{"time": ?"|\d{4}-\d\d-\d\d[ T]\S+ [A-Z]+ \[')
TOKEN_OR_SECRET = re.compile(rf"eyJ[\w-]{{8,}}\.[\w-]{{8,}}|{re.escape(SECRET)}")


def lines_with_secrets(text: str) -> list[str]:
    """Return the log lines in a text that contain a token or the secret."""
    return [line for line in text.splitlines() if LOG_LINE.match(line) and TOKEN_OR_SECRET.search(line)]
