"""Lists: filters, search, order, pages and ETags. Also bulk changes, which take the same filter."""

import re
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote_plus

import pytest
from flask import Flask
from sqlalchemy import make_url, text
from werkzeug.test import TestResponse

from tests.conftest import Caller, MakeApp, assert_error, dispose, environ_for
from tests.support.databases import rows_of
from tests.support.tasks import Task, assert_invalid, ids, in_order, listed, path_of, set_times
from todo_api import create_app
from todo_api.extensions import db
from todo_api.tasks import statements
from todo_api.tasks.pagination import Query

SORTED_BY = ["created_at", "updated_at", "title", "due_date", "priority"]
SORTS = [sign + name for name in SORTED_BY for sign in ("", "-")]
GLASS = "🥛"
DAYS = ["2026-02-08", None, "2026-02-07", "0001-01-01", None, "9999-12-31", "2026-02-08"]
PRIORITIES = ["medium", "low", None, "high"]
TITLES = ["b", "B", "a", "é", "e\u0301", "~", "\ue000", GLASS, "b", "a b", "a-b", "Z"]


def next_link(response: TestResponse) -> str | None:
    """Return the path of the next page, after checking both headers that name it."""
    link, cursor = response.headers.get("Link"), response.headers.get("X-Next-Cursor")
    if link is None:
        assert cursor is None
        return None
    assert link.startswith("</api/tasks?")
    assert link.endswith(f'cursor={cursor}>; rel="next"')
    return link[1 : link.index(">")]


def walk(caller: Caller, path: str, limit: int, between: Callable[[int], None] = lambda _: None) -> list[str]:
    """Follow the links from `path`, calling `between` after each page; return the ids of all tasks."""
    found: list[str] = []
    target: str | None = f"{path}&limit={limit}"
    for page in range(5000):
        response = caller.get(target or "")
        assert response.status_code == 200, response.text
        tasks = response.json or []
        found += ids(tasks)
        target = next_link(response)
        if target is None:
            return found
        assert len(tasks) == limit
        between(page)
    raise AssertionError("the walk does not end")


@pytest.fixture
def tasks(alice: Caller, bob: Caller, app: Flask) -> list[Task]:
    """Alice's tasks, some with equal titles, times, days and priorities, or without; Bob has some too."""
    more = [{"due_date": DAYS[n % 7], "priority": PRIORITIES[n % 4], "is_completed": n % 3 == 0} for n in range(12)]
    created = ids([alice.create(title, **fields) for title, fields in zip(TITLES, more, strict=True)])
    for title in TITLES[:5]:
        bob.create(title)
    set_times(
        app,
        created_at={task_id: f"{1 + number // 4:02}" for number, task_id in enumerate(created)},
        updated_at={task_id: f"{1 + number * 5 % 4:02}" for number, task_id in enumerate(created)},
    )
    return listed(alice)


def cursor_of(caller: Caller, **parameters: Any) -> str:
    """Return the cursor that follows a page of three tasks."""
    return caller.get("/api/tasks", query_string={**parameters, "limit": 3}).headers["X-Next-Cursor"]


def test_the_newest_task_comes_first_by_default(alice: Caller, app: Flask) -> None:
    tasks = [alice.create(f"{number}") for number in range(4)]
    assert listed(alice) == tasks[::-1]
    set_times(app, created_at={task["id"]: day for task, day in zip(tasks, ("03", "02", "03", "04"), strict=True)})
    assert listed(alice) == listed(alice, sort="-created_at")
    assert ids(listed(alice)) == [tasks[number]["id"] for number in (3, 2, 0, 1)]


@pytest.mark.parametrize("sort", SORTS)
def test_a_list_and_its_pages_are_sorted_by_a_field_and_then_by_id(alice: Caller, tasks: list[Task], sort: str) -> None:
    """Titles by code point; tasks without a day or priority are last in both directions."""
    expected = in_order(tasks, sort)
    completed = [task for task in expected if task["is_completed"]]
    assert listed(alice, sort=sort) == expected
    assert listed(alice, sort=sort, is_completed="true") == completed
    for limit in (1, 5, len(TITLES), 1000):
        assert walk(alice, f"/api/tasks?sort={sort}", limit) == ids(expected)
        assert walk(alice, f"/api/tasks?sort={sort}&is_completed=true", limit) == ids(completed)


def test_postgresql_sorts_titles_by_code_point_whatever_the_collation_of_the_column(
    migrated_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = migrated_database("collation")
    rows_of(url, 'ALTER TABLE tasks ALTER title TYPE text COLLATE "en-x-icu"')
    app = create_app(environ_for(url), tmp_path)
    alice = Caller(app.test_client(), "alice")
    for title in ("a", "é", "B", "~"):
        alice.create(title)
    assert [task["title"] for task in listed(alice, sort="title")] == ["B", "a", "~", "é"]
    dispose(app)


@pytest.mark.parametrize("sort", SORTS)
def test_pages_hold_every_unchanged_task_once_while_others_change(alice: Caller, tasks: list[Task], sort: str) -> None:
    """Even the task that the cursor points at may change or go."""
    order = ids(listed(alice, sort=sort))
    deleted, changed = order[1::4], order[2::4]
    unchanged = [task_id for task_id in order if task_id not in (*deleted, *changed)]

    def disturb(page: int) -> None:
        alice.create(f"{'aZ'[page % 2]} new {page}")
        if page < len(deleted):
            assert alice.delete(f"/api/tasks/{deleted[page]}").status_code == 204
        if page < len(changed):
            change = {"title": "x"} if sort.endswith("updated_at") else {"description": "changed"}
            assert alice.patch(f"/api/tasks/{changed[page]}", json=change).status_code == 200

    found = walk(alice, f"/api/tasks?sort={sort}", 2, disturb)
    assert [task_id for task_id in found if task_id in unchanged] == unchanged
    if not sort.endswith("updated_at"):
        assert len(set(found)) == len(found)
        assert [task_id for task_id in found if task_id in changed] == changed


def test_limit_and_total_may_change_or_be_left_out_between_pages(alice: Caller, tasks: list[Task]) -> None:
    whole = ids(listed(alice, sort="title"))
    first = alice.get("/api/tasks?sort=title&limit=3&include_total=true")
    assert first.headers["X-Total-Count"] == "12"
    cursor = first.headers["X-Next-Cursor"]
    assert ids(listed(alice, sort="title", cursor=cursor)) == whole[3:]
    assert ids(listed(alice, sort="title", cursor=cursor, limit=5, include_total="true")) == whole[3:8]
    second = alice.get("/api/tasks", query_string={"sort": "title", "cursor": cursor, "limit": 1})
    assert "X-Total-Count" not in second.headers


@pytest.mark.sqlite_only
def test_a_cursor_of_another_user_or_of_other_parameters_is_rejected(
    alice: Caller, bob: Caller, tasks: list[Task]
) -> None:
    cursor = cursor_of(alice, sort="title")
    for other in ({}, {"sort": "-title"}, {"sort": "title", "is_completed": "true"}, {"sort": "title", "q": "b"}):
        assert_invalid(alice.get("/api/tasks", query_string={**other, "cursor": cursor}), "cursor")
    assert_invalid(bob.get("/api/tasks", query_string={"sort": "title", "cursor": cursor}), "cursor")


@pytest.mark.sqlite_only
def test_a_cursor_is_accepted_in_one_spelling_only(alice: Caller, tasks: list[Task]) -> None:
    cursor = cursor_of(alice)
    wrong = ["", "x", cursor[:-1], cursor[1:], f"{cursor}=", f"{cursor}A", f" {cursor}", f"{cursor}\n", "é", "\0"]
    for spelling in (*wrong, f"{cursor[:5]}*{cursor[5:]}", f"{cursor[:5]}+{cursor[6:]}", "A" * 3000):
        assert_invalid(alice.get("/api/tasks", query_string={"cursor": spelling}), "cursor")


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def test_a_cursor_with_any_bit_changed_returns_own_tasks_at_most(alice: Caller, tasks: list[Task]) -> None:
    cursor = cursor_of(alice)
    raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for bit in range(0, len(raw) * 8, 3):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        response = alice.get("/api/tasks", query_string={"cursor": encoded(bytes(changed))})
        if response.status_code == 200:
            assert {task["user_id"] for task in response.json or []} <= {"alice"}
        else:
            assert_invalid(response, "cursor")


def forge(sort: str, value: bytes) -> dict[str, str]:
    """Make Bob's query with a cursor of any position: the digest in it holds no secret."""
    return {"sort": sort, "cursor": encoded(Query(sort=sort).scope("bob") + uuid.UUID(int=0).bytes + value)}


TIMES = ("", "now", "infinity", "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000+01:00")
IMPOSSIBLE = {
    "title": (b"\xff", b"a\0b", b"\xed\xa0\x80", b"x" * 801),
    "created_at": [time.encode() for time in (*TIMES, "0000-01-01T00:00:00.000000Z", "2026-13-01T00:00:00.000000Z")],
}


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("sort", "value"), [(sort, value) for sort in IMPOSSIBLE for value in IMPOSSIBLE[sort]])
def test_a_forged_position_that_no_task_can_have_is_rejected(bob: Caller, sort: str, value: bytes) -> None:
    assert_invalid(bob.get("/api/tasks", query_string=forge(sort, value)), "cursor")


@pytest.mark.parametrize(
    ("sort", "value"), [("title", b""), ("title", b"'; --"), ("updated_at", b"2001-02-01T00:00:00.000000Z")]
)
def test_a_forged_position_returns_own_tasks_only(bob: Caller, tasks: list[Task], sort: str, value: bytes) -> None:
    assert listed(bob, **forge(sort, value)) == listed(bob, sort=sort)


ALL = ["Milk", "MILK 100%", "ÄRZTE", "Жук", "a_b\\c", "plain", 'it\'s "q"']
FOUND = {
    "  MILK\n": ["Milk", "MILK 100%", "plain"],
    " ": ALL,
    "%": ["MILK 100%"],
    "_": ["a_b\\c"],
    "\\": ["a_b\\c"],
    "aXb": [],
    "'s \"": ['it\'s "q"'],
    "ärZTE": ["ÄRZTE"],
    "жУК": ["Жук"],
    "ΣΙΓΜΑ": ["plain"],
    GLASS: ["Milk"],
    "None": [],
    "x" * 200: [],
}


def test_a_search_finds_text_in_title_or_description_in_any_case(alice: Caller, bob: Caller) -> None:
    for caller in (bob, alice):
        for title in ALL:
            caller.create(title, description={"Milk": GLASS, "plain": "of milk and σιγμα"}.get(title))
    found = {q: listed(alice, q=q, sort="created_at") for q in FOUND}
    assert {q: [task["title"] for task in tasks] for q, tasks in found.items()} == FOUND
    assert {task["user_id"] for tasks in found.values() for task in tasks} == {"alice"}


INVALID = {
    "is_completed": ["", "True", "1"],
    "q": ["x" * 201, "a\0b"],
    "sort": ["", "id", "--title", "Title", "title,created_at"],
    "limit": ["", "0", "-1", "1001", "1e3", "+5", "01", "5 ", "\uff15", "5.0", "9" * 20],
    "include_total": ["", "TRUE", "0"],
    "colour": ["", "red"],
    "user_id": ["bob"],
    "Limit": ["5"],
    "": ["x"],
}


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("name", "value"), [(name, value) for name in INVALID for value in INVALID[name]])
def test_an_invalid_or_unknown_parameter_is_rejected_by_name(alice: Caller, name: str, value: str) -> None:
    assert_invalid(alice.get("/api/tasks", query_string={name: value}), name)


KNOWN = "is_completed, priority, tag, due_from, due_to, q, sort, limit, cursor, include_total"
UNKNOWN = f"Unknown parameter; known are: {KNOWN}."


@pytest.mark.sqlite_only
def test_all_invalid_parameters_are_named_at_once_with_what_is_allowed(alice: Caller) -> None:
    query = {"is_completed": "1", "q": "x" * 201, "sort": "id", "limit": "0", "include_total": "1", "colour": "red"}
    assert assert_error(alice.get("/api/tasks", query_string=query), 400, "VALIDATION_ERROR")["errors"] == {
        "is_completed": ["Must be true or false."],
        "q": ["Must have 0 to 200 characters."],
        "sort": [f"Must be one of: {', '.join(SORTS)}."],
        "limit": ["Must be a whole number from 1 to 1000."],
        "include_total": ["Must be true or false."],
        "colour": [UNKNOWN],
    }


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("GET", "/api/tasks?limit=0", "limit: Must be a whole number from 1 to 1000."),
        (
            "GET",
            "/api/tasks?limit=0&q=%00",
            "limit: Must be a whole number from 1 to 1000.; q: Must not contain U+0000",
        ),
        ("GET", "/api/tasks?page=2", f"page: {UNKNOWN}"),
        ("GET", "/api/tasks?limit=1&limit=2", "limit: Must not be repeated."),
        ("GET", "/api/tasks?%0A%FF=", f"\\n\\udcff: {UNKNOWN}"),
        ("GET", "/api/tasks?cursor=x", "cursor: Is broken, or from a list with other parameters."),
        ("DELETE", "/api/tasks", "is_completed: Missing data for required field."),
        (
            "DELETE",
            "/api/tasks?is_completed=true&q=x",
            "q: Unknown parameter; known are: is_completed.",
        ),
        ("POST", "/api/tasks?q=x", "q: Unknown parameter; known are: none."),
    ],
)
def test_the_detail_says_what_is_wrong_with_which_parameter(alice: Caller, method: str, path: str, detail: str) -> None:
    refused = alice(method, path, json={"title": "x"})
    assert assert_error(refused, 400, "VALIDATION_ERROR")["detail"].startswith(detail)


@pytest.mark.sqlite_only
def test_all_repeated_parameters_are_named_at_once(alice: Caller) -> None:
    repeated = alice.get("/api/tasks?limit=1&sort=title&limit=1&q=a&sort=title&colour=red&colour=red")
    errors = assert_invalid(repeated, "limit", "sort", "colour")
    assert errors["limit"] == ["Must not be repeated."]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("query", ["q=%FF", "q=a%ED%A0%80", "q=\xff"])
def test_a_search_that_is_not_utf_8_is_rejected(alice: Caller, query: str) -> None:
    assert_invalid(alice.get("/api/tasks", environ_overrides={"QUERY_STRING": query}), "q")


@pytest.mark.sqlite_only
def test_an_empty_query_lists_all_tasks(alice: Caller) -> None:
    assert alice.get("/api/tasks").text == "[]"
    task = alice.create()
    for query in ("", "&", "&&", "q="):
        assert alice.get(f"/api/tasks?{query}").json == [task]


@pytest.mark.sqlite_only
def test_query_parameters_are_ignored_on_one_task_and_rejected_on_the_collection(alice: Caller) -> None:
    task = alice.create()
    path = f"{path_of(task)}?colour=red&limit=0&limit=0"
    assert alice.get(path).json == task
    assert alice.put(path, json={}).json == task
    for name in ("colour", "limit"):
        assert_invalid(alice.post(f"/api/tasks?{name}=5", json={"title": "x"}), name)
    assert alice.delete(path).status_code == 204
    assert listed(alice) == []


@pytest.mark.sqlite_only
@pytest.mark.parametrize("q", ["a&b=c 50% + 1 #?/;é🥛\\'\"<>", GLASS * 200])
def test_a_link_keeps_all_parameters_and_fits_a_request_line(alice: Caller, q: str) -> None:
    created = [alice.create("x", description=q)["id"] for _ in range(3)]
    query = {"q": q, "sort": "title", "is_completed": "false", "include_total": "true", "limit": "1"}
    link = next_link(alice.get("/api/tasks", query_string=query))
    assert link
    assert dict(parse_qsl(link.partition("?")[2])) == query | {"cursor": link.rpartition("=")[2]}
    assert len(f"GET {link} HTTP/1.1") < 4094  # gunicorn's limit
    assert walk(alice, f"/api/tasks?q={quote_plus(q)}", 2) == created[::-1]


def test_the_total_counts_all_matching_tasks_on_every_page(alice: Caller, tasks: list[Task]) -> None:
    for query, total in (("", 12), ("&is_completed=true", 4), ("&q=b", 5), ("&is_completed=true&q=b", 2), ("&q=no", 0)):
        for limit in ("&limit=1", ""):
            response = alice.get(f"/api/tasks?include_total=true{query}{limit}")
            assert response.headers["X-Total-Count"] == str(total)
    assert "X-Total-Count" not in alice.get("/api/tasks?include_total=false").headers


def etag_at(caller: Caller, path: str = "/api/tasks") -> str:
    response = caller.get(path)
    assert response.status_code == 200
    return response.headers["ETag"]


def test_the_etag_changes_with_each_kind_of_change_and_not_without_one(
    alice: Caller, bob: Caller, make_app: MakeApp
) -> None:
    seen = [etag_at(alice)]
    task = alice.create("First")
    changes: list[Callable[[], Any]] = [
        lambda: alice.patch(path_of(task), json={"title": "New"}),
        lambda: alice.patch(path_of(task), json={"description": "New"}),
        lambda: alice.patch(path_of(task), json={"is_completed": True}),
        lambda: alice.create("Second"),
        lambda: alice.delete(path_of(task)),
        lambda: alice.create("First"),
        lambda: alice.patch("/api/tasks?is_completed=false", json={"is_completed": True}),
        lambda: alice.delete("/api/tasks?is_completed=true"),
    ]
    for change in changes:
        change()
        seen.append(etag_at(alice))
        bob.create("His")
        alice.patch(path_of(task), json={})
        assert etag_at(Caller(make_app().test_client(), "alice")) == seen[-1]
    assert len(set(seen[:-1])) == len(changes)
    assert seen[-1] not in seen[1:-1]


@pytest.mark.sqlite_only
def test_the_etag_changes_when_only_the_total_or_only_the_link_does(alice: Caller, app: Flask) -> None:
    old, new = alice.create("old"), alice.create("new")
    page, counted = "/api/tasks?limit=1", "/api/tasks?limit=1&include_total=true"
    before = alice.get(page), alice.get(counted)
    third = alice.create("third")
    set_times(app, created_at={third["id"]: "01"})
    after = alice.get(page), alice.get(counted)
    assert before[1].data == after[1].data
    assert before[1].headers["ETag"] != after[1].headers["ETag"]
    for task in (old, third):
        alice.delete(path_of(task))
    last = alice.get(page)
    assert last.json == [new]
    assert "Link" not in last.headers
    assert last.headers["ETag"] not in (before[0].headers["ETag"], after[0].headers["ETag"])


@pytest.mark.sqlite_only
def test_the_etag_differs_between_users_and_between_parameters(alice: Caller, bob: Caller) -> None:
    """Even where the body is the same, as it is here: no list has a task."""
    paths = ["", "?limit=1", "?limit=2", "?sort=title", "?is_completed=false", "?q=milk", "?include_total=true"]
    etags = [etag_at(caller, f"/api/tasks{path}") for path in paths for caller in (alice, bob)]
    assert len(set(etags)) == len(etags)


@pytest.mark.sqlite_only
def test_spellings_of_one_query_have_one_link_and_one_etag(alice: Caller, tasks: list[Task]) -> None:
    spellings = ["limit=2", "limit=2&sort=-created_at", "sort=-created_at&include_total=false&limit=2&q=+"]
    answers = [alice.get(f"/api/tasks?{spelling}") for spelling in spellings]
    assert len({(answer.headers["ETag"], answer.headers["Link"], answer.data) for answer in answers}) == 1
    assert re.fullmatch(r'</api/tasks\?limit=2&cursor=[\w-]+>; rel="next"', answers[0].headers["Link"])


@pytest.mark.parametrize(
    "query", ["", "?sort=title&limit=2&include_total=true&is_completed=true", "?limit=3&cursor={}"]
)
def test_an_unchanged_list_is_not_sent_again(alice: Caller, tasks: list[Task], query: str) -> None:
    path = f"/api/tasks{query.format(cursor_of(alice))}"
    etag = etag_at(alice, path)
    for method in ("GET", "HEAD"):
        for header in (etag, f'"x", W/{etag}', "*"):
            response = alice(method, path, headers={"If-None-Match": header})
            assert (response.status_code, response.data, response.headers["ETag"]) == (304, b"", etag)
            assert not {"Content-Type", "Content-Length"} & set(response.headers.keys())
            assert response.headers["Cache-Control"] == "private, no-cache"
    for header in ("", '"x"', etag.strip('"'), f'{etag[:-1]}x"'):
        assert alice.get(path, headers={"If-None-Match": header}).status_code == 200
    for task in tasks:
        alice.patch(path_of(task), json={"is_completed": True})
    assert alice.get(path, headers={"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize(("which", "mark"), [("false", True), ("true", False), ("true", True), ("false", False)])
def test_a_bulk_change_marks_all_matching_tasks_and_counts_them(
    alice: Caller, bob: Caller, tasks: list[Task], which: str, mark: bool
) -> None:
    his = listed(bob)
    matching = {task["id"]: task for task in tasks if str(task["is_completed"]).lower() == which}
    response = alice.patch(f"/api/tasks?is_completed={which}", json={"is_completed": mark})
    assert (response.status_code, response.json) == (200, {"count": len(matching)})
    for before, after in zip(tasks, listed(alice), strict=True):
        if before["id"] in matching:
            assert after["updated_at"] > before["updated_at"]
            completed_at = (before["completed_at"] or after["updated_at"]) if mark else None
            marked = {"is_completed": mark, "completed_at": completed_at, "updated_at": after["updated_at"]}
            assert after == before | marked
        else:
            assert after == before
    assert listed(bob) == his


@pytest.mark.parametrize("which", ["true", "false"])
def test_a_bulk_deletion_deletes_all_matching_tasks_and_counts_them(
    alice: Caller, bob: Caller, tasks: list[Task], which: str
) -> None:
    his = listed(bob)
    kept = [task for task in tasks if str(task["is_completed"]).lower() != which]
    response = alice.delete(f"/api/tasks?is_completed={which}")
    assert (response.status_code, response.json) == (200, {"count": len(tasks) - len(kept)})
    assert (listed(alice), listed(bob)) == (kept, his)
    assert alice.delete(f"/api/tasks?is_completed={which}").json == {"count": 0}


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("query", "body", "names"),
    [
        ("", {"is_completed": True}, ["is_completed"]),
        ("?is_completed=maybe", {"is_completed": True}, ["is_completed"]),
        ("?is_completed=true&is_completed=true", {"is_completed": True}, ["is_completed"]),
        ("?is_completed=true&q=x", {"is_completed": True}, ["q"]),
        ("?is_completed=true", {}, ["is_completed"]),
        ("?is_completed=true", {"is_completed": 1}, ["is_completed"]),
        ("?is_completed=true", {"is_completed": True, "title": "x", "id": "x"}, ["title", "id"]),
    ],
)
def test_a_bulk_request_without_exactly_its_parameter_and_field_changes_nothing(
    alice: Caller, tasks: list[Task], query: str, body: Task, names: list[str]
) -> None:
    assert_invalid(alice.patch(f"/api/tasks{query}", json=body), *names)
    if query != "?is_completed=true":
        assert_invalid(alice.delete(f"/api/tasks{query}"), *names)
    assert listed(alice) == tasks


@pytest.mark.sqlite_only
def test_a_bulk_change_is_checked_for_token_size_media_type_json_and_parameters(alice: Caller, nobody: Caller) -> None:
    path = "/api/tasks?is_completed=maybe"
    assert_error(nobody.patch(path, data=b"x" * 70_000), 401, "TOKEN_MISSING")
    assert_error(alice.patch(path, data=b"x" * 70_000), 413, "PAYLOAD_TOO_LARGE")
    assert_error(alice.patch(path, data=b"x"), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert_error(alice.patch(path, data=b"x", content_type="application/json"), 400, "MALFORMED_JSON")
    assert_error(nobody.delete(path), 401, "TOKEN_MISSING")


def add_tasks(app: Flask, number: int) -> list[str]:
    """Store old tasks of alice, who has one already; return their titles, newest first."""
    rows = [
        {"id": f"{number:08x}-0000-7000-8000-{0:012}", "title": f"{number}", "at": f"2001-01-01T00:00:00.{number:06}Z"}
        for number in range(number)
    ]
    insert = (
        "INSERT INTO tasks (user_id, id, title, is_completed, created_at, updated_at)"
        " VALUES ('alice', :id, :title, false, :at, :at)"
    )
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text(insert), rows)
    return [row["title"] for row in reversed(rows)]


def test_a_response_has_at_most_a_thousand_tasks_and_leads_to_the_others(alice: Caller, app: Flask) -> None:
    first = alice.create("First")
    titles = add_tasks(app, 2_499)
    answer = alice.get("/api/tasks")
    assert answer.json is not None
    assert answer.json[0] == first
    assert [task["title"] for task in answer.json[1:]] == titles[:999]
    pages = [answer]
    while link := next_link(pages[-1]):
        pages.append(alice.get(link))
    assert [len(page.json or []) for page in pages] == [1000, 1000, 500]
    assert [task["title"] for page in pages for task in page.json or []] == ["First", *titles]
    assert "limit" not in (next_link(answer) or "")
    assert alice.get("/api/tasks?include_total=true").headers["X-Total-Count"] == "2500"
    assert alice.patch("/api/tasks?is_completed=false", json={"is_completed": True}).json == {"count": 2_500}
    assert alice.delete("/api/tasks?is_completed=true").json == {"count": 2_500}
    assert listed(alice) == []


def test_the_owners_row_alone_tells_that_a_list_is_unchanged(alice: Caller, app: Flask, database_url: str) -> None:
    """A task that is changed behind its back goes unnoticed."""
    task = alice.create()
    for path in ("/api/tasks", "/api/tasks?include_total=true&q=milk&sort=title&limit=1"):
        etag = etag_at(alice, path)
        rows_of(database_url, "UPDATE tasks SET title = 'milk' || title")
        assert alice.get(path, headers={"If-None-Match": f'"x", {etag}'}).status_code == 304
    alice.patch(path_of(task), json={"is_completed": True})
    assert alice.get(path, headers={"If-None-Match": etag}).status_code == 200


def test_a_search_has_a_time_limit_of_its_own(
    migrated_database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator that searches sleeps here."""
    url = migrated_database("slow")
    sleeping = "SELECT true FROM pg_sleep(30)"
    rows_of(url, f"CREATE FUNCTION public.match(text, text) RETURNS boolean LANGUAGE sql AS '{sleeping}'")
    rows_of(url, "CREATE OPERATOR public.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = public.match)")
    mine = make_url(url).update_query_dict({"options": "-c search_path=public,pg_catalog"})
    monkeypatch.setattr(statements, "MAX_SEARCH_SECONDS", 0.5)
    statements.page.cache_clear()
    app = create_app(environ_for(mine.render_as_string(hide_password=False), DB_STATEMENT_TIMEOUT="60"), tmp_path)
    alice = Caller(app.test_client(), "alice")
    alice.create()
    began = time.monotonic()
    assert_error(alice.get("/api/tasks?q=milk"), 503, "DATABASE_UNAVAILABLE")
    assert time.monotonic() - began < 10
    assert len(listed(alice)) == 1
    dispose(app)
    statements.page.cache_clear()
