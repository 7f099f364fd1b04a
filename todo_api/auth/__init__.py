"""Verifies bearer tokens and guards the routes under /api/. `tokens` binds the package to the application."""

from todo_api.auth.diagnosis import diagnose as diagnose
from todo_api.auth.guard import current_user_id as current_user_id
from todo_api.auth.guard import jwt_required as jwt_required
from todo_api.auth.keys import KeysUnavailable as KeysUnavailable
from todo_api.auth.tokens import TokenInvalid as TokenInvalid
from todo_api.auth.tokens import TokenMissing as TokenMissing
from todo_api.auth.tokens import get_key_set as get_key_set
from todo_api.auth.tokens import init_app as init_app
from todo_api.auth.tokens import is_user_id as is_user_id
