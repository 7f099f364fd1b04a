"""The flask commands, and the names that `flask shell` offers."""

import sys
from datetime import timedelta
from typing import BinaryIO

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from flask_jwt_extended import create_access_token

from todo_api import auth
from todo_api.database import DatabaseError
from todo_api.openapi import get_document
from todo_api.tasks import OwnedTasks


def user_id(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not auth.is_user_id(value):
        raise click.BadParameter("must have 1 to 255 characters")
    return value


@click.command()
@click.argument("user", callback=user_id)
@click.option("--minutes", type=click.IntRange(1, 525_600), default=1440, show_default=True, help="Time to expiry.")
@with_appcontext
def token(user: str, minutes: int) -> None:
    """Print a development token for USER."""
    if current_app.config["ENVIRONMENT"] != "development":
        raise click.ClickException("development tokens need ENVIRONMENT=development")
    if not current_app.config["DEVELOPMENT_SECRET"]:
        raise click.ClickException(
            "BETTER_AUTH_SECRET or a key set is configured; get a token from your Better Auth server"
        )
    click.echo(create_access_token(user, expires_delta=timedelta(minutes=minutes)))


@click.command("token-check")
@click.argument("text", metavar="TOKEN")
@with_appcontext
def token_check(text: str) -> None:
    """Say whether TOKEN is accepted, and which checks it fails. "-" reads it from standard input."""
    checks, refusal = auth.diagnose((sys.stdin.read() if text == "-" else text).strip())
    for check in checks:
        click.echo(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: expected {check.expected}; found {check.found}")
    click.echo(refusal or "accepted")
    sys.exit(refusal is not None)


@click.command()
@with_appcontext
def keys() -> None:
    """Fetch the key set and list its keys."""
    key_set = auth.get_key_set()
    if key_set is None:
        raise click.ClickException("no key set is configured (BETTER_AUTH_URL or JWKS_URL)")
    if not key_set.refresh():
        raise click.ClickException(f"the keys cannot be fetched from {key_set.url}; the log says why")
    click.echo(f"{key_set.url}, fetched {key_set.age():.0f} s ago")
    for kid, key in key_set.keys.items():
        click.echo(f"{key.algorithm_name} {kid!a}")


@click.command("user-delete")
@click.argument("user", callback=user_id)
@click.option("--yes", is_flag=True, help="Delete without asking.")
@with_appcontext
def user_delete(user: str, yes: bool) -> None:
    """Delete USER and all their tasks."""
    if not yes:
        click.confirm(f"Delete {user!r} and all their tasks? This cannot be undone.", abort=True)
    try:
        found = OwnedTasks(user).delete_user()
    except DatabaseError as error:
        raise click.ClickException(
            f"the database could not delete the user (has flask db upgrade run?): {error}"
        ) from None
    if not found:
        raise click.ClickException(f"there is no user {user!r}")
    click.echo(f"Deleted {user!r} and all their tasks.")


@click.command()
@click.argument("file", type=click.File("wb"), default="-")
@with_appcontext
def openapi(file: BinaryIO) -> None:
    """Write the OpenAPI document to FILE, or to standard output."""
    file.write(get_document())


def init_app(app: Flask) -> None:
    for command in (token, token_check, keys, user_delete, openapi):
        app.cli.add_command(command)
    app.shell_context_processor(lambda: {"OwnedTasks": OwnedTasks})  # Flask-SQLAlchemy adds db and the models
