"""Lists: filtered, searched, sorted, walked page by page, told from an unchanged one; and changes of many at once."""

import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.conftest import Caller, MakeApp, assert_error, headers_of
from todo_api.extensions import db
from todo_api.tasks.pagination import SCOPE_BYTES, Query

SORTS = ["created_at", "updated_at", "title", "-created_at", "-updated_at", "-title"]
GLASS = "🥛"
TITLES = ["b", "B", "a", "é", "e\u0301", "~", "\ue000", GLASS, "b", "a b", "a-b", "Z"]
Task = dict[str, Any]


def listed(caller: Caller, **parameters: Any) -> list[Task]:
    response = caller.get("/api/tasks", query_string=parameters)
    assert response.status_code == 200, response.text
    assert response.json is not None
    return list(response.json)


def ids(tasks: list[Task]) -> list[str]:
    return [task["id"] for task in tasks]


def following(response: TestResponse) -> str | None:
    """Return the path of the next page, after a look at both headers that name it."""
    link, cursor = response.headers.get("Link"), response.headers.get("X-Next-Cursor")
    if link is None:
        assert cursor is None
        return None
    assert link.startswith("</api/tasks?")
    assert link.endswith('>; rel="next"')
    assert cursor is not None
    assert f"cursor={cursor}" in link
    return link[1 : link.index(">")]


def walk(
    caller: Caller, path: str, between: Callable[[int], None] = lambda _: None, limit: int | None = None
) -> list[str]:
    """Follow the links from `path`; return the ids met."""
    met: list[str] = []
    page, target = 0, path
    while True:
        response = caller.get(target)
        assert response.status_code == 200, response.text
        assert response.json is not None
        assert limit is None or len(response.json) <= limit
        met += ids(response.json)
        link = following(response)
        if link is None:
            return met
        target = link
        between(page)
        page += 1


def set_times(app: Flask, **times: dict[str, str]) -> None:
    """Give tasks the times that the server would not: `created_at={id: day}`."""
    with app.app_context(), db.engine.begin() as connection:
        for column, moments in times.items():
            for task_id, day in moments.items():
                values = {"moment": f"2001-02-{day}T09:30:00.123456Z", "id": task_id}
                connection.execute(text(f"UPDATE tasks SET {column} = :moment WHERE id = :id"), values)


@pytest.fixture
def tasks(alice: Caller, bob: Caller, app: Flask) -> list[Task]:
    """Alice's tasks, with equal titles and equal times among them; bob has some too."""
    made = ids([alice.create(title, is_completed=number % 3 == 0) for number, title in enumerate(TITLES)])
    for title in TITLES[:5]:
        bob.create(title)
    set_times(
        app,
        created_at={task_id: f"{1 + number // 4:02}" for number, task_id in enumerate(made)},
        updated_at={task_id: f"{1 + number * 5 % 4:02}" for number, task_id in enumerate(made)},
    )
    return listed(alice)


@pytest.mark.parametrize("sort", SORTS)
def test_a_list_is_sorted_by_code_point_or_time_and_ties_by_id(alice: Caller, tasks: list[Task], sort: str) -> None:
    column = sort.removeprefix("-")
    expected = sorted(tasks, key=lambda task: (task[column], task["id"]), reverse=sort.startswith("-"))
    assert listed(alice, sort=sort) == expected
    assert len(expected) == len(TITLES)


def test_a_list_is_newest_first_unless_told_otherwise(alice: Caller, tasks: list[Task]) -> None:
    assert listed(alice, sort="-created_at") == tasks


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 12, 1000])
def test_a_walk_meets_every_task_once_in_the_order_of_the_whole_list(
    alice: Caller, tasks: list[Task], sort: str, limit: int
) -> None:
    whole = ids(listed(alice, sort=sort))
    assert walk(alice, f"/api/tasks?sort={sort}&limit={limit}", limit=limit) == whole
    assert walk(alice, f"/api/tasks?limit={limit}&sort={sort}&is_completed=true") == [
        task["id"] for task in listed(alice, sort=sort) if task["is_completed"]
    ]


@pytest.mark.parametrize("sort", SORTS)
def test_a_walk_meets_what_was_there_throughout_whatever_else_happens(
    alice: Caller, tasks: list[Task], sort: str
) -> None:
    """Between the pages tasks come, go and change, the one that the cursor points at among them."""
    order = ids(listed(alice, sort=sort))
    doomed, changed = order[1::4], order[2::4]
    steady = [task_id for task_id in order if task_id not in (*doomed, *changed)]

    def disturb(page: int) -> None:
        alice.create(f"{'aZ'[page % 2]} new {page}")
        if page < len(doomed):
            assert alice.delete(f"/api/tasks/{doomed[page]}").status_code == 204
        if page < len(changed):
            change: Task = {"description": "changed"} if sort.endswith(("title", "created_at")) else {"title": "x"}
            assert alice.patch(f"/api/tasks/{changed[page]}", json=change).status_code == 200

    met = walk(alice, f"/api/tasks?sort={sort}&limit=2", disturb)
    assert [task_id for task_id in met if task_id in steady] == steady
    assert len(set(met)) == len(met) or sort.endswith("updated_at")
    if not sort.endswith("updated_at"):
        assert [task_id for task_id in met if task_id in changed] == changed


def test_limit_and_total_may_change_or_be_left_out_on_the_way(alice: Caller, tasks: list[Task]) -> None:
    first = alice.get("/api/tasks?sort=title&limit=3&include_total=true")
    assert first.headers["X-Total-Count"] == "12"
    cursor = first.headers["X-Next-Cursor"]
    whole = ids(listed(alice, sort="title"))
    assert ids(listed(alice, sort="title", cursor=cursor)) == whole[3:]
    assert ids(listed(alice, sort="title", cursor=cursor, limit=5)) == whole[3:8]
    second = alice.get("/api/tasks", query_string={"sort": "title", "cursor": cursor, "limit": 1})
    assert "X-Total-Count" not in second.headers


@pytest.mark.parametrize(
    "other", [{}, {"sort": "-title"}, {"sort": "title", "is_completed": "true"}, {"sort": "title", "q": "b"}]
)
def test_a_cursor_of_other_parameters_is_refused(alice: Caller, tasks: list[Task], other: Task) -> None:
    cursor = alice.get("/api/tasks?sort=title&limit=3").headers["X-Next-Cursor"]
    refused(alice.get("/api/tasks", query_string={**other, "cursor": cursor}), "cursor")


def test_a_cursor_of_another_user_is_refused(alice: Caller, bob: Caller, tasks: list[Task]) -> None:
    refused(bob.get(f"/api/tasks?cursor={alice.get('/api/tasks?limit=3').headers['X-Next-Cursor']}"), "cursor")


def test_a_cursor_is_refused_in_every_other_spelling(alice: Caller, tasks: list[Task]) -> None:
    cursor = alice.get("/api/tasks?limit=3").headers["X-Next-Cursor"]
    wrong = [
        "",
        "x",
        cursor[:-1],
        cursor[1:],
        f"{cursor}=",
        f"{cursor}A",
        f" {cursor}",
        f"{cursor}\n",
        "é",
        GLASS,
        "\0",
    ]
    wrong += [f"{cursor[:5]}*{cursor[5:]}", cursor[:5] + "+" + cursor[6:], "A" * 3000]
    for spelling in wrong:
        refused(alice.get("/api/tasks", query_string={"cursor": spelling}), "cursor")


def test_a_cursor_with_any_bit_turned_shows_own_tasks_at_most(alice: Caller, tasks: list[Task]) -> None:
    cursor = alice.get("/api/tasks?limit=3").headers["X-Next-Cursor"]
    raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for bit in range(0, len(raw) * 8, 3):
        turned = bytearray(raw)
        turned[bit // 8] ^= 1 << bit % 8
        response = alice.get("/api/tasks", query_string={"cursor": encoded(bytes(turned))})
        if response.status_code == 200:
            assert response.json is not None
            assert {task["user_id"] for task in response.json} <= {"alice"}
        else:
            refused(response, "cursor")


@pytest.mark.parametrize("sort", ["created_at", "title"])
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"now",
        b"infinity",
        b"0000-01-01T00:00:00.000000Z",
        b"2026-13-01T00:00:00.000000Z",
        b"2026-01-01T00:00:00.000000+01:00",
        b"2026-01-01T00:00:00Z",
        b"2026-01-01",
        b"\xff",
        b"a\0b",
        b"\xed\xa0\x80",
        b"x" * 801,
        b"'; DROP TABLE tasks; --",
    ],
)
def test_a_forged_position_is_refused_or_shows_own_tasks(
    alice: Caller, bob: Caller, tasks: list[Task], sort: str, value: bytes
) -> None:
    """The digest holds no secret: whoever forges one gains nothing, since every query names the owner."""
    forged = encoded(Query(sort=sort).scope("bob") + uuid.uuid4().bytes + value)
    response = bob.get("/api/tasks", query_string={"sort": sort, "cursor": forged})
    if sort == "title" and value not in (b"\xff", b"a\0b", b"\xed\xa0\x80") and len(value) <= 800:
        assert response.json is not None
        assert {task["user_id"] for task in response.json} <= {"bob"}
    else:
        refused(response, "cursor")


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def refused(response: TestResponse, *names: str) -> None:
    body = assert_error(response, 400, "VALIDATION_ERROR")
    assert set(body["errors"]) == set(names)


def test_the_digest_stands_first_in_a_cursor_and_is_short(alice: Caller, tasks: list[Task]) -> None:
    cursor = alice.get("/api/tasks?limit=3").headers["X-Next-Cursor"]
    assert urlsafe_b64decode(cursor + "==").startswith(Query().scope("alice"))
    assert len(Query().scope("alice")) == SCOPE_BYTES


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("milk", ["Milk", "MILK 100%", "plain"]),
        ("MILK", ["Milk", "MILK 100%", "plain"]),
        ("  milk\n", ["Milk", "MILK 100%", "plain"]),
        ("", ["Milk", "MILK 100%", "ÄRZTE", "Жук", "a_b\\c", "plain", 'it\'s "q"']),
        ("  ", ["Milk", "MILK 100%", "ÄRZTE", "Жук", "a_b\\c", "plain", 'it\'s "q"']),
        ("%", ["MILK 100%"]),
        ("_", ["a_b\\c"]),
        ("\\", ["a_b\\c"]),
        ("a_b", ["a_b\\c"]),
        ("aXb", []),
        ("'", ['it\'s "q"']),
        ('"', ['it\'s "q"']),
        ("ärzte", ["ÄRZTE"]),
        ("ärZTE", ["ÄRZTE"]),
        ("жУК", ["Жук"]),
        ("ΣΙΓΜΑ", ["plain"]),
        (GLASS, ["Milk"]),
        ("no such", []),
        ("None", []),
        ("x" * 200, []),
    ],
)
def test_a_search_finds_text_in_title_or_description(alice: Caller, bob: Caller, q: str, found: list[str]) -> None:
    for caller in (bob, alice):
        for title in ("Milk", "MILK 100%", "ÄRZTE", "Жук", "a_b\\c"):
            caller.create(title, description=GLASS if title == "Milk" else None)
        caller.create("plain", description="of milk and σιγμα")
        caller.create('it\'s "q"')
    assert [task["title"] for task in listed(alice, q=q, sort="created_at")] == found
    assert {task["user_id"] for task in listed(alice, q=q)} <= {"alice"}


BAD = {
    "is_completed": ["", "True", "1", "yes", "true ", "null"],
    "q": ["x" * 201, "a\0b"],
    "sort": ["", "id", "user_id", "--title", "+title", "title ", "Title", "description", "title,created_at"],
    "limit": ["", "0", "-1", "1001", "1e3", "+5", "01", " 5", "5 ", "\uff15", "5.0", "0x5", "99999999999999999999"],
    "cursor": [""],
    "include_total": ["", "TRUE", "0"],
    "colour": ["", "red"],
    "user_id": ["bob"],
    "Limit": ["5"],
    "": ["x"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_or_unknown_parameter_is_refused_by_name(alice: Caller, name: str, value: str) -> None:
    refused(alice.get("/api/tasks", query_string={name: value}), name)


def test_all_bad_parameters_are_named_at_once(alice: Caller) -> None:
    refused(alice.get("/api/tasks?limit=0&sort=x&colour=red&q=ok"), "limit", "sort", "colour")


def test_a_developer_is_told_what_each_parameter_may_be(alice: Caller) -> None:
    query = {"is_completed": "1", "q": "x" * 201, "sort": "id", "limit": "0", "include_total": "1", "colour": "red"}
    assert assert_error(alice.get("/api/tasks", query_string=query), 400, "VALIDATION_ERROR")["errors"] == {
        "is_completed": ["Must be true or false."],
        "q": ["Must have 0 to 200 characters."],
        "sort": ["Must be one of: created_at, -created_at, updated_at, -updated_at, title, -title."],
        "limit": ["Must be a whole number from 1 to 1000."],
        "include_total": ["Must be true or false."],
        "colour": ["Unknown parameter."],
    }


@pytest.mark.parametrize("name", ["limit", "q", "is_completed", "colour"])
def test_a_repeated_parameter_is_refused_by_name(alice: Caller, name: str) -> None:
    refused(alice.get(f"/api/tasks?{name}=true&{name}=true"), name)


def test_all_repeated_parameters_are_named_at_once(alice: Caller) -> None:
    repeated = alice.get("/api/tasks?limit=1&sort=title&limit=1&q=a&sort=title")
    errors = assert_error(repeated, 400, "VALIDATION_ERROR")["errors"]
    assert errors == {"limit": ["Must not be repeated."], "sort": ["Must not be repeated."]}


@pytest.mark.parametrize("query", ["q=%FF", "q=%C3", "q=a%ED%A0%80", "q=\udcff"])
def test_a_search_that_is_not_utf_8_is_refused(alice: Caller, query: str) -> None:
    raw = query.encode("utf-8", "surrogateescape").decode("latin-1")
    refused(alice.get("/api/tasks", environ_overrides={"QUERY_STRING": raw}), "q")


@pytest.mark.parametrize("query", ["", "&", "&&", "q="])
def test_an_empty_query_asks_for_all(alice: Caller, query: str) -> None:
    task = alice.create()
    assert alice.get(f"/api/tasks?{query}").json == [task]


def test_parameters_of_other_routes_are_ignored_and_of_the_collection_are_not(alice: Caller) -> None:
    task = alice.create()
    path = f"/api/tasks/{task['id']}?colour=red&limit=0&limit=0"
    assert alice.get(path).json == task
    assert alice.put(path, json={}).json == task
    refused(alice.post("/api/tasks?colour=red", json={"title": "x"}), "colour")
    refused(alice.post("/api/tasks?limit=5", json={"title": "x"}), "limit")
    assert alice.delete(path).status_code == 204
    assert listed(alice) == []


@pytest.mark.parametrize("q", ["a&b=c", "50 % + 1", "#?/;", "é", GLASS, "\\'\"<>"])
def test_a_link_keeps_the_parameters_whatever_is_in_them(alice: Caller, q: str) -> None:
    made = [alice.create(f"{q} {number}")["id"] for number in range(5)]
    response = alice.get("/api/tasks", query_string={"q": q, "limit": 2, "include_total": "true", "sort": "title"})
    link = following(response)
    assert link is not None
    assert f"q={quote(q, safe='')}".replace("%20", "+") in link
    assert "include_total=true" in link
    assert walk(alice, f"/api/tasks?q={quote(q)}&limit=2&sort=title") == made


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}])
def test_a_link_is_a_path_whatever_the_host(alice: Caller, tasks: list[Task], headers: dict[str, str]) -> None:
    assert following(alice.get("/api/tasks?limit=5", headers=headers))


def test_the_longest_link_fits_a_request_line(alice: Caller) -> None:
    for _ in range(2):
        alice.create(GLASS * 200)
    query = {"q": GLASS * 200, "sort": "-title", "is_completed": "false", "include_total": "true", "limit": "1"}
    link = following(alice.get("/api/tasks", query_string=query))
    assert link is not None
    assert len(f"GET {link} HTTP/1.1") < 4094
    assert len(ids(alice.get(link).json or [])) == 1


def test_the_total_counts_what_matches_on_every_page(alice: Caller, tasks: list[Task]) -> None:
    for query, total in (("", 12), ("&is_completed=true", 4), ("&q=b", 5), ("&q=none", 0)):
        for limit in ("&limit=1", ""):
            response = alice.get(f"/api/tasks?include_total=true{query}{limit}")
            assert response.headers["X-Total-Count"] == str(total)
    assert "X-Total-Count" not in alice.get("/api/tasks?include_total=false").headers


def tag_of(caller: Caller, path: str = "/api/tasks") -> str:
    response = caller.get(path)
    assert response.status_code == 200
    assert response.headers.get_all("ETag") == [response.headers["ETag"]]
    return response.headers["ETag"]


def test_the_tag_of_a_list_changes_with_each_kind_of_change_and_with_nothing_else(
    alice: Caller, bob: Caller, make_app: MakeApp
) -> None:
    seen = [tag_of(alice)]
    task = alice.create("First")
    changes: list[Callable[[], Any]] = [
        lambda: alice.patch(f"/api/tasks/{task['id']}", json={"title": "New"}),
        lambda: alice.patch(f"/api/tasks/{task['id']}", json={"description": "New"}),
        lambda: alice.patch(f"/api/tasks/{task['id']}", json={"is_completed": True}),
        lambda: alice.create("Second"),
        lambda: alice.delete(f"/api/tasks/{task['id']}"),
        lambda: alice.create("First"),
        lambda: alice.patch("/api/tasks?is_completed=false", json={"is_completed": True}),
    ]
    for change in changes:
        change()
        bob.create("His")
        alice.patch(f"/api/tasks/{task['id']}", json={})
        seen.append(tag_of(alice))
        assert tag_of(Caller(make_app().test_client(), "alice")) == seen[-1]
    assert len(set(seen)) == len(seen)


def test_the_tag_changes_with_the_total_alone_and_with_the_link_alone(alice: Caller, app: Flask) -> None:
    old, new = alice.create("old"), alice.create("new")
    page, counted = "/api/tasks?limit=1", "/api/tasks?limit=1&include_total=true"
    before = alice.get(page), alice.get(counted)
    third = alice.create("third")
    set_times(app, created_at={third["id"]: "01"})
    after = alice.get(page), alice.get(counted)
    assert before[0].data == after[0].data == before[1].data == after[1].data
    assert before[0].headers["ETag"] == after[0].headers["ETag"]  # nothing of it has changed
    assert before[1].headers["ETag"] != after[1].headers["ETag"]  # the total has
    for task in (old, third):
        alice.delete(f"/api/tasks/{task['id']}")
    last = alice.get(page)
    assert last.json == [new]
    assert "Link" not in last.headers
    assert last.headers["ETag"] != after[0].headers["ETag"]


def test_the_tag_differs_between_users_and_parameters(alice: Caller, bob: Caller) -> None:
    alice.create()
    paths = ["", "?limit=1", "?limit=2", "?sort=title", "?is_completed=false", "?q=milk", "?include_total=true"]
    tags = [tag_of(caller, f"/api/tasks{path}") for path in paths for caller in (alice, bob)]
    assert len(set(tags)) == len(tags)


def test_lists_of_one_tag_have_one_link(alice: Caller, tasks: list[Task]) -> None:
    spellings = ["limit=2", "limit=2&sort=-created_at", "sort=-created_at&include_total=false&limit=2&q=+"]
    answers = [alice.get(f"/api/tasks?{spelling}") for spelling in spellings]
    assert len({(answer.headers["ETag"], answer.headers["Link"], answer.data) for answer in answers}) == 1
    assert re.fullmatch(r'</api/tasks\?limit=2&cursor=[\w-]+>; rel="next"', answers[0].headers["Link"])


@pytest.mark.parametrize("path", ["/api/tasks", "/api/tasks?sort=title&limit=2&include_total=true&is_completed=true"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', '"x",W/{} , "y"', "*", "  {}  "])
def test_an_unchanged_list_is_not_sent_again(alice: Caller, tasks: list[Task], path: str, form: str) -> None:
    tag = tag_of(alice, path)
    for method in ("GET", "HEAD"):
        response = alice(method, path, headers={"If-None-Match": form.format(tag)})
        assert (response.status_code, response.data) == (304, b"")
        assert response.headers["ETag"] == tag
        assert not {"Content-Type", "Content-Length"} & set(response.headers.keys())
        assert response.headers["Cache-Control"] == "private, no-cache"
    alice.patch(f"/api/tasks/{tasks[0]['id']}", json={"is_completed": True})
    alice.patch(f"/api/tasks/{tasks[-1]['id']}", json={"is_completed": True})
    if form != "*":
        assert alice.get(path, headers={"If-None-Match": form.format(tag)}).status_code == 200


def test_an_unchanged_second_page_is_not_sent_again(alice: Caller, tasks: list[Task]) -> None:
    cursor = alice.get("/api/tasks?limit=2").headers["X-Next-Cursor"]
    path = f"/api/tasks?limit=2&cursor={cursor}"
    second = alice.get(path)
    assert alice.get(path, headers={"If-None-Match": second.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("header", ["", '""', '"x"', "x", "{bare}", '"{bare}', "{bare}*", "w/{tag}"])
def test_another_tag_gets_the_list(alice: Caller, tasks: list[Task], header: str) -> None:
    tag = tag_of(alice)
    response = alice.get("/api/tasks", headers={"If-None-Match": header.format(tag=tag, bare=tag.strip('"'))})
    assert (response.status_code, response.json) == (200, tasks)


@pytest.mark.parametrize("path", ["/api/tasks", "/api/tasks?limit=3&include_total=true", "/api/tasks?limit=0"])
def test_head_has_the_headers_of_get_and_no_body(alice: Caller, tasks: list[Task], path: str) -> None:
    got, head = alice.get(path), alice("HEAD", path)
    assert (head.status_code, head.data) == (got.status_code, b"")
    assert headers_of(head) == headers_of(got)


@pytest.mark.parametrize(("which", "mark"), [("false", True), ("true", False), ("true", True), ("false", False)])
def test_all_that_match_are_marked_and_counted(
    alice: Caller, bob: Caller, tasks: list[Task], which: str, mark: bool
) -> None:
    his = listed(bob)
    matching = {task["id"]: task for task in tasks if str(task["is_completed"]).lower() == which}
    response = alice.patch(f"/api/tasks?is_completed={which}", json={"is_completed": mark})
    assert (response.status_code, response.json) == (200, {"count": len(matching)})
    for task in listed(alice):
        if old := matching.get(task["id"]):
            assert task["updated_at"] > old["updated_at"]
            assert task == old | {"is_completed": mark, "updated_at": task["updated_at"]}
        else:
            assert task in tasks
    assert listed(bob) == his


@pytest.mark.parametrize("which", ["true", "false"])
def test_all_that_match_are_deleted_and_counted(alice: Caller, bob: Caller, tasks: list[Task], which: str) -> None:
    his = listed(bob)
    kept = [task for task in tasks if str(task["is_completed"]).lower() != which]
    response = alice.delete(f"/api/tasks?is_completed={which}")
    assert (response.status_code, response.json) == (200, {"count": len(tasks) - len(kept)})
    assert listed(alice) == kept
    assert listed(bob) == his
    assert alice.delete(f"/api/tasks?is_completed={which}").json == {"count": 0}


@pytest.mark.parametrize(
    ("query", "body", "names"),
    [
        ("", {"is_completed": True}, ["is_completed"]),
        ("?is_completed=", {"is_completed": True}, ["is_completed"]),
        ("?is_completed=maybe", {"is_completed": True}, ["is_completed"]),
        ("?is_completed=true&is_completed=true", {"is_completed": True}, ["is_completed"]),
        ("?is_completed=true&limit=1", {"is_completed": True}, ["limit"]),
        ("?is_completed=true&q=x", {"is_completed": True}, ["q"]),
        ("?is_completed=true", {}, ["is_completed"]),
        ("?is_completed=true", {"is_completed": 1}, ["is_completed"]),
        ("?is_completed=true", {"is_completed": None}, ["is_completed"]),
        ("?is_completed=true", {"is_completed": True, "title": "x"}, ["title"]),
        ("?is_completed=true", {"is_completed": True, "id": "x", "user_id": "bob"}, ["id", "user_id"]),
    ],
)
def test_marking_many_without_saying_exactly_which_and_how_changes_nothing(
    alice: Caller, tasks: list[Task], query: str, body: Task, names: list[str]
) -> None:
    refused(alice.patch(f"/api/tasks{query}", json=body), *names)
    assert listed(alice) == tasks


@pytest.mark.parametrize(
    ("query", "name"),
    [("", "is_completed"), ("?is_completed=1", "is_completed"), ("?is_completed=true&sort=title", "sort")],
)
def test_deleting_many_without_saying_exactly_which_deletes_nothing(
    alice: Caller, tasks: list[Task], query: str, name: str
) -> None:
    refused(alice.delete(f"/api/tasks{query}"), name)
    assert listed(alice) == tasks


def test_changing_many_is_judged_in_the_order_of_the_rules(alice: Caller, nobody: Caller) -> None:
    path = "/api/tasks?is_completed=maybe"
    assert_error(nobody.patch(path, data=b"x" * 70_000), 401, "TOKEN_MISSING")
    assert_error(alice.patch(path, data=b"x" * 70_000), 413, "PAYLOAD_TOO_LARGE")
    assert_error(alice.patch(path, data=b"x"), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert_error(alice.patch(path, data=b"x", content_type="application/json"), 400, "MALFORMED_JSON")
    assert_error(nobody.delete(path), 401, "TOKEN_MISSING")


def test_ten_thousand_tasks_come_in_one_answer_and_go_in_one(alice: Caller, app: Flask) -> None:
    first = alice.create("First")
    rows = [
        {"id": f"{n:08x}-0000-7000-8000-{0:012}", "title": f"Task {n}", "at": f"2001-01-01T00:00:00.{n:06}Z"}
        for n in range(9_999)
    ]
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO tasks (user_id, id, title, is_completed, created_at, updated_at)"
                " VALUES ('alice', :id, :title, false, :at, :at)"
            ),
            rows,
        )
    tasks = listed(alice)
    assert tasks[0] == first
    assert [task["title"] for task in tasks[1:]] == [row["title"] for row in reversed(rows)]
    assert len(walk(alice, "/api/tasks?limit=1000", limit=1000)) == 10_000
    assert alice.patch("/api/tasks?is_completed=false", json={"is_completed": True}).json == {"count": 10_000}
    assert alice.delete("/api/tasks?is_completed=true").json == {"count": 10_000}
    assert listed(alice) == []
