"""The application, for gunicorn (`gunicorn wsgi:app`) and for the flask command."""

import os
import sys

from todo_api import create_app
from todo_api.config import ConfigError

try:
    app = create_app()
except ConfigError as error:
    sys.stderr.write(f"todo_api: {error}\n")
    # To gunicorn 3 means: do not try again. A worker whose settings went bad while others serve is to be tried again.
    raise SystemExit(1 if "TODO_API_CHECKED_BY" in os.environ else 3) from None
