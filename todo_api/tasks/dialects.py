"""The few SQL expressions that PostgreSQL and SQLite spell differently.

SQLite keeps times as text in the format of the API; `extensions` gives it the functions next_version and lower_case.
"""

from typing import Any

from sqlalchemy import Boolean, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

RFC3339 = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


class current_time(FunctionElement[Any]):  # noqa: N801 (SQL functions are in lower case)
    """The time of the statement; for SQLite the parameter `now`."""

    inherit_cache = True


class next_version(FunctionElement[Any]):  # noqa: N801
    """next_version(updated_at): now, or 1 µs more than before where that is later."""

    inherit_cache = True


class rfc3339(FunctionElement[str]):  # noqa: N801
    """rfc3339(time): a time as text, in UTC with microseconds."""

    type = Text()
    inherit_cache = True


class json_time(FunctionElement[str]):  # noqa: N801
    """json_time(time): a time as JSON."""

    type = Text()
    inherit_cache = True


class json_text(FunctionElement[str]):  # noqa: N801
    """json_text(value): a string, UUID or null as JSON."""

    type = Text()
    inherit_cache = True


class contains(FunctionElement[bool]):  # noqa: N801
    """contains(text, part): whether `part` is in `text`, in upper or lower case."""

    type = Boolean()
    inherit_cache = True


class code_points(FunctionElement[str]):  # noqa: N801
    """code_points(text): a text that sorts by code point."""

    type = Text()
    inherit_cache = True


class one_of(FunctionElement[bool]):  # noqa: N801
    """one_of(time, times): whether a time is in an array such as {2026-02-08T09:30:00.123456Z,...}."""

    type = Boolean()
    inherit_cache = True


def spell(element: type[FunctionElement[Any]], *, postgresql: str, sqlite: str) -> None:
    """Say how an element is written; {0}, {1} are its arguments."""
    for dialect, template in (("postgresql", postgresql), ("sqlite", sqlite)):

        def write(found: FunctionElement[Any], compiler: SQLCompiler, template: str = template, **options: Any) -> str:
            return template.format(*(compiler.process(clause, **options) for clause in found.clauses))

        compiles(element, dialect)(write)


spell(current_time, postgresql="now()", sqlite=":now")
spell(next_version, postgresql="greatest(now(), {0} + interval '1 microsecond')", sqlite="next_version({0}, :now)")
spell(rfc3339, postgresql=f"to_char({{0}} AT TIME ZONE 'UTC', '{RFC3339}')", sqlite="{0}")
spell(json_time, postgresql=rf"to_char({{0}} AT TIME ZONE 'UTC', '\"{RFC3339}\"')", sqlite="json_quote({0})")
spell(json_text, postgresql="coalesce(to_json({0})::text, 'null')", sqlite="json_quote({0})")
spell(contains, postgresql="strpos(lower({0}), lower({1})) > 0", sqlite="(instr(lower_case({0}), lower_case({1})) > 0)")
spell(code_points, postgresql='{0} COLLATE "C"', sqlite="{0}")
spell(one_of, postgresql="{0} = ANY(CAST({1} AS timestamptz[]))", sqlite="(instr({1}, {0}) > 0)")
