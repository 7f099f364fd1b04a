"""The error body, and the order of the checks of a request."""

import io
import re
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from flask import Flask, abort
from sqlalchemy import text

from tests.conftest import MISSING, Caller, MakeApp, assert_error, dispose, environ_for
from tests.support.databases import engine_of, rows_of
from tests.support.statements import database_of, database_outside_requests
from todo_api import create_app
from todo_api.database import ConstraintViolated, DatabaseError, Statement, execution
from todo_api.tasks import ownership

TOO_LARGE = b" " * (64 * 1024 + 1)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("path", ["/", "/api/tasks/", "//api/tasks", f"{MISSING}/"])
def test_an_unknown_path_is_not_found_with_or_without_a_token(alice: Caller, nobody: Caller, path: str) -> None:
    for caller in (alice, nobody):
        for method in ("GET", "POST"):
            assert_error(caller(method, path), 404, "NOT_FOUND")


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("path", "is_told"),
    [
        *(
            (path, True)
            for path in ("/api/tasks/", "/api/tasks//", f"{MISSING}/", "/docs/", "/openapi.json/", "/health/")
        ),
        *((path, False) for path in ("/", "/nowhere", "/nowhere/", "//api/tasks", "/api/")),
    ],
)
def test_the_detail_of_an_unknown_path_tells_of_a_slash_at_its_end(nobody: Caller, path: str, is_told: bool) -> None:
    for method in ("GET", "PUT"):
        detail = assert_error(nobody(method, path), 404, "NOT_FOUND")["detail"]
        slash = "; remove the slash at the end of the path" if is_told else ""
        assert detail == f"There is no such route{slash}."


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/tasks", {"GET", "HEAD", "OPTIONS", "POST", "PATCH", "DELETE"}),
        ("TRACE", MISSING, {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}),
        ("POST", "/health/live", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", "/api/tasks", {"GET", "HEAD", "OPTIONS", "POST", "PATCH", "DELETE"}),
    ],
)
def test_an_unknown_method_names_the_allowed_ones_with_or_without_a_token(
    alice: Caller, nobody: Caller, method: str, path: str, allowed: set[str]
) -> None:
    for caller in (alice, nobody):
        response = caller(method, path)
        assert_error(response, 405, "METHOD_NOT_ALLOWED")
        assert set(response.headers["Allow"].split(", ")) == allowed


@pytest.mark.sqlite_only
@pytest.mark.parametrize("protocol", ["websocket", "WebSocket", "h2c", "TLS/1.0"])
def test_an_upgrade_to_another_protocol_is_ignored(alice: Caller, protocol: str) -> None:
    upgrade = {"Connection": "keep-alive, Upgrade", "Upgrade": protocol}
    assert alice("GET", "/api/tasks", headers=upgrade).status_code == 200
    refused = alice("TRACE", "/api/tasks", headers=upgrade)
    assert (refused.status_code, "GET" in refused.headers["Allow"]) == (405, True)


TEXT, JSON = "text/plain", "application/json"
JUDGED = {  # each request also fails the later checks, as far as one request can
    "token": ("nobody", TOO_LARGE, TEXT, (401, "TOKEN_MISSING")),
    "size": ("bob", TOO_LARGE, TEXT, (413, "PAYLOAD_TOO_LARGE")),
    "media type": ("bob", b"{", TEXT, (415, "UNSUPPORTED_MEDIA_TYPE")),
    "json": ("bob", b"{", JSON, (400, "MALFORMED_JSON")),
    "field": ("bob", b'{"title": ""}', JSON, (400, "VALIDATION_ERROR")),
    "foreign": ("bob", b'{"title": "x"}', JSON, (403, "TASK_FORBIDDEN")),
}


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("user", "body", "media_type", "answer"), JUDGED.values(), ids=JUDGED)
def test_the_checks_of_a_request_run_in_order(
    app: Flask, alice: Caller, user: str, body: bytes, media_type: str, answer: tuple[int, str]
) -> None:
    caller = Caller(app.test_client(), None if user == "nobody" else user)
    missing = (404, "TASK_NOT_FOUND") if answer[0] == 403 else answer
    for path, expected in ((MISSING, missing), (f"/api/tasks/{alice.create()['id']}", answer)):
        request = {"data": body, "content_type": media_type, "headers": {"If-Match": '"old"'}}
        assert_error(caller("PUT", path, **request), *expected)


@pytest.mark.sqlite_only
def test_health_needs_no_token_and_touches_no_database(nobody: Caller, app: Flask) -> None:
    dispose(app)
    response = nobody.get("/health/live")
    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert database_of(app).connections.pool.checkedin() == 0


@pytest.mark.sqlite_only
def test_an_unexpected_error_is_logged_and_its_cause_not_disclosed(
    alice: Caller, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> str:
        raise RuntimeError("the cause of it all")

    monkeypatch.setattr(ownership.OwnedTasks, "list", crash)
    response = alice.get("/api/tasks", headers={"X-Request-ID": "crash-1"})
    assert_error(response, 500, "INTERNAL_ERROR")
    assert "cause of it all" not in response.text
    assert "RuntimeError" not in response.text
    assert re.search('(: |:")unexpected error in GET /api/tasks("|$)', log.getvalue(), re.MULTILINE)
    assert "RuntimeError: the cause of it all" in log.getvalue()
    assert "crash-1" in log.getvalue()


@pytest.mark.sqlite_only
def test_other_framework_errors_are_named_after_their_status(make_app: MakeApp) -> None:
    app = make_app()

    @app.get("/odd/<int:status>")
    def odd(status: int) -> NoReturn:
        abort(status)

    for status, code, detail in (
        (410, "GONE", "URI no longer exists and has been permanently removed"),
        (418, "IM_A_TEAPOT", "Server refuses to brew coffee because it is a teapot."),
        (423, "LOCKED", "Locked"),
    ):
        response = app.test_client().get(f"/odd/{status}")
        assert response.status_code == status
        assert response.json == {"detail": detail, "error_code": code, "status_code": status}


def test_a_failed_statement_is_logged_and_no_sql_disclosed(alice: Caller, log: io.StringIO, database_url: str) -> None:
    """A missing table is the operator's fault, not the client's."""
    rows_of(database_url, "ALTER TABLE tasks RENAME TO elsewhere")
    try:
        response = alice.post("/api/tasks", json={"title": "a private title"}, headers={"X-Request-ID": "sql-1"})
    finally:
        rows_of(database_url, "ALTER TABLE elsewhere RENAME TO tasks")
    assert response.status_code >= 500
    assert not re.search("tasks|SQL|psycopg|sqlite|relation", response.text, re.IGNORECASE)
    assert "tasks" in log.getvalue()
    assert "sql-1" in log.getvalue()
    assert "private" not in log.getvalue()


def assert_unavailable(response: Any) -> None:
    assert_error(response, 503, "DATABASE_UNAVAILABLE")
    assert int(response.headers["Retry-After"]) >= 1


def test_an_unreachable_database_is_503_and_the_log_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "RETRY_WINDOW", 0.1)
    app = create_app(environ_for("postgresql://todo:password@127.0.0.1:1/todo"), tmp_path)
    alice = Caller(app.test_client(), "alice")
    for response in (alice.get("/api/tasks"), alice.post("/api/tasks", json={"title": "x"}), alice.delete(MISSING)):
        assert_unavailable(response)
        assert "127.0.0.1" not in response.text
    assert re.search('"message":"DATABASE_UNAVAILABLE: .*refused', capfd.readouterr().err)
    assert alice.get("/health/live").status_code == 200


@pytest.mark.sqlite_only
def test_an_exhausted_pool_is_503(make_app: MakeApp) -> None:
    app = make_app(DB_POOL_SIZE="1", DB_MAX_OVERFLOW="0", DB_POOL_TIMEOUT="1")
    alice = Caller(app.test_client(), "alice")
    taken = database_of(app).connections.take()
    assert_unavailable(alice.get("/api/tasks"))
    taken.close()
    assert alice.get("/api/tasks").status_code == 200


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_database_errors_are_one_line_without_values(app: Flask) -> None:
    database = database_outside_requests(app)
    with pytest.raises(DatabaseError) as unknown:
        database.fetch(Statement(text("SELECT 1 FROM nowhere")), {})
    assert type(unknown.value) is DatabaseError  # no outage
    assert re.fullmatch("42P01: .*nowhere.*", str(unknown.value))
    insertion = Statement(text("INSERT INTO users (id, created_at) VALUES (repeat('private', 99), now())"))
    with pytest.raises(ConstraintViolated) as violated:
        database.execute(insertion, {})
    assert re.fullmatch("23514: .*ck_users_id_length.*", str(violated.value))
    assert "private" not in str(violated.value)
    assert str(DatabaseError(OSError("no\n  route"))) == "OSError: no route"


def test_a_statement_timeout_is_503_and_changes_nothing(make_app: MakeApp, alice: Caller, database_url: str) -> None:
    impatient = Caller(make_app(DB_STATEMENT_TIMEOUT="1").test_client(), "alice")
    task = alice.create("Kept")
    with engine_of(database_url) as blocker, blocker.begin() as connection:
        connection.execute(text("UPDATE tasks SET title = title"))
        started = time.monotonic()
        assert_unavailable(impatient.put(f"/api/tasks/{task['id']}", json={"title": "Late"}))
        assert time.monotonic() - started < 5
    assert alice.get("/api/tasks").json == [task]
