"""Who is calling: the checks on a token, and `jwt_required`, the guard of every route under /api/."""

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from hashlib import sha256
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import jwt as pyjwt
from flask import Flask, current_app, g, request
from flask_jwt_extended import decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import PyJWK
from jwt import exceptions as refused
from jwt.utils import base64url_decode, base64url_encode

from todo_api.auth.keys import ALGORITHMS, KeySet, KeysUnavailableError, UnknownKeyError
from todo_api.errors import ApiError, Unavailable
from todo_api.extensions import jwt

P = ParamSpec("P")
R = TypeVar("R")

USER_ID = re.compile("[^\x00\ud800-\udfff]{1,255}")
WORD = re.compile("[^ \t]+")
TOKEN_TYPES = {"jwt", "at+jwt"}  # RFC 7519 section 5.1, RFC 9068 section 2.1
BAD_TOKEN = (JWTExtendedException, pyjwt.PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError)
REASONS: dict[type[Exception], str] = {
    UnknownKeyError: "unknown key",
    refused.ExpiredSignatureError: "expired",
    refused.ImmatureSignatureError: "not yet valid",
    refused.InvalidAlgorithmError: "algorithm",
    refused.InvalidAudienceError: "audience",
    refused.InvalidIssuerError: "issuer",
    refused.InvalidSignatureError: "signature",
    refused.MissingRequiredClaimError: "missing claim",
    JWTExtendedException: "missing claim",
}
LEEWAY = 10  # seconds
REMEMBERED_TOKENS = 10_000  # some 3 MB a process
REMEMBERED_SECONDS = 60
QUIET_SECONDS = 1  # between two lines of the log about refusals for the same reason


class TokenMissing(ApiError):
    status_code = 401
    error_code = "TOKEN_MISSING"
    detail = "A bearer token is required."
    headers = {"WWW-Authenticate": "Bearer"}


class TokenInvalid(ApiError):
    status_code = 401
    error_code = "TOKEN_INVALID"
    detail = "The token is not valid."
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class TokenExpired(TokenInvalid):
    error_code = "TOKEN_EXPIRED"
    detail = "The token has expired."


class KeysUnavailable(Unavailable):
    error_code = "KEYS_UNAVAILABLE"
    detail = "The keys that verify tokens cannot be fetched."


class Memory:
    """Which user a token that was verified a moment ago belongs to: a digest of the token, never the token.

    It takes a request from 290 us of verification to 2.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[str, float]] = {}
        self._lock = Lock()

    def user(self, digest: bytes) -> str | None:
        user, until = self._entries.get(digest, ("", 0.0))
        return user if time.monotonic() < until else None

    def keep(self, digest: bytes, user: str, seconds: float) -> None:
        with self._lock:
            self._entries.pop(digest, None)
            if len(self._entries) >= REMEMBERED_TOKENS:
                del self._entries[next(iter(self._entries))]  # the oldest
            self._entries[digest] = user, time.monotonic() + seconds


@dataclass
class Trust:
    """What an application accepts tokens by, and what it made of those it saw."""

    secret: PyJWK | None
    keys: KeySet | None
    memory: Memory = field(default_factory=Memory)
    logged_at: dict[str, float] = field(default_factory=dict)


def trust() -> Trust:
    found: Trust = current_app.extensions["trust"]
    return found


def jwt_required(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view run for the user of a good token only. It stands under the route decorator."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        began = time.perf_counter()
        g.user_id = authenticate(request.headers.get("Authorization", ""))
        g.trace.auth = time.perf_counter() - began
        return view(*args, **kwargs)

    return guarded


def current_user_id() -> str:
    """Return the user of the request that `jwt_required` let in."""
    return str(g.user_id)


def authenticate(header: str) -> str:
    """Return the user that an Authorization header names. Raises ApiError."""
    token = bearer_token(header)
    digest = sha256(token.encode()).digest()
    memory = trust().memory
    user = memory.user(digest)
    if user is None:
        user, expires = verify(token)
        left = min(REMEMBERED_SECONDS, expires - time.time())
        if left > 0:
            memory.keep(digest, user, left)
    return user


def bearer_token(header: str) -> str:
    """Return the one token of an Authorization header (RFC 6750, section 2.1).

    Raises ApiError: TOKEN_MISSING without a bearer token, TOKEN_INVALID for anything that is not just one.
    Repeated headers arrive as one, joined by a comma.
    """
    parts = [WORD.findall(part) for part in header.split(",")]
    if not any(words and words[0].lower() == "bearer" for words in parts):
        raise refusal(TokenMissing(), "missing")
    if len(parts) > 1 or len(parts[0]) > 2:
        raise refusal(TokenInvalid(), "malformed header")
    if len(parts[0]) < 2:
        raise refusal(TokenMissing(), "missing")
    return str(parts[0][1])


def verify(token: str) -> tuple[str, float]:
    """Return user id and expiry (seconds since 1970) of a token that holds in every respect.

    Raises ApiError: TOKEN_EXPIRED, TOKEN_INVALID, KEYS_UNAVAILABLE.
    """
    try:
        claims = check(token)
    except KeysUnavailableError:
        raise KeysUnavailable from None
    except BAD_TOKEN as error:
        reason = reason_of(error)
        raise refusal(TokenExpired() if reason == "expired" else TokenInvalid(), reason, token) from None
    return claims["sub"], claims["exp"]


def reason_of(error: Exception) -> str:
    return next((text for kind, text in REASONS.items() if isinstance(error, kind)), "malformed")


def check(token: str) -> dict[str, Any]:
    """Return the claims of a good token; raise one of BAD_TOKEN or KeysUnavailableError."""
    refuse_other_spellings(token)
    claims = decode_token(token)
    if "exp" not in claims:
        raise refused.MissingRequiredClaimError("exp")
    for name in ("exp", "nbf", "iat"):
        if name in claims and not is_time(claims[name]):
            raise refused.DecodeError(f"{name} must be a time")
    if claims["type"] != "access":
        raise refused.DecodeError("type must be access")
    if not USER_ID.fullmatch(claims["sub"]):
        raise refused.InvalidSubjectError("sub must have 1 to 255 characters")
    return claims


def refuse_other_spellings(token: str) -> None:
    """Refuse what PyJWT reads leniently: base64url with padding or stray bits, a name twice in one object."""
    parts = token.split(".")
    raw = [base64url_decode(part) for part in parts]
    if [base64url_encode(part).decode() for part in raw] != parts:
        raise refused.DecodeError("not written as RFC 7515 has it")
    for part in raw[:2]:
        json.loads(part, object_pairs_hook=_unique_names)


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise refused.DecodeError("a name stands twice")
    return found


def is_time(value: object) -> bool:
    """Whether a claim is a NumericDate (RFC 7519, section 2) of the years 1970 to 9999."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 253_402_300_800


@jwt.decode_key_loader
def key_for(header: dict[str, Any], _claims: dict[str, Any]) -> PyJWK:
    """Return the key for a token with this unverified header; PyJWT holds a PyJWK to its own algorithm."""
    kind, algorithm, kid = header.get("typ", "JWT"), header.get("alg"), header.get("kid")
    if not isinstance(kind, str) or kind.lower() not in TOKEN_TYPES:
        raise refused.DecodeError("typ must be JWT or at+jwt")
    sources = trust()
    if sources.secret and algorithm == sources.secret.algorithm_name:
        return sources.secret
    if sources.keys is None or algorithm not in ALGORITHMS:
        raise refused.InvalidAlgorithmError("alg is not accepted here")
    if not isinstance(kid, str):
        raise UnknownKeyError("kid is missing")
    return sources.keys.key(kid)


def refusal(error: ApiError, reason: str, token: str | None = None) -> ApiError:
    """Log a refusal without the token, and return the error for the client."""
    error.refusal = reason
    sources = trust()
    routine = reason in ("expired", "missing")
    now = time.monotonic()
    if routine or now - sources.logged_at.get(reason, 0.0) >= QUIET_SECONDS:
        sources.logged_at[reason] = now
        level = logging.INFO if routine else logging.WARNING
        current_app.logger.log(level, "token refused: %s%s", reason, _description(token))
    return error


def _description(token: str | None) -> str:
    """Return what may be told of an unverified token: kid, iss and alg, each cut and escaped."""
    if token is None:
        return ""
    try:
        parts = pyjwt.decode_complete(token, options={"verify_signature": False})
    except BAD_TOKEN:
        return ""
    told = {"kid": parts["header"].get("kid"), "iss": parts["payload"].get("iss"), "alg": parts["header"].get("alg")}
    return "".join(f" {name}={str(value)[:64]!a}" for name, value in told.items() if value is not None)


def init_app(app: Flask) -> None:
    jwt.init_app(app)
    secret, algorithm, url = (app.config[name] for name in ("JWT_SECRET_KEY", "JWT_ALGORITHM", "JWKS_URL"))
    key = {"kty": "oct", "alg": algorithm, "k": base64url_encode((secret or "").encode()).decode()}
    app.config["JWT_DECODE_LEEWAY"] = LEEWAY
    # Which of these a token may use is for its key to say: a PyJWK verifies one algorithm.
    app.config["JWT_DECODE_ALGORITHMS"] = [algorithm, *ALGORITHMS]
    app.extensions["trust"] = Trust(PyJWK(key) if secret else None, KeySet(url, app.logger) if url else None)
    if app.config["ENVIRONMENT"] != "development" and not app.config["CHECKED"]:
        unchecked = [f"JWT_{name}" for name in ("ISSUER", "AUDIENCE") if app.config[f"JWT_DECODE_{name}"] is None]
        if unchecked:
            app.logger.warning("%s not set: tokens of any issuer or audience are taken", " and ".join(unchecked))
