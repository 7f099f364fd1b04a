"""Settings: defaults, valid and invalid values, and values from files."""

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from psycopg2.extensions import make_dsn, parse_dsn
from sqlalchemy import make_url

from tests.support.programs import ROOT, environment, run
from tests.support.tokens import SECRET
from todo_api import config, create_app

URL = "postgresql://todo:pa55word@db.example.com:5432/todo"
PRODUCTION = {"DATABASE_URL": URL, "BETTER_AUTH_SECRET": SECRET}
DEVELOPMENT = {"ENVIRONMENT": "development"}
NEON = "owner:npg_pa55word@ep-cool-123-pooler.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require"
NOT_UTF_8 = "\udcff" * 40  # how Python represents such bytes of the environment
DEPLOYED = ["staging", "production"]
EVERYWHERE = pytest.mark.parametrize("settings", [PRODUCTION, DEVELOPMENT], ids=["production", "development"])


def refusal(environ: dict[str, str], instance: Path) -> str:
    """Return the one line that rejects these settings; check that it contains no secret."""
    with pytest.raises(config.ConfigError) as refused:
        config.read(environ, instance)
    line = str(refused.value)
    assert line.isprintable()
    for hidden in (environ.get("BETTER_AUTH_SECRET", "").strip(), SECRET, "pa55word"):
        assert not hidden or hidden not in line
    # Nor does what Python would print above it.
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    return line


def without(name: str, settings: dict[str, str] = PRODUCTION) -> dict[str, str]:
    return {other: value for other, value in settings.items() if other != name}


# variable, key of the configuration, default, {text: value}
MEANINGS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("ENVIRONMENT", "ENVIRONMENT", "production", {kind: kind for kind in ("development", *DEPLOYED)}),
    ("LOG_LEVEL", "LOG_LEVEL", "INFO", {level: level for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}),
    ("CONCEAL_FOREIGN_TASKS", "CONCEAL_FOREIGN_TASKS", False, {"true": True, "false": False}),
    ("MAX_TASKS_PER_USER", "MAX_TASKS_PER_USER", 10_000, {"0": 0, "2147483647": 2**31 - 1}),
    ("DB_POOL_SIZE", "DB_POOL_SIZE", 5, {"1": 1, "1000": 1000}),
    ("DB_MAX_OVERFLOW", "DB_MAX_OVERFLOW", 10, {"0": 0, "1000": 1000}),
    ("DB_POOL_RECYCLE", "DB_POOL_RECYCLE", 240, {"1": 1, "86400": 86400}),
    ("DB_POOL_TIMEOUT", "DB_POOL_TIMEOUT", 5, {"1": 1, "3600": 3600}),
    ("DB_STATEMENT_TIMEOUT", "DB_STATEMENT_TIMEOUT", 3, {"1": 1, "3600": 3600}),
    ("READY_INTERVAL", "READY_INTERVAL", 5, {"1": 1, "86400": 86400}),
    ("WEB_CONCURRENCY", "WEB_CONCURRENCY", 2, {"1": 1, "1000": 1000}),
    ("WEB_THREADS", "WEB_THREADS", 4, {"1": 1, "1000": 1000}),
    ("JWT_ALGORITHM", "JWT_ALGORITHM", "HS256", {"HS256": "HS256", "HS384": "HS384", "HS512": "HS512"}),
    ("JWT_ISSUER", "JWT_ISSUER", None, {"https://app.example.com": "https://app.example.com"}),
    ("JWT_AUDIENCE", "JWT_AUDIENCE", None, {"https://api.example.com": "https://api.example.com"}),
    (
        "MCP_URL",
        "MCP_URL",
        None,
        {url: url for url in ("https://api.example.com/mcp", "https://a:8443/mcp", "http://127.0.0.1:8000/mcp")},
    ),
    (
        "MCP_ISSUER",
        "MCP_ISSUER",
        None,
        {url: url for url in ("https://app.example.com/api/auth", "https://App.example.com:443/", "http://localhost")},
    ),
    ("BETTER_AUTH_SECRET", "JWT_SECRET_KEY", SECRET, {"x" * 32: "x" * 32, "é" * 16: "é" * 16}),
    ("METRICS_TOKEN", "METRICS_TOKEN", None, {"x" * 16: "x" * 16}),
    ("LOG_HASH_KEY", "LOG_HASH_KEY", SECRET, {"x" * 16: "x" * 16}),
    (
        "CORS_ORIGINS",
        "CORS_ORIGINS",
        frozenset(),
        {
            "https://a.example, http://b_c.example:8080": {"https://a.example", "http://b_c.example:8080"},
            "https://[2001:db8::1]:8443": {"https://[2001:db8::1]:8443"},
        },
    ),
]


@pytest.mark.parametrize(("name", "key", "default", "values"), MEANINGS)
def test_a_setting_has_its_default_and_takes_its_values(
    tmp_path: Path, name: str, key: str, default: Any, values: dict[str, Any]
) -> None:
    assert config.read(PRODUCTION, tmp_path)[key] == default
    assert name in PRODUCTION or config.read(PRODUCTION | {name: ""}, tmp_path)[key] == default
    for value, meaning in values.items():
        assert config.read(PRODUCTION | {name: value}, tmp_path)[key] == meaning


NUMBERS = [name for name, _, default, _ in MEANINGS if type(default) is int]
NO_NUMBERS = ["-1", "1.5", "five", "1e3", "0x10", "\uff11", "+1", "1_0", "99999999999", " 1", "1\n", NOT_UTF_8]
BAD: dict[str, list[str]] = {
    "ENVIRONMENT": ["prod", "Production", " development", "test"],
    "LOG_LEVEL": ["LOUD", "10", "INFO "],
    "CONCEAL_FOREIGN_TASKS": ["yes", "1", "tru", " true"],
    "JWT_ALGORITHM": ["none", "hs256", "RS256", "HS256,HS512"],
    "JWT_ISSUER": [" https://app.example.com", "https://app.example.com\n"],
    "JWT_AUDIENCE": ["\t"],
    "MCP_URL": [
        *("https://api.example.com", "https://api.example.com/", "https://api.example.com/mcp/", "api.example.com/mcp"),
        *("https://api.example.com/mcp?x", "https://api.example.com/mcp?", "https://api.example.com/mcp#x", "/mcp"),
        *(
            "https://api.example.com/MCP",
            "https://API.example.com/mcp",
            "https://api.example.com:443/mcp",
            "https:///mcp",
        ),
        *("https://api.example.com/a/mcp", "https://u@api.example.com/mcp", "ftp://api.example.com/mcp"),
        *(" https://api.example.com/mcp", "https://api.example.com/mcp\n", "HTTPS://api.example.com/mcp"),
    ],
    "MCP_ISSUER": [
        "app.example.com",
        "https://",
        "ftp://a.example",
        "https://app.example.com/#x",
        "https://u@a.example",
    ],
    "METRICS_TOKEN": ["x" * 15, "x" * 8 + " " + "x" * 8, "é" * 16, "x" * 16 + "\n"],
    "LOG_HASH_KEY": ["x" * 15, "x" * 16 + " ", NOT_UTF_8],
    "BETTER_AUTH_SECRET": [f" {SECRET}", f"{SECRET} ", f"{SECRET}\n", f"\t{SECRET}", " ", NOT_UTF_8],
    "CORS_ORIGINS": [
        *("app.example.com", "https://", "https://app.example.com/path", "null", ",", "https://app.example.com,"),
        *("https://app.example.com/", "https://a.example;https://b.example", "https://*.example.com", "*, *"),
        *("https://user@app.example.com", "https://App.example.com", "HTTPS://app.example.com", "ftp://a.example"),
        *("https://app.example.com:443", "http://app.example.com:80", "https://app.example.com:0", "https://a:99999"),
        *("https://app.example.com:", "https://app.example.com?", "https://app.example.com#", "https://a.b:08443"),
        *("https://bücher.example", "https://a b.example", "https://:8443", "https://.", "https://a..b"),
        *("https://[::1", "*,https://app.example.com"),
    ],
    **{
        name: [
            *("todo", "todo.db", "://", "mysql://todo:pa55word@db.example.com/todo", "http://db.example.com/todo"),
            *("postgresql:/todo:pa55word@db/todo", "postgresql://todo:pa55word@db:port/todo", f"{URL}?pa55word=1"),
            *("postgresql://todo:pa55word@db:0/todo", f"{URL}?sslmode=required", f"{URL}?chanel_binding=require"),
            *("postgresql://todo:pa55word@h1:1,h2:0/todo", f"{URL}?target_session_attrs=readwrite"),
            *("postgresql://h1,h2/todo?host=h3&port=1,2", "postgresql://h1:1,h2:2,h3/todo?port=1,2"),
            *(f"{URL}\n", f" {URL}", NOT_UTF_8, URL + NOT_UTF_8, "sqlite://", "sqlite:///", "sqlite:///:memory:"),
            *("sqlite://host/todo.db", "sqlite+nonsense:///todo.db", "sqlite:///todo.db?timeout=soon"),
        ]
        for name in ("DATABASE_URL", "MIGRATION_DATABASE_URL")
    },
    **dict.fromkeys(NUMBERS, NO_NUMBERS),
}


@pytest.mark.parametrize("name", BAD)
@EVERYWHERE
def test_a_malformed_setting_is_rejected_by_name(tmp_path: Path, settings: dict[str, str], name: str) -> None:
    for value in BAD[name]:
        assert re.match(rf"{name}(?![A-Z_]) (must|is)", refusal(settings | {name: value}, tmp_path)), value


@pytest.mark.parametrize(("name", "values"), [(name, values) for name, _, _, values in MEANINGS if name in NUMBERS])
def test_a_number_outside_its_range_is_rejected(tmp_path: Path, name: str, values: dict[str, int]) -> None:
    for value in (min(values.values()) - 1, max(values.values()) + 1):
        assert refusal(PRODUCTION | {name: str(value)}, tmp_path).startswith(f"{name} must be a whole number from ")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("CORS_ORIGINS", "*", "development"),
        ("DATABASE_URL", "sqlite:////var/lib/todo.db", "PostgreSQL"),
        ("MIGRATION_DATABASE_URL", "sqlite:////var/lib/todo.db", "PostgreSQL"),
        ("BETTER_AUTH_SECRET", "x" * 31, "32 bytes"),
        ("BETTER_AUTH_SECRET", "é" * 15 + "x", "32 bytes"),
        ("MCP_URL", "http://api.example.com/mcp", "http:// in development"),
        ("MCP_ISSUER", "http://app.example.com/api/auth", "ENVIRONMENT=development"),
        *(("BETTER_AUTH_SECRET", sample, "sample") for sample in sorted(config.SAMPLE_SECRETS)),
    ],
)
def test_development_only_values_are_rejected_elsewhere(tmp_path: Path, name: str, value: str, reason: str) -> None:
    line = refusal(PRODUCTION | {name: value}, tmp_path)
    assert line.startswith(f"{name} ")
    assert reason in line
    config.read(DEVELOPMENT | {name: value}, tmp_path)


@pytest.mark.parametrize("kind", ["", *DEPLOYED])
@pytest.mark.parametrize("name", ["DATABASE_URL", "BETTER_AUTH_SECRET"])
def test_settings_required_outside_development_are_asked_for(tmp_path: Path, kind: str, name: str) -> None:
    settings = without(name) | {"ENVIRONMENT": kind}
    assert refusal(settings, tmp_path).startswith(f"{name} is required")
    assert refusal(settings | {name: ""}, tmp_path).startswith(f"{name} is required")
    assert list(tmp_path.iterdir()) == []


def test_the_ways_to_name_a_key_are_listed_when_there_is_none(tmp_path: Path) -> None:
    ways = "ENVIRONMENT=development or BETTER_AUTH_URL or JWKS_URL is set"
    assert refusal({"DATABASE_URL": URL}, tmp_path) == f"BETTER_AUTH_SECRET is required unless {ways}"


def test_users_are_hashed_with_the_database_url_where_no_secret_is_shared(tmp_path: Path) -> None:
    found = config.read({"DATABASE_URL": URL, "BETTER_AUTH_URL": "https://app.example.com"}, tmp_path)
    assert found["LOG_HASH_KEY"] == found["SQLALCHEMY_DATABASE_URI"]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
@EVERYWHERE
@pytest.mark.parametrize(
    "rest",
    [
        NEON,
        "todo:p%25a%2Fs%40s%3Aw@localhost/todo",
        "/todo?host=/var/run/postgresql",
        "todo@localhost/todo?connect_timeout=3&application_name=x%20y",
    ],
)
def test_a_postgresql_url_keeps_its_parts_and_names_the_driver(
    tmp_path: Path, scheme: str, settings: dict[str, str], rest: str
) -> None:
    found = config.read(settings | {"DATABASE_URL": f"{scheme}://{rest}"}, tmp_path)
    for key in ("SQLALCHEMY_DATABASE_URI", "MIGRATION_DATABASE_URL"):
        assert make_url(found[key]) == make_url(f"postgresql+psycopg2://{rest}")


@pytest.mark.parametrize(
    ("place", "hosts", "ports"),
    [
        ("h1:5433,h2:5434/todo?target_session_attrs=read-write", "h1,h2", "5433,5434"),
        ("todo:p%2Cw@h1,h2,h3/todo?target_session_attrs=read-write", "h1,h2,h3", ""),
        ("todo@[::1]:5433,h2/todo?target_session_attrs=primary&connect_timeout=3", "::1,h2", "5433"),
        ("/todo?host=h1,h2&port=5433,5434&target_session_attrs=read-write", "h1,h2", "5433,5434"),
        ("/todo?host=h1,h2&port=5433", "h1,h2", "5433,5433"),
        ("h1,h2,h3/todo?port=5433&sslmode=require", "h1,h2,h3", "5433,5433,5433"),
        ("todo:p?w@h1:5432,h2:5433/todo", "h1,h2", "5432,5433"),
        ("todo:p,x?w@h1/todo", "h1", ""),
        ("%2Fvar%2Frun%2Fa,%2Fvar%2Frun%2Fb/todo", "/var/run/a,/var/run/b", ""),
    ],
)
def test_several_hosts_are_taken_as_libpq_writes_them(tmp_path: Path, place: str, hosts: str, ports: str) -> None:
    found = config.read(PRODUCTION | {"DATABASE_URL": f"postgresql://{place}"}, tmp_path)
    for key in ("SQLALCHEMY_DATABASE_URI", "MIGRATION_DATABASE_URL"):
        url = make_url(found[key])
        _, options = url.get_dialect()().create_connect_args(url)
        expected = parse_dsn(f"postgresql://{place}")
        given = parse_dsn(make_dsn("", **options))
        assert (given.pop("host"), given.pop("port", "").rstrip(",")) == (hosts, ports)
        assert given == {name: value for name, value in expected.items() if name not in ("host", "port")}


def test_a_server_that_hangs_is_given_up_soon_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    ours = {"connect_timeout": 2, "application_name": "todo_api", "client_encoding": "utf8"}
    for query, options in {"": ours, "?connect_timeout=30": {**ours, "connect_timeout": None}}.items():
        found = config.read(PRODUCTION | {"DATABASE_URL": URL + query}, tmp_path)
        expected = {name: value for name, value in options.items() if value}
        assert found["SQLALCHEMY_ENGINE_OPTIONS"]["connect_args"] == expected
        assert found["DB_POOL_RECYCLE"] < 300


def test_migrations_may_have_their_own_database_url(tmp_path: Path) -> None:
    direct = "postgres://owner:secret@direct.example.com/todo"
    found = config.read(PRODUCTION | {"MIGRATION_DATABASE_URL": direct}, tmp_path)
    assert make_url(found["MIGRATION_DATABASE_URL"]) == make_url(direct.replace("postgres:", "postgresql+psycopg2:"))
    assert make_url(found["SQLALCHEMY_DATABASE_URI"]).host == "db.example.com"


def test_a_sqlite_file_is_the_same_from_every_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = tmp_path / "instance"
    settings = {"DATABASE_URL": "sqlite:///dev.db", "MIGRATION_DATABASE_URL": "sqlite:///sub/dev.db"}
    monkeypatch.chdir("/")
    found = config.read(DEVELOPMENT | settings, instance)
    assert found["SQLALCHEMY_DATABASE_URI"] == f"sqlite:///{instance}/dev.db"
    assert found["MIGRATION_DATABASE_URL"] == f"sqlite:///{instance}/sub/dev.db"
    absolute = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    assert config.read(DEVELOPMENT | {"DATABASE_URL": absolute}, instance)["SQLALCHEMY_DATABASE_URI"] == absolute


KEY_SETS: list[tuple[dict[str, str], tuple[str, str, str]]] = [
    *[
        ({"BETTER_AUTH_URL": url}, (f"{origin}/api/auth/jwks", origin, origin))
        for url, origin in {
            "https://app.example.com": "https://app.example.com",
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
def test_a_key_set_sets_its_issuer_and_audience(
    tmp_path: Path, settings: dict[str, str], expected: tuple[str, str, str], secret: str
) -> None:
    found = config.read(PRODUCTION | {"BETTER_AUTH_SECRET": secret} | settings, tmp_path)
    assert (found["JWKS_URL"], found["JWT_ISSUER"], found["JWT_AUDIENCE"]) == expected
    assert found["JWT_SECRET_KEY"] == (secret or None)


def test_better_auth_is_the_issuer_of_agents_tokens_unless_another_is_named(tmp_path: Path) -> None:
    settings = PRODUCTION | {"BETTER_AUTH_URL": "https://App.example.com/api/auth/"}
    assert config.read(settings, tmp_path)["MCP_ISSUER"] == "https://app.example.com/api/auth"
    other = "https://auth.example.com/"
    assert config.read(settings | {"MCP_ISSUER": other}, tmp_path)["MCP_ISSUER"] == other


@EVERYWHERE
def test_users_have_an_audience_if_their_issuer_is_that_of_agents(tmp_path: Path, settings: dict[str, str]) -> None:
    issuer = "https://app.example.com/api/auth"
    line = refusal(settings | {"JWT_ISSUER": issuer, "MCP_ISSUER": issuer}, tmp_path)
    assert line.startswith("JWT_AUDIENCE is required when JWT_ISSUER is MCP_ISSUER")


@EVERYWHERE
def test_the_audience_of_agents_is_not_that_of_users(tmp_path: Path, settings: dict[str, str]) -> None:
    url = "https://api.example.com/mcp"
    line = refusal(settings | {"MCP_URL": url, "JWT_AUDIENCE": url}, tmp_path)
    assert line.startswith("MCP_URL must differ from JWT_AUDIENCE")


def test_a_developer_with_a_key_set_gets_no_secret(tmp_path: Path) -> None:
    found = config.read(DEVELOPMENT | {"BETTER_AUTH_URL": "http://app.test:3000"}, tmp_path)
    assert (found["JWT_SECRET_KEY"], found["USES_DEVELOPMENT_SECRET"]) == (None, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["BETTER_AUTH_URL", "JWKS_URL"])
@pytest.mark.parametrize(
    "url",
    [
        *("app.example.com", "ftp://app.example.com", "https://", "https:///jwks", "javascript:alert(1)"),
        *("https://user:pa55word@app.example.com", "https://app.example.com:port", "https://app.example.com:99999"),
        *("https://app.example.com/#x", "https://app.example.com/a b", "https://[::1"),
        *("http://app.example.com", "http://127.0.0.1.example.com"),
    ],
)
def test_an_untrusted_url_is_rejected(tmp_path: Path, name: str, url: str) -> None:
    claims = {"JWT_ISSUER": "issuer", "JWT_AUDIENCE": "api"}
    assert refusal(PRODUCTION | claims | {name: url}, tmp_path).startswith(f"{name} must be ")


@pytest.mark.parametrize("url", ["https://app.example.com/auth", "https://app.example.com/?x=1"])
def test_better_auth_is_configured_by_its_origin(tmp_path: Path, url: str) -> None:
    assert refusal(PRODUCTION | {"BETTER_AUTH_URL": url}, tmp_path).startswith("BETTER_AUTH_URL must be an origin")


@pytest.mark.parametrize("missing", ["JWT_ISSUER", "JWT_AUDIENCE"])
def test_a_key_set_alone_needs_issuer_and_audience(tmp_path: Path, missing: str) -> None:
    settings = {"JWKS_URL": "https://keys.example.com/jwks", "JWT_ISSUER": "issuer", "JWT_AUDIENCE": "api"}
    assert refusal(PRODUCTION | settings | {missing: ""}, tmp_path).startswith(f"{missing} is required")


def test_a_developer_needs_no_settings(tmp_path: Path) -> None:
    found = config.read(DEVELOPMENT, tmp_path)
    assert found["SQLALCHEMY_DATABASE_URI"] == found["MIGRATION_DATABASE_URL"] == f"sqlite:///{tmp_path / 'todo.db'}"
    assert found["USES_DEVELOPMENT_SECRET"] is True
    assert found["CORS_ORIGINS"] == {"http://localhost:3000", "http://127.0.0.1:3000"}
    found = config.read(DEVELOPMENT | {"CORS_ORIGINS": "*", "BETTER_AUTH_SECRET": "short"}, tmp_path)
    assert found["CORS_ORIGINS"] == {"*"}
    assert (found["JWT_SECRET_KEY"], found["USES_DEVELOPMENT_SECRET"]) == ("short", False)


def test_the_example_file_works_unchanged(tmp_path: Path) -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8")
    settings = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", lines, re.MULTILINE))
    assert next(iter(settings.items())) == ("ENVIRONMENT", "development")
    assert settings.keys() <= config.Settings().fields.keys()
    assert config.read(settings, tmp_path)["ENVIRONMENT"] == "development"


FROM_FILES = {
    "BETTER_AUTH_SECRET": ("JWT_SECRET_KEY", "another-secret-0123456789-0123456789"),
    "DATABASE_URL": ("SQLALCHEMY_DATABASE_URI", "postgresql+psycopg2://todo:pa55word@other.example.com/todo"),
    "MIGRATION_DATABASE_URL": ("MIGRATION_DATABASE_URL", "postgresql+psycopg2://todo:pa55word@direct.example.com/todo"),
    "METRICS_TOKEN": ("METRICS_TOKEN", "a-token-for-metrics"),
    "LOG_HASH_KEY": ("LOG_HASH_KEY", "a-key-for-hashes"),
}
each_from_a_file = pytest.mark.parametrize("name", FROM_FILES)


@each_from_a_file
def test_a_setting_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    key, value = FROM_FILES[name]
    settings = without(name) | {f"{name}_FILE": str(file)}
    file.write_text(value)
    assert config.read(settings, tmp_path)[key] == value
    file.write_text(f"{value}\n")
    assert config.read(settings | {name: ""}, tmp_path)[key] == value
    assert refusal(settings | {name: value}, tmp_path).startswith(f"{name} and {name}_FILE are both set")


@each_from_a_file
@EVERYWHERE
def test_a_file_without_a_setting_is_rejected(tmp_path: Path, name: str, settings: dict[str, str]) -> None:
    file = tmp_path / "file"
    settings = without(name, settings) | {f"{name}_FILE": str(file)}
    _, value = FROM_FILES[name]
    for text in ("", "\n", "\n\n", f"{value}\n\n", f" {value}\n", f"{value} "):
        file.write_text(text)
        assert refusal(settings, tmp_path).startswith(name)
    for text in (f"{value}\r\n", f"{value}\r", f"\r\n{value}", f"{value}\v\n", f"{value}\u3000\n"):
        file.write_bytes(text.encode())
        assert refusal(settings, tmp_path).startswith(name)
    file.write_bytes(b"\xff\xfe\x00\x81" * 20)
    assert refusal(settings, tmp_path).startswith(f"{name}_FILE ")
    for path in (tmp_path, tmp_path / "missing"):
        assert refusal(settings | {f"{name}_FILE": str(path)}, tmp_path).startswith(f"{name}_FILE ")


def test_the_development_secret_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    instance = tmp_path / "instance"
    before = os.umask(0)
    made = config.read(DEVELOPMENT, instance)["JWT_SECRET_KEY"]
    os.umask(before)
    assert len(made.encode()) >= config.MIN_SECRET_BYTES
    [file] = instance.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == made
    assert config.read(DEVELOPMENT, instance)["JWT_SECRET_KEY"] == made
    assert config.read(DEVELOPMENT, tmp_path / "other")["JWT_SECRET_KEY"] != made


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


def test_simultaneous_threads_and_processes_make_one_development_secret(tmp_path: Path) -> None:
    start = Barrier(20)

    def secret(_: int) -> str:
        start.wait(30)
        return str(config.read(DEVELOPMENT, tmp_path / "threads")["JWT_SECRET_KEY"])

    with ThreadPoolExecutor(20) as threads:
        made = list(threads.map(secret, range(20)))
    assert [file.read_text() for file in (tmp_path / "threads").iterdir()] == list(set(made))
    instance = tmp_path / "processes"
    ended = run(sys.executable, "-c", TWENTY_PROCESSES, str(instance), cwd=ROOT, env=environment())
    assert (ended.returncode, ended.stderr, len(ended.stdout.split())) == (0, "", 20)
    assert [file.read_text() for file in instance.iterdir()] == list(set(ended.stdout.split()))


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, "JWT_ISSUER and JWT_AUDIENCE"),
        ({"JWT_ISSUER": "https://app.example.com"}, "JWT_AUDIENCE"),
        ({"JWT_AUDIENCE": "https://api.example.com"}, "JWT_ISSUER"),
        ({"JWT_ISSUER": "https://app.example.com", "JWT_AUDIENCE": "https://api.example.com"}, None),
        ({"TODO_API_CHECKED_BY": "1"}, None),  # gunicorn's master has already warned
        (DEVELOPMENT, None),
    ],
)
def test_a_deployed_service_warns_once_of_claims_it_does_not_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, str], missing: str | None
) -> None:
    create_app(PRODUCTION | {"ENVIRONMENT": "staging"} | settings, tmp_path)
    said = capsys.readouterr()
    told = [f"{missing} not set: tokens of any issuer or audience are accepted"] if missing else []
    lines = [json.loads(line) for line in said.err.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [("WARNING", text) for text in told]
    assert said.out == ""
    assert SECRET not in said.err


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"ENVIRONMENT": "prod"}, "ENVIRONMENT"),
        ({"DATABASE_URL": URL, "BETTER_AUTH_SECRET": "pa55word"}, "BETTER_AUTH_SECRET"),
        ({"DATABASE_URL": URL, "BETTER_AUTH_SECRET_FILE": "nowhere"}, "BETTER_AUTH_SECRET_FILE"),
    ],
)
def test_a_bad_setting_stops_a_command_with_one_line(settings: dict[str, str], name: str) -> None:
    ended = run(sys.executable, "-m", "flask", "routes", cwd=ROOT, env=environment(**settings))
    assert ended.returncode not in (0, None)
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"todo_api: {name} ")
    assert "pa55word" not in line
