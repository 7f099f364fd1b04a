"""The API called from pages of other origins in a real browser, with and without nginx."""

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Page

from tests.support.issuers import Key
from tests.support.nginx import MISSING, gunicorn, nginx
from tests.support.nginx import PROGRAM as NGINX
from tests.support.programs import ROOT, production_environment, run, serving
from tests.support.tokens import token

READABLE = {
    "etag",
    "link",
    "location",
    "retry-after",
    "x-next-cursor",
    "x-total-count",
    "x-request-id",
    "idempotency-replayed",
    "www-authenticate",
}
CLAIMS: dict[str, Any] = {"iss": "i", "aud": "a"}
CALL = """
async ([url, options]) => {
  try {
    const response = await fetch(url, options);
    return { status: response.status, headers: Object.fromEntries(response.headers), text: await response.text() };
  } catch (error) {
    return { status: null, headers: {}, text: String(error) };
  }
}
"""


class Service(NamedTuple):
    url: str
    allowed: str
    foreign: str


class Answer(NamedTuple):
    """What the page could read; the status is None if it could read nothing."""

    status: int | None
    headers: dict[str, str]
    text: str


@pytest.fixture(scope="module", params=["gunicorn", "nginx"])
def service(
    request: pytest.FixtureRequest,
    fresh_database: Callable[[str], str],
    new_origin: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """The service in production, and two pages of which it allows one."""
    if request.param == "nginx" and not NGINX:
        pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("cors")
    allowed = new_origin()
    env = production_environment(
        fresh_database("cors"),
        JWKS_URL="http://127.0.0.1:1/jwks.json",  # unreachable: its tokens get 503
        JWT_ISSUER=CLAIMS["iss"],
        JWT_AUDIENCE=CLAIMS["aud"],
        CORS_ORIGINS=f"https://app.example.com,{allowed}",
        WEB_CONCURRENCY="1",
    )
    upgraded = run(sys.executable, "-m", "flask", "db", "upgrade", cwd=ROOT, env=env)
    assert upgraded.returncode == 0, upgraded.stderr
    if request.param == "nginx":
        with gunicorn(folder, env), nginx(folder, origins=env["CORS_ORIGINS"]) as proxy:
            yield Service(f"http://127.0.0.1:{proxy.port}", allowed, new_origin())
    else:
        with serving(env) as server:
            yield Service(f"http://127.0.0.1:{server.port}", allowed, new_origin())


class Caller:
    """A page that calls the API for a user, with fetch."""

    def __init__(self, page: Page, origin: str, url: str, user: str) -> None:
        self.page, self.origin, self.url = page, origin, url
        self.headers = {"Authorization": f"Bearer {token(user, **CLAIMS)}"}
        self.read: set[str] = set()
        page.goto(origin)

    def __call__(self, method: str, path: str, body: str | None = None, **options: Any) -> Answer:
        headers = self.headers | ({"Content-Type": "application/json"} if body else {}) | options.pop("headers", {})
        sent = {"method": method, "headers": headers, **({"body": body} if body else {}), **options}
        answer = Answer(**self.page.evaluate(CALL, [self.url + path, sent]))
        self.read |= answer.headers.keys()
        return answer

    def json(self, *request: Any, **options: Any) -> Any:
        """Return the body of the response as the page parses it."""
        answer = self(*request, **options)
        assert answer.status == 200, answer.text
        return self.page.evaluate("JSON.parse", answer.text)

    def create(self, title: str, **options: Any) -> Answer:
        answer = self("POST", "/api/tasks", f'{{"title": "{title}"}}', **options)
        assert answer.status == 201, answer.text
        return answer


@pytest.fixture
def page_of(page: Page, service: Service, request: pytest.FixtureRequest) -> Callable[..., Caller]:
    """Open a page of an origin for a new user."""
    return lambda origin, user="alice": Caller(page, origin, service.url, f"{user} of {request.node.name}")


@pytest.fixture
def alice(page_of: Callable[..., Caller], service: Service) -> Caller:
    return page_of(service.allowed)


def test_a_page_of_an_allowed_origin_uses_every_method(alice: Caller) -> None:
    created = alice.create("Buy milk")
    path, tag = created.headers["location"], created.headers["etag"]
    assert alice("GET", path).text == created.text
    head = alice("HEAD", path)
    assert (head.status, head.headers["etag"], head.text) == (200, tag, "")
    changed = alice("PUT", path, '{"title": "Buy tea"}', headers={"If-Match": tag})
    assert changed.status == 200
    assert alice("PATCH", path, '{"description": "2 kg"}', headers={"If-Match": changed.headers["etag"]}).status == 200
    assert alice.json("PATCH", "/api/tasks?is_completed=false", '{"is_completed": true}') == {"count": 1}
    assert alice.json("DELETE", "/api/tasks?is_completed=true") == {"count": 1}
    assert alice("DELETE", alice.create("Short").headers["location"]).status == 204
    assert alice.json("GET", "/api/tasks") == []


def test_every_header_of_the_contract_can_be_read(alice: Caller) -> None:
    key = {"Idempotency-Key": "k", "X-Request-ID": "mine"}
    first = alice.create("One", headers=key)
    again = alice.create("One", headers=key)
    assert (again.headers["location"], again.headers["idempotency-replayed"]) == (first.headers["location"], "true")
    assert first.headers["x-request-id"] == "mine"
    alice.create("Two")
    listed = alice("GET", "/api/tasks?limit=1&include_total=true")
    assert listed.headers["x-total-count"] == "2"
    assert listed.headers["x-next-cursor"] in listed.headers["link"]
    assert alice("GET", "/api/tasks", headers={"Authorization": "Bearer x"}).headers["www-authenticate"]
    unverifiable = Key("EdDSA", "lost").token(**CLAIMS)
    unavailable = alice("GET", "/api/tasks", headers={"Authorization": f"Bearer {unverifiable}"})
    assert (unavailable.status, unavailable.headers["retry-after"]) == (503, "2")
    assert alice.read >= READABLE


def test_errors_and_304_can_be_read(alice: Caller, page_of: Callable[..., Caller], service: Service) -> None:
    created = alice.create("Mine")
    path, tag = created.headers["location"], created.headers["etag"]
    unchanged = alice("GET", path, headers={"If-None-Match": tag})
    assert (unchanged.status, unchanged.headers["etag"], unchanged.text) == (304, tag, "")
    for code, status, request in [
        ("MALFORMED_JSON", 400, ("POST", "/api/tasks", "{")),
        ("VALIDATION_ERROR", 400, ("POST", "/api/tasks", "{}")),
        ("TASK_NOT_FOUND", 404, ("GET", "/api/tasks/1")),
        ("METHOD_NOT_ALLOWED", 405, ("POST", "/health/live", "{}")),
        ("PAYLOAD_TOO_LARGE", 413, ("POST", "/api/tasks", f'{{"title": "{"x" * 70_000}"}}')),
    ]:
        answer = alice(*request)
        assert (answer.status, code in answer.text) == (status, True), (code, answer)
        assert "x-request-id" in answer.headers
    stale = alice("PATCH", path, '{"title": "No"}', headers={"If-Match": '"2026-02-08T09:30:00.123456Z"'})
    assert (stale.status, "PRECONDITION_FAILED" in stale.text) == (412, True)
    plain = alice("POST", "/api/tasks", '{"title": "x"}', headers={"Content-Type": "text/plain"})
    assert (plain.status, "UNSUPPORTED_MEDIA_TYPE" in plain.text) == (415, True)
    foreign = page_of(service.allowed, "bob")("GET", path)
    assert (foreign.status, "TASK_FORBIDDEN" in foreign.text) == (403, True)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "BREW"])
@pytest.mark.parametrize("path", ["/api/nothing", "/api/tasks/", "/nothing"])
def test_the_404_of_an_unknown_route_can_be_read(alice: Caller, method: str, path: str) -> None:
    answer = alice(method, path)
    assert (answer.status, "NOT_FOUND" in answer.text) == (404, True)
    assert "x-request-id" in answer.headers


def test_the_401_without_a_token_can_be_read(alice: Caller) -> None:
    alice.headers = {}
    answer = alice("GET", "/api/tasks")
    assert (answer.status, "TOKEN_MISSING" in answer.text) == (401, True)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_browser_cache_revalidates_a_list_by_itself(alice: Caller) -> None:
    alice.create("One")
    before = alice.json("GET", "/api/tasks")
    assert alice.json("GET", "/api/tasks") == before
    alice.create("Two")
    assert len(alice.json("GET", "/api/tasks")) == 2


def test_one_preflight_serves_the_requests_that_follow(alice: Caller) -> None:
    sent: list[str] = []
    session = alice.page.context.new_cdp_session(alice.page)
    session.on("Network.requestWillBeSent", lambda event: sent.append(event["request"]["method"]))
    session.send("Network.enable")
    path = alice.create("One").headers["location"]
    for title in ("Two", "Three"):
        assert alice("PATCH", path, f'{{"title": "{title}"}}').status == 200
    assert sorted(sent) == [
        "OPTIONS",
        "OPTIONS",
        "PATCH",
        "PATCH",
        "POST",
    ]  # in any order; one preflight per URL


def test_a_page_of_another_origin_can_read_and_change_nothing(
    alice: Caller, page_of: Callable[..., Caller], service: Service
) -> None:
    path = alice.create("Mine").headers["location"]
    evil = page_of(service.foreign)
    evil.headers = alice.headers
    for request in [
        ("GET", "/api/tasks"),
        ("HEAD", path),
        ("POST", "/api/tasks", '{"title": "Theirs"}'),
        ("PUT", path, '{"title": "Theirs"}'),
        ("PATCH", path, '{"title": "Theirs"}'),
        ("PATCH", "/api/tasks?is_completed=false", '{"is_completed": true}'),
        ("DELETE", path),
        ("DELETE", "/api/tasks?is_completed=false"),
    ]:
        answer = evil(*request)
        assert (answer.status, "Failed to fetch" in answer.text) == (None, True), request
    evil.headers = {}
    assert evil("GET", "/health/live").status is None
    assert evil("POST", "/api/tasks", '{"title": "x"}', headers={"Content-Type": "text/plain"}).status is None
    back = page_of(service.allowed)
    [task] = back.json("GET", "/api/tasks")
    assert (task["title"], task["is_completed"]) == ("Mine", False)


def test_cookies_are_never_allowed(alice: Caller) -> None:
    assert alice("GET", "/api/tasks", credentials="omit").status == 200
    assert alice("GET", "/api/tasks", credentials="include").status is None


@pytest.mark.parametrize("service", ["nginx"], indirect=True)
def test_the_responses_of_nginx_itself_can_be_read(alice: Caller) -> None:
    alice.headers = {}  # otherwise the preflight, whose URL is as long, gets this response
    answer = alice("GET", f"/api/tasks?q={'x' * 4100}")
    assert (answer.status, "URI_TOO_LONG" in answer.text) == (414, True)
    assert "x-request-id" in answer.headers
