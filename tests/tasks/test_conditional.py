"""Conditional requests: an unchanged task is not sent again, and an edit of an old version is rejected."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import MISSING, MISSING_ID, Caller, assert_error
from tests.support.tasks import Task, assert_invalid, etag_of, listed, path_of, task_in
from tests.support.threads import at_once
from todo_api.etags import Tags, tags_of

WRITERS = 50
OTHER_VERSION = '"2026-02-08T09:30:00.123456Z"'
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("PUT", {"json": {"title": "Changed"}}),
    ("PATCH", {"json": {"is_completed": True}}),
    ("PUT", {"json": {}}),
    ("PATCH", {"json": {"id": MISSING_ID}}),
    ("DELETE", {}),
]
TAGS: dict[str, tuple[str, ...]] = {
    '"a"': ("a",),
    ' \t"a", W/"b" ,\t"c"\t ': ("a", "b", "c"),
    ',, "a",, ,"b",': ("a", "b"),
    '"a,b", "c"': ("a,b", "c"),
    '"", "*"': ("", "*"),
    '"!#\\~\x80\xff"': ("!#\\~\x80\xff",),
    '"a-gzip", W/"b-br" , "-gzip", "a-gzip-br", "a-gzip;q", "a-GZIP", "gzip"': (
        *("a", "b", "", "a-gzip", "a-gzip;q", "a-GZIP", "gzip"),
    ),
    '*, nonsense, "a", more nonsense': ("a",),
    "": (),
    '"a': (),
    'a"': (),
    'a, \'a\', "a" "b", b"a", "a";q=1, w/"a", W/ "a", W/W/"a", "a b", "a\x7fb", "a\u0100b", **, W/*': (),
}


def test_a_header_is_read_as_a_list_of_its_valid_tags() -> None:
    expected = {header: Tags(any=False, listed=tags) for header, tags in TAGS.items()}
    assert {header: tags_of(header) for header in TAGS} == expected
    assert tags_of(None) is None


@pytest.mark.parametrize("header", ["*", " *\t"])
def test_an_asterisk_alone_matches_any_tag(header: str) -> None:
    tags = tags_of(header)
    assert tags == Tags(any=True, listed=())
    assert tags.match("whatever")


def test_a_tag_matches_only_as_a_whole_and_in_the_same_case() -> None:
    tags = Tags(any=False, listed=("abc", "d"))
    assert [tag for tag in ("abc", "d", "ab", "bc", "ABC", "", "abc d", '"d"') if tags.match(tag)] == ["abc", "d"]
    assert not Tags(any=False, listed=()).match("")


def test_every_route_returns_the_version_of_a_task_as_its_etag(alice: Caller) -> None:
    def create() -> Task:
        return task_in(alice.post("/api/tasks", json={"title": "x"}, headers={"Idempotency-Key": "key"}), 201)

    task = create()
    seen = []
    for method in ("PUT", "PATCH"):
        assert [create(), task_in(alice.get(path_of(task))), *listed(alice)] == [task] * 3
        assert alice("HEAD", path_of(task)).headers["ETag"] == etag_of(task)
        assert task_in(alice(method, path_of(task), json={})) == task
        seen.append(task["updated_at"])
        task = task_in(alice(method, path_of(task), json={"title": method}))
        assert task["updated_at"] not in seen
        for version, status in ((seen[-1], 200), (task["updated_at"], 304)):
            assert alice.get(path_of(task), headers={"If-None-Match": f'"{version}"'}).status_code == status


@pytest.mark.sqlite_only
@pytest.mark.parametrize("header", ["{}", "W/{}", '"x", {} , W/"y"', "*", '"{bare}-gzip"', 'W/"{bare}-br"'])
def test_a_task_that_the_client_already_has_is_not_sent_again(alice: Caller, header: str) -> None:
    task = alice.create()
    for method in ("GET", "HEAD"):
        known = header.format(etag_of(task), bare=task["updated_at"])
        answer = alice(method, path_of(task), headers={"If-None-Match": known})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag_of(task))
        assert not {"Content-Type", "Content-Length"} & set(answer.headers.keys())
        assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == (
            "private, no-cache",
            "Authorization, Origin",
        )


@pytest.mark.sqlite_only
@pytest.mark.parametrize("suffix", ["-gzip", "-br"])
def test_a_list_that_was_compressed_on_the_way_is_not_sent_again(alice: Caller, suffix: str) -> None:
    """Apache adds the suffix to the ETag when it compresses a response."""
    alice.create()
    tag = alice.get("/api/tasks").headers["ETag"]
    unchanged = alice.get("/api/tasks", headers={"If-None-Match": f'{tag[:-1]}{suffix}"'})
    assert (unchanged.status_code, unchanged.headers["ETag"]) == (304, tag)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("header", [OTHER_VERSION, "", "{bare}", '"x{bare}"', '"{bare}x"', '"*"'])
def test_a_task_that_the_client_does_not_have_is_sent(alice: Caller, header: str) -> None:
    task = alice.create()
    known = {"If-None-Match": header.format(bare=task["updated_at"])}
    assert task_in(alice.get(path_of(task), headers=known)) == task


@pytest.mark.sqlite_only
def test_several_headers_are_read_as_one_list(alice: Caller) -> None:
    task = alice.create()
    for tags in (["", etag_of(task)], [etag_of(task), OTHER_VERSION], [OTHER_VERSION, f'W/"x", {etag_of(task)}']):
        assert alice.get(path_of(task), headers={"If-None-Match": tags}).status_code == 304
        assert alice.patch(path_of(task), json={}, headers={"If-Match": tags}).status_code == 200
    for tags in ([OTHER_VERSION, '"x"'], ["*", "*"]):
        assert alice.get(path_of(task), headers={"If-None-Match": tags}).status_code == 200
        assert_error(alice.patch(path_of(task), json={}, headers={"If-Match": tags}), 412, "PRECONDITION_FAILED")


@pytest.mark.parametrize(
    "header",
    ["{}", "W/{}", f'"x", {OTHER_VERSION}, {{}}, "y"', "nonsense, {}", "*", '"{bare}-gzip"', '"{bare}-br"'],
)
def test_an_edit_of_the_current_version_is_made(alice: Caller, header: str) -> None:
    for method, more in WRITES:
        task = alice.create()
        wanted = header.format(etag_of(task), bare=task["updated_at"])
        answer = alice(method, path_of(task), headers={"If-Match": wanted}, **more)
        if method == "DELETE":
            assert answer.status_code == 204
            assert_error(alice.get(path_of(task)), 404, "TASK_NOT_FOUND")
            continue
        changes = {name: value for name, value in more["json"].items() if name != "id"}
        changed = task_in(answer)
        completed_at = changed["updated_at"] if changes.get("is_completed") else None
        assert changed == task | changes | {"completed_at": completed_at, "updated_at": changed["updated_at"]}
        assert (changed["updated_at"] > task["updated_at"]) == bool(changes)
        assert task_in(alice.get(path_of(task))) == changed


@pytest.mark.parametrize(
    "header",
    [
        *(OTHER_VERSION, "", "bare", '"xbare"', '"barex"', '"x bare y"', '"bare', 'w/"bare"', '"*"', '*, "x"'),
        *('"%"', '""', '"bare-deflate"', '"bare"-gzip', '"-gzip"'),
    ],
)
def test_an_edit_of_another_version_is_rejected_and_changes_nothing(alice: Caller, header: str) -> None:
    """The word `bare` stands for the current version."""
    task = alice.create()
    for method, more in WRITES:
        answer = alice(method, path_of(task), headers={"If-Match": header.replace("bare", task["updated_at"])}, **more)
        assert_error(answer, 412, "PRECONDITION_FAILED")
        assert listed(alice) == [task]
    assert_invalid(alice.put(path_of(task), json={"title": ""}, headers={"If-Match": header}), "title")


@pytest.mark.parametrize(
    ("path", "change"), [("/{id}", {"title": "Buy milk"}), ("?is_completed=false", {"is_completed": False})]
)
def test_the_version_before_a_change_is_stale(alice: Caller, path: str, change: Task) -> None:
    task = alice.create()
    assert alice.patch("/api/tasks" + path.format(id=task["id"]), json=change).status_code == 200
    changed = task_in(alice.get(path_of(task)))
    for method, more in WRITES:
        answer = alice(method, path_of(task), headers={"If-Match": etag_of(task)}, **more)
        assert_error(answer, 412, "PRECONDITION_FAILED")
        assert listed(alice) == [changed]
    assert alice.delete(path_of(task), headers={"If-Match": etag_of(changed)}).status_code == 204


@pytest.mark.sqlite_only
@pytest.mark.parametrize("header", ["*", OTHER_VERSION, ""])
def test_a_missing_task_is_not_found_whatever_the_condition(alice: Caller, header: str) -> None:
    for method, more in WRITES:
        for path in (MISSING, "/api/tasks/no-id"):
            assert_error(alice(method, path, headers={"If-Match": header}, **more), 404, "TASK_NOT_FOUND")


LONG_AGO, FAR_AWAY = "Sun, 08 Feb 1998 09:30:00 GMT", "Sun, 08 Feb 2998 09:30:00 GMT"


@pytest.mark.sqlite_only
def test_other_conditional_headers_and_those_of_bulk_requests_are_ignored(alice: Caller) -> None:
    task = alice.create()
    path = path_of(task)
    for headers in (
        {"If-Modified-Since": FAR_AWAY, "If-None-Match": OTHER_VERSION},
        {"If-Modified-Since": FAR_AWAY},
        {"If-Unmodified-Since": LONG_AGO},
        {"If-Match": OTHER_VERSION},
        {"If-Range": etag_of(task), "Range": "bytes=0-3"},
    ):
        assert task_in(alice.get(path, headers=headers)) == task
        assert alice.get("/api/tasks", headers=headers).json == [task]
    for headers in ({"If-None-Match": "*"}, {"If-Unmodified-Since": LONG_AGO}):
        for method in ("PUT", "PATCH"):
            assert task_in(alice(method, path, json={"title": method}, headers=headers))["title"] == method
    task_in(alice.post("/api/tasks", json={"title": "x"}, headers={"If-None-Match": "*", "If-Match": '"x"'}), 201)
    assert alice.delete(path, headers={"If-None-Match": "*", "If-Unmodified-Since": LONG_AGO}).status_code == 204
    stale = {"If-Match": OTHER_VERSION}
    marked = alice.patch("/api/tasks?is_completed=false", json={"is_completed": True}, headers=stale)
    assert (marked.json, listed(alice)[0]["is_completed"]) == ({"count": 1}, True)
    assert alice.delete("/api/tasks?is_completed=true", headers=stale).json == {"count": 1}


@pytest.mark.parametrize("methods", [["PUT"], ["DELETE"], ["PUT", "PATCH", "DELETE"]])
def test_exactly_one_of_many_simultaneous_writers_of_one_version_wins(
    app: Flask, alice: Caller, methods: list[str]
) -> None:
    task = alice.create()

    def writer(number: int) -> Callable[[], TestResponse]:
        caller, method = Caller(app.test_client(), "alice"), methods[number % len(methods)]
        more = {} if method == "DELETE" else {"json": {"title": f"writer {number}"}}
        return lambda: caller(method, path_of(task), headers={"If-Match": etag_of(task)}, **more)

    answers = at_once([writer(number) for number in range(WRITERS)])
    [(number, winner)] = [item for item in enumerate(answers) if item[1].status_code in (200, 204)]
    for answer in answers[:number] + answers[number + 1 :]:
        if answer.status_code == 404 and winner.status_code == 204:
            assert_error(answer, 404, "TASK_NOT_FOUND")
        else:
            assert_error(answer, 412, "PRECONDITION_FAILED")
    if winner.status_code == 204:
        assert listed(alice) == []
    else:
        assert listed(alice) == [winner.json]
        assert task_in(winner)["title"] == f"writer {number}"
