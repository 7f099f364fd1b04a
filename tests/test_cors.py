"""Which pages of other origins may read responses."""

import pytest
from flask import Flask

from tests.conftest import MISSING, Caller, MakeApp, assert_error

PAGE = "https://app.example.com"
ALLOW = "Access-Control-Allow-Origin"
EXPOSE = "Access-Control-Expose-Headers"

pytestmark = pytest.mark.sqlite_only


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(CORS_ORIGINS=f"{PAGE}, https://other.example.com:8443")


@pytest.mark.parametrize("origin", [PAGE, "https://other.example.com:8443"])
def test_a_page_of_a_listed_origin_can_read_every_response(alice: Caller, nobody: Caller, origin: str) -> None:
    task = alice.create()
    page = {"Origin": origin}
    answers = [
        alice.get("/api/tasks", headers=page),
        alice.post("/api/tasks", json={"title": "x"}, headers=page),
        alice.post("/api/tasks", json={"title": ""}, headers=page),
        alice.get(f"/api/tasks/{task['id']}", headers=page | {"If-None-Match": f'"{task["updated_at"]}"'}),
        alice.get(MISSING, headers=page),
        nobody.get("/api/tasks", headers=page),
        nobody.get("/nowhere", headers=page),
        nobody("TRACE", "/api/tasks", headers=page),
        nobody.get("/health/live", headers=page),
    ]
    assert [answer.status_code for answer in answers] == [200, 201, 400, 304, 404, 401, 404, 405, 200]
    for answer in answers:
        assert answer.headers.getlist(ALLOW) == [origin]
        assert set(answer.headers[EXPOSE].split(", ")) == {
            *("ETag", "Link", "Location", "Retry-After", "X-Next-Cursor", "X-Total-Count", "X-Request-ID"),
            *("Idempotency-Replayed", "WWW-Authenticate"),
        }
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers.getlist("Vary") == ["Authorization, Origin"]


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "http://app.example.com", f"{PAGE}:443", f"{PAGE}.evil.example", "null", "", "*"),
        *("https://APP.example.com", f"{PAGE}/", f"{PAGE}, https://other.example.com:8443"),
    ],
)
def test_a_page_of_another_origin_can_read_nothing(alice: Caller, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
        answer = alice(method, "/api/tasks", headers=headers)
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]


def test_without_an_origin_there_are_no_cors_headers(alice: Caller) -> None:
    assert not [name for name, _ in alice.get("/api/tasks").headers if name.startswith("Access-Control-")]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/tasks", {"GET", "HEAD", "OPTIONS", "POST", "PATCH", "DELETE"}),
        (MISSING, {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}),
    ],
)
def test_a_preflight_needs_no_token_and_lists_what_may_be_sent(nobody: Caller, path: str, methods: set[str]) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "x-other"}
    answer = nobody("OPTIONS", path, headers=asked)
    assert answer.status_code == 200
    assert answer.headers[ALLOW] == PAGE
    assert set(answer.headers["Access-Control-Allow-Methods"].split(", ")) == methods
    assert set(answer.headers["Access-Control-Allow-Headers"].split(", ")) == {
        *("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-ID"),
    }
    assert answer.headers["Access-Control-Max-Age"] == "7200"
    assert answer.data == b""


@pytest.mark.parametrize("path", ["/nowhere", "/api/tasks/", "/api/nothing", "/", "/docs/x/y"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_a_preflight_of_an_unknown_path_is_answered_so_that_the_page_sees_the_404(
    alice: Caller, nobody: Caller, path: str, method: str
) -> None:
    answer = nobody("OPTIONS", path, headers={"Origin": PAGE, "Access-Control-Request-Method": method})
    known = nobody("OPTIONS", MISSING, headers={"Origin": PAGE, "Access-Control-Request-Method": method})
    assert (answer.status_code, answer.data) == (200, b"")
    methods = answer.headers["Access-Control-Allow-Methods"].split(", ")
    assert methods == ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "*"]
    for name in (ALLOW, "Access-Control-Allow-Headers", "Access-Control-Max-Age", "Vary", "Cache-Control"):
        assert answer.headers.getlist(name) == known.headers.getlist(name)
    refused = alice(method, path, headers={"Origin": PAGE})
    assert_error(refused, 404, "NOT_FOUND")
    assert refused.headers[ALLOW] == PAGE


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": PAGE},
        {"Access-Control-Request-Method": "GET"},
        {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
    ],
)
def test_other_requests_with_options_for_an_unknown_path_are_not_found(nobody: Caller, headers: dict[str, str]) -> None:
    answer = nobody("OPTIONS", "/nowhere", headers=headers)
    assert_error(answer, 404, "NOT_FOUND")
    assert "Access-Control-Allow-Methods" not in answer.headers


@pytest.mark.parametrize(("method", "asked"), [("GET", {"Access-Control-Request-Method": "GET"}), ("OPTIONS", {})])
def test_other_requests_are_not_treated_as_preflights(nobody: Caller, method: str, asked: dict[str, str]) -> None:
    answer = nobody(method, "/health/live", headers={"Origin": PAGE, **asked})
    assert answer.headers[EXPOSE]
    assert "Access-Control-Max-Age" not in answer.headers


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_by_default_local_front_ends_may_call_in_development_only(make_app: MakeApp) -> None:
    app = make_app()  # in production on PostgreSQL
    for origin in ("http://localhost:3000", "http://127.0.0.1:3000", PAGE):
        expected = app.config["ENVIRONMENT"] == "development" and origin != PAGE
        assert (ALLOW in app.test_client().get("/health/live", headers={"Origin": origin}).headers) is expected


def test_in_development_every_origin_may_be_allowed(make_app: MakeApp) -> None:
    app = make_app(CORS_ORIGINS="*", ENVIRONMENT="development")
    assert app.test_client().get("/health/live", headers={"Origin": PAGE}).headers[ALLOW] == PAGE
