"""The undocumented parts of gunicorn that todo_api/serving relies on."""

import logging

import gunicorn
import pytest

from todo_api.serving.logger import cut_quote


def test_the_version_of_gunicorn_is_the_supported_one() -> None:
    """Before you change the version, compare what is used of gunicorn: workers/base.py, http/ and the log messages.

    serving/exchange.py replaces its http/wsgi.py, so mends of that one must be taken over by hand.
    """
    assert gunicorn.__version__ == "27.0.1"


@pytest.mark.parametrize(
    ("message", "args", "kept"),
    [
        ("Invalid request from ip=1.2.3.4: Invalid HTTP Header: 'a b: secret'", (), "1.2.3.4: Invalid HTTP Header"),
        ("Invalid request from ip=: 'secret'", (), "ip="),
        ("Error handling request %s %s", ("GET", "/api/tasks?q=secret"), "Error handling request"),
        ("Booting worker with pid: %s", (1,), "Booting worker with pid: 1"),
    ],
)
def test_what_gunicorn_quotes_of_a_request_is_not_logged(message: str, args: tuple[object, ...], kept: str) -> None:
    record = logging.LogRecord("gunicorn.error", logging.WARNING, __file__, 1, message, args, None)
    assert cut_quote(record)
    assert record.getMessage().endswith(kept)
