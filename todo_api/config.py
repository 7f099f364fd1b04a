"""Settings: read once from the environment, or refused with one line that names the variable."""

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from itertools import takewhile
from pathlib import Path
from tempfile import mkstemp
from typing import Any
from urllib.parse import SplitResult, urlsplit

from psycopg2 import Error as LibpqError
from psycopg2.extensions import parse_dsn
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

UNDECODABLE = re.compile("[\ud800-\udfff]")  # how Python shows bytes that are no UTF-8
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
MAX_BODY_BYTES = 64 * 1024
MIN_SECRET_BYTES = 32
SAMPLE_SECRETS = {
    # what Better Auth itself falls back to when it is given none
    "better-auth-secret-123456789",
    "better-auth-secret-12345678901234567890",
    "replace-me-with-the-secret-of-your-front-end",
}
WORD = re.compile("[!-~]{16,}")
ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]*)?")
DEVELOPMENT_ORIGINS = "http://localhost:3000,http://127.0.0.1:3000"
MAY_COME_FROM_A_FILE = {
    "BETTER_AUTH_SECRET",
    "DATABASE_URL",
    "MIGRATION_DATABASE_URL",
    "METRICS_TOKEN",
    "LOG_HASH_KEY",
}
OPERATOR_CHOICES = MAY_COME_FROM_A_FILE | {f"{name}_FILE" for name in MAY_COME_FROM_A_FILE} | {"ENVIRONMENT"}


class ConfigError(ValueError):
    """A setting is missing, malformed or unsafe; the message is one line that names it and never holds a secret."""


def environment() -> dict[str, str]:
    """Return what the shell set, and a developer's `.env` only where that is meant.

    The flask command adds `.env` to the environment on its own. A shell that names a database or a secret belongs to
    an operator: there a developer's file must not choose the environment, unless that shell says `development` itself.
    """
    everything = dict(os.environ)
    # Mappings keep their order, and flask's command sets this one just before it adds the files.
    shell = dict(takewhile(lambda item: item[0] != "FLASK_RUN_FROM_CLI", everything.items()))
    if shell.get("ENVIRONMENT") != "development" and shell.keys() & OPERATOR_CHOICES:
        return shell
    return everything


def read(environ: Mapping[str, str], instance: Path) -> dict[str, Any]:
    """Turn environment variables into the application's configuration.

    `instance` is the folder of a developer's own database and secret. Raises ConfigError.
    """
    kind = _choice(environ, "ENVIRONMENT", "production", ("development", "staging", "production"))
    development = kind == "development"
    database, tokens = _database(environ, development, instance), _tokens(environ, development, instance)
    database_url = database["SQLALCHEMY_DATABASE_URI"]
    for name in ("WEB_CONCURRENCY", "WEB_THREADS"):  # gunicorn.conf.py uses them
        _integer(environ, name, 1, 1, 1000)
    return {
        "ENVIRONMENT": kind,
        "CHECKED": "TODO_API_CHECKED_BY" in environ,  # by gunicorn.conf.py: warnings were given
        "LOG_LEVEL": _choice(environ, "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
        "CONCEAL_FOREIGN_TASKS": _choice(environ, "CONCEAL_FOREIGN_TASKS", "false", ("true", "false")) == "true",
        "MAX_TASKS_PER_USER": _integer(environ, "MAX_TASKS_PER_USER", 10_000, 0, 2**31 - 1),
        # One more than allowed: Werkzeug cuts a chunked body off at its limit and says nothing.
        "MAX_CONTENT_LENGTH": MAX_BODY_BYTES + 1,
        "CORS_ORIGINS": _origins(environ, development),
        "METRICS_TOKEN": _word(environ, "METRICS_TOKEN"),
        "LOG_HASH_KEY": _word(environ, "LOG_HASH_KEY") or tokens["JWT_SECRET_KEY"] or database_url,
        "READY_INTERVAL": _integer(environ, "READY_INTERVAL", 5, 1, 86400),
        **database,
        **tokens,
    }


def _database(environ: Mapping[str, str], development: bool, instance: Path) -> dict[str, Any]:
    url = _database_url(environ, "DATABASE_URL", development, default=f"sqlite:///{instance / 'todo.db'}")
    timeout = _integer(environ, "DB_STATEMENT_TIMEOUT", 10, 1, 3600)
    engine: dict[str, Any] = {"hide_parameters": True}  # errors are logged, tasks are not
    if url.startswith("sqlite"):
        engine |= {"connect_args": {"timeout": timeout}}
    else:  # a serverless database may need some seconds to wake up
        unless_said = {"connect_timeout": 10, "application_name": "todo_api"}
        said = make_url(url).query
        engine["use_native_hstore"] = False  # saves a question to each first connection
        engine["connect_args"] = {name: value for name, value in unless_said.items() if name not in said}
        engine["connect_args"]["client_encoding"] = "utf8"  # whatever the URL, the server or PGCLIENTENCODING says
    return {
        "DB_STATEMENT_TIMEOUT": timeout,
        "DB_POOL_SIZE": _integer(environ, "DB_POOL_SIZE", 5, 1, 1000),
        "DB_MAX_OVERFLOW": _integer(environ, "DB_MAX_OVERFLOW", 10, 0, 1000),
        "DB_POOL_RECYCLE": _integer(environ, "DB_POOL_RECYCLE", 240, 1, 86400),
        "DB_POOL_TIMEOUT": _integer(environ, "DB_POOL_TIMEOUT", 5, 1, 3600),
        "MIGRATION_DATABASE_URL": _database_url(environ, "MIGRATION_DATABASE_URL", development, default=url),
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine,
    }


def _tokens(environ: Mapping[str, str], development: bool, instance: Path) -> dict[str, Any]:
    jwks_url, issuer, audience = _key_set(environ, development)
    secret, made_here = _shared_secret(environ, development, instance, needed=jwks_url is None)
    return {
        "DEVELOPMENT_SECRET": made_here,
        "JWT_SECRET_KEY": secret,
        "JWKS_URL": jwks_url,
        "JWT_ALGORITHM": _choice(environ, "JWT_ALGORITHM", "HS256", ("HS256", "HS384", "HS512")),
        "JWT_DECODE_ISSUER": issuer,
        "JWT_ENCODE_ISSUER": issuer,
        "JWT_DECODE_AUDIENCE": audience,
        "JWT_ENCODE_AUDIENCE": audience,
    }


def _text(environ: Mapping[str, str], name: str) -> str | None:
    """Return the variable, or what the file named by `<name>_FILE` holds; None when unset or empty."""
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
    if value and (value != value.strip() or UNDECODABLE.search(value)):
        raise ConfigError(f"{name} must be UTF-8 text that does not begin or end with white space")
    return value


def _choice(environ: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    value = _text(environ, name) or default
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}")
    return value


def _integer(environ: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    value = _text(environ, name) or str(default)
    if not re.fullmatch("[0-9]{1,10}", value) or not least <= int(value) <= most:
        raise ConfigError(f"{name} must be a whole number from {least} to {most}")
    return int(value)


def _word(environ: Mapping[str, str], name: str) -> str | None:
    value = _text(environ, name)
    if value is not None and not WORD.fullmatch(value):
        raise ConfigError(f"{name} must be 16 or more visible ASCII characters; make it with: openssl rand -base64 32")
    return value


def _origins(environ: Mapping[str, str], development: bool) -> frozenset[str]:
    """Return the origins as a browser writes them: in lower case, without a path or the scheme's own port."""
    value = _text(environ, "CORS_ORIGINS")
    if value is None:
        value = DEVELOPMENT_ORIGINS if development else ""
    if value == "*":
        if development:
            return frozenset("*")
        raise ConfigError("CORS_ORIGINS must list origins; * is for ENVIRONMENT=development only")
    found = [origin.strip() for origin in value.split(",")] if value else []
    for origin in found:
        if not _is_origin(origin):
            raise ConfigError("CORS_ORIGINS must be a list like https://app.example.com,https://other.example.com:8443")
    return frozenset(found)


def _is_origin(text: str) -> bool:
    """Tell whether a browser could send this in its Origin header (RFC 6454, section 6.2)."""
    try:
        return ORIGIN.fullmatch(text) is not None and text.endswith(f"://{_netloc(urlsplit(text))}")
    except ValueError:
        return False


def _netloc(url: SplitResult) -> str:
    """Return host and port as browsers and issuers write them: in lower case, without the scheme's own port.

    Raises ValueError.
    """
    host, port = url.hostname or "", url.port
    written = f"[{host}]" if ":" in host else host
    return written if port in (None, 443 if url.scheme == "https" else 80) else f"{written}:{port}"


def _database_url(environ: Mapping[str, str], name: str, development: bool, default: str) -> str:
    """Return the URL as SQLAlchemy takes it: a driver is named, the query stays as it was."""
    value = _text(environ, name)
    if value is None:
        if name == "DATABASE_URL" and not development:
            raise ConfigError(
                f"{name} is required unless ENVIRONMENT=development: postgresql://USER:PASSWORD@HOST/NAME"
            )
        return default
    if postgresql := re.fullmatch(r"postgres(?:ql)?(?:\+psycopg2)?(://.*)", value):
        if _is_understood(f"postgresql{postgresql[1]}"):
            return f"postgresql+psycopg2{postgresql[1]}"
    elif re.fullmatch("sqlite:///(?!:memory:)[^?]+", value):
        if development:
            return value
        raise ConfigError(f"{name} must be a PostgreSQL URL unless ENVIRONMENT=development")
    raise ConfigError(
        f"{name} must be postgresql://USER:PASSWORD@HOST:PORT/NAME, with options that libpq knows, or sqlite:///FILE"
    )


def _is_understood(url: str) -> bool:
    try:
        port = make_url(url).port
        options = parse_dsn(url)
    except (ArgumentError, LibpqError, ValueError):
        return False
    return (port is None or 0 < port < 65536) and options.get("sslmode", "require") in SSL_MODES


def _key_set(environ: Mapping[str, str], development: bool) -> tuple[str | None, str | None, str | None]:
    """Return the URL of the key set, the issuer and the audience; None where there is none."""
    base, keys = (_web_url(environ, name, development) for name in ("BETTER_AUTH_URL", "JWKS_URL"))
    origin = None
    if base:
        if base.query or base.path.rstrip("/") not in ("", "/api/auth"):
            raise ConfigError("BETTER_AUTH_URL must be an origin such as https://app.example.com")
        origin = f"{base.scheme}://{base.netloc}"
    issuer, audience = (_text(environ, name) or origin for name in ("JWT_ISSUER", "JWT_AUDIENCE"))
    if keys and not (issuer and audience):
        missing = "JWT_AUDIENCE" if issuer else "JWT_ISSUER"
        raise ConfigError(f"{missing} is required when JWKS_URL is set without BETTER_AUTH_URL")
    url = keys.geturl() if keys else f"{origin}/api/auth/jwks" if origin else None
    return url, issuer, audience


def _web_url(environ: Mapping[str, str], name: str, development: bool) -> SplitResult | None:
    """Return the URL with its origin as it is written in tokens."""
    value = _text(environ, name)
    if value is None:
        return None
    try:
        url = urlsplit(value)
        host, netloc = url.hostname, _netloc(url)
    except ValueError:
        host = None
    if not re.fullmatch(r"https?://[!-~]+", value, re.IGNORECASE) or not host or "@" in url.netloc or url.fragment:
        raise ConfigError(f"{name} must be a URL like https://app.example.com")
    if url.scheme == "http" and not (development or _is_loopback(host)):
        raise ConfigError(f"{name} must begin with https:// unless ENVIRONMENT=development or it points at loopback")
    return url._replace(netloc=netloc)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _shared_secret(
    environ: Mapping[str, str], development: bool, instance: Path, needed: bool
) -> tuple[str | None, bool]:
    """Return the secret, and whether it is the development one kept in `instance`; None where there need be none."""
    name = "BETTER_AUTH_SECRET"
    value = _text(environ, name)
    if value is None:
        if not needed:
            return None, False
        if development:
            return _development_secret(instance / "development-secret"), True
        raise ConfigError(f"{name} is required unless BETTER_AUTH_URL is set or ENVIRONMENT=development")
    if development:
        return value, False
    if value in SAMPLE_SECRETS:
        raise ConfigError(f"{name} is a published sample; make one with: openssl rand -base64 32")
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise ConfigError(f"{name} must have at least {MIN_SECRET_BYTES} bytes; make one with: openssl rand -base64 32")
    return value, False


def _development_secret(path: Path) -> str:
    """Return the secret kept at `path`, made on first use; processes that start together agree on one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = mkstemp(dir=path.parent)  # mode 0600
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(48))
        with suppress(FileExistsError):
            os.link(draft, path)
        Path(draft).unlink()
    return path.read_text(encoding="ascii")
