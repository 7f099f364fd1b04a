"""Settings, read from environment variables. A bad one stops the start with one line that names it."""

import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlencode, urlsplit

import click
from marshmallow import Schema, ValidationError, fields, validates_schema
from marshmallow.validate import OneOf, Regexp
from psycopg2.extensions import parse_dsn
from sqlalchemy.engine import make_url

MAX_BODY_BYTES = 64 * 1024
MIN_SECRET_BYTES = 32
SAMPLE_SECRETS = {"better-auth-secret-12345678901234567890", "replace-me-with-the-secret-of-your-front-end"}
ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]*)?")
LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")
CHOICES = {  # parameters of a PostgreSQL URL that are checked before the first connection
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
KEYS = ("BETTER_AUTH_SECRET", "BETTER_AUTH_URL", "JWKS_URL")
DEVELOPMENT = {"DATABASE_URL": "sqlite:///todo.db", "CORS_ORIGINS": "http://localhost:3000,http://127.0.0.1:3000"}
MAY_COME_FROM_A_FILE = {"BETTER_AUTH_SECRET", "DATABASE_URL", "MIGRATION_DATABASE_URL", "METRICS_TOKEN", "LOG_HASH_KEY"}
OPERATOR_CHOICES = {"ENVIRONMENT", *KEYS, *MAY_COME_FROM_A_FILE, *(f"{name}_FILE" for name in MAY_COME_FROM_A_FILE)}
INITIAL_ENVIRONMENT = Path("/proc/self/environ")  # what the process was started with, on Linux

DATABASE = "must be a PostgreSQL URL, postgresql://USER:PASSWORD@HOST/NAME, or in development also sqlite:///FILE"
HTTPS = "https://app.example.com (http:// with ENVIRONMENT=development or for loopback only)"
MCP = "an origin in lower case and /mcp: https://api.example.com/mcp (http:// in development or for loopback only)"
OPENSSL = "make it with: openssl rand -base64 32"
REQUIRED = "is required unless ENVIRONMENT=development"
STRONG = f"must have at least {MIN_SECRET_BYTES} bytes and be no published sample; {OPENSSL}"
VISIBLE = Regexp(r"[!-~]{16,}\Z", error=f"must be 16 or more visible ASCII characters; {OPENSSL}")


class ConfigError(ValueError):
    """A setting is missing, malformed or unsafe. The message is one line that names it and never holds a secret."""


class Setting(fields.Field[Any]):
    """A variable. `parse` takes its text and whether this is development; it returns None or raises to refuse it."""

    def __init__(self, parse: Callable[[str, bool], Any], rule: str, default: Any = None) -> None:
        super().__init__(load_default=default)
        self.parse, self.rule = parse, rule

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        with suppress(Exception):  # each parser raises its own
            if (parsed := self.parse(value, (data or {}).get("ENVIRONMENT") == "development")) is not None:
                return parsed
        raise ValidationError(self.rule)


def _whole_number(default: int, *, least: int, most: int) -> Setting:
    def parse(text: str, _: bool) -> int | None:  # int() alone accepts +1, 1_000 and the digits of other scripts, too
        return int(text) if re.fullmatch("[0-9]{1,10}", text) and least <= int(text) <= most else None

    return Setting(parse, f"must be a whole number from {least} to {most}", default)


def _database_url(text: str, development: bool) -> str | None:
    """Return the URL with the driver that SQLAlchemy needs. The query stays as it was, but several hosts move there."""
    if development and re.fullmatch("sqlite:///(?!:memory:)[^?]+", text):
        return text
    url = re.sub(r"\Apostgres(ql)?(\+psycopg2)?:", "postgresql:", text)
    server = parse_dsn(url)  # it knows libpq's URLs only
    ports = [int(port) for port in server.get("port", "").split(",") if port]
    known = all(server.get(name, values[0]) in values for name, values in CHOICES.items())
    valid = text.isprintable() and known and all(0 < port < 65536 for port in ports)
    found = _hosts_in_query(url, server).replace("postgresql", "postgresql+psycopg2", 1)
    engine_url = make_url(found)
    engine_url.get_dialect()().create_connect_args(engine_url)  # raises now what it would at the first use
    return found if valid else None


def _hosts_in_query(url: str, server: Mapping[str, str]) -> str:
    """Return the URL with several hosts in the query, where SQLAlchemy takes them."""
    hosts, ports = (server.get(name, "").split(",") for name in ("host", "port"))
    if len(hosts) == 1:
        return url
    head, _, path, rest = re.split(r"\A(postgresql://(?:[^/@]*@)?)([^/?]*)([^?]*)\??", url)[1:]
    ports *= len(hosts) if len(ports) == 1 else 1  # libpq takes one port for all hosts
    places = urlencode({"host": ",".join(hosts), "port": ",".join(ports)}, safe="/:,")
    others = [part for part in rest.split("&") if part and part.partition("=")[0] not in ("host", "port")]
    return f"{head}{path or '/'}?{'&'.join([places, *others])}"


def _web_url(text: str, development: bool) -> str:
    """Return the URL with its origin as browsers send it (RFC 6454, section 6.2)."""
    url = urlsplit(text)
    host = url.hostname or ""
    port = "" if url.port in (None, 443 if url.scheme == "https" else 80) else f":{url.port}"
    origin = f"{url.scheme}://{f'[{host}]' if ':' in host else host}{port}"
    trusted = url.scheme == "https" or development or LOOPBACK.fullmatch(host)
    if not (trusted and ORIGIN.fullmatch(origin) and re.fullmatch("[!-~]+", text)) or "@" in url.netloc or url.fragment:
        raise ValueError
    return origin + url._replace(scheme="", netloc="").geturl()


def _origins(text: str, development: bool) -> frozenset[str] | None:
    origins = frozenset(origin.strip() for origin in text.split(","))
    exact = all(ORIGIN.fullmatch(origin) and _web_url(origin, True) == origin for origin in origins)
    return origins if exact or (development and text == "*") else None


def _better_auth_url(text: str, development: bool) -> str | None:
    """Return the origin; the path that Better Auth itself adds may be there."""
    origin = _web_url(text, development).rstrip("/").removesuffix("/api/auth")
    return origin if ORIGIN.fullmatch(origin) else None


def _mcp_url(text: str, development: bool) -> str | None:
    """Return the URL, which tokens and clients repeat letter by letter."""
    return text if _web_url(text, development) == text and urlsplit(text).path == "/mcp" and "?" not in text else None


def _issuer(text: str, development: bool) -> str | None:
    return text if _web_url(text, development) else None


class Settings(Schema):
    """The variables, their defaults and their rules; a message never repeats a value."""

    ENVIRONMENT = fields.String(load_default="production", validate=OneOf(["development", "staging", "production"]))
    DATABASE_URL = Setting(_database_url, DATABASE)
    MIGRATION_DATABASE_URL = Setting(_database_url, DATABASE)
    DB_POOL_SIZE = _whole_number(5, least=1, most=1000)
    DB_MAX_OVERFLOW = _whole_number(10, least=0, most=1000)
    DB_POOL_RECYCLE = _whole_number(240, least=1, most=86400)  # seconds, as all times here
    DB_POOL_TIMEOUT = _whole_number(5, least=1, most=3600)
    DB_STATEMENT_TIMEOUT = _whole_number(3, least=1, most=3600)
    BETTER_AUTH_URL = Setting(_better_auth_url, f"must be an origin such as {HTTPS}")
    JWKS_URL = Setting(_web_url, f"must be a URL like {HTTPS}")
    JWT_ISSUER = fields.String(load_default=None)
    JWT_AUDIENCE = fields.String(load_default=None)
    MCP_URL = Setting(_mcp_url, f"must be {MCP}")
    MCP_ISSUER = Setting(_issuer, f"must be a URL like {HTTPS}")
    BETTER_AUTH_SECRET = fields.String(load_default=None)
    JWT_ALGORITHM = fields.String(load_default="HS256", validate=OneOf(["HS256", "HS384", "HS512"]))
    LOG_LEVEL = fields.String(load_default="INFO", validate=OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]))
    LOG_HASH_KEY = fields.String(load_default=None, validate=VISIBLE)
    METRICS_TOKEN = fields.String(load_default=None, validate=VISIBLE)
    CONCEAL_FOREIGN_TASKS = fields.String(load_default="false", validate=OneOf(["true", "false"]))
    DELETIONS_KEPT_DAYS = _whole_number(90, least=1, most=3650)
    MAX_TASKS_PER_USER = _whole_number(10_000, least=0, most=2**31 - 1)
    CORS_ORIGINS = Setting(_origins, "must be like https://a.example,https://b.example (* in development)", frozenset())
    READY_INTERVAL = _whole_number(5, least=1, most=86400)
    WEB_CONCURRENCY = _whole_number(2, least=1, most=1000)  # for gunicorn.conf.py
    WEB_THREADS = _whole_number(4, least=1, most=1000)

    @validates_schema(skip_on_field_errors=True)
    def check(self, settings: dict[str, Any], **_: Any) -> None:
        """Refuse settings without a database or any key, with a weak secret, or with a key set of no known issuer."""
        secret, origin, jwks_url = (settings[name] for name in KEYS)
        if not settings["DATABASE_URL"]:
            raise ValidationError(f"{REQUIRED}: postgresql://USER:PASSWORD@HOST/NAME", "DATABASE_URL")
        if not (secret or origin or jwks_url):
            raise ValidationError(f"{REQUIRED} or BETTER_AUTH_URL or JWKS_URL is set", "BETTER_AUTH_SECRET")
        weak = secret and (len(secret.encode()) < MIN_SECRET_BYTES or secret in SAMPLE_SECRETS)
        if weak and settings["ENVIRONMENT"] != "development":
            raise ValidationError(STRONG, "BETTER_AUTH_SECRET")
        for name in ("JWT_ISSUER", "JWT_AUDIENCE"):
            if jwks_url and not (origin or settings[name]):
                raise ValidationError("is required when JWKS_URL is set without BETTER_AUTH_URL", name)
        if settings["MCP_URL"] and settings["MCP_URL"] == settings["JWT_AUDIENCE"]:
            raise ValidationError("must differ from JWT_AUDIENCE: it is for agents' tokens", "MCP_URL")
        same_issuer = settings["MCP_ISSUER"] and settings["MCP_ISSUER"] == settings["JWT_ISSUER"]
        if same_issuer and not (origin or settings["JWT_AUDIENCE"]):
            raise ValidationError("is required when JWT_ISSUER is MCP_ISSUER", "JWT_AUDIENCE")


def read(environ: Mapping[str, str], instance: Path) -> dict[str, Any]:
    """Return the configuration; `instance` is the folder of a developer's database and secret. Raises ConfigError."""
    schema = Settings()
    texts = {name: text for name in schema.fields if (text := _text(environ, name))}
    development = texts.get("ENVIRONMENT") == "development"
    makes_secret = development and not texts.keys() & KEYS
    if development:
        instance.mkdir(parents=True, exist_ok=True)
        texts = DEVELOPMENT | texts
    if makes_secret:
        texts["BETTER_AUTH_SECRET"] = _development_secret(instance / "development-secret")
    try:
        settings = schema.load(texts)
    except ValidationError as error:
        name, [message, *_] = next(iter(error.messages_dict.items()))
        raise ConfigError(f"{name} {message[0].lower()}{message[1:]}") from None
    settings |= {"ALREADY_CHECKED": "TODO_API_CHECKED_BY" in environ, "USES_DEVELOPMENT_SECRET": makes_secret}
    return _with_derived(settings, instance.absolute())


def _text(environ: Mapping[str, str], name: str) -> str | None:
    """Return the variable, or the content of the file named by `<name>_FILE`; None when unset or empty."""
    value = environ.get(name)
    path = environ.get(f"{name}_FILE") if name in MAY_COME_FROM_A_FILE else None
    if value and path:
        raise ConfigError(f"{name} and {name}_FILE are both set; set one of them")
    if path:
        with suppress(OSError, ValueError):
            value = Path(path).read_bytes().decode().removesuffix("\n")  # read_text() would hide a carriage return
        if not value:
            raise ConfigError(f"{name}_FILE must name a file of UTF-8 text that can be read and is not empty")
    # Python reads a byte that is not UTF-8 as a lone surrogate; encode() drops it.
    if value and value != value.strip().encode(errors="ignore").decode():
        raise ConfigError(f"{name} must be UTF-8 text that does not begin or end with white space")
    return value or None


def _development_secret(path: Path) -> str:
    """Return the secret kept at `path`, made on first use; processes that start together agree on one."""
    if not path.exists():
        with NamedTemporaryFile("w", dir=path.parent) as draft, suppress(FileExistsError):  # mode 0600
            draft.write(secrets.token_urlsafe(48))
            draft.flush()
            os.link(draft.name, path)
    return path.read_text(encoding="ascii")


def _with_derived(settings: dict[str, Any], instance: Path) -> dict[str, Any]:
    """Return the settings and what follows from them, under the names that the extensions know."""
    origin, secret, url = settings["BETTER_AUTH_URL"], settings["BETTER_AUTH_SECRET"], settings["DATABASE_URL"]
    options = _driver_options(url, settings["DB_STATEMENT_TIMEOUT"])
    for claim in ("ISSUER", "AUDIENCE"):
        settings[f"JWT_{claim}"] = settings[f"JWT_ENCODE_{claim}"] = settings[f"JWT_{claim}"] or origin
    return settings | {
        "CONCEAL_FOREIGN_TASKS": settings["CONCEAL_FOREIGN_TASKS"] == "true",
        "JWKS_URL": settings["JWKS_URL"] or (f"{origin}/api/auth/jwks" if origin else None),
        "JWT_SECRET_KEY": secret,
        "LOG_HASH_KEY": settings["LOG_HASH_KEY"] or secret or url,
        "MCP_ISSUER": settings["MCP_ISSUER"] or (f"{origin}/api/auth" if origin else None),
        "MAX_CONTENT_LENGTH": MAX_BODY_BYTES + 1,  # +1 shows a chunked body to be too large: Werkzeug cuts it silently
        "MIGRATION_DATABASE_URL": _absolute(settings["MIGRATION_DATABASE_URL"] or url, instance),
        "SQLALCHEMY_DATABASE_URI": _absolute(url, instance),
        # Errors are logged; the tasks among their parameters must not be.
        "SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": options, "hide_parameters": True},
    }


def _absolute(url: str, instance: Path) -> str:
    """Return the URL; a relative SQLite file is in `instance`, whatever the working directory."""
    kind, _, path = url.partition(":///")
    return f"sqlite:///{instance / path}" if kind == "sqlite" else url


def _driver_options(url: str, timeout: int) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"timeout": timeout}
    defaults = {"connect_timeout": 2, "application_name": "todo_api"}  # for each host
    unset = {name: value for name, value in defaults.items() if name not in make_url(url).query}
    return unset | {"client_encoding": "utf8"}  # whatever the URL, the server or PGCLIENTENCODING says


def environment() -> dict[str, str]:
    """Return the variables of the shell and of the files that the flask command loaded.

    Each overrides those after it: the shell, the named file, .env, .flaskenv. Once one of them sets any of
    OPERATOR_CHOICES, those after it do not count, unless ENVIRONMENT is development.
    """
    context = click.get_current_context(silent=True)
    if not context:
        return dict(os.environ)  # gunicorn reads no file
    files, shell = _loaded_files(context.find_root()), ""
    with suppress(OSError):  # elsewhere than on Linux, a variable with a file's value counts as the file's
        shell = os.fsdecode(INITIAL_ENVIRONMENT.read_bytes())
    added = {name for file in files for name in file} - {variable.partition("=")[0] for variable in shell.split("\0")}
    counted = {name: value for name, value in os.environ.items() if name not in added}
    for file in files:
        if counted.keys() & OPERATOR_CHOICES and counted.get("ENVIRONMENT") != "development":
            break
        counted = file | counted
    for name in added:
        if name in OPERATOR_CHOICES or name not in counted:
            del os.environ[name]  # or a child process, such as the reloader's, takes it for its shell's
    return counted


def _loaded_files(root: click.Context) -> list[dict[str, str]]:
    """Return the variables that the flask command took from each file: the named one, .env, .flaskenv."""
    from dotenv import dotenv_values, find_dotenv  # not above: gunicorn's workers save its memory

    options, _, _ = root.command.make_parser(root).parse_args(sys.argv[1:])
    named = options.get("env_file") or os.environ.get("FLASK_ENV_FILE") or ""
    paths = (named, find_dotenv(".env", usecwd=True), find_dotenv(".flaskenv", usecwd=True))
    return [dict(os.environ.items() & dotenv_values(path).items()) for path in paths]
