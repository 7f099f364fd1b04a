"""Verifies bearer tokens and guards the routes under /api/."""

from flask import Flask

from todo_api.auth import fairness, tokens
from todo_api.auth.diagnosis import diagnose
from todo_api.auth.guard import AUTH_SECONDS, IDENTITY, current_user_id, has_scope, jwt_or_agent_required, jwt_required
from todo_api.auth.tokens import Identity, TokenInvalid, TokenMissing, get_key_set, is_user_id

__all__ = ["TokenInvalid", "TokenMissing", "current_user_id", "diagnose", "get_key_set", "init_app", "is_user_id"]
__all__ += ["AUTH_SECONDS", "IDENTITY", "Identity", "has_scope", "jwt_or_agent_required", "jwt_required"]


def init_app(app: Flask) -> None:
    """Bind the package to the application."""
    for module in (tokens, fairness):
        module.init_app(app)
