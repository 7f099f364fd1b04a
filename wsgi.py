"""The application, for gunicorn (`gunicorn wsgi:app`) and for the flask command."""

from todo_api import create_app
from todo_api.config import ConfigError

try:
    app = create_app()
except ConfigError as error:
    raise SystemExit(f"todo_api: {error}") from None
