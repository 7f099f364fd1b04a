"""Request bodies: size, media type and JSON, before any field is looked at."""

import io
from typing import Any

import pytest

from tests.conftest import Caller, assert_error
from tests.support.tasks import listed, path_of, task_in

pytestmark = pytest.mark.sqlite_only

LIMIT = 64 * 1024
# The test client sends the length of a stream; a client that sends chunks does not.
CHUNKED: dict[str, Any] = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
NOT_AN_OBJECT = "The body must be a JSON object."
NOT_JSON = "The body is not JSON: "
NOT_UTF_8 = "The body is not UTF-8."
REPEATED = "The body has a duplicate field name."
MALFORMED = [
    (b"null", NOT_AN_OBJECT),
    (b"1", NOT_AN_OBJECT),
    (b'"title"', NOT_AN_OBJECT),
    (b'[{"title": "x"}]', NOT_AN_OBJECT),
    (b"", NOT_JSON),
    (b" \n", NOT_JSON),
    (b"title=x", NOT_JSON),
    (b'{"title": "x"', f"{NOT_JSON}Expecting ',' delimiter at character 13."),
    (b'{"title": "x"} {}', NOT_JSON),
    (b'{"title": "x",}', NOT_JSON),
    (b"{'title': 'x'}", NOT_JSON),
    (b'{"title": "a\nb"}', NOT_JSON),
    (b'{"title": "\\x41"}', NOT_JSON),
    (b'{"title": NaN}', f"{NOT_JSON}NaN is not a JSON value."),
    (b'{"title": "x", "n": -Infinity}', f"{NOT_JSON}-Infinity is not a JSON value."),
    (b'{"title": "x", "title": "x"}', REPEATED),
    (b'{"title": "x", "n": {"a": 1, "a": 2}}', REPEATED),
    (b'\xef\xbb\xbf{"title": "x"}', NOT_JSON),
    ('{"title": "é"}'.encode("latin-1"), NOT_UTF_8),
    ('{"title": "x"}'.encode("utf-16"), NOT_UTF_8),
    (b'{"title": "\xed\xa0\x80"}', NOT_UTF_8),
    (b"[" * 10_000, "The body is nested too deeply."),
    (b'{"title":' * 5_000 + b"}" * 5_000, ""),  # some versions of Python can read it
    (b'{"title": ' + b"9" * 5_000 + b"}", "The body has a number with too many digits."),
]


@pytest.mark.parametrize(("body", "detail"), MALFORMED, ids=[str(number) for number in range(len(MALFORMED))])
def test_a_body_that_is_not_one_json_object_is_rejected_with_the_reason(
    alice: Caller, body: bytes, detail: str
) -> None:
    task = alice.create("Kept")
    for method, path in (("POST", "/api/tasks"), ("PUT", path_of(task))):
        refused = alice(method, path, data=body, content_type="application/json")
        assert assert_error(refused, 400, "MALFORMED_JSON")["detail"].startswith(detail)
    assert listed(alice) == [task]


class BrokenStream(io.BytesIO):
    """A server's stream that raises an error which Werkzeug does not know."""

    def readinto(self, _: Any) -> int:
        raise EOFError("broken chunk")


@pytest.mark.parametrize(
    ("kind", "length", "detail"),
    [
        (io.BytesIO, "15", "The body is shorter than its Content-Length."),
        (BrokenStream, "", "The body cannot be read."),
    ],
)
def test_an_incomplete_body_is_rejected(alice: Caller, kind: type[io.BytesIO], length: str, detail: str) -> None:
    sent = {"CONTENT_LENGTH": length, "wsgi.input": kind(b'{"title": "x"}'), "wsgi.input_terminated": True}
    refused = alice.post("/api/tasks", content_type="application/json", environ_overrides=sent)
    assert assert_error(refused, 400, "BAD_REQUEST")["detail"] == detail
    assert listed(alice) == []


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "status"), [(LIMIT, 201), (LIMIT + 1, 413), (LIMIT + 2, 413)])
def test_a_body_has_at_most_64_kib(alice: Caller, size: int, status: int, chunked: bool) -> None:
    body = b'{"title": "x"}'.ljust(size)
    sent: Any = {"input_stream": io.BytesIO(body), "environ_overrides": CHUNKED} if chunked else {"data": body}
    response = alice.post("/api/tasks", content_type="application/json", **sent)
    if status == 413:
        assert_error(response, 413, "PAYLOAD_TOO_LARGE")
    assert response.status_code == status
    assert len(listed(alice)) == (status == 201)


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/merge-patch+json",
        "*/*",
    ],
)
def test_another_media_type_is_rejected(alice: Caller, media_type: str | None) -> None:
    task = alice.create("Kept")
    for method, path in (("POST", "/api/tasks"), ("PUT", path_of(task)), ("PATCH", path_of(task))):
        response = alice(method, path, data=b'{"title": "x"}', content_type=media_type)
        assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert listed(alice) == [task]


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_is_accepted_under_every_spelling_of_its_media_type(alice: Caller, media_type: str) -> None:
    created = alice.post("/api/tasks", data='{"title": "Étude"}'.encode(), content_type=media_type)
    assert task_in(created, 201)["title"] == "Étude"


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("DELETE", 204)])
def test_a_body_that_is_not_needed_is_ignored(alice: Caller, method: str, status: int) -> None:
    response = alice(method, path_of(alice.create()), data=b"{", content_type="text/plain")
    assert response.status_code == status
