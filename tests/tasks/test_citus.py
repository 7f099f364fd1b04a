"""Every write is one that Citus takes, and on a cluster every statement runs on one shard (docs/scale-out.md).

Citus judges the functions in a write by their volatility, which every PostgreSQL knows.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from tests.support.databases import rows_of
from tests.support.query_trees import Node, nodes, trees_of
from tests.tasks.test_statements import BUILDERS, CONSTANTS, DIALECTS, variants
from todo_api.database.prepared import PLACEHOLDER, PreparedStatement

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

NAMES = [*CONSTANTS, *BUILDERS]
ON_ALL_SHARDS = {"EXISTS", "USERS"}  # the look for a foreign task, and `flask recount`
SELECT, UPDATE, INSERT = "1", "2", "3"  # PostgreSQL's CmdType
CALLS = ("funcid", "opfuncid")  # fields of a node that name the function it calls
TYPES = ("vartype", "paramtype", "consttype", "funcresulttype", "opresulttype", "resulttype", "minmaxtype")
# The rules of Citus 13 for a write (TargetlistAndFunctionsSupported in its source).
VOLATILE = "VOLATILE in SET or WHERE"
STABLE_OF_A_COLUMN = "STABLE of a column in SET or WHERE"
IN_A_BRANCH = "not IMMUTABLE in CASE or COALESCE"
RETURNED = "not IMMUTABLE in RETURNING"
REFUSED = {
    "UPDATE users SET updated_at = clock_timestamp() WHERE id = $1": VOLATILE,
    "UPDATE users SET updated_at = updated_at + interval '1 ms' WHERE id = $1": STABLE_OF_A_COLUMN,
    "WITH o AS (UPDATE users SET updated_at = updated_at + interval '1 ms' RETURNING id) SELECT id FROM o": (
        STABLE_OF_A_COLUMN
    ),
    "DELETE FROM tasks WHERE to_char(updated_at, 'YYYY') = $1": STABLE_OF_A_COLUMN,
    "DELETE FROM tasks WHERE updated_at::text = $1": STABLE_OF_A_COLUMN,
    "UPDATE users SET updated_at = coalesce(forgotten_at, now()) WHERE id = $1": IN_A_BRANCH,
    "UPDATE users SET updated_at = CASE WHEN id = $1 THEN now() ELSE updated_at END": IN_A_BRANCH,
    "UPDATE users SET updated_at = now() WHERE id = $1 RETURNING to_char(updated_at, 'YYYY')": RETURNED,
    "UPDATE users SET updated_at = now() WHERE id = $1 RETURNING json_build_object('id', id)": RETURNED,
    "INSERT INTO users (id, created_at) VALUES ($1, now()) RETURNING created_at::text": RETURNED,
}
TAKEN = (
    "UPDATE users SET updated_at = greatest(now(), updated_at) WHERE id = $1 RETURNING id, updated_at",
    "UPDATE users SET updated_at = (updated_at AT TIME ZONE 'UTC' + interval '1 ms') AT TIME ZONE 'UTC'",
    "DELETE FROM tasks WHERE updated_at < now() AND updated_at = ANY (CAST($1 AS timestamptz[]))",
    "SELECT to_char(updated_at, 'YYYY'), json_build_object('id', id) FROM users WHERE updated_at::text = $1",
    "INSERT INTO users (id, created_at) SELECT $1, clock_timestamp()",
)
TASK_ID, TIME = "01a1fc99-ee71-72ec-b587-48e127eeb180", "2026-02-08T09:30:00.123456Z"
VALUES: dict[str, Any] = {  # of parameters whose type is not text
    **dict.fromkeys(("id", "after_id", "tasks_id", "deletions_id"), TASK_ID),
    **dict.fromkeys(("is_completed", "mark"), True),
    **dict.fromkeys(("limit", "kept", "max_tasks"), 5),
    **dict.fromkeys(("tasks_time", "deletions_time", "horizon", "value"), TIME),
    **dict.fromkeys(("due_from", "due_to", "due_date"), "2026-02-08"),
    **dict.fromkeys(("versions", "known"), "{}"),
    **dict.fromkeys(("tag", "tags"), "[]"),
    "digest": None,
    "key": None,
}

Volatility = Callable[[Node], str]  # returns i, s or v, in this order: of what a node itself calls


def prepared(name: str) -> list[PreparedStatement]:
    """Return all variants of a statement."""
    found = [CONSTANTS[name]] if name in CONSTANTS else variants(BUILDERS[name])
    return [PreparedStatement.compile(statement, DIALECTS[0], timeout=10) for statement in found]


@pytest.fixture(scope="module")
def volatility(databases: dict[str, str]) -> Volatility:
    """Ask PostgreSQL for the volatility of its functions, and of writing and reading a type as text."""
    url = databases["postgresql"]
    of_function = dict(row.split() for row in rows_of(url, "SELECT oid || ' ' || provolatile::text FROM pg_proc"))
    as_text = (
        "SELECT t.oid || ' ' || p.provolatile::text FROM pg_type t JOIN pg_proc p ON p.oid IN (typinput, typoutput)"
    )
    of_type = dict(sorted(row.split() for row in rows_of(url, as_text)))  # the more volatile of two is the last

    def of(node: Node) -> str:
        called = [of_function[node.fields[name][0]] for name in CALLS if name in node.fields]
        if node.kind == "COERCEVIAIO":
            ends = (node, *nodes(node.fields["arg"]))
            called += [of_type[end.fields[name][0]] for end in ends for name in TYPES if name in end.fields]
        return max(called, default="s" if node.kind == "SQLVALUEFUNCTION" else "i")

    return of


def broken_rules(tree: Node, volatility: Volatility) -> Iterator[str]:
    """Yield the rules that the writes in a statement break."""
    for query in tree.walk():
        if query.kind == "QUERY" and query.fields["commandType"][0] != SELECT:
            changed = query.fields["targetList"] if query.fields["commandType"][0] == UPDATE else []
            for expression in nodes([changed, query.fields["jointree"]]):
                yield from broken_by(expression, volatility)
            if any(volatility(node) > "i" for top in nodes(query.fields["returningList"]) for node in top.walk()):
                yield RETURNED


def broken_by(expression: Node, volatility: Volatility) -> Iterator[str]:
    """Yield the rules that an expression in SET or WHERE breaks."""
    for node in expression.walk_level():
        if volatility(node) == "v":
            yield VOLATILE
        if volatility(node) == "s" and any(below.kind == "VAR" for below in node.walk_level()):
            yield STABLE_OF_A_COLUMN
        if node.kind.startswith(("CASE", "COALESCE")) and any(volatility(below) > "i" for below in node.walk()):
            yield IN_A_BRANCH


@pytest.mark.parametrize("name", NAMES)
def test_every_write_keeps_the_rules(database_url: str, volatility: Volatility, name: str) -> None:
    statements = [statement.declaration.partition(" AS ")[2] for statement in prepared(name)]
    for statement, tree in zip(statements, trees_of(database_url, statements), strict=True):
        assert [*broken_rules(tree, volatility)] == [], statement


def is_owned(query: Node, user_id: int) -> bool:
    """Return whether a step with tables compares the column of the user with the parameter that is the user."""
    equalities = (node for place in nodes(query.fields["jointree"]) for node in place.walk_level())
    sides = [{side.kind: side for side in nodes(node.fields["args"])} for node in equalities if node.kind == "OPEXPR"]
    return any(
        side.keys() == {"VAR", "PARAM"}
        and side["PARAM"].number("paramid") == user_id
        and is_of_the_user(query, side["VAR"])
        for side in sides
    )


def is_of_the_user(query: Node, variable: Node) -> bool:
    """Return whether a variable is `users.id`, or `user_id` of another table."""
    entry = [*nodes(query.fields["rtable"])][variable.number("varno") - 1]
    [names] = nodes(entry.fields["eref"])
    column = names.fields["colnames"][0][variable.number("varattno") - 1].strip('"')
    return bool(column == ("id" if names.fields["aliasname"] == ["users"] else "user_id"))


def steps_on_tables(tree: Node) -> Iterator[Node]:
    """Yield the steps that read or change rows of a table. An INSERT has none: its rows come from another step."""
    for query in tree.walk():
        is_step = query.kind == "QUERY" and query.fields["commandType"][0] != INSERT
        if is_step and any(entry.fields["rtekind"] == ["0"] for entry in nodes(query.fields["rtable"])):
            yield query


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ON_ALL_SHARDS])
def test_every_step_names_the_owner(database_url: str, name: str) -> None:
    """Else it would run on all shards."""
    statements = prepared(name)
    trees = trees_of(database_url, [statement.declaration.partition(" AS ")[2] for statement in statements])
    for statement, tree in zip(statements, trees, strict=True):
        names = list(dict.fromkeys(PLACEHOLDER.findall(statement.steps[0])))
        assert all(is_owned(query, names.index("user_id") + 1) for query in steps_on_tables(tree)), statement.steps[0]


@pytest.mark.parametrize(
    ("statement", "owned"),
    [
        ("SELECT 1 FROM tasks WHERE user_id = $1", True),
        ("UPDATE users SET task_count = 1 WHERE id = $1", True),
        ("SELECT 1 FROM tasks WHERE title = $1", False),
        ("SELECT 1 FROM tasks, users WHERE tasks.user_id = users.id AND tasks.title = $1", False),
        ("SELECT 1 FROM tasks WHERE user_id = $2 AND title = $1", False),
    ],
)
def test_a_step_that_does_not_name_the_owner_is_recognized(database_url: str, statement: str, owned: bool) -> None:
    [tree] = trees_of(database_url, [statement])
    assert [is_owned(query, 1) for query in steps_on_tables(tree)] == [owned]


@pytest.mark.parametrize("statement", REFUSED)
def test_what_citus_refuses_is_recognized(database_url: str, volatility: Volatility, statement: str) -> None:
    [tree] = trees_of(database_url, [statement])
    assert {*broken_rules(tree, volatility)} == {REFUSED[statement]}


@pytest.mark.parametrize("statement", TAKEN)
def test_what_citus_takes_breaks_no_rule(database_url: str, volatility: Volatility, statement: str) -> None:
    [tree] = trees_of(database_url, [statement])
    assert [*broken_rules(tree, volatility)] == []


# --- On a cluster ---


def explained(url: str, statement: str, values: Any = None) -> str:
    """Return the plan of a statement, or the error."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(f"EXPLAIN (COSTS OFF) {statement}", values)
        except psycopg2.Error as error:
            return str(error)
        return "\n".join(row[0] for row in cursor.fetchall())


@pytest.mark.citus
@pytest.mark.parametrize("name", NAMES)
def test_every_statement_runs_on_one_shard(database_url: str, name: str) -> None:
    for statement in prepared(name):
        [sql] = statement.steps
        values = {name: VALUES.get(name, "text") for name in PLACEHOLDER.findall(sql)}
        plan = explained(database_url, sql, values)
        counts = {*re.findall(r"Task Count: (\d+)", plan)}
        assert (counts == {"1"}) == (name not in ON_ALL_SHARDS), plan


@pytest.mark.citus
@pytest.mark.parametrize("statement", [*REFUSED, *TAKEN])
def test_the_rules_are_those_of_the_cluster(database_url: str, statement: str) -> None:
    plan = explained(database_url, statement.replace("$1", "'{}'"))
    assert plan.startswith("Custom Scan (Citus") == (statement in TAKEN), plan
