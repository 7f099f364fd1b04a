"""The SQL of tasks, in SQLAlchemy Core: every statement but `EXISTS` names the owner.

A task comes as the columns of `TASK`: its id, its version, and the JSON that the API answers with. Statements are built
once, each variant of those that vary as well, and the database compiles each once.
"""

from collections.abc import Iterable
from functools import cache, reduce
from typing import Any
from typing import cast as typed

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Select,
    Table,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from todo_api.database import Statement
from todo_api.models import Task, Timestamp, User
from todo_api.tasks.dialects import (
    code_points,
    contains,
    current_time,
    json_text,
    json_time,
    next_version,
    one_of,
    rfc3339,
)

tasks, users = typed(Table, Task.__table__), typed(Table, User.__table__)

# What a client may write. A new field of the task is added here, in the model and in the schema.
WRITABLE = (tasks.c.title, tasks.c.description, tasks.c.is_completed)
FIELDS = (tasks.c.id, tasks.c.user_id, *WRITABLE, tasks.c.created_at, tasks.c.updated_at)
SORT_VALUES = {"created_at": tasks.c.created_at, "updated_at": tasks.c.updated_at, "title": code_points(tasks.c.title)}

OWNED = tasks.c.user_id == bindparam("user_id")
ONE = OWNED & (tasks.c.id == bindparam("id"))
KEY = OWNED & (tasks.c.idempotency_key == bindparam("key"))
MATCHING = OWNED & (tasks.c.is_completed == bindparam("is_completed"))


def json_of(column: Column[object]) -> ColumnElement[str]:
    """Return a column as JSON text."""
    if column is tasks.c.user_id:
        return bindparam("user_json")  # the same in each row: writing it once saves 0.3 µs a row
    if isinstance(column.type, Boolean):
        return case((column, literal_column("'true'")), else_=literal_column("'false'"))
    if isinstance(column.type, Timestamp):
        return json_time(column)
    return json_text(column)


def json_object(columns: Iterable[Column[object]]) -> ColumnElement[str]:
    """Return columns as the text of a JSON object.

    PostgreSQL takes 1.9 µs for a task written in pieces, and several times that with json_build_object.
    """
    pieces: list[ColumnElement[str]] = []
    for number, column in enumerate(columns):
        pieces += [literal_column(f"""'{"," if number else "{"}"{column.name}":'"""), json_of(column)]
    return reduce(ColumnElement.concat, [*pieces, literal_column("'}'")])


JSON = json_object(FIELDS).label("json")
TASK = (tasks.c.id, rfc3339(tasks.c.updated_at).label("version"), JSON)

ANY_ROW: ColumnElement[int] = literal_column("1")

EXISTS = Statement(select(ANY_ROW).where(tasks.c.id == bindparam("id")), repeatable=True)
FIND_KEY = Statement(select(*TASK, tasks.c.idempotency_digest).where(KEY), repeatable=True)
CREATE_USER = Statement(
    insert(users).from_select(
        ["id", "created_at"],
        select(cast(bindparam("user_id"), users.c.id.type), current_time()).where(
            ~exists().where(users.c.id == bindparam("user_id"))
        ),
        include_defaults=False,
    ),
    repeatable=True,
)
# Two changes of many tasks of one user would wait for each other's rows; new tasks are not held up.
IN_TURN = tasks.c.user_id == (
    select(users.c.id).where(users.c.id == bindparam("user_id")).with_for_update(key_share=True).scalar_subquery()
)
MARK_ALL = Statement(
    update(tasks)
    .values(is_completed=bindparam("mark"), updated_at=next_version(tasks.c.updated_at))
    .where(MATCHING, IN_TURN)
)
DELETE_ALL = Statement(delete(tasks).where(MATCHING, IN_TURN))
DELETE_USER = Statement(delete(users).where(users.c.id == bindparam("user_id")))


# Probing the last allowed row is 50 µs cheaper than count(*).
LAST_PLACE: Select[Any] = select(ANY_ROW).where(OWNED).limit(literal_column("1")).offset(bindparam("last_place"))
FULL = Statement(select(ANY_ROW).where(exists(LAST_PLACE), ~exists().where(KEY)), repeatable=True)


@cache
def create(*, limited: bool, keyed: bool) -> Statement:
    """Return the insertion of a task, unless the user's last place is taken or the key has made a task."""
    stored = {
        "user_id": users.c.id,
        "id": cast(bindparam("id"), tasks.c.id.type),
        **{column.name: bindparam(column.name) for column in WRITABLE},
        "created_at": current_time(),
        "updated_at": current_time(),
        "idempotency_key": bindparam("key"),
        "idempotency_digest": bindparam("digest"),
    }
    source = select(*stored.values()).where(users.c.id == bindparam("user_id"))
    if limited:
        source = source.where(~exists(LAST_PLACE))
    if keyed:
        source = source.where(~exists().where(KEY))
    created = insert(tasks).from_select([*stored], source, include_defaults=False)
    return Statement(created.returning(*TASK), repeatable=True)


@cache
def get(*, if_match: bool = False) -> Statement:
    return Statement(select(*TASK).where(ONE, *at_version(if_match)), repeatable=True)


@cache
def change(names: tuple[str, ...], *, if_match: bool) -> Statement:
    """Return the change of the named fields of one task."""
    values: dict[str, ColumnElement[Any]] = {name: bindparam(name) for name in names}
    changed = update(tasks).values(updated_at=next_version(tasks.c.updated_at), **values)
    return Statement(changed.where(ONE, *at_version(if_match)).returning(*TASK))


@cache
def remove(*, if_match: bool) -> Statement:
    return Statement(delete(tasks).where(ONE, *at_version(if_match)).returning(tasks.c.id))


def at_version(if_match: bool) -> tuple[ColumnElement[bool], ...]:
    return (one_of(tasks.c.updated_at, bindparam("versions")),) if if_match else ()


@cache
def page(*, is_completed: bool, q: bool, sort: str, after: bool, limited: bool) -> Statement:
    """Return the list with these filters and this order, from the start or after a cursor."""
    value = SORT_VALUES[sort.removeprefix("-")]
    keys = tuple_(value, tasks.c.id)
    position = tuple_(bindparam("value"), bindparam("after_id"))
    descending = sort.startswith("-")
    listed = select(JSON).where(OWNED, *filters(is_completed=is_completed, q=q))
    if after:
        listed = listed.where(keys < position if descending else keys > position)
    listed = listed.order_by(*(key.desc() if descending else key.asc() for key in (value, tasks.c.id)))
    if limited:
        listed = listed.limit(bindparam("limit")).offset(literal_column("0"))  # or SQLAlchemy adds a value for SQLite
    return Statement(listed, repeatable=True)


@cache
def count(*, is_completed: bool, q: bool) -> Statement:
    found = select(func.count()).select_from(tasks).where(OWNED, *filters(is_completed=is_completed, q=q))
    return Statement(found, repeatable=True)


def filters(*, is_completed: bool, q: bool) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if is_completed:
        found.append(tasks.c.is_completed == bindparam("is_completed"))
    if q:
        found.append(or_(*(contains(column, bindparam("q")) for column in (tasks.c.title, tasks.c.description))))
    return found
