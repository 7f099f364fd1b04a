"""The docs page and the files it loads."""

import re
from html.parser import HTMLParser

import pytest

from tests.conftest import Caller, MakeApp, assert_error

pytestmark = pytest.mark.sqlite_only

ASSETS = ["copy.svg", "icon.svg", "page.css", "page.js", "swagger-ui-bundle.js", "swagger-ui.css"]
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Page(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))


def directives(policy: str) -> dict[str, str]:
    parts = [part.strip().partition(" ") for part in policy.split(";")]
    return {name: source for name, _, source in parts}


def test_the_page_is_html_for_everybody(nobody: Caller) -> None:
    answer = nobody.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>Task API</title>" in answer.text


@pytest.mark.parametrize("settings", [{}, {"BETTER_AUTH_SECRET": "", "BETTER_AUTH_URL": "http://127.0.0.1:1"}])
def test_the_page_says_that_better_auth_issues_the_tokens(make_app: MakeApp, settings: dict[str, str]) -> None:
    answer = make_app(**settings).test_client().get("/docs")
    assert "Paste a token from your Better Auth server." in answer.text
    assert "flask token" not in answer.text


def test_the_page_says_that_the_command_issues_the_tokens(make_app: MakeApp, nobody: Caller) -> None:
    answer = make_app(ENVIRONMENT="development", BETTER_AUTH_SECRET="").test_client().get("/docs")
    assert "Paste the output of <code>flask token USER</code>." in answer.text
    assert "Better Auth" not in answer.text
    assert answer.headers["ETag"] != nobody.get("/docs").headers["ETag"]


def test_the_page_may_only_load_from_and_call_its_own_origin(nobody: Caller) -> None:
    allowed = directives(nobody.get("/docs").headers["Content-Security-Policy"])
    assert allowed.keys() == {
        "default-src",
        "script-src",
        "style-src",
        "img-src",
        "connect-src",
        "base-uri",
        "form-action",
        "frame-ancestors",
    }
    for name, source in allowed.items():
        own = name in {"script-src", "style-src", "img-src", "connect-src"}
        assert source == ("'self'" if own else "'none'"), name


def test_the_page_refers_only_to_its_assets_and_the_document(nobody: Caller) -> None:
    named = [
        link
        for _, attributes in Page(nobody.get("/docs").text).tags
        for link in (attributes.get("src"), attributes.get("href"))
        if link
    ]
    assert set(named) - {"openapi.json"} == {f"docs/{name}" for name in ASSETS} - {"docs/copy.svg"}
    assert "copy.svg" in nobody.get("/docs/page.css").text


def test_nothing_in_the_page_needs_an_exception_to_its_policy(nobody: Caller) -> None:
    for tag, attributes in Page(nobody.get("/docs").text).tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag != "style"
        assert tag != "script" or attributes["src"]


def test_the_viewer_stores_no_token_and_calls_no_validator(nobody: Caller) -> None:
    script = nobody.get("/docs/page.js").text
    assert "persistAuthorization: false" in script
    assert "validatorUrl: null" in script
    assert not re.search(r"localStorage|sessionStorage|cookie|indexedDB", script)


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_has_its_type_and_is_revalidated(nobody: Caller, name: str) -> None:
    answer = nobody.get(f"/docs/{name}")
    assert answer.status_code == 200
    assert answer.data
    assert answer.mimetype == TYPES[name[name.rindex(".") :]]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers.getlist("Cache-Control") == ["private, no-cache"]


@pytest.mark.parametrize("path", ["/docs", "/docs/page.js"])
def test_a_browser_that_has_the_current_version_gets_304(nobody: Caller, path: str) -> None:
    answer = nobody.get(path)
    tag = answer.headers["ETag"]
    # Compressed, it is weak from nginx and has a suffix from Apache.
    for known in (tag, f"W/{tag}", f'{tag[:-1]}-gzip"', f'{tag[:-1]}-br"'):
        again = nobody.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == tag
        assert again.headers.getlist("Cache-Control") == ["private, no-cache"]
    assert nobody.get(path, headers={"If-None-Match": '"other"'}).data == answer.data


@pytest.mark.parametrize("path", ["/docs", "/docs/page.js"])
def test_head_has_the_headers_of_get(nobody: Caller, path: str) -> None:
    head, get = nobody("HEAD", path), nobody.get(path)
    assert (head.status_code, head.data) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(get.data)
    assert (head.headers["ETag"], head.mimetype) == (get.headers["ETag"], get.mimetype)


def test_a_part_of_an_asset_is_not_served(nobody: Caller) -> None:
    """A range outside the file would cause an undocumented error."""
    assert nobody.get("/docs/page.js", headers={"Range": "bytes=99999999-"}).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "",
        "index.html",
        "swagger-ui.js",
        "page.js/",
        "../views.py",
        "..%2fviews.py",
        "%2fetc%2fpasswd",
    ],
)
def test_no_other_file_is_served(nobody: Caller, name: str) -> None:
    assert_error(nobody.get(f"/docs/{name}"), 404, "NOT_FOUND")


def test_another_method_gets_the_error_body(nobody: Caller) -> None:
    answer = nobody.post("/docs", json={})
    assert_error(answer, 405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("path", ["/docs", "/docs/page.css"])
def test_other_conditional_headers_are_ignored(nobody: Caller, path: str) -> None:
    conditions = dict.fromkeys(["If-Match", "If-Range", "If-Unmodified-Since"], '"x"')
    answer = nobody.get(path, headers=conditions)
    assert answer.status_code == 200
    assert len(answer.data) == answer.content_length
