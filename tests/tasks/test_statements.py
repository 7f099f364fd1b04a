"""Properties of every statement on tasks, in all variants and on both databases."""

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest
from sqlalchemy import make_url

from todo_api.database import Statement
from todo_api.database.connections import Connections
from todo_api.tasks import statements
from todo_api.tasks.schemas import SORTS

DIALECTS = [Connections(make_url(url), {}).dialect for url in ("postgresql+psycopg2://", "sqlite://")]
WRITABLE = tuple(column.name for column in statements.WRITABLE)
CHOICES: dict[str, list[Any]] = {  # of parameters that are not booleans
    "names": [*[(name,) for name in WRITABLE], WRITABLE],
    "sort": SORTS,
    "after": [None, "value", "missing"],
}
CONSTANTS = {name: it for name, it in vars(statements).items() if isinstance(it, Statement)}
BUILDERS = {name: it for name, it in vars(statements).items() if hasattr(it, "cache_info")}
OWNER = re.compile(r"WHERE .*\b(tasks\.user_id|users\.id|deletions\.user_id) = (%\(user_id\)s|:user_id)", re.DOTALL)


def variants(builder: Callable[..., Statement]) -> Iterator[Statement]:
    """Build the statement with each combination of the switches, and each of the other parameters."""
    names = [*inspect.signature(builder).parameters]
    switches = [name for name in names if name not in CHOICES]
    others = [name for name in names if name in CHOICES]
    all_switches = [*product([False, True], repeat=len(switches))]
    all_others = [*product(*(CHOICES[name] for name in others))]
    combinations = {
        *product(all_switches, all_others[:1]),
        *product((all_switches[0], all_switches[-1]), all_others),
    }
    for chosen_switches, chosen_others in combinations:
        yield builder(**dict(zip([*switches, *others], [*chosen_switches, *chosen_others], strict=True)))


@cache
def compiled(name: str) -> list[Any]:
    found = [CONSTANTS[name]] if name in CONSTANTS else [*variants(BUILDERS[name])]
    parts = [(statement.core, statement.on_sqlite or (statement.core,)) for statement in found]
    on_postgresql, on_sqlite = DIALECTS
    return [
        compiled
        for core, steps in parts
        for compiled in (core.compile(dialect=on_postgresql), *(step.compile(dialect=on_sqlite) for step in steps))
    ]


@pytest.mark.parametrize("name", [*CONSTANTS, *BUILDERS])
def test_no_statement_has_a_value_of_its_own(name: str) -> None:
    """All values are passed by name when the statement is run."""
    for statement in compiled(name):
        assert [bind for bind in statement.binds.values() if bind.unique or not bind.required] == [], statement


@pytest.mark.parametrize("name", [name for name in (*CONSTANTS, *BUILDERS) if name not in ("EXISTS", "USERS")])
def test_every_statement_names_the_owner(name: str) -> None:
    for statement in compiled(name):
        assert OWNER.search(str(statement)), statement
