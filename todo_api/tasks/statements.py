"""SQL for tasks, in SQLAlchemy Core. Every statement but `EXISTS` names the owner.

A task comes as `TASK_COLUMNS`: its id, its version, and the JSON that the API returns. Statements are built once, and
the database compiles each once.
"""

from functools import cache, reduce
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import ColumnElement, bindparam, literal_column, select

from todo_api.database import Statement
from todo_api.models import Task, Timestamp, User
from todo_api.tasks.dialects import DialectExpression

tasks, users = cast(sa.Table, Task.__table__), cast(sa.Table, User.__table__)

# What a client may write. A new field of the task is added here, in the model and in the schema.
WRITABLE = (tasks.c.title, tasks.c.description, tasks.c.is_completed)
FIELDS = (tasks.c.id, tasks.c.user_id, *WRITABLE, tasks.c.created_at, tasks.c.updated_at)

USER = users.c.id == bindparam("user_id")
OWNED = tasks.c.user_id == bindparam("user_id")
BY_ID = OWNED & (tasks.c.id == bindparam("id"))
BY_KEY = OWNED & (tasks.c.idempotency_key == bindparam("key"))
NOW = DialectExpression("now")
NEXT_VERSION = DialectExpression("next_version", tasks.c.updated_at)
ROW: ColumnElement[int] = literal_column("1")


def json_of(column: sa.Column[Any]) -> ColumnElement[str]:
    """Return a column as JSON text."""
    if column is tasks.c.user_id:
        return bindparam("user_json")  # the same in each row
    if isinstance(column.type, sa.Boolean):
        return sa.case((column, literal_column("'true'")), else_=literal_column("'false'"))
    return DialectExpression("json_time" if isinstance(column.type, Timestamp) else "json_text", column)


def json_object() -> ColumnElement[str]:
    """Return the task as JSON text, joined from pieces: json_build_object takes several times as long."""
    pieces: list[ColumnElement[str]] = []
    for column in FIELDS:
        pieces += [literal_column(f"""'{"," if pieces else "{"}"{column.name}":'"""), json_of(column)]
    return reduce(ColumnElement.concat, [*pieces, literal_column("'}'")])


TASK_JSON = json_object().label("json")
TASK_COLUMNS = (tasks.c.id, DialectExpression("rfc3339", tasks.c.updated_at).label("version"), TASK_JSON)

EXISTS = Statement(select(ROW).where(tasks.c.id == bindparam("id")), repeatable=True)
FIND_KEY = Statement(select(*TASK_COLUMNS, tasks.c.idempotency_digest).where(BY_KEY), repeatable=True)
NEW_USER = select(sa.cast(bindparam("user_id"), sa.Text), NOW).where(~sa.exists().where(USER))
CREATE_USER = Statement(
    sa.insert(users).from_select(["id", "created_at"], NEW_USER, include_defaults=False), repeatable=True
)
# Bulk changes lock the user's row first, to avoid deadlocks. Inserts do not conflict with this lock.
USER_LOCKED = tasks.c.user_id == select(users.c.id).where(USER).with_for_update(key_share=True).scalar_subquery()
MATCHING = OWNED & (tasks.c.is_completed == bindparam("is_completed")) & USER_LOCKED
MARK_ALL = Statement(sa.update(tasks).values(is_completed=bindparam("mark"), updated_at=NEXT_VERSION).where(MATCHING))
DELETE_ALL = Statement(sa.delete(tasks).where(MATCHING))
DELETE_USER = Statement(sa.delete(users).where(USER))
# The limit is reached if there is a row at OFFSET limit - 1: 50 µs cheaper than count(*).
ROW_AT_LIMIT = select(ROW).where(OWNED).limit(ROW).offset(bindparam("row_at_limit"))
LIMIT_REACHED = Statement(select(ROW).where(sa.exists(ROW_AT_LIMIT), ~sa.exists().where(BY_KEY)), repeatable=True)


@cache
def create(*, limited: bool, keyed: bool) -> Statement:
    """Return the INSERT of a task. It inserts nothing if the limit is reached or the key was used."""
    stored = {
        "user_id": users.c.id,
        "id": sa.cast(bindparam("id"), tasks.c.id.type),  # PostgreSQL would take the parameter as text
        **{column.name: bindparam(column.name) for column in WRITABLE},
        "created_at": NOW,
        "updated_at": NOW,
        "idempotency_key": bindparam("key"),
        "idempotency_digest": bindparam("digest"),
    }
    source = select(*stored.values()).where(USER)
    if limited:
        source = source.where(~sa.exists(ROW_AT_LIMIT))
    if keyed:
        source = source.where(~sa.exists().where(BY_KEY))
    created = sa.insert(tasks).from_select([*stored], source, include_defaults=False)
    return Statement(created.returning(*TASK_COLUMNS), repeatable=True)


@cache
def get(*, if_match: bool = False) -> Statement:
    return Statement(select(*TASK_COLUMNS).where(by_id(if_match)), repeatable=True)


@cache
def change(names: tuple[str, ...], *, if_match: bool) -> Statement:
    """Return the change of the named fields of one task."""
    changes: dict[str, ColumnElement[Any]] = {name: bindparam(name) for name in names}
    changed = sa.update(tasks).values(updated_at=NEXT_VERSION, **changes)
    return Statement(changed.where(by_id(if_match)).returning(*TASK_COLUMNS))


@cache
def remove(*, if_match: bool) -> Statement:
    return Statement(sa.delete(tasks).where(by_id(if_match)).returning(tasks.c.id))


def by_id(if_match: bool) -> ColumnElement[bool]:
    """Return the condition for one task of the owner; with `if_match` only at one of `:versions`."""
    return BY_ID & DialectExpression("one_of", tasks.c.updated_at, bindparam("versions")) if if_match else BY_ID


@cache
def page(*, is_completed: bool, q: bool, sort: str, after: bool, limited: bool) -> Statement:
    """Return the list with these filters and this order, from the start or after a cursor."""
    column = tasks.c[sort.removeprefix("-")]
    value = DialectExpression("code_points", column) if column is tasks.c.title else column
    descending = sort.startswith("-")
    listed = select(TASK_JSON).where(filtered(is_completed=is_completed, q=q))
    if after:
        keys, position = sa.tuple_(value, tasks.c.id), sa.tuple_(bindparam("value"), bindparam("after_id"))
        listed = listed.where(keys < position if descending else keys > position)
    listed = listed.order_by(*(key.desc() if descending else key.asc() for key in (value, tasks.c.id)))
    if limited:
        listed = listed.limit(bindparam("limit")).offset(
            literal_column("0")
        )  # without it, SQLAlchemy adds an unnamed parameter on SQLite
    return Statement(listed, repeatable=True)


@cache
def count(*, is_completed: bool, q: bool) -> Statement:
    counted = select(sa.func.count()).select_from(tasks).where(filtered(is_completed=is_completed, q=q))
    return Statement(counted, repeatable=True)


def filtered(*, is_completed: bool, q: bool) -> ColumnElement[bool]:
    """Return the condition for the owner's tasks under the filters in use."""
    found = OWNED
    if is_completed:
        found &= tasks.c.is_completed == bindparam("is_completed")
    if q:
        found &= sa.or_(
            *(DialectExpression("contains", text, bindparam("q")) for text in (tasks.c.title, tasks.c.description))
        )
    return found
