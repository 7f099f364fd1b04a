"""What every answer has beside its body: a request id and the common headers."""

import json
import logging
import re
import sys
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from flask import Flask, g

from tests.conftest import MISSING, Caller, MakeApp, environ_for
from tests.support.programs import ROOT, environment, run
from tests.support.threads import at_once
from tests.test_errors import TOO_LARGE
from todo_api.database.execution import DatabaseUnavailable
from todo_api.tasks import ownership
from todo_api.telemetry import requests as observability


@pytest.mark.parametrize("sent", ["a", "A-z_0.9", "x" * 128])
def test_a_clients_request_id_is_sent_back(nobody: Caller, sent: str) -> None:
    assert nobody.get("/health/live", headers={"X-Request-ID": sent}).headers["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", " ", "x" * 129, "a b", "a\tb", "é", "a,b", "<script>", "a/b", "%0a"])
def test_a_request_id_of_another_form_is_replaced(nobody: Caller, sent: str) -> None:
    ids = [nobody.get("/health/live", headers={"X-Request-ID": sent}).headers["X-Request-ID"] for _ in range(2)]
    assert sent not in ids
    assert len(set(ids)) == 2
    assert all(re.fullmatch("[A-Za-z0-9._-]{1,128}", made) for made in ids)


def test_a_request_id_that_ends_in_a_newline_is_replaced(nobody: Caller) -> None:
    """A server may hand over what a test client refuses to send."""
    response = nobody.get("/health/live", environ_base={"HTTP_X_REQUEST_ID": "forged\n"})
    assert "forged" not in response.headers["X-Request-ID"]


def test_a_request_without_an_id_gets_one_of_its_own(nobody: Caller) -> None:
    assert len({nobody.get("/health/live").headers["X-Request-ID"] for _ in range(3)}) == 3


def test_the_time_of_all_statements_is_the_databases(make_app: MakeApp) -> None:
    app = make_app(ENVIRONMENT="development")
    with app.test_request_context():
        observability.begin()
        for seconds in (5, 7):
            observability.add_database_time(time.perf_counter() - seconds)
        assert g.trace.database == pytest.approx(12, abs=1)


def test_in_development_a_browser_is_told_where_the_time_went(make_app: MakeApp) -> None:
    alice = Caller(make_app(ENVIRONMENT="development").test_client(), "alice")
    began = time.perf_counter()
    timing = alice.get("/api/tasks").headers["Server-Timing"]
    most = (time.perf_counter() - began) * 1000
    figures = re.fullmatch(r"auth;dur=(\d+\.\d\d), db;dur=(\d+\.\d\d), total;dur=(\d+\.\d\d)", timing)
    assert figures, timing
    auth, database, total = map(float, figures.groups())
    assert 0 < auth + database <= total <= most + 0.01


def test_a_line_is_written_once_and_a_librarys_as_ours(tmp_path: Path) -> None:
    """In a process of its own: here the root of all loggers is that of the tests."""
    program = (
        "import logging; from todo_api import create_app; app = create_app();"
        "app.logger.warning('ours'); logging.getLogger('another.package').warning('theirs')"
    )
    settings = environ_for("postgresql://nobody@127.0.0.1:1/none", JWT_ISSUER="i", JWT_AUDIENCE="a")
    ended = run(sys.executable, "-c", program, cwd=ROOT, env=environment(**settings))
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [
        ("todo_api", "ours"),
        ("another.package", "theirs"),
    ]


def test_the_development_servers_lines_of_requests_are_kept_back(app: Flask) -> None:
    assert observability.is_not_of_a_request in logging.getLogger("werkzeug").filters


def test_every_answer_has_the_common_headers(
    alice: Caller, bob: Caller, nobody: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, kept = alice.create(), alice.create()
    answers = [
        alice.get("/api/tasks"),
        alice.delete(f"/api/tasks/{task['id']}"),
        alice.get(MISSING),
        nobody.get("/api/tasks"),
        nobody.get("/nowhere"),
        nobody.get("/health/live"),
        alice.put("/api/tasks"),
        alice.post("/api/tasks", data=TOO_LARGE),
        alice.post("/api/tasks", data=b"{}"),
        alice.post("/api/tasks", json={}),
        bob.get(f"/api/tasks/{kept['id']}"),
    ]
    for failure in (RuntimeError("a crash"), DatabaseUnavailable(Exception("a full pool"))):
        monkeypatch.setattr(ownership.OwnedTasks, "list", Mock(side_effect=failure))
        answers.append(alice.get("/api/tasks"))
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 204, 404, 401, 404, 200, 405, 413, 415, 400, 403, 500, 503]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Vary"] == "Authorization, Origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert len(answer.headers.getlist("X-Request-ID")) == 1


def test_requests_at_the_same_time_keep_their_own_ids(app: Flask) -> None:
    wrong: list[str] = []

    def ask(name: str) -> None:
        caller = Caller(app.test_client(), name)
        for number in range(20):
            sent = f"{name}-{number}"
            if caller.get("/nowhere", headers={"X-Request-ID": sent}).headers["X-Request-ID"] != sent:
                wrong.append(sent)

    at_once([partial(ask, f"user{number}") for number in range(8)])
    assert wrong == []
