"""Settings: what each variable means, what it may not be, and where it may come from."""

import ast
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.support.programs import ROOT, copy_project, environment, run
from tests.support.tokens import SECRET
from todo_api import config, create_app

URL = "postgresql://todo:pa55word@db.example.com:5432/todo"
PRODUCTION = {"DATABASE_URL": URL, "BETTER_AUTH_SECRET": SECRET}
DEVELOPMENT = {"ENVIRONMENT": "development"}
NEON = (
    "postgresql://owner:npg_pa55word@ep-cool-123-pooler.eu-central-1.aws.neon.tech/neondb"
    "?sslmode=require&channel_binding=require"
)
UNDECODABLE = "\udcff" * 40  # how Python shows bytes of the environment that are not UTF-8
DEPLOYED = ["staging", "production"]


def read(environ: dict[str, str], instance: Path) -> dict[str, Any]:
    return config.read(environ, instance)


def refusal(environ: dict[str, str], instance: Path) -> str:
    """Return the one line that refuses these settings; it shows no value that may be secret."""
    with pytest.raises(config.ConfigError) as refused:
        read(environ, instance)
    line = str(refused.value)
    assert line
    assert line.isprintable()
    for hidden in (environ.get("BETTER_AUTH_SECRET", "").strip(), SECRET, "pa55word"):
        assert not hidden or hidden not in line
    # Nor does what Python would print above it.
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    return line


def label(value: object) -> str | None:
    """A name for the values that cannot be printed."""
    return "undecodable" if value == UNDECODABLE else None


def about(name: str) -> str:
    """The beginning of a line about that variable, and no longer name that begins alike."""
    return rf"{name}(?![A-Z_])"


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    yield
    os.umask(before)


# variable, key of the configuration, default, {value: what it becomes}
MEANINGS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("ENVIRONMENT", "ENVIRONMENT", "production", {kind: kind for kind in ("development", *DEPLOYED)}),
    ("LOG_LEVEL", "LOG_LEVEL", "INFO", {level: level for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}),
    ("CONCEAL_FOREIGN_TASKS", "CONCEAL_FOREIGN_TASKS", False, {"true": True, "false": False}),
    ("MAX_TASKS_PER_USER", "MAX_TASKS_PER_USER", 10_000, {"0": 0, "1": 1, "2147483647": 2**31 - 1}),
    ("DB_STATEMENT_TIMEOUT", "DB_STATEMENT_TIMEOUT", 10, {"1": 1, "3600": 3600}),
    ("JWT_ALGORITHM", "JWT_ALGORITHM", "HS256", {"HS256": "HS256", "HS384": "HS384", "HS512": "HS512"}),
    ("JWT_ISSUER", "JWT_DECODE_ISSUER", None, {"https://app.example.com": "https://app.example.com"}),
    ("JWT_AUDIENCE", "JWT_DECODE_AUDIENCE", None, {"https://api.example.com": "https://api.example.com"}),
    ("BETTER_AUTH_SECRET", "JWT_SECRET_KEY", SECRET, {"x" * 32: "x" * 32, "é" * 16: "é" * 16, "x" * 999: "x" * 999}),
    ("MIGRATION_DATABASE_URL", "MIGRATION_DATABASE_URL", URL.replace("sql:", "sql+psycopg2:"), {}),
    ("METRICS_TOKEN", "METRICS_TOKEN", None, {"x" * 16: "x" * 16}),
    ("LOG_HASH_KEY", "LOG_HASH_KEY", SECRET, {"x" * 16: "x" * 16}),
    ("READY_INTERVAL", "READY_INTERVAL", 5, {"1": 1, "600": 600, "86400": 86400}),
    (
        "CORS_ORIGINS",
        "CORS_ORIGINS",
        frozenset(),
        {
            "https://app.example.com": {"https://app.example.com"},
            "https://a.example, http://b_c.example:8080": {"https://a.example", "http://b_c.example:8080"},
            "https://[2001:db8::1]:8443": {"https://[2001:db8::1]:8443"},
        },
    ),
]
POOL: list[tuple[str, str, int, dict[str, int]]] = [
    ("DB_POOL_SIZE", "pool_size", 5, {"1": 1, "1000": 1000}),
    ("DB_MAX_OVERFLOW", "max_overflow", 10, {"0": 0, "1000": 1000}),
    ("DB_POOL_RECYCLE", "pool_recycle", 240, {"1": 1, "86400": 86400}),
    ("DB_POOL_TIMEOUT", "pool_timeout", 5, {"1": 1, "3600": 3600}),
]


@pytest.mark.parametrize(("name", "key", "default", "values"), MEANINGS)
def test_a_setting_has_its_default_and_takes_its_values(
    tmp_path: Path, name: str, key: str, default: Any, values: dict[str, Any]
) -> None:
    assert read(PRODUCTION, tmp_path)[key] == default
    if name not in PRODUCTION:
        assert read(PRODUCTION | {name: ""}, tmp_path)[key] == default
    for value, meaning in values.items():
        assert read(PRODUCTION | {name: value}, tmp_path)[key] == meaning


@pytest.mark.parametrize(("name", "key", "default", "values"), POOL)
@pytest.mark.parametrize("settings", [PRODUCTION, DEVELOPMENT])
def test_both_engines_have_the_pool_that_was_set(
    tmp_path: Path, settings: dict[str, str], name: str, key: str, default: int, values: dict[str, int]
) -> None:
    for more, meaning in [({}, default), *(({name: value}, meaning) for value, meaning in values.items())]:
        found = read(settings | more, tmp_path)
        assert found["SQLALCHEMY_ENGINE_OPTIONS"][key] == meaning
        assert found["SQLALCHEMY_BINDS"]["autocommit"][key] == meaning


@pytest.mark.parametrize("name", ["WEB_CONCURRENCY", "WEB_THREADS"])
@pytest.mark.parametrize("value", ["", "1", "64"])
def test_the_settings_of_gunicorn_are_taken(tmp_path: Path, name: str, value: str) -> None:
    assert read(PRODUCTION | {name: value}, tmp_path) == read(PRODUCTION, tmp_path)


BAD_NUMBERS = ["-1", "1.5", "five", "1e3", "0x10", "\uff11", "+1", "1_0", "99999999999", " 1", "1\n", UNDECODABLE]
BAD: list[tuple[str, list[str]]] = [
    ("ENVIRONMENT", ["prod", "Production", "DEVELOPMENT", "developement", " development", "test"]),
    ("LOG_LEVEL", ["LOUD", "10", "INFO "]),
    ("CONCEAL_FOREIGN_TASKS", ["yes", "1", "0", "no", "tru", " true"]),
    ("MAX_TASKS_PER_USER", [*BAD_NUMBERS, "2147483648"]),
    ("DB_POOL_SIZE", [*BAD_NUMBERS, "0"]),
    ("DB_MAX_OVERFLOW", BAD_NUMBERS),
    ("DB_POOL_RECYCLE", [*BAD_NUMBERS, "0"]),
    ("DB_POOL_TIMEOUT", [*BAD_NUMBERS, "0"]),
    ("DB_STATEMENT_TIMEOUT", [*BAD_NUMBERS, "0"]),
    ("WEB_CONCURRENCY", [*BAD_NUMBERS, "0"]),
    ("WEB_THREADS", [*BAD_NUMBERS, "0"]),
    ("JWT_ALGORITHM", ["none", "hs256", "RS256", "EdDSA", "HS256,HS512", "HS1"]),
    ("JWT_ISSUER", [" https://app.example.com", "https://app.example.com\n"]),
    ("JWT_AUDIENCE", ["https://api.example.com ", "\t"]),
    ("METRICS_TOKEN", ["x" * 15, "x" * 8 + " " + "x" * 8, "é" * 16, "x" * 16 + "\n"]),
    ("LOG_HASH_KEY", ["x" * 15, "x" * 16 + " ", UNDECODABLE]),
    ("READY_INTERVAL", [*BAD_NUMBERS, "0"]),
    (
        "CORS_ORIGINS",
        [
            *("app.example.com", "https://", "https://app.example.com/", "https://app.example.com/path", "null", ","),
            *("https://app.example.com,", "https://a.example;https://b.example", "https://*.example.com", "*, *"),
            *("https://user@app.example.com", "https://App.example.com", "HTTPS://app.example.com", "ftp://a.example"),
            *(
                "https://app.example.com:443",
                "http://app.example.com:80",
                "https://app.example.com:0",
                "https://a:99999",
            ),
            *(
                "https://app.example.com:",
                "https://app.example.com?",
                "https://app.example.com#",
                "https://a.example:08443",
            ),
            *(
                "https://bücher.example",
                "https://a b.example",
                "https://:8443",
                "https://.",
                "https://a..b",
                "https://[::1",
                "*,https://app.example.com",
            ),
        ],
    ),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD for value in values], ids=label)
@pytest.mark.parametrize("settings", [PRODUCTION, DEVELOPMENT])
def test_nonsense_is_refused_by_name(tmp_path: Path, settings: dict[str, str], name: str, value: str) -> None:
    assert re.match(about(name), refusal(settings | {name: value}, tmp_path))


@pytest.mark.parametrize("kind", DEPLOYED)
def test_only_in_development_may_every_origin_call(tmp_path: Path, kind: str) -> None:
    assert re.match(about("CORS_ORIGINS"), refusal(PRODUCTION | {"ENVIRONMENT": kind, "CORS_ORIGINS": "*"}, tmp_path))
    assert read(DEVELOPMENT | {"CORS_ORIGINS": "*"}, tmp_path)["CORS_ORIGINS"] == {"*"}


def test_a_developers_own_front_end_may_call_by_default(tmp_path: Path) -> None:
    assert read(DEVELOPMENT, tmp_path)["CORS_ORIGINS"] == {"http://localhost:3000", "http://127.0.0.1:3000"}


def test_users_are_hashed_with_what_is_secret_anyway(tmp_path: Path) -> None:
    """Without a shared secret there is the database's password."""
    settings = {name: value for name, value in PRODUCTION.items() if name != "BETTER_AUTH_SECRET"}
    found = read(settings | {"BETTER_AUTH_URL": "https://app.example.com"}, tmp_path)
    assert found["LOG_HASH_KEY"] == found["SQLALCHEMY_DATABASE_URI"]


BAD_URLS = [
    "todo",
    "todo.db",
    "://",
    "mysql://todo:pa55word@db.example.com/todo",
    "http://db.example.com/todo",
    "postgresql:/todo:pa55word@db.example.com/todo",
    "postgresql://todo:pa55word@db.example.com:port/todo",
    f"{URL}?pa55word=1",
    f"{URL}?sslmode=require&chanel_binding=require",
    f"{URL}\n",
    f" {URL}",
    UNDECODABLE,
    URL + UNDECODABLE,
    "sqlite://",
    "sqlite:///",
    "sqlite:///:memory:",
]


@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
@pytest.mark.parametrize("url", BAD_URLS, ids=range(len(BAD_URLS)))
@pytest.mark.parametrize("settings", [PRODUCTION, DEVELOPMENT])
def test_a_url_of_no_database_is_refused(tmp_path: Path, settings: dict[str, str], url: str, name: str) -> None:
    assert re.match(about(name), refusal(settings | {name: url}, tmp_path))


@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
@pytest.mark.parametrize(
    "url", ["sqlite://host/todo.db", "sqlite+nonsense:///todo.db", "sqlite:///todo.db?timeout=soon"]
)
def test_a_url_that_sqlite_cannot_open_is_refused(tmp_path: Path, url: str, name: str) -> None:
    assert re.match(about(name), refusal(DEVELOPMENT | {name: url}, tmp_path))


@pytest.mark.parametrize("kind", DEPLOYED)
@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
def test_sqlite_is_refused_outside_development(tmp_path: Path, kind: str, name: str) -> None:
    line = refusal(PRODUCTION | {"ENVIRONMENT": kind, name: "sqlite:////var/lib/todo.db"}, tmp_path)
    assert re.match(about(name), line)
    assert "PostgreSQL" in line


@pytest.mark.parametrize("kind", ["", *DEPLOYED])
@pytest.mark.parametrize("name", ["DATABASE_URL", "BETTER_AUTH_SECRET"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_required_outside_development_is_asked_for(
    tmp_path: Path, kind: str, name: str, value: str | None
) -> None:
    settings = {**PRODUCTION, "ENVIRONMENT": kind}
    del settings[name]
    line = refusal(settings | ({} if value is None else {name: value}), tmp_path)
    assert line.startswith(f"{name} is required")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
@pytest.mark.parametrize("settings", [PRODUCTION, DEVELOPMENT])
@pytest.mark.parametrize(
    "rest",
    [
        NEON.partition("://")[2],
        URL.partition("://")[2],
        "todo:p%25a%2Fs%40s%3Aw@localhost/todo",
        "/todo?host=/var/run/postgresql",
        "todo@localhost/todo?connect_timeout=3&application_name=x%20y",
    ],
)
def test_a_url_of_postgresql_keeps_its_parts_and_names_the_driver(
    tmp_path: Path, scheme: str, settings: dict[str, str], rest: str
) -> None:
    found = read(settings | {"DATABASE_URL": f"{scheme}://{rest}"}, tmp_path)
    given = make_url(f"postgresql+psycopg2://{rest}")
    for url in (found["SQLALCHEMY_DATABASE_URI"], found["SQLALCHEMY_BINDS"]["autocommit"]["url"]):
        assert make_url(url) == given
    assert make_url(found["MIGRATION_DATABASE_URL"]) == given


def test_neons_options_reach_the_driver(tmp_path: Path) -> None:
    found = read(PRODUCTION | {"DATABASE_URL": NEON}, tmp_path)
    assert make_url(found["SQLALCHEMY_DATABASE_URI"]).query == {"sslmode": "require", "channel_binding": "require"}
    options = found["SQLALCHEMY_ENGINE_OPTIONS"]
    assert options["pool_recycle"] < 300
    assert options["connect_args"]["connect_timeout"] >= 10


def test_what_a_database_url_says_itself_is_kept(tmp_path: Path) -> None:
    found = read(PRODUCTION | {"DATABASE_URL": f"{URL}?connect_timeout=30"}, tmp_path)
    ours = found["SQLALCHEMY_ENGINE_OPTIONS"]["connect_args"]
    assert ours == {"application_name": "todo_api", "client_encoding": "utf8"}


def test_migrations_may_have_a_database_url_of_their_own(tmp_path: Path) -> None:
    direct = "postgres://owner:secret@direct.example.com/todo"
    found = read(PRODUCTION | {"MIGRATION_DATABASE_URL": direct}, tmp_path)
    assert make_url(found["MIGRATION_DATABASE_URL"]) == make_url(direct.replace("postgres:", "postgresql+psycopg2:"))
    assert make_url(found["SQLALCHEMY_DATABASE_URI"]).host == "db.example.com"


KEY_SETS: list[tuple[dict[str, str], tuple[str, str, str]]] = [
    *[
        ({"BETTER_AUTH_URL": url}, (f"{origin}/api/auth/jwks", origin, origin))
        for url, origin in {
            "https://app.example.com": "https://app.example.com",
            "https://app.example.com/": "https://app.example.com",
            "https://app.example.com/api/auth": "https://app.example.com",
            "https://app.example.com/api/auth/": "https://app.example.com",
            "HTTPS://App.Example.com:443": "https://app.example.com",
            "https://app.example.com:8443/": "https://app.example.com:8443",
            "http://localhost:3000": "http://localhost:3000",
            "http://127.0.0.1:80": "http://127.0.0.1",
            "http://[::1]:3000": "http://[::1]:3000",
        }.items()
    ],
    (
        {"JWKS_URL": "https://keys.example.com/a/jwks.json?v=1", "JWT_ISSUER": "issuer", "JWT_AUDIENCE": "api"},
        ("https://keys.example.com/a/jwks.json?v=1", "issuer", "api"),
    ),
    (
        {"BETTER_AUTH_URL": "https://app.example.com", "JWKS_URL": "http://127.0.0.1:9/jwks", "JWT_AUDIENCE": "api"},
        ("http://127.0.0.1:9/jwks", "https://app.example.com", "api"),
    ),
]


@pytest.mark.parametrize(("settings", "expected"), KEY_SETS)
@pytest.mark.parametrize("secret", ["", SECRET])
def test_a_key_set_brings_its_issuer_and_audience(
    tmp_path: Path, settings: dict[str, str], expected: tuple[str, str, str], secret: str
) -> None:
    found = read(PRODUCTION | {"BETTER_AUTH_SECRET": secret} | settings, tmp_path)
    assert (found["JWKS_URL"], found["JWT_DECODE_ISSUER"], found["JWT_DECODE_AUDIENCE"]) == expected
    assert found["JWT_SECRET_KEY"] == (secret or None)


def test_a_developer_with_a_key_set_gets_no_secret(tmp_path: Path) -> None:
    found = read(DEVELOPMENT | {"BETTER_AUTH_SECRET": "", "BETTER_AUTH_URL": "http://app.test:3000"}, tmp_path)
    assert (found["JWT_SECRET_KEY"], found["DEVELOPMENT_SECRET"]) == (None, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["BETTER_AUTH_URL", "JWKS_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "app.example.com",
        "ftp://app.example.com",
        "https://",
        "https:///jwks",
        "https://user:pa55word@app.example.com",
        "https://app.example.com:port",
        "https://app.example.com:99999",
        "https://app.example.com/#x",
        "https://app.example.com/a b",
        "https://[::1",
        "http://app.example.com",
        "http://127.0.0.1.example.com",
        "javascript:alert(1)",
    ],
)
def test_a_url_that_cannot_be_trusted_is_refused(tmp_path: Path, name: str, url: str) -> None:
    claims = {"JWT_ISSUER": "issuer", "JWT_AUDIENCE": "api"}
    line = refusal(PRODUCTION | claims | {name: url}, tmp_path)
    assert line.startswith(f"{name} must ")
    assert "pa55word" not in line


@pytest.mark.parametrize("url", ["https://app.example.com/auth", "https://app.example.com/?x=1"])
def test_better_auth_is_named_by_its_origin(tmp_path: Path, url: str) -> None:
    assert refusal(PRODUCTION | {"BETTER_AUTH_URL": url}, tmp_path).startswith("BETTER_AUTH_URL must be an origin")


@pytest.mark.parametrize("missing", ["JWT_ISSUER", "JWT_AUDIENCE"])
def test_a_key_set_alone_needs_issuer_and_audience(tmp_path: Path, missing: str) -> None:
    settings = {"JWKS_URL": "https://keys.example.com/jwks", "JWT_ISSUER": "issuer", "JWT_AUDIENCE": "api"}
    assert refusal(PRODUCTION | settings | {missing: ""}, tmp_path).startswith(f"{missing} is required")


def test_a_developer_has_a_database_and_a_secret_without_asking(tmp_path: Path) -> None:
    found = read(DEVELOPMENT, tmp_path)
    assert found["SQLALCHEMY_DATABASE_URI"] == f"sqlite:///{tmp_path / 'todo.db'}"
    assert found["MIGRATION_DATABASE_URL"] == f"sqlite:///{tmp_path / 'todo.db'}"
    assert found["DEVELOPMENT_SECRET"] is True
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    found = read(DEVELOPMENT | {"DATABASE_URL": elsewhere, "BETTER_AUTH_SECRET": "short"}, tmp_path)
    assert found["SQLALCHEMY_DATABASE_URI"] == elsewhere
    assert (found["JWT_SECRET_KEY"], found["DEVELOPMENT_SECRET"]) == ("short", False)


@pytest.mark.parametrize("kind", DEPLOYED)
@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("short", "32 bytes"),
        ("x" * 31, "32 bytes"),
        ("é" * 15 + "x", "32 bytes"),
        ("better-auth-secret-12345678901234567890", "sample"),
        ("better-auth-secret-123456789", "sample"),
        ("replace-me-with-the-secret-of-your-front-end", "sample"),
        (UNDECODABLE, ""),
    ],
    ids=label,
)
def test_a_weak_secret_is_refused_outside_development(tmp_path: Path, kind: str, secret: str, reason: str) -> None:
    line = refusal(PRODUCTION | {"ENVIRONMENT": kind, "BETTER_AUTH_SECRET": secret}, tmp_path)
    assert re.match(about("BETTER_AUTH_SECRET"), line)
    assert reason in line


@pytest.mark.parametrize("settings", [PRODUCTION, DEVELOPMENT])
@pytest.mark.parametrize(
    "secret", [f" {SECRET}", f"{SECRET} ", f"{SECRET}\n", f"\t{SECRET}", " ", UNDECODABLE], ids=label
)
def test_a_secret_that_cannot_be_meant_is_refused_everywhere(
    tmp_path: Path, settings: dict[str, str], secret: str
) -> None:
    line = refusal(settings | {"BETTER_AUTH_SECRET": secret}, tmp_path)
    assert re.match(about("BETTER_AUTH_SECRET"), line)


FROM_FILES = [
    ("BETTER_AUTH_SECRET", "JWT_SECRET_KEY", "another-secret-0123456789-0123456789"),
    ("DATABASE_URL", "SQLALCHEMY_DATABASE_URI", "postgresql+psycopg2://todo:pa55word@other.example.com/todo"),
    ("MIGRATION_DATABASE_URL", "MIGRATION_DATABASE_URL", "postgresql+psycopg2://todo:pa55word@other.example.com/todo"),
    ("METRICS_TOKEN", "METRICS_TOKEN", "a-token-for-metrics"),
    ("LOG_HASH_KEY", "LOG_HASH_KEY", "a-key-for-hashes"),
]


@pytest.mark.parametrize(("name", "key", "value"), FROM_FILES)
@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_setting_may_come_from_a_file(tmp_path: Path, name: str, key: str, value: str, ending: str) -> None:
    file = tmp_path / "file"
    file.write_text(value + ending)
    settings = {other: given for other, given in PRODUCTION.items() if other != name}
    assert read(settings | {f"{name}_FILE": str(file)}, tmp_path)[key] == value
    assert read(settings | {f"{name}_FILE": str(file), name: ""}, tmp_path)[key] == value


@pytest.mark.parametrize("name", [name for name, _, _ in FROM_FILES])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\n\n",
        f"{SECRET}\n\n".encode(),
        f" {SECRET}\n".encode(),
        f"{SECRET} ".encode(),
        b"\xff\xfe\x00\x81" * 20,
        None,
    ],
    ids=[
        "empty",
        "a newline",
        "two newlines",
        "one newline too many",
        "a space first",
        "a space last",
        "binary",
        "none",
    ],
)
@pytest.mark.parametrize("settings", [PRODUCTION, DEVELOPMENT])
def test_a_file_that_holds_no_setting_is_refused(
    tmp_path: Path, name: str, content: bytes | None, settings: dict[str, str]
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    settings = {other: given for other, given in settings.items() if other != name}
    assert refusal(settings | {f"{name}_FILE": str(file)}, tmp_path).startswith(name)


@pytest.mark.parametrize("name", [name for name, _, _ in FROM_FILES])
def test_a_folder_is_no_file_to_read_from(tmp_path: Path, name: str) -> None:
    settings = {other: given for other, given in PRODUCTION.items() if other != name}
    assert refusal(settings | {f"{name}_FILE": str(tmp_path)}, tmp_path).startswith(f"{name}_FILE ")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, _, value in FROM_FILES])
def test_a_setting_given_twice_is_refused(tmp_path: Path, name: str, value: str) -> None:
    file = tmp_path / "file"
    file.write_text(value)
    line = refusal(PRODUCTION | {name: value, f"{name}_FILE": str(file)}, tmp_path)
    assert line.startswith(f"{name} and {name}_FILE are both set")


def test_the_development_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    instance = tmp_path / "instance"
    with umask(0):
        made = read(DEVELOPMENT, instance)["JWT_SECRET_KEY"]
    assert len(made.encode()) >= config.MIN_SECRET_BYTES
    [file] = instance.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == made
    assert read(DEVELOPMENT, instance)["JWT_SECRET_KEY"] == made
    assert read(DEVELOPMENT, tmp_path / "other")["JWT_SECRET_KEY"] != made


def test_threads_that_start_together_agree_on_one_development_secret(tmp_path: Path) -> None:
    start = Barrier(20)

    def secret(_: int) -> str:
        start.wait(30)
        return str(read(DEVELOPMENT, tmp_path / "instance")["JWT_SECRET_KEY"])

    with ThreadPoolExecutor(20) as threads:
        [made] = set(threads.map(secret, range(20)))
    assert [file.read_text() for file in (tmp_path / "instance").iterdir()] == [made]


TWENTY_PROCESSES = """
import os, sys, time
from pathlib import Path
from todo_api.config import read
start = time.monotonic() + 0.2
for _ in range(20):
    if not os.fork():
        time.sleep(max(0, start - time.monotonic()))
        print(read({"ENVIRONMENT": "development"}, Path(sys.argv[1]))["JWT_SECRET_KEY"], flush=True)
        os._exit(0)
sys.exit(max(os.wait()[1] for _ in range(20)) > 0)
"""


def test_processes_that_start_together_agree_on_one_development_secret(tmp_path: Path) -> None:
    instance = tmp_path / "instance"
    ended = run(sys.executable, "-c", TWENTY_PROCESSES, str(instance), cwd=ROOT, env=environment())
    assert (ended.returncode, ended.stderr) == (0, "")
    made = ended.stdout.split()
    assert len(made) == 20
    assert [file.read_text() for file in instance.iterdir()] == [made[0]]
    assert set(made) == {made[0]}


BOTH = {"JWT_ISSUER": "https://app.example.com", "JWT_AUDIENCE": "https://api.example.com"}


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, "JWT_ISSUER and JWT_AUDIENCE"),
        ({"JWT_ISSUER": BOTH["JWT_ISSUER"]}, "JWT_AUDIENCE"),
        ({"JWT_AUDIENCE": BOTH["JWT_AUDIENCE"]}, "JWT_ISSUER"),
        (BOTH, None),
        ({"TODO_API_CHECKED_BY": "1"}, None),  # gunicorn's master has said it
    ],
)
@pytest.mark.parametrize("kind", ["development", *DEPLOYED])
def test_a_deployed_service_says_once_which_claims_it_does_not_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, settings: dict[str, str], missing: str | None
) -> None:
    create_app(PRODUCTION | {"ENVIRONMENT": kind} | settings, tmp_path)
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.err.splitlines()]
    told = missing and kind != "development"
    assert [(line["level"], line["message"]) for line in lines] == (
        [("WARNING", f"{missing} not set: tokens of any issuer or audience are accepted")] if told else []
    )
    assert said.out == ""
    assert SECRET not in said.err


# what the shell holds, what flask's command adds from `.env`, whether the latter counts
SHELLS: list[tuple[dict[str, str], dict[str, str], bool]] = [
    ({}, DEVELOPMENT, True),
    ({"LOG_LEVEL": "DEBUG"}, DEVELOPMENT | {"DATABASE_URL": URL}, True),
    (DEVELOPMENT | {"DATABASE_URL": URL}, {"LOG_LEVEL": "DEBUG"}, True),
    *(({name: "x"}, DEVELOPMENT | {"JWT_ISSUER": "i"}, False) for name in sorted(config.MAY_COME_FROM_A_FILE)),
    *(({f"{name}_FILE": "x"}, DEVELOPMENT, False) for name in sorted(config.MAY_COME_FROM_A_FILE)),
    *(({"ENVIRONMENT": kind}, {"DATABASE_URL": URL}, False) for kind in DEPLOYED),
]


@pytest.mark.parametrize(("shell", "added", "counts"), SHELLS)
def test_a_developers_file_counts_in_a_developers_shell_only(
    monkeypatch: pytest.MonkeyPatch, shell: dict[str, str], added: dict[str, str], counts: bool
) -> None:
    monkeypatch.setattr(os, "environ", {**shell, "FLASK_RUN_FROM_CLI": "true", **added})
    found = config.environment()
    assert found.items() >= shell.items()
    assert (found.items() >= added.items()) == counts
    assert bool(found.keys() & added.keys() - shell.keys()) == counts


def test_without_flasks_command_the_environment_is_all_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"DATABASE_URL": URL, "LOG_LEVEL": "DEBUG"})
    assert config.environment() == {"DATABASE_URL": URL, "LOG_LEVEL": "DEBUG"}


def names_known() -> set[str]:
    """Every text in the module that reads settings which could be a variable's name."""
    tree = ast.parse((ROOT / "todo_api" / "config.py").read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if re.fullmatch("[A-Z][A-Z_]+", text)}


def example() -> dict[str, str]:
    """The settings of `.env.example`, those in comments included."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", lines, re.MULTILINE))


def test_the_example_names_settings_that_there_are_and_can_be_used_as_it_stands(tmp_path: Path) -> None:
    settings = example()
    assert next(iter(settings.items())) == ("ENVIRONMENT", "development")
    assert settings.keys() <= names_known()
    assert read(settings, tmp_path)["ENVIRONMENT"] == "development"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which a developer has worked: it has an `.env`."""
    copy = copy_project(tmp_path_factory.mktemp("project"))
    (copy / ".env").write_text((copy / ".env.example").read_text(encoding="utf-8"), encoding="utf-8")
    return copy


def flask(project: Path, command: str, **settings: str) -> "CompletedProcess[str]":
    return run(sys.executable, "-m", "flask", *command.split(), cwd=project, env=environment(**settings))


COMMANDS = ["token alice", "db upgrade", "shell", "routes", "user-delete alice --yes"]


@pytest.mark.parametrize(
    ("command", "settings", "name"),
    [
        *((command, {"DATABASE_URL": URL}, "BETTER_AUTH_SECRET") for command in COMMANDS),
        ("db upgrade", {"BETTER_AUTH_SECRET": SECRET}, "DATABASE_URL"),
    ],
)
def test_an_operators_shell_is_production_although_a_developers_file_is_there(
    project: Path, command: str, settings: dict[str, str], name: str
) -> None:
    ended = flask(project, command, **settings)
    assert ended.returncode not in (0, None)
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"todo_api: {name} is required")
    assert not (project / "instance" / "todo.db").exists()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"ENVIRONMENT": "prod"}, "ENVIRONMENT"),
        ({"DATABASE_URL": URL, "BETTER_AUTH_SECRET": "pa55word"}, "BETTER_AUTH_SECRET"),
        ({"DATABASE_URL": URL, "BETTER_AUTH_SECRET_FILE": "nowhere"}, "BETTER_AUTH_SECRET_FILE"),
    ],
)
def test_a_bad_setting_stops_a_command_with_one_line(project: Path, settings: dict[str, str], name: str) -> None:
    ended = flask(project, "routes", **settings)
    assert ended.returncode not in (0, None)
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"todo_api: {name} ")
    assert "pa55word" not in line


def test_a_shell_that_names_a_database_makes_no_development_token(project: Path) -> None:
    ended = flask(project, "token alice", DATABASE_URL=URL, BETTER_AUTH_SECRET=SECRET, **BOTH)
    assert ended.returncode not in (0, None)
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert "development" in line


def test_a_developers_shell_reads_the_developers_file(project: Path) -> None:
    ended = flask(project, "token alice")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count(".") == 2


def test_a_shell_that_says_development_itself_chooses_its_database(project: Path, tmp_path: Path) -> None:
    database = tmp_path / "elsewhere.db"
    ended = flask(project, "db upgrade", ENVIRONMENT="development", DATABASE_URL=f"sqlite:///{database}")
    assert ended.returncode == 0, ended.stderr
    assert database.exists()
    assert not (project / "instance" / "todo.db").exists()
