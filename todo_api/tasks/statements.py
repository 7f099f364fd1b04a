"""SQL for tasks, in SQLAlchemy Core. Every statement but `EXISTS` and `USERS` names the owner.

A task comes as `task_columns`: its id, its version, and the JSON that the API returns. Statements are built once, and
the database compiles each once.

Every write goes through its owner's row: it gives a new version to the row and to the tasks that it changes. So one
user's writes take turns, and the order of their versions is the order of their commits. On PostgreSQL a write is one
statement. A change or deletion first locks the row: only then is it known what it finds.
"""

from collections.abc import Iterable
from functools import cache, lru_cache, reduce
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import ColumnElement, bindparam, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

from todo_api.database import Statement
from todo_api.models import Deletion, Task, Timestamp, User
from todo_api.tasks.dialects import DialectExpression
from todo_api.tasks.pagination import is_optional

tasks, users, deletions = (cast(sa.Table, model.__table__) for model in (Task, User, Deletion))

# What a client may write. A new field is added at the end of this, in the model and in the schema.
WRITABLE = [tasks.c[name] for name in ("title", "description", "is_completed", "due_date", "priority", "tags")]
FIELDS = (tasks.c.id, tasks.c.user_id, *WRITABLE, tasks.c.completed_at, tasks.c.created_at, tasks.c.updated_at)

USER = users.c.id == bindparam("user_id")
OWNED = tasks.c.user_id == bindparam("user_id")
BY_ID = OWNED & (tasks.c.id == bindparam("id"))
BY_KEY = OWNED & (tasks.c.idempotency_key == bindparam("key"))
BY_STATE = OWNED & (tasks.c.is_completed == bindparam("is_completed"))
NOW = DialectExpression("now")
NEXT_VERSION = DialectExpression("next_version", users.c.updated_at)
ONE: ColumnElement[int] = literal_column("1")
ZERO: ColumnElement[int] = literal_column("0")
LAST_ID = sa.cast(literal_column("'ffffffff-ffff-ffff-ffff-ffffffffffff'"), deletions.c.task_id.type)
VERSION = select(users.c.updated_at).where(USER).scalar_subquery()
NUMBER = select(sa.func.count()).select_from(tasks).where(OWNED).scalar_subquery()
COUNT = sa.func.coalesce(users.c.task_count, NUMBER)
MAX_PAGES = 200  # of 960 that clients can ask for; each takes 50 KB
MAX_SEARCH_SECONDS = 2  # a search that is made to be slow takes 1 in 10,000 tasks of the largest size
HAS_ROOM = bindparam("max_tasks") > COUNT


def json_of(column: sa.Column[Any], source: Any) -> ColumnElement[str]:
    """Return a column of a table or CTE as JSON text."""
    if column is tasks.c.user_id:
        return bindparam("user_json")  # the same in each row
    if column is tasks.c.completed_at:
        time = DialectExpression("json_time", sa.case((source.is_completed, completion_time(source))))
        return sa.func.coalesce(time, literal_column("'null'"))
    if isinstance(column.type, sa.JSON):
        return DialectExpression("json", source[column.name])
    if isinstance(column.type, sa.Boolean):
        return sa.case((source[column.name], literal_column("'true'")), else_=literal_column("'false'"))
    return DialectExpression("json_time" if isinstance(column.type, Timestamp) else "json_text", source[column.name])


def completion_time(source: Any) -> ColumnElement[Any]:
    """Return when a completed task was completed; its last change, if code without `completed_at` completed it."""
    return sa.func.coalesce(source.completed_at, source.updated_at)


def json_object(source: Any) -> ColumnElement[str]:
    """Return a task as JSON text, joined from pieces: json_build_object takes several times as long."""
    pieces: list[ColumnElement[str]] = []
    for column in FIELDS:
        pieces += [literal_column(f"""'{"," if pieces else "{"}"{column.name}":'"""), json_of(column, source)]
    return reduce(ColumnElement.concat, [*pieces, literal_column("'}'")])


def task_columns(source: Any) -> tuple[ColumnElement[Any], ...]:
    """Return the id, the version and the JSON of a task in a table or CTE."""
    version = DialectExpression("rfc3339", source.updated_at).label("version")
    return sa.cast(source.id, sa.Text), version, json_object(source).label("json")


def locked_owner(*columns: ColumnElement[Any]) -> sa.CTE:
    """Return the owner's row, locked, with its next version and more columns.

    Later steps take the version and the count from here: on Citus each step has a snapshot and a time of its own.
    """
    locked = select(users.c.id, NEXT_VERSION.label("version"), *columns).where(USER)
    return locked.with_for_update(key_share=True).cte("owner")


def move_owner(which: ColumnElement[bool]) -> sa.Update:
    """Return the step on SQLite that gives the owner's row its next version if there is such a task."""
    return sa.update(users).values(updated_at=NEXT_VERSION).where(USER, sa.exists().where(which))


OWN = sa.exists().where(BY_ID).label("own")
EXISTS = Statement(select(sa.exists().where(tasks.c.id == bindparam("id")), OWN), repeatable=True)
IS_OWN = Statement(select(sa.false(), OWN), repeatable=True)
FIND_KEY = Statement(select(*task_columns(tasks.c), tasks.c.idempotency_digest).where(BY_KEY), repeatable=True)
LIMIT_REACHED = Statement(select(ONE).where(USER, ~HAS_ROOM, ~sa.exists().where(BY_KEY)), repeatable=True)
NEW_USER = {
    "id": sa.cast(bindparam("user_id"), sa.Text),
    "created_at": NOW,
    "updated_at": NOW,
    "task_count": ZERO,
}
UNLESS_THERE = select(*NEW_USER.values()).where(~sa.exists().where(USER))  # a restore may have removed the key
# Citus reports a key that is taken without its SQLSTATE, unless there is an ON CONFLICT.
CREATE_USER = Statement(
    *(
        dialect.insert(users).from_select([*NEW_USER], UNLESS_THERE, include_defaults=False).on_conflict_do_nothing()
        for dialect in (postgresql, sqlite)
    ),
    repeatable=True,
)
DELETE_USER = Statement(sa.delete(users).where(USER))
USERS = Statement(select(users.c.id), repeatable=True)
LAST_CHANGE = select(sa.func.max(tasks.c.updated_at)).where(OWNED).scalar_subquery()
AFTER_ALL = DialectExpression(
    "next_version", sa.case((users.c.updated_at < LAST_CHANGE, LAST_CHANGE), else_=users.c.updated_at)
)
OWNER_VERSION = Statement(select(DialectExpression("rfc3339", users.c.updated_at)).where(USER), repeatable=True)
# The count is right if no write has moved the owner's row since it was at `:versions`; otherwise nothing changes.
RECOUNT = Statement(
    sa.update(users)
    .values(updated_at=AFTER_ALL, forgotten_at=AFTER_ALL, task_count=NUMBER)
    .where(USER, DialectExpression("one_of", users.c.updated_at, bindparam("versions")))
)


@cache
def create(*, keyed: bool) -> Statement:
    """Return the creation of a task. It creates nothing if the limit is reached or the key was used."""
    counted = sa.update(users).values(updated_at=NEXT_VERSION, task_count=COUNT + ONE).where(USER, HAS_ROOM)
    if keyed:
        counted = counted.where(~sa.exists().where(BY_KEY))
    owner = counted.returning(users.c.id, users.c.updated_at).cte("owner")
    task = insert_task(select(*stored_values(owner.c))).returning(*tasks.c).cte("task")
    was_counted = USER & (literal_column("changes()") > ZERO)
    on_sqlite = insert_task(select(*stored_values(users.c)).where(was_counted)).returning(*task_columns(tasks.c))
    return Statement(select(*task_columns(task.c)), counted, on_sqlite, repeatable=True)


def stored_values(owner: Any) -> list[ColumnElement[Any]]:
    """Return the values of a new task, in the order of the table's columns."""
    values = {
        "user_id": owner.id,
        "id": sa.cast(bindparam("id"), tasks.c.id.type),  # PostgreSQL would take the parameter as text
        "created_at": owner.updated_at,
        "updated_at": owner.updated_at,
        "completed_at": sa.case((bindparam("is_completed"), owner.updated_at)),
        "idempotency_key": bindparam("key"),
        "idempotency_digest": bindparam("digest"),
    }
    return [values.get(column.name, bindparam(column.name)) for column in tasks.c]


def insert_task(source: sa.Select[Any]) -> sa.Insert:
    return sa.insert(tasks).from_select([column.name for column in tasks.c], source, include_defaults=False)


@cache
def get(*, if_match: bool = False) -> Statement:
    return Statement(select(*task_columns(tasks.c)).where(by_id(if_match)), repeatable=True)


@cache
def change(names: tuple[str, ...], *, if_match: bool) -> Statement:
    """Return the change of the named fields of one task."""
    which, owner = by_id(if_match), locked_owner()
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    written = write(values, owner.c.version).where(which, tasks.c.user_id == owner.c.id)
    task = written.returning(*tasks.c).cte("task")
    moved = sa.update(users).values(updated_at=task.c.updated_at).where(USER, users.c.id == task.c.user_id)
    on_sqlite = write(values, VERSION).where(which).returning(*task_columns(tasks.c))
    return Statement(select(*task_columns(task.c)).add_cte(moved.cte("moved")), move_owner(which), on_sqlite)


def write(changes: dict[str, Any], version: ColumnElement[Any]) -> sa.Update:
    """Return the change of tasks, which get a version, and the time of completion that follows from `is_completed`."""
    is_completed = changes.get("is_completed", tasks.c.is_completed)
    time = sa.case((tasks.c.is_completed, completion_time(tasks.c)), else_=version)
    return sa.update(tasks).values({**changes, "updated_at": version, "completed_at": sa.case((is_completed, time))})


@cache
def remove(*, if_match: bool) -> Statement:
    return delete(by_id(if_match), counts=False)


def delete(which: ColumnElement[bool], *, counts: bool) -> Statement:
    """Return the deletion of the owner's tasks, with a record of each. It returns their ids, or just counts them."""
    owner = locked_owner(COUNT.label("task_count"))
    gone = sa.delete(tasks).where(which, tasks.c.user_id == owner.c.id).returning(tasks.c.id).cte("gone")
    recorded = record_deletions(select(owner.c.id, owner.c.version, gone.c.id).join_from(owner, gone, sa.true()))
    number = select(sa.func.count().label("number")).select_from(gone).cte("number")
    counted = sa.update(users).values(updated_at=owner.c.version, task_count=owner.c.task_count - number.c.number)
    moved = counted.where(USER, users.c.id == owner.c.id, number.c.number > ZERO).cte("moved")
    core = recorded.add_cte(moved) if counts else select(gone.c.id).add_cte(recorded.cte("recorded"), moved)
    found = select(sa.func.count()).select_from(tasks).where(which).scalar_subquery()
    deleted = sa.delete(tasks).where(which)
    return Statement(
        core,
        move_owner(which).values(task_count=COUNT - found),
        record_deletions(select(tasks.c.user_id, VERSION, tasks.c.id).where(which)),
        deleted if counts else deleted.returning(tasks.c.id),
    )


def record_deletions(source: sa.Select[Any]) -> sa.Insert:
    return sa.insert(deletions).from_select(["user_id", "deleted_at", "task_id"], source)


def by_id(if_match: bool) -> ColumnElement[bool]:
    """Return the condition for one task of the owner; with `if_match` only at one of `:versions`."""
    return BY_ID & DialectExpression("one_of", tasks.c.updated_at, bindparam("versions")) if if_match else BY_ID


def mark_all() -> Statement:
    owner = locked_owner()
    # In the order of an index, or the planner may scan the whole table for the first one.
    newest_first = (tasks.c.created_at.desc(), tasks.c.id.desc())
    matching = select(tasks.c.user_id).where(BY_STATE, tasks.c.user_id == owner.c.id).order_by(*newest_first).limit(ONE)
    # Locking a row looks at it as it is now. The last UPDATE reads from `moved`, so that it runs after this.
    some = matching.with_for_update(key_share=True, of=tasks).cte("some")
    moved = sa.update(users).values(updated_at=NEXT_VERSION).where(USER, users.c.id == some.c.user_id)
    version = moved.returning(users.c.id, users.c.updated_at).cte("moved")
    mark: dict[str, Any] = {"is_completed": bindparam("mark")}
    return Statement(
        write(mark, version.c.updated_at).where(BY_STATE, tasks.c.user_id == version.c.id),
        move_owner(BY_STATE),
        write(mark, VERSION).where(BY_STATE),
    )


MARK_ALL, DELETE_ALL = mark_all(), delete(BY_STATE, counts=True)


# Whether the client has not seen the owner's tasks at their version. Read once, and before any task.
CHANGED = ~DialectExpression("one_of", VERSION, bindparam("known"))


# A filter whose parameter is null finds everything, so that all combinations of these filters are one statement.
OTHER_FILTERS = [
    condition | bindparam(name).is_(None)
    for name, condition in {
        "priority": sa.func.coalesce(tasks.c.priority, literal_column("'none'")) == bindparam("priority"),
        "tag": DialectExpression("has_all", tasks.c.tags, bindparam("tag")),
        "due_from": tasks.c.due_date >= bindparam("due_from"),
        "due_to": tasks.c.due_date <= bindparam("due_to"),
    }.items()
]
SORT_KEYS = {"title": "code_points", "priority": "rank"}


def sort_key(name: str, value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return what tasks are sorted by, made of a column or of the value in a cursor."""
    return DialectExpression(SORT_KEYS[name], value) if name in SORT_KEYS else value


def filtered(*, is_completed: bool, q: bool, others: bool) -> ColumnElement[bool]:
    """Return the condition for the owner's tasks under the filters in use; `others` are all but the named ones."""
    found = BY_STATE if is_completed else OWNED
    if q:
        words: tuple[ColumnElement[str], ...] = bindparam("q"), bindparam("q_pattern")
        found &= sa.or_(*(DialectExpression("contains", text, *words) for text in (tasks.c.title, tasks.c.description)))
    return sa.and_(found, *OTHER_FILTERS) if others else found


@lru_cache(MAX_PAGES)
def page(
    *, is_completed: bool, q: bool, others: bool, sort: str, after: str | None, total: bool, known: bool
) -> Statement:
    """Return a page of the list: the owner's version and the total, then the JSON of each task.

    `after`: the page begins after a task whose value to sort by is in `:value`, or after one whose value is "missing".
    `known`: the client has seen the list at the versions in `:known`. At one of them there is only the first row.
    """
    descending, name = sort.startswith("-"), sort.removeprefix("-")
    optional = is_optional(name)
    key: ColumnElement[Any] = sort_key(name, tasks.c[name])
    task_id: ColumnElement[str] = bindparam("after_id")
    condition = filtered(is_completed=is_completed, q=q, others=others)
    listed = select(sa.null().label("version"), json_object(tasks.c).label("json")).where(condition)
    if after == "missing":
        listed = listed.where(key.is_(None), tasks.c.id < task_id if descending else tasks.c.id > task_id)
    elif after:
        keys, position = sa.tuple_(key, tasks.c.id), sa.tuple_(sort_key(name, bindparam("value")), task_id)
        later = keys < position if descending else keys > position
        listed = listed.where(later | key.is_(None) if optional else later)
    order = [column.desc() if descending else column.asc() for column in (key, tasks.c.id)]
    listed = listed.order_by(key.is_(None), *order) if optional else listed.order_by(*order)
    count = select(sa.cast(sa.func.count(), sa.Text)).select_from(tasks).where(condition)
    if known:
        listed, count = listed.where(CHANGED), count.where(CHANGED)
    head = (DialectExpression("rfc3339", users.c.updated_at), count.scalar_subquery() if total else sa.null())
    statement = owner_and(head, [limited(listed)])
    statement.max_seconds = MAX_SEARCH_SECONDS if q else statement.max_seconds
    statement.is_common = sort == "-created_at" and not others
    return statement


def limited(found: Any) -> Any:
    return found.limit(bindparam("limit")).offset(ZERO)  # without it, SQLAlchemy adds an unnamed parameter on SQLite


def owner_and(head: Iterable[ColumnElement[Any]], parts: Iterable[sa.Select[Any]]) -> Statement:
    """Return a statement that reads columns of the owner's row, then the rows of `parts`, all in one snapshot."""
    rows = [select(part.subquery()) for part in parts]
    return Statement(sa.union_all(select(*head).where(USER), *rows), repeatable=True)


@cache
def changes(*, first: bool, known: bool) -> Statement:
    """Return what changed after a position: a row of the owner, then deletions, then tasks, each in order of time.

    The columns are: version, creation and `forgotten_at` of the owner; time and id of a deletion and null; null, null
    and the JSON of a task. A `first` copy has no use for deletions. `known` is as in `page`.
    """
    times = (users.c.updated_at, users.c.created_at, users.c.forgotten_at)
    head = [DialectExpression("rfc3339", time) for time in times]
    gone = [DialectExpression("rfc3339", deletions.c.deleted_at), sa.cast(deletions.c.task_id, sa.Text), sa.null()]
    changed = [sa.null(), sa.null(), json_object(tasks.c)]
    parts = [] if first else [newer(gone, deletions.c.deleted_at, deletions.c.task_id)]
    parts.append(newer(changed, tasks.c.updated_at, tasks.c.id))
    return owner_and(head, [part.where(CHANGED) for part in parts] if known else parts)


def newer(columns: list[Any], time: sa.Column[Any], task_id: sa.Column[str]) -> Any:
    """Return deletions or tasks after the position in the parameters <table>_time and <table>_id."""
    table = time.table
    position = sa.tuple_(bindparam(f"{table.name}_time"), bindparam(f"{table.name}_id"))
    labelled = (column.label(f"column_{number}") for number, column in enumerate(columns))
    found = select(*labelled).where(table.c.user_id == bindparam("user_id"), sa.tuple_(time, task_id) > position)
    # Otherwise nothing is new, and the owner's row alone is read. A walk that has begun is ended even where code from
    # before the owner's row has written later than its version.
    anything_new = (sa.tuple_(VERSION, LAST_ID) > position) | (bindparam(f"{table.name}_id") < LAST_ID)
    return limited(found.where(anything_new).order_by(time, task_id))


def prune() -> Statement:
    """Return the deletion of the owner's records of deletions that are before `:horizon` or more than `:kept`."""
    owned = deletions.c.user_id == bindparam("user_id")
    last_kept = select(deletions.c.deleted_at).where(owned).order_by(deletions.c.deleted_at.desc())
    beyond = last_kept.limit(ONE).offset(bindparam("kept")).scalar_subquery()
    old = owned & ((deletions.c.deleted_at < bindparam("horizon")) | (deletions.c.deleted_at <= beyond))
    owner = locked_owner()
    pruned = sa.delete(deletions).where(old, deletions.c.user_id == owner.c.id).returning(deletions.c.deleted_at)
    latest = select(sa.func.max(pruned.cte("pruned").c.deleted_at).label("deleted_at")).cte("latest")
    forget = sa.update(users).where(USER)
    oldest = select(sa.func.max(deletions.c.deleted_at)).where(old).scalar_subquery()
    return Statement(
        forget.values(forgotten_at=DialectExpression("later", users.c.forgotten_at, latest.c.deleted_at)).where(
            latest.c.deleted_at.is_not(None)
        ),
        forget.values(forgotten_at=DialectExpression("later", users.c.forgotten_at, oldest)),
        sa.delete(deletions).where(old),
    )


PRUNE = prune()
