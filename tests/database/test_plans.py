"""Query plans on a million tasks, 100,000 of them one user's."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import text

from tests.conftest import Caller, dispose, environ_for
from tests.support.databases import engine_of
from tests.support.statements import recorded
from todo_api import create_app
from todo_api.extensions import db
from todo_api.tasks import statements as task_statements

pytestmark = pytest.mark.slow

ALL, ALICES = 1_000_000, 100_000
FILL = """
    INSERT INTO users SELECT 'user' || n, now() FROM generate_series(1, 1000) n UNION ALL SELECT 'alice', now();
    INSERT INTO tasks SELECT CASE WHEN n % (:all / :alices) = 0 THEN 'alice' ELSE 'user' || (1 + n % 999) END,
        overlay(overlay(md5(n::text) placing '7' from 13) placing '8' from 17)::uuid,
        'Task ' || md5((n % 250000)::text), CASE WHEN n % 2 = 0 THEN repeat('some words ', 5) END,
        n % (:all / :alices * 100) = 0, now() - (n / 3) * interval '1 s',
        now() - (n::bigint * 7919 % :all) * interval '1 s', NULL, NULL,
        CASE WHEN n % 3 > 0 THEN date '2026-01-01' + n % 365 END,
        (ARRAY['low', 'medium', 'high', NULL])[1 + n / (:all / :alices) % 4],
        CASE WHEN n % 4 = 0 THEN '["home"]'::jsonb ELSE '[]'::jsonb END
    FROM generate_series(1, :all) n
"""
SORTED_BY = ("created_at", "updated_at", "title", "due_date", "priority")
SORTS = [sign + name for name in SORTED_BY for sign in ("", "-")]
OLD_FILTERS = ["", "&is_completed=false", "&is_completed=true", "&q=task", "&q=words&is_completed=false", "&q=no+such"]
NEW_FILTERS = ["&priority=high", "&tag=home", "&due_from=2026-03-01&due_to=2026-03-31&is_completed=false"]
FILTERS = OLD_FILTERS + NEW_FILTERS
RecordedStatement = tuple[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def filled(fresh_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    url = fresh_database("plans")
    app = create_app(
        environ_for(url, MAX_TASKS_PER_USER="0", DB_STATEMENT_TIMEOUT="120"), tmp_path_factory.mktemp("plans")
    )
    with app.app_context():
        upgrade()
        with db.engine.begin() as connection:
            for statement in FILL.split(";"):
                connection.execute(text(statement), {"all": ALL, "alices": ALICES})
    with engine_of(url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_statements, "MAX_SEARCH_SECONDS", 120)
        task_statements.page.cache_clear()
        yield app
    task_statements.page.cache_clear()
    dispose(app)


@pytest.fixture
def caller(filled: Flask) -> Caller:
    return Caller(filled.test_client(), "alice")


def statements_of(app: Flask, request: Callable[[], Any]) -> list[RecordedStatement]:
    """Return the statements that a request sends."""
    with recorded(app) as statements:
        request()
    return statements


def explain(app: Flask, statement: RecordedStatement, options: str = "") -> tuple[list[dict[str, Any]], int]:
    """Return the plan's nodes and the number of pages that it read."""

    def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield plan
        for child in plan.get("Plans", []):
            yield from nodes(child)

    with app.app_context(), db.engine.connect() as connection:
        sql, values = statement
        [[answer]] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON{options}) {sql}", values)
        connection.rollback()
    plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    return list(nodes(plan)), plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("sort", SORTS)
def test_a_page_reads_the_users_tasks_by_an_index(filled: Flask, caller: Caller, sort: str, filters: str) -> None:
    """By creation they come in order, unless so few match that the planner sorts them."""
    path = f"/api/tasks?sort={sort}&limit=50{filters}"
    response = caller.get(path)
    assert response.status_code == 200
    cursor = response.headers.get("X-Next-Cursor")
    assert bool(cursor) == ("q=no" not in filters)
    for page in (path, f"{path}&cursor={cursor}")[: 2 if cursor else 1]:
        [statement] = statements_of(filled, partial(caller.get, page))
        nodes, _ = explain(filled, statement)
        kinds = {node["Node Type"] for node in nodes}
        assert not kinds & {"Seq Scan", "Parallel Seq Scan"}, kinds
        assert kinds & {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}
        if sort.endswith("created_at"):
            for node in nodes:
                assert "Sort" not in node["Node Type"] or node["Plan Rows"] < ALICES / 50, node


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
def test_page_2000_reads_as_much_as_page_1(filled: Flask, caller: Caller, sort: str) -> None:
    whole = caller.get(f"/api/tasks?sort={sort}&limit=1000")
    for _ in range(99):
        cursor = whole.headers["X-Next-Cursor"]
        whole = caller.get(f"/api/tasks?sort={sort}&limit=1000&cursor={cursor}")
        if "X-Next-Cursor" not in whole.headers:
            break
    reads = []
    for start in ("", f"&cursor={cursor}"):
        [statement] = statements_of(filled, partial(caller.get, f"/api/tasks?sort={sort}&limit=50{start}"))
        reads.append(explain(filled, statement, ", ANALYZE, BUFFERS")[1])
    assert 0 < reads[1] <= 2 * reads[0]


def test_every_other_statement_finds_its_rows_by_an_index(filled: Flask) -> None:
    caller = Caller(filled.test_client(), "user5")
    task = caller.create("To be looked at")
    path = f"/api/tasks/{task['id']}"
    mine = {"If-Match": f'"{task["updated_at"]}"'}
    requests: list[Callable[[], Any]] = [
        lambda: caller.get(path),
        lambda: caller.get("/api/tasks/01890000-0000-7000-8000-000000000001"),
        lambda: caller.patch(path, json={"title": "New"}, headers=mine),
        lambda: caller.post("/api/tasks", json={"title": "Another"}),
        lambda: caller.post("/api/tasks", json={"title": "Another"}, headers={"Idempotency-Key": "k"}),
        lambda: caller.post("/api/tasks", json={"title": "Another"}, headers={"Idempotency-Key": "k"}),
        lambda: caller.patch("/api/tasks?is_completed=true", json={"is_completed": False}),
        lambda: caller.delete("/api/tasks?is_completed=true"),
        lambda: caller.delete(path),
    ]
    statements = [statement for request in requests for statement in statements_of(filled, request)]
    assert len(statements) >= 11
    for statement in statements:
        nodes, _ = explain(filled, statement)
        assert "Seq Scan" not in {node["Node Type"] for node in nodes if node.get("Relation Name") == "tasks"}, (
            statement
        )
