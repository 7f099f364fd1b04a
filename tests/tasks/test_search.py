"""A search ignores case in the same way on every database, whatever its locale and collation."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask_migrate import upgrade
from sqlalchemy import make_url, text

from tests.conftest import Caller, dispose, environ_for
from tests.support.databases import engine_of, rows_of
from tests.support.tasks import listed
from todo_api import create_app
from todo_api.extensions import lower_case
from todo_api.tasks.dialects import END_OF_CASED, search_pattern, variants

# By search: what it finds and what it does not find.
EXAMPLES: dict[str, tuple[list[str], list[str]]] = {
    "ΟΔΟΣ": (["ΟΔΟΣΑ", "οδοσα", "ΟΔΟΣ"], ["οδος"]),
    "title": (["TITLE", "Title", "TİTLE"], ["T\u0131TLE"]),
    "\u0131": (["\u0131"], ["I", "i", "İ"]),
    "ì": (["Ì"], ["i\u0307\u0300"]),
    "ÄÉ": (["äé", "äÉ"], ["ae"]),
    "SS": (["ss"], ["ß", "ẞ"]),
    "ß": (["ẞ"], ["ss"]),
    "kelvin": (["\u212aELVIN"], []),
    "e\u0301": (["E\u0301"], ["é", "É"]),
    "[a-z]^.*\\d": (["[A-Z]^.*\\D"], ["a"]),
    "(?i)***=": (["(?I)***="], ["="]),
}
TITLES = sorted({title for found in EXAMPLES.values() for titles in found for title in titles})
LOCALES = ("LOCALE 'C'", "LOCALE 'C.UTF-8'")
ICU_LOCALES = tuple(f"LOCALE_PROVIDER icu ICU_LOCALE '{language}' LOCALE 'C'" for language in ("tr", "el", "lt"))
NONDETERMINISTIC = "any_case"


def assert_searches_ignore_case(caller: Caller) -> None:
    for q, (found, not_found) in EXAMPLES.items():
        titles = {task["title"] for task in listed(caller, q=q)}
        assert {*found} <= titles, q
        assert not {*not_found} & titles, q


def fill(caller: Caller) -> None:
    for title in TITLES:
        caller.create(title)


def test_a_search_ignores_case_code_point_by_code_point(alice: Caller) -> None:
    fill(alice)
    assert_searches_ignore_case(alice)


def has_icu(url: str) -> bool:
    """Return whether the server has ICU: some builds lack it."""
    return rows_of(url, "SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'") == [1]


def databases_of(url: str) -> Iterator[str]:
    """Make a database with each locale that the server offers and yield its URL."""
    with_icu = int(rows_of(url, "SHOW server_version_num")[0]) >= 150_000 and has_icu(url)
    server = make_url(url)
    with engine_of(url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        for number, locale in enumerate(LOCALES + ICU_LOCALES * with_icu):
            made = f"{server.database}_{number}"
            connection.execute(text(f"CREATE DATABASE {made} TEMPLATE template0 ENCODING 'UTF8' {locale}"))
            try:
                yield server.set(database=made).render_as_string(hide_password=False)
            finally:
                connection.execute(text(f"DROP DATABASE {made} WITH (FORCE)"))


@pytest.mark.slow
def test_the_locale_of_the_database_does_not_matter(fresh_database: Callable[..., str], tmp_path: Path) -> None:
    url = fresh_database("locales")
    for there in databases_of(url):
        app = create_app(environ_for(there), tmp_path)
        with app.app_context():
            upgrade()
        alice = Caller(app.test_client(), "alice")
        fill(alice)
        assert_searches_ignore_case(alice)
        dispose(app)


@pytest.mark.slow
@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["some", "all"])
def test_the_collation_of_the_columns_does_not_matter(
    migrated_database: Callable[[str], str], tmp_path: Path, few: bool
) -> None:
    url = migrated_database("collations")
    if icu := has_icu(url):
        rows_of(url, f"CREATE COLLATION {NONDETERMINISTIC} (provider = icu, locale = 'tr', deterministic = false)")
    named = "collname ~ '^(tr|el|lt|az)-x-icu|tr_TR|C|ucs_basic|und-x-icu|any_case'" if few else "true"
    usable = f"collencoding IN (-1, pg_char_to_encoding('UTF8')) AND (collprovider <> 'i' OR {icu})"
    collations = rows_of(url, f"SELECT quote_ident(collname) FROM pg_collation WHERE {usable} AND {named}")
    assert "ucs_basic" in collations
    assert (NONDETERMINISTIC in collations) == icu
    app = create_app(environ_for(url), tmp_path)
    alice = Caller(app.test_client(), "alice")
    fill(alice)
    with engine_of(url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        for collation in collations:
            change = f"ALTER COLUMN {{}} TYPE text COLLATE {collation}"
            connection.execute(text(f"ALTER TABLE tasks {change.format('title')}, {change.format('description')}"))
            assert_searches_ignore_case(alice)
    dispose(app)


def every_character() -> Iterator[str]:
    """Yield all that a text may contain: no U+0000, no surrogates."""
    return (chr(number) for number in range(1, sys.maxunicode + 1) if not 0xD800 <= number < 0xE000)


def test_no_character_from_the_end_of_cased_ones_has_upper_and_lower_case() -> None:
    assert [one for one in every_character() if ord(one) >= END_OF_CASED and one != one.lower()] == []


@pytest.mark.slow
def test_both_databases_agree_for_every_character(fresh_database: Callable[..., str]) -> None:
    """`lower_case` is what SQLite compares."""
    url = fresh_database("characters")
    everything = "".join(every_character())
    with engine_of(url) as engine, engine.connect() as connection:
        connection.execute(
            text("CREATE TEMPORARY TABLE everything AS SELECT CAST(:all AS text) AS characters"), {"all": everything}
        )
        found = text(
            "SELECT string_agg(found[1], '')"
            " FROM everything, regexp_matches(characters COLLATE \"C\", :pattern, 'g') AS found"
        )
        for lower, same in variants().items():
            for one in same:
                assert lower_case(one) == lower
            matched = connection.scalar(found, {"pattern": search_pattern(lower)})
            assert sorted(matched) == sorted(same)
        others = [one for one in everything if lower_case(one) not in variants()]
        assert all(lower_case(one) == one for one in others)
        assert_each_finds_itself_alone(connection, others)


def assert_each_finds_itself_alone(connection: Any, characters: list[str]) -> None:
    """A pattern of one character is that character, or that character escaped: it matches itself and not the next."""
    fails = text(
        "SELECT one FROM unnest(CAST(:ones AS text[]), CAST(:patterns AS text[]), CAST(:nexts AS text[]))"
        ' AS each(one, pattern, next) WHERE NOT one COLLATE "C" ~ pattern OR next COLLATE "C" ~ pattern'
    )
    size = 50_000
    for start in range(0, len(characters), size):
        ones = characters[start : start + size]
        values = {"ones": ones, "patterns": [*map(search_pattern, ones)], "nexts": [*ones[1:], "x"]}
        assert connection.execute(fails, values).all() == []
