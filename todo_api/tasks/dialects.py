"""The few SQL expressions that PostgreSQL and SQLite write differently.

SQLite keeps times as text in the format of the API; `extensions` gives it the functions next_version and lower_case.
"""

import re
from functools import cache
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from todo_api.extensions import lower_case
from todo_api.models import PRIORITIES

RANKED = " ".join(PRIORITIES)
POSTGRESQL_RFC3339 = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
# By name: on PostgreSQL, on SQLite; {0} and {1} are the arguments.
TEMPLATES = {
    # The time of the statement.
    "now": ("now()", ":now"),
    # Now, or 1 µs after a version where that is later. In UTC the sum is immutable, which Citus wants.
    "next_version": (
        "greatest(now(), ({0} AT TIME ZONE 'UTC' + interval '1 microsecond') AT TIME ZONE 'UTC')",
        "next_version({0}, :now)",
    ),
    # The later of two times, either of which may be null.
    "later": ("greatest({0}, {1})", "nullif(max(coalesce({0}, ''), coalesce({1}, '')), '')"),
    # A time as text in the format of the API, and as JSON.
    "rfc3339": (f"to_char({{0}} AT TIME ZONE 'UTC', '{POSTGRESQL_RFC3339}')", "{0}"),
    "json_time": (rf"to_char({{0}} AT TIME ZONE 'UTC', '\"{POSTGRESQL_RFC3339}\"')", "json_quote({0})"),
    # JSON that is stored as such.
    "json": ("{0}::text", "{0}"),
    # A string, UUID, date or null as JSON.
    "json_text": ("coalesce(to_json({0})::text, 'null')", "json_quote({0})"),
    # Whether a text contains another, in upper or lower case; {2} is the search_pattern() of {1}. PostgreSQL's lower()
    # depends on the locale, and its strpos() takes quadratic time.
    "contains": ('({0} COLLATE "C" ~ {2})', "(instr(lower_case({0}), lower_case({1})) > 0)"),
    # Whether an array has all members of another; both are JSON.
    "has_all": (
        "{0} @> CAST({1} AS jsonb)",
        "NOT EXISTS (SELECT value FROM json_each({1}) EXCEPT SELECT value FROM json_each({0}))",
    ),
    # A text that sorts by code point, and a number that sorts priorities.
    "code_points": ('{0} COLLATE "C"', "{0}"),
    "rank": (f"strpos('{RANKED}', {{0}})", f"instr('{RANKED}', {{0}})"),
    # Whether a time is in an array such as {2026-02-08T09:30:00.123456Z,...}.
    "one_of": ("{0} = ANY(CAST({1} AS timestamptz[]))", "(instr({1}, {0}) > 0)"),
}


CONDITIONS = ("contains", "has_all", "one_of")
END_OF_CASED = 0x20000  # no character from here on has upper and lower case


@cache
def variants() -> dict[str, str]:
    """Return by each lower-case character all that `lower_case` maps to it, itself included. Takes 40 ms once."""
    found: dict[str, str] = {}
    for character in map(chr, range(END_OF_CASED)):
        if (lower := lower_case(character)) and lower != character:
            found[lower] = found.get(lower, lower) + character
    return found


def search_pattern(q: str) -> str:
    """Return the regular expression for PostgreSQL that finds `q` in upper or lower case, whatever the locale."""
    if not q:
        return ""
    spellings = variants()
    return "".join(f"[{spellings[one]}]" if one in spellings else re.escape(one) for one in lower_case(q) or "")


class DialectExpression(FunctionElement[Any]):
    """An expression that is written by one of TEMPLATES."""

    inherit_cache = False  # each is compiled once

    def __init__(self, name: str, *arguments: ColumnElement[Any]) -> None:
        super().__init__(*arguments)
        self.templates = TEMPLATES[name]
        self.type = Boolean() if name in CONDITIONS else Text()


@compiles(DialectExpression)
def compile_expression(element: DialectExpression, compiler: SQLCompiler, **options: Any) -> str:
    template = element.templates[compiler.dialect.name == "sqlite"]
    return template.format(*(compiler.process(argument, **options) for argument in element.clauses))
