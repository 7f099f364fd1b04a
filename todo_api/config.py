"""Settings, read from environment variables. A bad one stops the start with one line that names the variable."""

import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click
from flask.cli import ScriptInfo
from marshmallow import Schema, ValidationError, fields, validates_schema
from marshmallow.validate import OneOf, Regexp
from psycopg2 import Error as LibpqError
from psycopg2.extensions import parse_dsn
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

MAX_BODY_BYTES = 64 * 1024
MIN_SECRET_BYTES = 32
SAMPLE_SECRETS = {  # the first two are defaults of Better Auth
    "better-auth-secret-123456789",
    "better-auth-secret-12345678901234567890",
    "replace-me-with-the-secret-of-your-front-end",
}
DEVELOPMENT_ORIGINS = ("http://localhost:3000", "http://127.0.0.1:3000")
ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]*)?")
LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SURROGATES = re.compile("[\ud800-\udfff]")  # how Python represents bytes that are not UTF-8
MAY_COME_FROM_A_FILE = {"BETTER_AUTH_SECRET", "DATABASE_URL", "MIGRATION_DATABASE_URL", "METRICS_TOKEN", "LOG_HASH_KEY"}
OPERATOR_CHOICES = MAY_COME_FROM_A_FILE | {f"{name}_FILE" for name in MAY_COME_FROM_A_FILE} | {"ENVIRONMENT"}
INITIAL_ENVIRONMENT = Path("/proc/self/environ")  # what the process was started with, on Linux


class ConfigError(ValueError):
    """A setting is missing, malformed or unsafe. The message is one line that names it and never holds a secret."""


class Setting(fields.Field[Any]):
    """A variable. `parse` turns its text into the value, knowing whether this is development, or raises an error."""

    def __init__(self, parse: Callable[[str, bool], Any], rule: str, default: Any = None) -> None:
        super().__init__(load_default=default)
        self.parse, self.rule = parse, rule

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        try:
            return self.parse(value, (data or {}).get("ENVIRONMENT") == "development")
        except (ValueError, ArgumentError, LibpqError):
            raise ValidationError(self.rule) from None


def _choice(default: str, *others: str) -> fields.String:
    return fields.String(load_default=default, validate=OneOf((default, *others), error="must be one of {choices}"))


def _whole_number(default: int, *, least: int, most: int) -> Setting:
    def parse(text: str, _: bool) -> int:
        # int() alone accepts +1, 1_000 and the digits of other scripts, too.
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return Setting(parse, f"must be a whole number from {least} to {most}", default)


def _shared_secret(text: str, development: bool) -> str:
    if not development and (len(text.encode()) < MIN_SECRET_BYTES or text in SAMPLE_SECRETS):
        raise ValueError
    return text


def _database_url(text: str, development: bool) -> str:
    """Return the URL with the driver that SQLAlchemy needs; the query stays as it was."""
    if development and re.fullmatch("sqlite:///(?!:memory:)[^?]+", text):
        return text
    found = re.fullmatch(r"postgres(?:ql)?(?:\+psycopg2)?(://.*)", text)
    url = f"postgresql{found[1]}" if found else ""
    port, options = make_url(url).port, parse_dsn(url)
    if not (port is None or 0 < port < 65536) or options.get("sslmode", "require") not in SSL_MODES:
        raise ValueError
    return url.replace("postgresql", "postgresql+psycopg2", 1)


def _web_url(text: str, development: bool) -> str:
    """Return the URL with its origin as tokens have it."""
    url = urlsplit(text)
    origin = _origin(url)
    if not re.fullmatch("[!-~]+", text) or "@" in url.netloc or url.fragment:
        raise ValueError
    if url.scheme == "http" and not (development or LOOPBACK.fullmatch(url.hostname or "")):
        raise ValueError
    return url._replace(netloc=urlsplit(origin).netloc).geturl()


def _better_auth_url(text: str, development: bool) -> str:
    """Return the origin; the path that Better Auth itself adds may be there."""
    url = urlsplit(_web_url(text, development))
    if url.query or url.path.rstrip("/") not in ("", "/api/auth"):
        raise ValueError
    return _origin(url)


def _origins(text: str, development: bool) -> frozenset[str]:
    origins = frozenset(origin.strip() for origin in text.split(","))
    if not (development and text == "*") and any(_origin(urlsplit(origin)) != origin for origin in origins):
        raise ValueError
    return origins


def _origin(url: SplitResult) -> str:
    """Return scheme, host and port as browsers send them (RFC 6454, section 6.2). Raises ValueError."""
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    port = "" if url.port in (None, 443 if url.scheme == "https" else 80) else f":{url.port}"
    if not ORIGIN.fullmatch(origin := f"{url.scheme}://{host}{port}"):
        raise ValueError
    return origin


DATABASE = (
    "must be a PostgreSQL URL, postgresql://USER:PASSWORD@HOST:PORT/NAME with options that libpq knows;"
    " with ENVIRONMENT=development also sqlite:///FILE"
)
HTTPS = "https://app.example.com (http:// with ENVIRONMENT=development or for loopback only)"
OPENSSL = "make it with: openssl rand -base64 32"
REQUIRED = "is required unless ENVIRONMENT=development"
RANDOM = Regexp(r"[!-~]{16,}\Z", error=f"must be 16 or more visible ASCII characters; {OPENSSL}")


class Settings(Schema):
    """The variables, their defaults and their rules; a message never repeats a value."""

    ENVIRONMENT = _choice("production", "staging", "development")
    DATABASE_URL = Setting(_database_url, DATABASE)
    MIGRATION_DATABASE_URL = Setting(_database_url, DATABASE)
    DB_POOL_SIZE = _whole_number(5, least=1, most=1000)
    DB_MAX_OVERFLOW = _whole_number(10, least=0, most=1000)
    DB_POOL_RECYCLE = _whole_number(240, least=1, most=86400)  # seconds, as all times here
    DB_POOL_TIMEOUT = _whole_number(5, least=1, most=3600)
    DB_STATEMENT_TIMEOUT = _whole_number(10, least=1, most=3600)
    BETTER_AUTH_URL = Setting(_better_auth_url, f"must be an origin such as {HTTPS}")
    JWKS_URL = Setting(_web_url, f"must be a URL like {HTTPS}")
    JWT_ISSUER = fields.String(load_default=None)
    JWT_AUDIENCE = fields.String(load_default=None)
    BETTER_AUTH_SECRET = Setting(
        _shared_secret, f"must have at least {MIN_SECRET_BYTES} bytes and be no published sample; {OPENSSL}"
    )
    JWT_ALGORITHM = _choice("HS256", "HS384", "HS512")
    LOG_LEVEL = _choice("INFO", "DEBUG", "WARNING", "ERROR", "CRITICAL")
    LOG_HASH_KEY = fields.String(load_default=None, validate=RANDOM)
    METRICS_TOKEN = fields.String(load_default=None, validate=RANDOM)
    CONCEAL_FOREIGN_TASKS = _choice("false", "true")
    MAX_TASKS_PER_USER = _whole_number(10_000, least=0, most=2**31 - 1)
    CORS_ORIGINS = Setting(
        _origins, "must be a list like https://a.example,https://b.example:8443, or * in development"
    )
    READY_INTERVAL = _whole_number(5, least=1, most=86400)
    WEB_CONCURRENCY = _whole_number(2, least=1, most=1000)  # for gunicorn.conf.py
    WEB_THREADS = _whole_number(4, least=1, most=1000)

    @validates_schema(skip_on_field_errors=True)
    def check_required(self, settings: dict[str, Any], **_: Any) -> None:
        """Refuse settings without a database, without any key, or with a key set of no known issuer."""
        deployed = settings["ENVIRONMENT"] != "development"
        if deployed and not settings["DATABASE_URL"]:
            raise ValidationError(f"{REQUIRED}: postgresql://USER:PASSWORD@HOST/NAME", "DATABASE_URL")
        if deployed and not any(settings[name] for name in ("BETTER_AUTH_SECRET", "BETTER_AUTH_URL", "JWKS_URL")):
            raise ValidationError(f"{REQUIRED} or BETTER_AUTH_URL is set", "BETTER_AUTH_SECRET")
        for name in ("JWT_ISSUER", "JWT_AUDIENCE"):
            if settings["JWKS_URL"] and not (settings["BETTER_AUTH_URL"] or settings[name]):
                raise ValidationError("is required when JWKS_URL is set without BETTER_AUTH_URL", name)


SETTINGS = Settings()


def read(environ: Mapping[str, str], instance: Path) -> dict[str, Any]:
    """Return the application's configuration; `instance` is the folder of a developer's own database and secret.

    Raises ConfigError.
    """
    try:
        settings = dict(SETTINGS.load({name: text for name in SETTINGS.fields if (text := _text(environ, name))}))
    except ValidationError as error:
        name, [message, *_] = next(iter(error.messages_dict.items()))
        raise ConfigError(f"{name} {message}") from None
    config = settings | _database(settings, instance.absolute()) | _tokens(settings, instance)
    own_front_end = DEVELOPMENT_ORIGINS if settings["ENVIRONMENT"] == "development" else ()
    return config | {
        "CHECKED": "TODO_API_CHECKED_BY" in environ,  # gunicorn.conf.py has shown the warnings
        "CONCEAL_FOREIGN_TASKS": settings["CONCEAL_FOREIGN_TASKS"] == "true",
        "CORS_ORIGINS": settings["CORS_ORIGINS"] or frozenset(own_front_end),
        "LOG_HASH_KEY": settings["LOG_HASH_KEY"] or config["JWT_SECRET_KEY"] or config["SQLALCHEMY_DATABASE_URI"],
        # One more than allowed: Werkzeug silently cuts a chunked body off at its limit.
        "MAX_CONTENT_LENGTH": MAX_BODY_BYTES + 1,
    }


def _text(environ: Mapping[str, str], name: str) -> str | None:
    """Return the variable, or the content of the file named by `<name>_FILE`; None when unset or empty."""
    value = environ.get(name) or None
    path = environ.get(f"{name}_FILE") if name in MAY_COME_FROM_A_FILE else None
    if path:
        if value:
            raise ConfigError(f"{name} and {name}_FILE are both set; set one of them")
        try:
            value = Path(path).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{name}_FILE must name a readable text file: {type(error).__name__}") from None
        if not value:
            raise ConfigError(f"{name}_FILE names an empty file")
    if value and (value != value.strip() or SURROGATES.search(value)):
        raise ConfigError(f"{name} must be UTF-8 text that does not begin or end with white space")
    return value


def _database(settings: Mapping[str, Any], instance: Path) -> dict[str, Any]:
    url = _absolute(settings["DATABASE_URL"] or "sqlite:///todo.db", instance)
    if url.startswith("sqlite"):
        engine: dict[str, Any] = {"connect_args": {"timeout": settings["DB_STATEMENT_TIMEOUT"]}}
    else:  # a serverless database may need some seconds to wake up
        defaults = {"connect_timeout": 10, "application_name": "todo_api"}
        options = {name: value for name, value in defaults.items() if name not in make_url(url).query}
        options["client_encoding"] = "utf8"  # whatever the URL, the server or PGCLIENTENCODING says
        engine = {"connect_args": options, "use_native_hstore": False}  # without hstore a query less to connect
    return {
        "MIGRATION_DATABASE_URL": _absolute(settings["MIGRATION_DATABASE_URL"] or url, instance),
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine | {"hide_parameters": True},  # errors are logged, tasks are not
    }


def _absolute(url: str, instance: Path) -> str:
    """Resolve the file of a SQLite URL against `instance`, so that it is the same from every working directory."""
    path = url.removeprefix("sqlite:///")
    if path == url or Path(path).is_absolute():
        return url
    instance.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{instance / path}"


def _tokens(settings: Mapping[str, Any], instance: Path) -> dict[str, Any]:
    origin, jwks_url, secret = settings["BETTER_AUTH_URL"], settings["JWKS_URL"], settings["BETTER_AUTH_SECRET"]
    jwks_url = jwks_url or (f"{origin}/api/auth/jwks" if origin else None)
    made_here = not (secret or jwks_url)
    config = {
        "DEVELOPMENT_SECRET": made_here,
        "JWT_SECRET_KEY": _development_secret(instance / "development-secret") if made_here else secret,
        "JWKS_URL": jwks_url,
    }
    for claim in ("ISSUER", "AUDIENCE"):
        config[f"JWT_DECODE_{claim}"] = config[f"JWT_ENCODE_{claim}"] = settings[f"JWT_{claim}"] or origin
    return config


def _development_secret(path: Path) -> str:
    """Return the secret kept at `path`, made on first use; processes that start together agree on one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent) as draft, suppress(FileExistsError):  # mode 0600
            draft.write(secrets.token_urlsafe(48))
            draft.flush()
            os.link(draft.name, path)
    return path.read_text(encoding="ascii")


def environment() -> dict[str, str]:
    """Return the variables that count: the shell's and, in a developer's shell, those of the flask command's files.

    The shell comes first, then the file given to --env-file, `.env` and `.flaskenv`. The first of them that names a
    database, a secret or ENVIRONMENT is the last that counts, unless it says ENVIRONMENT=development.
    """
    files = _files()
    shell = counted = _shell(files)
    for file in files:
        ignored = bool(counted.keys() & OPERATOR_CHOICES) and counted.get("ENVIRONMENT") != "development"
        counted = counted if ignored else file | counted
        # A child process, such as the reloader's, must not take them for its shell's.
        for name in (file.keys() if ignored else file.keys() & OPERATOR_CHOICES) - shell.keys():
            os.environ.pop(name, None)
    return counted


def _files() -> list[dict[str, str]]:
    """Return the content of the files that the flask command has loaded, the strongest first."""
    context = click.get_current_context(silent=True)
    script = context.find_object(ScriptInfo) if context else None
    if not context or not script:
        return []  # gunicorn loads none
    from dotenv import dotenv_values, find_dotenv  # not above: gunicorn's workers save its memory

    root = context.find_root()
    options, _, _ = root.command.make_parser(root).parse_args(sys.argv[1:])
    paths = [options.get("env_file") or os.environ.get("FLASK_ENV_FILE")]
    if script.load_dotenv_defaults:
        paths += [find_dotenv(name, usecwd=True) for name in (".env", ".flaskenv")]
    found = [dotenv_values(path) for path in paths if path]
    return [{name: value for name, value in file.items() if value is not None} for file in found]


def _shell(files: list[dict[str, str]]) -> dict[str, str]:
    """Return os.environ without what the flask command added from the files."""
    initial: set[str] = set()
    with suppress(OSError):  # not Linux: a variable with a file's value counts as the file's
        initial = {
            os.fsdecode(item.partition(b"=")[0]) for item in INITIAL_ENVIRONMENT.read_bytes().split(b"\0") if item
        }
    named = {(name, value) for file in files for name, value in file.items()}
    added = {name for name, value in named if name not in initial and (initial or os.environ.get(name) == value)}
    return {name: value for name, value in os.environ.items() if name not in added}
