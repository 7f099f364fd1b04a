"""Tokens as an issuer makes them, independent of the code under test."""

import time
from typing import Any

import jwt

SECRET = "the-secret-of-the-tests-long-enough-for-each-algorithm-0123456789-abcdef"


def token(
    sub: Any = "alice", *, secret: str = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any
) -> str:
    """Return a signed token that expires in 15 minutes; a claim given as None is left out."""
    now = int(time.time())
    body = {"sub": sub, "iat": now, "exp": now + 900, **claims}
    return jwt.encode(
        {name: value for name, value in body.items() if value is not None}, secret, algorithm=algorithm, headers=headers
    )
