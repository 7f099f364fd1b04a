"""Who is calling: verifies bearer tokens and guards the routes under /api/."""

from todo_api.auth.diagnosis import diagnose
from todo_api.auth.guard import current_user_id, jwt_required
from todo_api.auth.keys import KeysUnavailable
from todo_api.auth.tokens import (
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenVerifier,
    get_key_set,
    init_app,
    is_user_id,
)

__all__ = [
    "KeysUnavailable",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "TokenVerifier",
    "current_user_id",
    "diagnose",
    "get_key_set",
    "init_app",
    "is_user_id",
    "jwt_required",
]
