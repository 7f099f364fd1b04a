"""The docs page as a developer uses it: paste a token, try a request, read the response."""

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from tests.support.programs import GUNICORN, Server, copy_project, environment, run, running

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


class Service:
    """The running service and its development commands."""

    def __init__(self, server: Server, project: Path, env: dict[str, str]) -> None:
        self.origin = f"http://127.0.0.1:{server.port}"
        self.server, self.project, self.env = server, project, env

    def token(self, user: str) -> str:
        printed = run(sys.executable, "-m", "flask", "token", user, cwd=self.project, env=self.env)
        assert printed.returncode == 0, printed.stderr
        return printed.stdout

    def tasks(self, token: str) -> list[dict[str, Any]]:
        status, tasks = self.server.request("GET", "/api/tasks", Authorization=f"Bearer {token.strip()}")
        assert status == 200
        return list(tasks)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    project = copy_project(tmp_path_factory.mktemp("project"))
    env = environment(ENVIRONMENT="development", WEB_CONCURRENCY="1")
    upgraded = run(sys.executable, "-m", "flask", "db", "upgrade", cwd=project, env=env)
    assert upgraded.returncode == 0, upgraded.stderr
    with running(*GUNICORN, cwd=project, env=env) as program:
        yield Service(Server(program), project, env)


class Watch:
    """The forbidden actions of a page, and the URLs it requests."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        self.origins: set[str] = set()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        page.on("request", lambda request: self.origins.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => "
            "console.error('policy:', event.violatedDirective, event.blockedURI))"
        )

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


@pytest.fixture
def watch(page: Page) -> Watch:
    return Watch(page)


@pytest.fixture
def docs(page: Page, watch: Watch, service: Service) -> Page:
    """The docs page, once the viewer has read the document."""
    page.goto(f"{service.origin}/docs")
    page.locator(".opblock").first.wait_for()
    return page


def enter_token(page: Page, token: str) -> None:
    page.get_by_label("Token", exact=True).fill(token)
    page.get_by_role("button", name="Use", exact=True).click()


def unsigned_token(claims: dict[str, Any]) -> str:
    """Return an unsigned text that looks like a token with these claims."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.x"


def open_all(page: Page) -> None:
    operations = page.locator(".opblock-summary-control").all()
    assert operations
    for operation in operations:
        operation.click()


def execute(page: Page, method: str, path: str) -> tuple[int, str]:
    """Try an operation as it is filled in; return the status and the body shown."""
    operation = page.locator(f".opblock-{method}").filter(
        has=page.locator(".opblock-summary-path", has_text=re.compile(f"^{path}$"))
    )
    if "is-open" not in str(operation.get_attribute("class")):
        operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response").first
    answer.wait_for()
    status = answer.locator(".response-col_status").inner_text()
    return int(status.split()[0]), answer.locator("pre").first.inner_text()


def test_a_task_can_be_created_with_the_token_of_the_command(docs: Page, watch: Watch, service: Service) -> None:
    token = service.token("you")
    enter_token(docs, token)
    expect(docs.locator("#caller")).to_contain_text("Calling as you until ")
    status, body = execute(docs, "post", "/api/tasks")
    assert status == 201
    assert service.tasks(token) == [json.loads(body)]
    assert watch.complaints == []
    assert watch.origins == {service.origin}


def test_the_token_is_not_stored_and_is_forgotten_on_reload(docs: Page, service: Service) -> None:
    enter_token(docs, service.token("forgotten"))
    assert execute(docs, "get", "/api/tasks")[0] == 200
    assert docs.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert docs.evaluate("indexedDB.databases()") == []
    assert docs.context.cookies() == []
    expect(docs.get_by_label("Token", exact=True)).to_have_value("")
    docs.reload()
    assert execute(docs, "get", "/api/tasks")[0] == 401


def test_the_token_can_be_forgotten_and_changed(docs: Page, service: Service) -> None:
    enter_token(docs, service.token("first"))
    docs.get_by_role("button", name="Forget").click()
    assert execute(docs, "get", "/api/tasks")[0] == 401
    enter_token(docs, f"Bearer {service.token('second')}")
    docs.locator(".opblock-get .btn-clear").first.click()
    status, _ = execute(docs, "get", "/api/tasks")
    assert status == 200
    expect(docs.locator("#caller")).to_contain_text("second")


@pytest.mark.parametrize("nonsense", ["abc", "a.b.c", "<img src=x onerror=alert(1)>"])
def test_text_that_is_not_a_token_is_rejected_by_the_service(docs: Page, watch: Watch, nonsense: str) -> None:
    enter_token(docs, nonsense)
    expect(docs.locator("#caller")).to_contain_text("does not look like a token")
    status, body = execute(docs, "get", "/api/tasks")
    assert (status, json.loads(body)["error_code"]) == (401, "TOKEN_INVALID")
    assert [text for text in watch.complaints if "401" not in text] == []


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"sub": "ann", "exp": 4_000_000_000}, "Calling as ann until "),
        ({"sub": "ann", "exp": 1_000_000_000}, "This token of ann has expired."),
        ({"sub": "ann"}, "This token has no exp, so it will be rejected."),
        ({"sub": "ann", "exp": "4000000000"}, "This token has no exp, so it will be rejected."),
        ({"exp": 4_000_000_000}, "This token has no sub, so it will be rejected."),
        ({"sub": 7, "exp": 4_000_000_000}, "This token has no sub, so it will be rejected."),
        ({"sub": "", "exp": 4_000_000_000}, "This token has no sub, so it will be rejected."),
        ({"sub": "ann", "exp": 1e300}, "Calling as ann."),
    ],
)
def test_the_page_shows_the_claims_of_the_token(docs: Page, claims: dict[str, Any], said: str) -> None:
    enter_token(docs, unsigned_token(claims))
    expect(docs.locator("#caller")).to_contain_text(said)


def test_no_example_value_is_filled_in_but_the_default_limit_is(docs: Page) -> None:
    """A stale If-Match or a used Idempotency-Key would be rejected."""
    open_all(docs)
    fields = docs.locator(".parameters input[type=text]").all()
    assert len(fields) > 10
    assert {field.input_value() for field in fields} == {"", "1000"}


def test_the_example_of_an_error_is_shown_on_demand(docs: Page) -> None:
    creation = docs.locator(".opblock-post").filter(has_text="Create a task")
    creation.locator(".opblock-summary-control").click()
    refused = creation.locator(".responses-table .response").filter(has_text="TOKEN_MISSING").first
    expect(refused).to_contain_text("A bearer token is required.")
    expect(refused).not_to_contain_text("status_code")
    refused.get_by_role("button", name="Example and headers").click()
    expect(refused).to_contain_text("status_code")
    expect(refused).to_contain_text("WWW-Authenticate")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_every_screen(page: Page, watch: Watch, service: Service, size: str, scheme: Any) -> None:
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{service.origin}/docs")
    page.locator(".opblock").first.wait_for()
    open_all(page)
    page.locator("section.models button").first.click()
    enter_token(page, unsigned_token({"sub": "x" * 255, "exp": 4_000_000_000}))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert watch.complaints == []
