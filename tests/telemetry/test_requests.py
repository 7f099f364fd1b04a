"""The request id and the headers of every response."""

import re
from functools import partial
from unittest.mock import Mock

import pytest
from flask import Flask

from tests.conftest import MISSING, Caller, MakeApp
from tests.support.threads import at_once
from tests.test_errors import TOO_LARGE
from todo_api.database import DatabaseUnavailable, get_database
from todo_api.tasks import OwnedTasks
from todo_api.telemetry.requests import CURRENT, add_database_seconds

pytestmark = pytest.mark.sqlite_only


@pytest.mark.parametrize("sent", ["A-z_0.9", "x" * 128])
def test_a_clients_request_id_is_sent_back(nobody: Caller, sent: str) -> None:
    assert nobody.get("/health/live", headers={"X-Request-ID": sent}).headers["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "é", "a,b", "%0a", "forged\n"])
def test_a_request_id_of_another_form_is_replaced(nobody: Caller, sent: str) -> None:
    """It goes into the environment because a test client refuses to send a newline."""
    received = {"HTTP_X_REQUEST_ID": sent}
    ids = [nobody.get("/health/live", environ_base=received).headers["X-Request-ID"] for _ in range(2)]
    assert len({sent, *ids}) == 3
    assert all(re.fullmatch("[A-Za-z0-9._-]{1,128}", made) for made in ids)


def test_requests_without_an_id_get_different_ones(nobody: Caller) -> None:
    assert len({nobody.get("/health/live").headers["X-Request-ID"] for _ in range(3)}) == 3


def test_simultaneous_requests_keep_their_own_ids(app: Flask) -> None:
    wrong: list[str] = []

    def ask(name: str) -> None:
        caller = Caller(app.test_client(), name)
        for number in range(20):
            sent = f"{name}-{number}"
            if caller.get("/nowhere", headers={"X-Request-ID": sent}).headers["X-Request-ID"] != sent:
                wrong.append(sent)

    at_once([partial(ask, f"user{number}") for number in range(8)])
    assert wrong == []


def test_in_development_server_timing_shows_the_durations(make_app: MakeApp) -> None:
    app = make_app(ENVIRONMENT="development")
    with app.app_context():
        database = get_database()
    original = database.on_statement
    assert original

    def twice(_: float) -> None:
        for seconds in (0.5, 0.7):
            original(seconds)

    database.on_statement = twice
    timing = Caller(app.test_client(), "alice").get("/api/tasks").headers["Server-Timing"]
    parts = re.fullmatch(r"auth;dur=(\d+\.\d\d), db;dur=(\d+\.\d\d), total;dur=(\d+\.\d\d)", timing)
    assert parts, timing
    auth, statements, total = map(float, parts.groups())
    assert 0 < auth < total
    assert statements == 1200, "the sum over all statements, in milliseconds"


def test_every_response_has_the_common_headers(
    alice: Caller, bob: Caller, nobody: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, kept = alice.create(), alice.create()
    responses = [
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
        monkeypatch.setattr(OwnedTasks, "list", Mock(side_effect=failure))
        responses.append(alice.get("/api/tasks"))
    assert [response.status_code for response in responses] == [
        *(200, 204, 404, 401, 404, 200, 405, 413, 415, 400, 403, 500, 503)
    ]
    for response in responses:
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert response.headers["Vary"] == "Authorization, Origin"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert len(response.headers.getlist("X-Request-ID")) == 1


def test_a_statement_outside_a_request_is_not_recorded() -> None:
    assert CURRENT.get() is None
    add_database_seconds(1.0)
