"""The guard of every route under /api/."""

import logging
import re
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jwt as pyjwt
from flask import current_app, request

from todo_api.auth.diagnosis import explain
from todo_api.auth.fairness import RunningRequests
from todo_api.auth.tokens import BAD_TOKEN, Identity, TokenInvalid, TokenMissing, TokenVerifier, get_verifier

P = ParamSpec("P")
R = TypeVar("R")

# Keys of the WSGI environment.
IDENTITY = "todo_api.identity"  # whom the token stands for
AUTH_SECONDS = "todo_api.auth_seconds"  # how long it took to find out
WORD = re.compile("[^ \t]+")
LOG_INTERVAL = 1  # seconds between two log lines for the same reason

logger = logging.getLogger(__name__)


def jwt_required(view: Callable[P, R]) -> Callable[P, R]:
    """Run the view only with a user's valid token, and few at a time for one user. Goes below the route decorator."""
    return guarded(view, agents=False)


def jwt_or_agent_required(view: Callable[P, R]) -> Callable[P, R]:
    """Let agents in, too: the view must check what `has_scope` says."""
    return guarded(view, agents=True)


def guarded(view: Callable[P, R], *, agents: bool) -> Callable[P, R]:
    @wraps(view)
    def guarded_view(*args: P.args, **kwargs: P.kwargs) -> R:
        arrived = time.perf_counter()
        environ, extensions = request.environ, current_app.extensions  # Flask's proxies take 0.5 µs each time
        identity = authenticate(environ.get("HTTP_AUTHORIZATION", ""), extensions["auth"], agents=agents)
        environ[IDENTITY] = identity
        environ[AUTH_SECONDS] = time.perf_counter() - arrived
        running: RunningRequests = extensions["running_requests"]
        began = running.begin(identity.user_id)
        try:
            return view(*args, **kwargs)
        finally:
            running.end(identity.user_id, began)

    return guarded_view


def current_user_id() -> str:
    """Return the user id of the token that the guard accepted."""
    identity: Identity = request.environ[IDENTITY]
    return identity.user_id


def has_scope(scope: str) -> bool:
    """Return whether the token that the guard accepted allows this; a user's own allows everything."""
    identity: Identity = request.environ[IDENTITY]
    return identity.scopes is None or scope in identity.scopes


def authenticate(header: str, verifier: TokenVerifier, *, agents: bool) -> Identity:
    """Return whom an Authorization header stands for. Raises TokenInvalid, KeysUnavailable."""
    token = ""
    try:
        identity = verifier.cache.get(header)
        if identity is None:
            token = bearer_token(header)
            identity = verifier.remember(token)
        if identity.scopes is not None and not agents:
            token = bearer_token(header)
            raise TokenInvalid("audience")
        return identity
    except TokenInvalid as error:
        log_refusal(str(error.refusal), token)
        if current_app.config["ENVIRONMENT"] == "development" and type(error) is TokenInvalid:
            error.detail = f"{error.detail.rstrip('.')}: {explain(token)}."
        raise


def bearer_token(header: str) -> str:
    """Return the one token of an Authorization header (RFC 6750, section 2.1). Raises TokenMissing, TokenInvalid."""
    # The server joins repeated headers with a comma.
    credentials = [WORD.findall(part) for part in header.split(",")]
    schemes = [words[0].lower() for words in credentials if words]
    if "bearer" not in schemes or header.strip(" \t").lower() == "bearer":
        raise TokenMissing("missing")
    if [len(words) for words in credentials] != [2]:
        raise TokenInvalid("malformed header")
    return str(credentials[0][1])


def log_refusal(reason: str, token: str) -> None:
    """Log a refusal without the token; a suspicious one at most once in LOG_INTERVAL for each reason."""
    level = logging.INFO if reason in ("expired", "missing") else logging.WARNING
    logged_at, now = get_verifier().logged_at, time.monotonic()
    if level == logging.INFO or now - logged_at.get(reason, 0.0) >= LOG_INTERVAL:
        logged_at[reason] = now
        logger.log(level, "token refused: %s%s", reason, describe(token))


def describe(token: str) -> str:
    """Return what may be logged of an unverified token: kid, iss and alg, each cut and escaped."""
    try:
        parts = pyjwt.decode_complete(token, options={"verify_signature": False})
    except BAD_TOKEN:
        return ""
    values = parts["header"] | {"iss": parts["payload"].get("iss")}
    return "".join(f" {name}={str(values[name])[:64]!a}" for name in ("kid", "iss", "alg") if values.get(name))
