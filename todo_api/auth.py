"""Who is calling: the checks on a token, and `jwt_required`, the guard of every route under /api/."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import Flask, current_app, g, request
from flask_jwt_extended import decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import ExpiredSignatureError, InvalidTokenError, PyJWTError

from todo_api.errors import ApiError
from todo_api.extensions import jwt

USER_ID = re.compile("[^\x00\ud800-\udfff]{1,255}")
P = ParamSpec("P")
R = TypeVar("R")

TOKEN_TYPES = {"jwt", "at+jwt"}  # RFC 7519 section 5.1, RFC 9068 section 2.1
UNREADABLE = (JWTExtendedException, PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError)


def jwt_required(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view run for the user of a good token only. It stands under the route decorator."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        g.user_id = verify(bearer_token(request.headers.get("Authorization", "")))
        return view(*args, **kwargs)

    return guarded


def current_user_id() -> str:
    """Return the user of the request that `jwt_required` let in."""
    return str(g.user_id)


def bearer_token(header: str) -> str:
    """Return the one token of an Authorization header (RFC 6750, section 2.1).

    Raises ApiError: TOKEN_MISSING without a bearer token, TOKEN_INVALID for anything that is not just one.
    Repeated headers arrive as one, joined by a comma.
    """
    parts = [part.split() for part in header.split(",")]
    if not any(words and words[0].lower() == "bearer" for words in parts):
        raise ApiError("TOKEN_MISSING")
    if len(parts) > 1 or len(parts[0]) > 2:
        raise ApiError("TOKEN_INVALID")
    if len(parts[0]) < 2:
        raise ApiError("TOKEN_MISSING")
    return parts[0][1]


def verify(token: str) -> str:
    """Return the user id of a token that holds in every respect. Raises ApiError: TOKEN_EXPIRED, TOKEN_INVALID."""
    try:
        claims = decode_token(token)
    except ExpiredSignatureError:
        raise ApiError("TOKEN_EXPIRED") from None
    except UNREADABLE:
        raise ApiError("TOKEN_INVALID") from None
    times = [claims[name] for name in ("exp", "nbf", "iat") if name in claims]
    if "exp" not in claims or not all(map(_is_number, times)) or claims["type"] != "access":
        raise ApiError("TOKEN_INVALID")
    if not USER_ID.fullmatch(claims["sub"]):
        raise ApiError("TOKEN_INVALID")
    return str(claims["sub"])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@jwt.decode_key_loader
def key_for(header: dict[str, Any], _claims: dict[str, Any]) -> str:
    """Return the key for a token with this unverified header; PyJWT then takes no algorithm but the configured one."""
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in TOKEN_TYPES:
        raise InvalidTokenError("typ")
    return str(current_app.config["JWT_SECRET_KEY"])


def init_app(app: Flask) -> None:
    jwt.init_app(app)
    if app.config["ENVIRONMENT"] != "development":
        unchecked = [f"JWT_{name}" for name in ("ISSUER", "AUDIENCE") if app.config[f"JWT_DECODE_{name}"] is None]
        if unchecked:
            app.logger.warning("%s not set: tokens of any issuer or audience are taken", " and ".join(unchecked))
