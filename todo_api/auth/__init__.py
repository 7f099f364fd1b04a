"""Verifies bearer tokens and guards the routes under /api/. `tokens` binds the package to the application."""

from todo_api.auth.diagnosis import diagnose
from todo_api.auth.guard import current_user_id, jwt_required
from todo_api.auth.tokens import TokenInvalid, TokenMissing, get_key_set, init_app, is_user_id

__all__ = ["TokenInvalid", "TokenMissing", "current_user_id", "diagnose", "get_key_set", "init_app", "is_user_id"]
__all__ += ["jwt_required"]
