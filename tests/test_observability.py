"""What every answer has beside its body: a request id and the common headers."""

import re
from functools import partial
from unittest.mock import Mock

import pytest
from flask import Flask

from tests.conftest import MISSING, Caller
from tests.test_errors import TOO_LARGE
from tests.threads import at_once
from todo_api import ownership
from todo_api.database import DatabaseUnavailable


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
