"""The application, for gunicorn (`gunicorn wsgi:app`) and for the flask command."""

import os
import sys

from todo_api import create_app
from todo_api.config import ConfigError

try:
    app = create_app()
except ConfigError as error:
    sys.stderr.write(f"todo_api: {error}\n")
    # Exit status 3 makes gunicorn stop; 1 makes it start the worker again.
    raise SystemExit(1 if "TODO_API_CHECKED_BY" in os.environ else 3) from None
