"""What a body may be, before a field of it is looked at."""

import io
from typing import Any

import pytest

from tests.conftest import Caller, assert_error

LIMIT = 64 * 1024
# The test client counts a stream and says its length, unlike a client that sends chunks.
CHUNKED: dict[str, Any] = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
MALFORMED = [
    b"",
    b"  \n",
    b"null",
    b"1",
    b"[]",
    b'"title"',
    b'[{"title": "x"}]',
    b'{"title": "x"',
    b'{"title": "x"}}',
    b'{"title": "x"} {}',
    b'{"title": "x"} x',
    b'{"title": "x",}',
    b"{'title': 'x'}",
    b'{"title": NaN}',
    b'{"title": "x", "n": Infinity}',
    b'{"title": "x", "n": -Infinity}',
    b'{"title": "x", "title": "x"}',
    b'{"title": "x", "n": {"a": 1, "a": 2}}',
    b'{"title": "a\nb"}',
    b'{"title": "\\x41"}',
    b'\xef\xbb\xbf{"title": "x"}',
    '{"title": "é"}'.encode("latin-1"),
    '{"title": "x"}'.encode("utf-16"),
    b'{"title": "\xed\xa0\x80"}',
    b"[" * 10_000 + b"]" * 10_000,
    b'{"title":' * 5_000 + b"}" * 5_000,  # too deep for Python up to 3.13, and empty inside
    b'{"title": ' + b"9" * 5_000 + b"}",
    b"title=x",
]


@pytest.mark.parametrize("body", MALFORMED, ids=[str(number) for number in range(len(MALFORMED))])
def test_a_body_that_is_no_json_object_is_refused(alice: Caller, body: bytes) -> None:
    task = alice.create("Kept")
    for method, path in (("POST", "/api/tasks"), ("PUT", f"/api/tasks/{task['id']}")):
        assert_error(alice(method, path, data=body, content_type="application/json"), 400, "MALFORMED_JSON")
    assert alice.get("/api/tasks").json == [task]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"title": NaN}', "The body is not JSON: NaN is not a JSON value."),
        (b'{"title": Infinity}', "The body is not JSON: Infinity is not a JSON value."),
        (b'{"title": -Infinity}', "The body is not JSON: -Infinity is not a JSON value."),
        (b'{"title": "x"', "The body is not JSON: Expecting ',' delimiter at character 13."),
        (b'{"title": "x", "title": "x"}', "The body names a field twice in one object."),
        (b'{"title": "\xff"}', "The body is not UTF-8."),
        (b"[" * 10_000, "The body is nested too deeply."),
        (b'{"title": ' + b"9" * 5_000 + b"}", "The body holds a number with too many digits."),
        (b"[]", "The body must be a JSON object."),
    ],
)
def test_a_developer_is_told_what_is_wrong_with_the_json(alice: Caller, body: bytes, detail: str) -> None:
    refused = alice.post("/api/tasks", data=body, content_type="application/json")
    assert assert_error(refused, 400, "MALFORMED_JSON")["detail"] == detail


class Broken(io.BytesIO):
    """A server whose own error for a broken chunk is none that Werkzeug knows."""

    def readinto(self, _: Any) -> int:
        raise EOFError("broken chunk")


@pytest.mark.parametrize(
    ("kind", "length", "detail"),
    [(io.BytesIO, "15", "The body is shorter than its Content-Length."), (Broken, "", "The body cannot be read.")],
)
def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one(
    alice: Caller, kind: type[io.BytesIO], length: str, detail: str
) -> None:
    sent = {"CONTENT_LENGTH": length, "wsgi.input": kind(b'{"title": "x"}'), "wsgi.input_terminated": True}
    refused = alice.post("/api/tasks", content_type="application/json", environ_overrides=sent)
    assert assert_error(refused, 400, "BAD_REQUEST")["detail"] == detail
    assert alice.get("/api/tasks").json == []


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("size", "status"), [(LIMIT, 201), (LIMIT + 1, 413), (LIMIT + 2, 413), (2 * LIMIT, 413), (10 * LIMIT, 413)]
)
def test_a_body_has_at_most_64_kib_however_it_is_sent(alice: Caller, size: int, status: int, chunked: bool) -> None:
    body = b'{"title": "x"}'.ljust(size)
    sent: Any = {"input_stream": io.BytesIO(body), "environ_overrides": CHUNKED} if chunked else {"data": body}
    response = alice.post("/api/tasks", content_type="application/json", **sent)
    if status == 413:
        assert_error(response, 413, "PAYLOAD_TOO_LARGE")
    assert response.status_code == status
    assert len(alice.get("/api/tasks").json or []) == (status == 201)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/merge-patch+json",
        "text/json",
        "*/*",
    ],
)
def test_another_media_type_is_refused(alice: Caller, method: str, media_type: str | None) -> None:
    task = alice.create("Kept")
    path = "/api/tasks" if method == "POST" else f"/api/tasks/{task['id']}"
    response = alice(method, path, data=b'{"title": "x"}', content_type=media_type)
    assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert alice.get("/api/tasks").json == [task]


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_is_known_by_its_media_type(alice: Caller, media_type: str) -> None:
    body = '{"title": "Étude"}'.encode()
    created = alice.post("/api/tasks", data=body, content_type=media_type)
    assert created.json is not None
    assert created.json["title"] == "Étude"


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("DELETE", 204)])
def test_a_request_that_needs_no_body_is_not_judged_by_the_one_it_has(alice: Caller, method: str, status: int) -> None:
    task = alice.create()
    response = alice(method, f"/api/tasks/{task['id']}", data=b"{", content_type="text/plain")
    assert response.status_code == status
