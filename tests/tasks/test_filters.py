"""Lists by priority, tag and due date: filters, order, and pages over equal and missing values."""

import json
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from itertools import product
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from tests.conftest import Caller
from tests.support.tasks import Task, assert_invalid, ids, in_order, listed, path_of
from todo_api.tasks.pagination import Query

PRIORITIES = ["low", "medium", "high", None]
DAYS = [None, "2026-02-07", "2026-02-08", "2026-02-09"]
TAGS = [[], ["a"], ["b", "a"], ["A", "ab", "é"]]
NEW_SORTS = ["due_date", "-due_date", "priority", "-priority"]


@pytest.fixture
def tasks(alice: Caller, bob: Caller) -> list[Task]:
    """Alice has a task of each combination of values; Bob has the same."""
    for number, (priority, day, tags) in enumerate(product(PRIORITIES, DAYS, TAGS)):
        fields = {"priority": priority, "due_date": day, "tags": tags, "is_completed": number % 3 == 0}
        for caller in (bob, alice):
            caller.create("Milk" if number % 5 else "Bread", **fields)
    return listed(alice)


def matches(task: Task, query: dict[str, Any]) -> bool:
    """Return whether the contract says that a list has the task."""
    day = task["due_date"]
    return (
        query.get("is_completed") in (None, str(task["is_completed"]).lower())
        and query.get("q", "").lower() in task["title"].lower()
        and query.get("priority") in (None, task["priority"] or "none")
        and {*query.get("tag", [])} <= {*task["tags"]}
        and ("due_from" not in query or (day is not None and day >= query["due_from"]))
        and ("due_to" not in query or (day is not None and day <= query["due_to"]))
    )


CHOICES: list[list[dict[str, Any]]] = [
    [{}, *({"priority": priority} for priority in ("low", "medium", "high", "none"))],
    [
        {},
        *({"tag": tags} for tags in (["a"], ["b"], ["a", "b"], ["b", "a", "a"], ["A"], ["a", "A"], ["é"], ["e\u0301"])),
    ],
    [
        *({}, {"due_from": "2026-02-08"}, {"due_to": "2026-02-08"}, {"due_from": "2026-02-08", "due_to": "2026-02-08"}),
        *({"due_from": "2026-02-09", "due_to": "2026-02-07"}, {"due_from": "0001-01-01", "due_to": "9999-12-31"}),
    ],
    [{}, {"is_completed": "true"}, {"q": "bread"}, {"is_completed": "false", "q": "MILK"}],
]


def test_filters_find_what_matches_all_of_them(alice: Caller, tasks: list[Task]) -> None:
    seen: set[int] = set()
    for choice in product(*CHOICES):
        query: dict[str, Any] = {name: value for part in choice for name, value in part.items()}
        response = alice.get("/api/tasks", query_string={**query, "include_total": "true"})
        expected = [task for task in tasks if matches(task, query)]
        assert response.json == expected, query
        assert response.headers["X-Total-Count"] == str(len(expected))
        seen.add(len(expected))
    assert {0, 1, 4, 16, 48, 64} <= seen


@pytest.mark.parametrize("sort", NEW_SORTS)
@pytest.mark.parametrize(
    "query", ["", "priority=none", "tag=a&tag=b", "due_from=2026-02-08", "is_completed=false&q=milk"]
)
def test_pages_follow_equal_and_missing_values(alice: Caller, tasks: list[Task], sort: str, query: str) -> None:
    named: dict[str, Any] = {}
    for name, value in parse_qsl(query):
        named[name] = [*named.get(name, []), value] if name == "tag" else value
    expected = in_order([task for task in tasks if matches(task, named)], sort)
    assert expected
    for limit in (1, 7, len(expected)):
        path = f"/api/tasks?sort={sort}&limit={limit}&{query}"
        found: list[Task] = []
        while path:
            response = alice.get(path)
            found += response.json or []
            path = response.headers.get("Link", "").removeprefix("<").partition(">")[0]
        assert found == expected


@pytest.mark.parametrize("sort", NEW_SORTS)
def test_pages_hold_unchanged_tasks_once_while_others_get_and_lose_values(
    alice: Caller, tasks: list[Task], sort: str
) -> None:
    """Even the tasks at the borders of pages, and of those without a value."""
    column = sort.removeprefix("-")
    order = in_order(tasks, sort)
    border = next(number for number, task in enumerate(order) if task[column] is None)
    limit = border // 2  # so that one page ends where the values do
    moved = {order[number]["id"] for number in (limit - 1, border - 1, border, border + 1, -1)}
    path, found = f"/api/tasks?sort={sort}&limit={limit}", []
    while path:
        response = alice.get(path)
        found += ids(response.json or [])
        path = response.headers.get("Link", "").removeprefix("<").partition(">")[0]
        for task in order:
            if task["id"] in moved:
                value = None if task[column] else {"due_date": "2026-02-08", "priority": "medium"}[column]
                assert alice.patch(path_of(task), json={column: value}).status_code == 200
        alice.create("New", **{column: {"due_date": "2026-02-08", "priority": "medium"}[column]})
        alice.create("New, without")
    unchanged = [task_id for task_id in ids(order) if task_id not in moved]
    assert [task_id for task_id in found if task_id in unchanged] == unchanged


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("priority", ["", "None", "HIGH", "low,high", "urgent", "\0"]),
        ("due_from", ["", "2026-02-29", "2026-2-8", "20260208", "2026-02-08T00:00:00Z", " 2026-02-08", "\0", "none"]),
        ("due_to", ["", "2025-02-29", "0000-01-01", "10000-01-01", "2026-02-08 ", "infinity"]),
        ("tag", ["", " ", "x" * 51, "🥛" * 51, "a\0b"]),
    ],
)
def test_an_invalid_filter_is_rejected_by_name(alice: Caller, name: str, values: list[str]) -> None:
    for value in values:
        assert_invalid(alice.get("/api/tasks", query_string={name: value}), name)
    assert_invalid(alice.get(f"/api/tasks?{name}=%FF"), name)
    for method, path in (("POST", "/api/tasks"), ("DELETE", "/api/tasks"), ("GET", "/api/tasks/changes")):
        refused = alice(method, f"{path}?{name}=low", json={"title": "x"})
        assert name in assert_invalid(refused, *({"DELETE": [name, "is_completed"]}.get(method, [name])))


@pytest.mark.sqlite_only
def test_only_tag_may_be_repeated_and_at_most_twenty_times(alice: Caller) -> None:
    task = alice.create("x", tags=[f"{number}" for number in range(20)])
    assert listed(alice, tag=task["tags"]) == [task]
    assert listed(alice, tag=["x" * 50]) == listed(alice, tag=["🥛" * 50]) == []
    assert_invalid(alice.get("/api/tasks", query_string={"tag": [*task["tags"], "0"]}), "tag")
    assert_invalid(alice.get("/api/tasks", query_string={"tag": ["0", "x" * 51]}), "tag")
    for name, value in (("priority", "low"), ("due_from", "2026-02-08"), ("due_to", "2026-02-08")):
        assert_invalid(alice.get("/api/tasks", query_string={name: [value, value]}), name)


@pytest.mark.parametrize(
    "tag", ["a b", " a ", "a&b=c", "+", "%", "_", "\\", '"', "'", "\\u0041", "[]", "null", "1", "🥛", "é", "\u200b"]
)
def test_a_tag_is_found_as_it_is_stored_whatever_its_characters(alice: Caller, tag: str) -> None:
    other = alice.create("other", tags=["x", f"{tag.strip()}x", f"x{tag.strip()}"])
    task = alice.create("x", tags=["first", tag])
    assert listed(alice, tag=tag) == listed(alice, tag=[f"\t{tag}\u3000", "first"]) == [task]
    assert listed(alice, tag=["x", tag]) == []
    assert listed(alice, tag="x") == [other]


QUERY = {"due_from": "2026-02-08", "due_to": "2026-02-09", "priority": "low", "tag": ["a", "é &"], "sort": "-due_date"}


def test_a_link_keeps_the_filters_and_a_cursor_works_under_no_other(alice: Caller) -> None:
    tasks = [alice.create("x", due_date=day, priority="low", tags=["a", "é &", "b"]) for day in DAYS[2:] * 2]
    response = alice.get("/api/tasks", query_string={**QUERY, "limit": 1})
    link = response.headers["Link"].removeprefix("</api/tasks?").partition(">")[0]
    cursor = response.headers["X-Next-Cursor"]
    expected = [*parse_qsl(urlencode(QUERY, doseq=True)), ("limit", "1"), ("cursor", cursor)]
    assert sorted(parse_qsl(link)) == sorted(expected)
    assert listed(alice, **QUERY, cursor=cursor) == in_order(tasks, "-due_date")[1:]
    others: list[dict[str, Any]] = [
        *({"due_from": "2026-02-07"}, {"due_to": "2026-02-08"}, {"priority": "high"}, {"sort": "due_date"}),
        *({"tag": ["a"]}, {"tag": ["é &"]}, {"tag": ["a", "b"]}, {"q": "x"}, {"is_completed": "false"}),
        *({name: None} for name in QUERY),
    ]
    for other in others:
        query = {name: value for name, value in {**QUERY, **other}.items() if value is not None}
        assert_invalid(alice.get("/api/tasks", query_string={**query, "cursor": cursor}), "cursor")


@pytest.mark.sqlite_only
def test_the_etag_of_a_list_differs_between_filters(alice: Caller, tasks: list[Task]) -> None:
    queries: list[dict[str, Any]] = [
        *({}, {"priority": "none"}, {"priority": "low"}, {"tag": ["none"]}, {"tag": ["low"]}, {"tag": ["low", "none"]}),
        *({"due_from": "2026-02-08"}, {"due_to": "2026-02-08"}, {"due_from": "2026-02-08", "due_to": "2026-02-08"}),
        *({"sort": sort} for sort in NEW_SORTS),
    ]
    etags = [alice.get("/api/tasks", query_string=query).headers["ETag"] for query in queries]
    assert len({*etags}) == len(queries)
    for query, etag in zip(queries, etags, strict=True):
        same = alice.get("/api/tasks", query_string=query, headers={"If-None-Match": etag})
        assert (same.status_code, same.data) == (304, b"")
    for body in ({"due_date": "2026-02-01"}, {"priority": "high"}, {"tags": ["new"]}):
        alice.patch(path_of(tasks[0]), json=body)
        changed = [alice.get("/api/tasks", query_string=query).headers["ETag"] for query in queries]
        assert not {*changed} & {*etags}
        etags = changed


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def old_cursor(task: Task, *shared: Any, sort_value: str) -> str:
    """Return a cursor as the code before these filters made it; `shared` are the parameters of all its pages."""
    scope = blake2b(json.dumps(["alice", *shared]).encode(), digest_size=12).digest()
    return encoded(scope + uuid.UUID(task["id"]).bytes + sort_value.encode())


def test_a_cursor_from_before_these_filters_still_works(alice: Caller, tasks: list[Task]) -> None:
    """The digest in it is of the user, `is_completed`, `q` and `sort`."""
    cursor = old_cursor(tasks[5], None, None, "-created_at", sort_value=tasks[5]["created_at"])
    assert alice.get("/api/tasks?limit=6").headers["X-Next-Cursor"] == cursor
    assert listed(alice, cursor=cursor) == tasks[6:]
    assert_invalid(alice.get("/api/tasks", query_string={"cursor": cursor, "priority": "low"}), "cursor")
    found = in_order([task for task in tasks if matches(task, {"is_completed": "false", "q": "milk"})], "title")
    cursor = old_cursor(found[2], False, "milk", "title", sort_value=found[2]["title"])
    assert listed(alice, is_completed="false", q="milk", sort="title", cursor=cursor) == found[3:]


FORGED: dict[str, list[str | bytes]] = {
    "due_date": [
        "x",
        "2026-02-29",
        "2026-2-8",
        "20260208",
        "infinity",
        "today",
        "0000-01-01",
        "10000-01-01",
        b"\xff",
        "\0",
    ],
    "priority": ["x", "none", "Low", "null", "0", b"\xed\xa0\x80", "low\0"],
    "title": ["x" * 201],
    "created_at": ["", "2026-02-08"],
}


def forge(sort: str, value: str | bytes) -> dict[str, str]:
    """Return Bob's query with a cursor of any position: the digest in it holds no secret."""
    raw = value if isinstance(value, bytes) else value.encode()
    return {"sort": sort, "cursor": encoded(Query(sort=sort).scope("bob") + uuid.UUID(int=0).bytes + raw)}


@pytest.mark.parametrize(("sort", "value"), [(sort, value) for sort, values in FORGED.items() for value in values])
def test_a_forged_value_that_no_task_can_have_is_rejected(bob: Caller, sort: str, value: str | bytes) -> None:
    for order in (sort, f"-{sort}"):
        assert_invalid(bob.get("/api/tasks", query_string=forge(order, value)), "cursor")


@pytest.mark.parametrize(
    ("sort", "value"), [("due_date", "0001-01-01"), ("priority", "low"), ("due_date", ""), ("priority", "")]
)
def test_a_forged_position_returns_own_tasks_only(bob: Caller, tasks: list[Task], sort: str, value: str) -> None:
    found = listed(bob, **forge(sort, value))
    his = in_order(listed(bob), sort)
    assert found == (his if value else [task for task in his if task[sort] is None])


def test_a_cursor_with_any_bit_changed_is_rejected_or_leads_to_own_tasks(alice: Caller, tasks: list[Task]) -> None:
    for sort, limit in (("due_date", 3), ("-priority", 3), ("due_date", 60)):
        cursor = alice.get(f"/api/tasks?sort={sort}&limit={limit}").headers["X-Next-Cursor"]
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        for bit in range(12 * 8, len(raw) * 8):
            changed = bytearray(raw)
            changed[bit // 8] ^= 1 << bit % 8
            response = alice.get("/api/tasks", query_string={"sort": sort, "cursor": encoded(bytes(changed))})
            if response.status_code == 200:
                assert {task["user_id"] for task in response.json or []} <= {"alice"}
            else:
                assert_invalid(response, "cursor")
