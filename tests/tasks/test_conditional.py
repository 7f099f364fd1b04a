"""Conditional requests: a poll that finds nothing new costs no body, and an edit of an old version is refused."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import NOWHERE, Caller, MakeApp, assert_error
from tests.support.statements import recorded
from tests.support.threads import at_once
from tests.tasks.test_isolation import REQUESTS, told
from todo_api.tasks.etags import Tags, quoted, tags_of

WRITERS = 50
NOT_THIS = '"2026-02-08T09:30:00.123456Z"'
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("PUT", {"json": {"title": "Changed"}}),
    ("PATCH", {"json": {"is_completed": True}}),
    ("PUT", {"json": {}}),
    ("PATCH", {"json": {"id": NOWHERE}}),
    ("DELETE", {}),
]


@pytest.mark.parametrize(
    ("header", "listed"),
    [
        ('"a"', ["a"]),
        ('W/"a"', ["a"]),
        ('"a","b"', ["a", "b"]),
        ('"a", W/"b" ,\t"c"', ["a", "b", "c"]),
        (' \t"a"\t ', ["a"]),
        (',, "a",, ,"b",', ["a", "b"]),
        ('"a,b", "c"', ["a,b", "c"]),
        ('","', [","]),
        ('""', [""]),
        ('"!#$%&\'()*+-./:;<=>?@[\\]^_`{|}~"', ["!#$%&'()*+-./:;<=>?@[\\]^_`{|}~"]),
        ('"\x80\xe9\xff"', ["\x80\xe9\xff"]),
        ('"*"', ["*"]),
        ('*, "a"', ["a"]),
        ('"a", *', ["a"]),
        ('nonsense, "a", more nonsense', ["a"]),
        ("", []),
        ("  ", []),
        (",", []),
        ("a", []),
        ("2026-02-08T09:30:00.123456Z", []),
        ("'a'", []),
        ('"a', []),
        ('a"', []),
        ('"', []),
        ('"a" "b"', []),
        ('"a"b', []),
        ('b"a"', []),
        ('"a";q=1', []),
        ('w/"a"', []),
        ('W/ "a"', []),
        ('W"a"', []),
        ('W/W/"a"', []),
        ('"a b"', []),
        ('"a\tb"', []),
        ('"a\x7fb"', []),
        ('"a\0b"', []),
        ('"a\u0100b"', []),
        ("**", []),
        ("W/*", []),
    ],
)
def test_a_header_lists_its_valid_tags(header: str, listed: list[str]) -> None:
    assert tags_of(header) == Tags(any=False, listed=tuple(listed))


@pytest.mark.parametrize("header", ["*", " * ", "\t*"])
def test_an_asterisk_alone_is_any_tag(header: str) -> None:
    tags = tags_of(header)
    assert tags == Tags(any=True, listed=())
    assert tags.match("whatever")


def test_no_header_is_no_condition_and_an_empty_one_is_one_that_nothing_meets() -> None:
    assert tags_of(None) is None
    empty = tags_of("")
    assert empty is not None
    assert not empty.match("")


def test_a_tag_matches_as_a_whole_and_in_its_own_case() -> None:
    tags = tags_of('"abc", "d"')
    assert tags is not None
    assert [tag for tag in ("abc", "d", "ab", "bc", "ABC", "", "abc d", '"d"') if tags.match(tag)] == ["abc", "d"]
    assert tags_of(quoted("abc")) == Tags(any=False, listed=("abc",))


def version(response: TestResponse) -> str:
    """The ETag of an answer with a task, which is that task's quoted updated_at."""
    assert response.json is not None
    assert response.headers.getlist("ETag") == [f'"{response.json["updated_at"]}"']
    return response.headers["ETag"]


def test_the_tag_of_a_task_is_its_version_from_every_route(alice: Caller) -> None:
    key = {"Idempotency-Key": "one"}
    created = alice.post("/api/tasks", json={"title": "x"}, headers=key)
    path = created.headers["Location"]
    tags = [version(created), version(alice.post("/api/tasks", json={"title": "x"}, headers=key))]
    tags += [version(alice.get(path)), alice("HEAD", path).headers["ETag"]]
    [listed] = alice.get("/api/tasks").json or []
    assert {*tags, f'"{listed["updated_at"]}"'} == {tags[0]}
    for method in ("PUT", "PATCH"):
        changed = version(alice(method, path, json={"title": method}))
        assert changed not in tags
        assert changed == version(alice.get(path)) == version(alice(method, path, json={}))
        assert changed == version(alice.post("/api/tasks", json={"title": "x"}, headers=key))
        tags.append(changed)


def test_each_answer_holds_the_tag_of_the_next_edit(alice: Caller) -> None:
    created = alice.post("/api/tasks", json={"title": "x"})
    path, tag = created.headers["Location"], version(created)
    for count in range(3):
        for method in ("PUT", "PATCH"):
            changed = alice(method, path, json={"title": f"{method} {count}"}, headers={"If-Match": tag})
            assert changed.status_code == 200
            tag = version(changed)
            assert version(alice.get(path)) == tag
    assert alice.delete(path, headers={"If-Match": tag}).status_code == 204


def test_a_tag_made_from_the_list_guards_an_edit(alice: Caller) -> None:
    alice.create()
    [task] = alice.get("/api/tasks").json or []
    guarded = {"If-Match": f'"{task["updated_at"]}"'}
    assert alice.patch(f"/api/tasks/{task['id']}", json={"title": "New"}, headers=guarded).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("header", ["{}", "W/{}", '"x", {}', '{},W/"y"', "*", ' , {} , "', '"a,b" , {}'])
def test_a_task_that_the_client_has_is_not_sent_again(alice: Caller, method: str, header: str) -> None:
    task = alice.create()
    tag = f'"{task["updated_at"]}"'
    answer = alice(method, f"/api/tasks/{task['id']}", headers={"If-None-Match": header.format(tag)})
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
    assert not {"Content-Type", "Content-Length"} & set(answer.headers.keys())
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Vary"] == "Authorization, Origin"


@pytest.mark.parametrize("header", [NOT_THIS, "", "{bare}", '"{bare}', 'w/"{bare}"', '"x{bare}"', '"{bare} "', '"*"'])
def test_a_task_that_the_client_has_not_is_sent(alice: Caller, header: str) -> None:
    task = alice.create()
    known = {"If-None-Match": header.format(bare=task["updated_at"])}
    answer = alice.get(f"/api/tasks/{task['id']}", headers=known)
    assert (answer.status_code, answer.json) == (200, task)


def test_a_tag_of_before_a_change_brings_the_task_as_it_is_now(alice: Caller) -> None:
    created = alice.post("/api/tasks", json={"title": "x"})
    path = created.headers["Location"]
    known = {"If-None-Match": version(created)}
    changed = alice.patch(path, json={"title": "y"})
    answer = alice.get(path, headers=known)
    assert (answer.status_code, answer.json) == (200, changed.json)
    assert alice.get(path, headers={"If-None-Match": version(answer)}).status_code == 304


def test_several_headers_are_one_list(alice: Caller) -> None:
    task = alice.create()
    path, tag = f"/api/tasks/{task['id']}", f'"{task["updated_at"]}"'
    for tags in (["", tag], [tag, NOT_THIS], [NOT_THIS, f'W/"x", {tag}']):
        assert alice.get(path, headers={"If-None-Match": tags}).status_code == 304
        assert alice.patch(path, json={}, headers={"If-Match": tags}).status_code == 200
    for tags in ([NOT_THIS, '"x"'], ["*", "*"]):
        assert alice.get(path, headers={"If-None-Match": tags}).status_code == 200
        assert_error(alice.patch(path, json={}, headers={"If-Match": tags}), 412, "PRECONDITION_FAILED")


@pytest.mark.parametrize("conceal", ["true", "false"])
@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
def test_no_condition_tells_more_of_a_strangers_task(make_app: MakeApp, conceal: str, condition: str) -> None:
    client = make_app(CONCEAL_FOREIGN_TASKS=conceal).test_client()
    alice, bob = Caller(client, "alice"), Caller(client, "bob")
    task = alice.create()
    refusal = (404, "TASK_NOT_FOUND") if conceal == "true" else (403, "TASK_FORBIDDEN")
    for tag in ("*", f'"{task["updated_at"]}"', NOT_THIS, ""):
        for method, more in REQUESTS:
            foreign, missing = (
                bob(method, f"/api/tasks/{task_id}", headers={condition: tag}, **more)
                for task_id in (task["id"], NOWHERE)
            )
            assert_error(foreign, *refusal)
            assert_error(missing, 404, "TASK_NOT_FOUND")
            assert conceal == "false" or told(foreign) == told(missing)
    assert alice.get("/api/tasks").json == [task]


@pytest.mark.parametrize("conceal", ["true", "false"])
@pytest.mark.parametrize(("tag", "number"), [(NOT_THIS, 3), ("", 3), ("*", 2)])
@pytest.mark.parametrize(("method", "more"), WRITES)
def test_a_foreign_and_a_missing_id_run_the_same_statements_with_a_condition_too(
    make_app: MakeApp, conceal: str, tag: str, number: int, method: str, more: dict[str, Any]
) -> None:
    app = make_app(CONCEAL_FOREIGN_TASKS=conceal)
    alice, bob = Caller(app.test_client(), "alice"), Caller(app.test_client(), "bob")
    seen = []
    for task_id in (alice.create()["id"], NOWHERE):
        with recorded(app) as run:
            bob(method, f"/api/tasks/{task_id}", headers={"If-Match": tag}, **more)
        seen.append([sql for sql, _ in run])
    assert seen[0] == seen[1]
    assert len(seen[0]) == number


@pytest.mark.parametrize(("method", "more"), WRITES)
def test_a_condition_that_holds_is_judged_in_the_statement_that_writes(
    app: Flask, alice: Caller, method: str, more: dict[str, Any]
) -> None:
    task = alice.create()
    with recorded(app) as run:
        alice(method, f"/api/tasks/{task['id']}", headers={"If-Match": f'"{task["updated_at"]}"'}, **more)
    assert len(run) == 1


# With "bare" for the version of the task: none of these names it.
STALE = [
    NOT_THIS,
    "",
    "   ",
    "bare",
    "'bare'",
    '"bare',
    'bare"',
    'w/"bare"',
    '"xbare"',
    '"barex"',
    '" bare "',
    '" bare',
    '"x bare y"',
    '"x", "y bare"',
    '"*"',
    '*, "x"',
    '"%"',
    '""',
    '"é"',
]


@pytest.mark.parametrize("header", STALE)
@pytest.mark.parametrize(("method", "more"), WRITES)
def test_an_edit_of_another_version_is_refused_and_changes_nothing(
    alice: Caller, method: str, more: dict[str, Any], header: str
) -> None:
    task = alice.create()
    guarded = {"If-Match": header.replace("bare", task["updated_at"])}
    assert_error(alice(method, f"/api/tasks/{task['id']}", headers=guarded, **more), 412, "PRECONDITION_FAILED")
    assert alice.get("/api/tasks").json == [task]


@pytest.mark.parametrize("change", ["a bulk change", "an edit"])
@pytest.mark.parametrize(("method", "more"), WRITES)
def test_the_version_before_a_change_is_stale(alice: Caller, method: str, more: dict[str, Any], change: str) -> None:
    task = alice.create()
    path = f"/api/tasks/{task['id']}"
    if change == "an edit":
        alice.patch(path, json={"title": task["title"]})
    else:
        alice.patch("/api/tasks?is_completed=false", json={"is_completed": True})
    now = alice.get(path)
    answer = alice(method, path, headers={"If-Match": f'"{task["updated_at"]}"'}, **more)
    assert_error(answer, 412, "PRECONDITION_FAILED")
    assert alice.get(path).json == now.json
    assert alice(method, path, headers={"If-Match": version(now)}, **more).status_code in (200, 204)


RIGHT = ["{}", "W/{}", " \t{} ", '"x", {}, "y"', '"x","x y",W/{}', "nonsense, {}", '"a,b",{}', "*", '"é", {}']


@pytest.mark.parametrize("header", RIGHT)
@pytest.mark.parametrize(("method", "more"), WRITES)
def test_an_edit_of_the_version_at_hand_is_made(alice: Caller, method: str, more: dict[str, Any], header: str) -> None:
    task = alice.create()
    path = f"/api/tasks/{task['id']}"
    answer = alice(method, path, headers={"If-Match": header.format(f'"{task["updated_at"]}"')}, **more)
    if method == "DELETE":
        assert (answer.status_code, alice.get("/api/tasks").json) == (204, [])
        return
    changes = {name: value for name, value in more["json"].items() if name != "id"}
    assert answer.status_code == 200
    assert answer.json == task | changes | {"updated_at": version(answer).strip('"')}
    assert (answer.json["updated_at"] > task["updated_at"]) == bool(changes)
    assert alice.get(path).json == answer.json


@pytest.mark.parametrize("header", ["*", NOT_THIS, ""])
@pytest.mark.parametrize(("method", "more"), WRITES)
@pytest.mark.parametrize("task_id", [NOWHERE, "no-id"])
def test_a_missing_task_is_not_found_whatever_the_condition(
    alice: Caller, method: str, more: dict[str, Any], header: str, task_id: str
) -> None:
    answer = alice(method, f"/api/tasks/{task_id}", headers={"If-Match": header}, **more)
    assert_error(answer, 404, "TASK_NOT_FOUND")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("whose", ["alice", "bob", "nobody"])
@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"data": "{}", "content_type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"data": "{", "content_type": "application/json"}, 400, "MALFORMED_JSON"),
        ({"json": {"title": ""}}, 400, "VALIDATION_ERROR"),
    ],
)
def test_a_bad_body_is_judged_before_the_task_and_its_version(
    alice: Caller, bob: Caller, method: str, whose: str, more: dict[str, Any], status: int, code: str
) -> None:
    task_id = {"alice": alice, "bob": bob}[whose].create()["id"] if whose != "nobody" else NOWHERE
    assert_error(alice(method, f"/api/tasks/{task_id}", headers={"If-Match": NOT_THIS}, **more), status, code)


def test_without_a_condition_the_last_write_wins(alice: Caller) -> None:
    path = f"/api/tasks/{alice.create()['id']}"
    for method in ("PUT", "PATCH"):
        for title in ("first", "second"):
            assert alice(method, path, json={"title": title}).status_code == 200
        assert (alice.get(path).json or {})["title"] == "second"
    assert alice.delete(path).status_code == 204


LONG_AGO, FAR_AWAY = "Sun, 08 Feb 1998 09:30:00 GMT", "Sun, 08 Feb 2998 09:30:00 GMT"


def test_every_other_condition_is_ignored(alice: Caller) -> None:
    task = alice.create()
    path, tag = f"/api/tasks/{task['id']}", f'"{task["updated_at"]}"'
    reads = [
        {"If-Modified-Since": FAR_AWAY},
        {"If-Unmodified-Since": LONG_AGO},
        {"If-Match": NOT_THIS},
        {"If-Range": tag, "Range": "bytes=0-3"},
        {"Range": "bytes=0-3"},
        {"If-Modified-Since": FAR_AWAY, "If-None-Match": NOT_THIS},
    ]
    for headers in reads:
        answer = alice.get(path, headers=headers)
        assert (answer.status_code, answer.json) == (200, task)
        assert alice.get("/api/tasks", headers=headers).json == [task]
    for headers in ({"If-None-Match": "*"}, {"If-None-Match": tag}, {"If-Unmodified-Since": LONG_AGO}):
        for method in ("PUT", "PATCH"):
            changed = alice(method, path, json={"title": "New"}, headers=headers)
            assert changed.status_code == 200
            tag = version(changed)
        assert alice.post("/api/tasks", json={"title": "x"}, headers={**headers, "If-Match": "*"}).status_code == 201
    assert alice.delete(path, headers={"If-None-Match": "*", "If-Unmodified-Since": LONG_AGO}).status_code == 204


def test_the_changes_of_many_tasks_know_no_condition(alice: Caller) -> None:
    alice.create()
    stale = {"If-Match": NOT_THIS}
    marked = alice.patch("/api/tasks?is_completed=false", json={"is_completed": True}, headers=stale)
    assert (marked.status_code, marked.json) == (200, {"count": 1})
    assert alice.delete("/api/tasks?is_completed=true", headers=stale).json == {"count": 1}


def writers(app: Flask, path: str, tag: str, methods: list[str]) -> list[Callable[[], TestResponse]]:
    """One write under the same condition for each method, each by a client of its own."""

    def write(method: str, title: str) -> Callable[[], TestResponse]:
        caller = Caller(app.test_client(), "alice")
        more = {} if method == "DELETE" else {"json": {"title": title}}
        return lambda: caller(method, path, headers={"If-Match": tag}, **more)

    return [write(method, f"writer {count}") for count, method in enumerate(methods)]


@pytest.mark.parametrize("mix", [["PUT"], ["PATCH"], ["DELETE"], ["PUT", "PATCH"], ["PUT", "PATCH", "DELETE"]])
def test_of_many_simultaneous_writers_of_one_version_exactly_one_wins(
    app: Flask, alice: Caller, mix: list[str]
) -> None:
    created = alice.create()
    path = f"/api/tasks/{created['id']}"
    methods = (mix * WRITERS)[:WRITERS]
    answers = at_once(writers(app, path, f'"{created["updated_at"]}"', methods))
    [winner] = [answer for answer in answers if answer.status_code < HTTPStatus.BAD_REQUEST]
    for answer in answers:
        if answer is not winner and winner.status_code == 204 and answer.status_code == 404:
            assert_error(answer, 404, "TASK_NOT_FOUND")
        elif answer is not winner:
            assert_error(answer, 412, "PRECONDITION_FAILED")
    left = alice.get("/api/tasks").json
    assert left == ([] if winner.status_code == 204 else [winner.json])
    assert not left or left[0]["title"] == f"writer {answers.index(winner)}"
