"""What a developer or an operator types: the flask commands, and names at hand in `flask shell`."""

import sys
from datetime import timedelta
from typing import BinaryIO

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from flask_jwt_extended import create_access_token

from todo_api.auth.diagnosis import findings
from todo_api.auth.keys import KeysUnavailableError
from todo_api.auth.tokens import BAD_TOKEN, USER_ID, check, reason_of, trust
from todo_api.database import DatabaseError
from todo_api.openapi.views import document
from todo_api.tasks.ownership import OwnedTasks


def user_id(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not USER_ID.fullmatch(value):
        raise click.BadParameter("must have 1 to 255 characters")
    return value


@click.command()
@click.argument("user", callback=user_id)
@click.option("--minutes", type=click.IntRange(1, 525_600), default=1440, show_default=True, help="Until it expires.")
@with_appcontext
def token(user: str, minutes: int) -> None:
    """Print a development token of USER."""
    if current_app.config["ENVIRONMENT"] != "development":
        raise click.ClickException("tokens are made here in development only (ENVIRONMENT)")
    if not current_app.config["DEVELOPMENT_SECRET"]:
        raise click.ClickException(
            "BETTER_AUTH_SECRET or a key set is configured, so your Better Auth makes the tokens"
        )
    click.echo(create_access_token(user, expires_delta=timedelta(minutes=minutes)))


@click.command("token-check")
@click.argument("text", metavar="TOKEN")
@with_appcontext
def token_check(text: str) -> None:
    """Say whether TOKEN ("-": read it from standard input) is accepted, and which checks it fails."""
    text = (sys.stdin.read() if text == "-" else text).strip()
    try:
        check(text)
        verdict = "accepted"
    except KeysUnavailableError:
        verdict = "refused for now: the keys cannot be fetched"
    except BAD_TOKEN as error:
        verdict = f"refused: {reason_of(error)}: {error}"
    for name, good, expected, found in findings(text):
        click.echo(f"{'ok  ' if good else 'FAIL'} {name}: expected {expected}; found {found}")
    click.echo(verdict)
    sys.exit(verdict != "accepted")


@click.command()
@with_appcontext
def keys() -> None:
    """Fetch the key set and show it."""
    found = trust().keys
    if found is None:
        raise click.ClickException("no key set is configured (BETTER_AUTH_URL or JWKS_URL)")
    if not found.refresh():
        raise click.ClickException(f"no key set can be fetched from {found.url}")
    click.echo(f"{found.url}, fetched {found.age():.0f} s ago")
    for kid, key in found.keys.items():
        click.echo(f"{key.algorithm_name} {kid!a}")


@click.command("user-delete")
@click.argument("user", callback=user_id)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_appcontext
def user_delete(user: str, yes: bool) -> None:
    """Delete USER and all their tasks, after asking."""
    if not yes:
        click.confirm(f"Delete {user!r} and all their tasks for good?", abort=True)
    try:
        found = OwnedTasks(user).delete_user()
    except DatabaseError as error:
        raise click.ClickException(f"the database did not delete it (has flask db upgrade run?): {error}") from None
    if not found:
        raise click.ClickException(f"there is no user {user!r}")
    click.echo(f"Deleted {user!r} and all their tasks.")


@click.command()
@click.argument("file", type=click.File("wb"), default="-")
@with_appcontext
def openapi(file: BinaryIO) -> None:
    """Write the OpenAPI document to FILE, or to standard output."""
    file.write(document())


def init_app(app: Flask) -> None:
    for command in (token, token_check, keys, user_delete, openapi):
        app.cli.add_command(command)
    app.shell_context_processor(lambda: {"OwnedTasks": OwnedTasks})  # Flask-SQLAlchemy adds db and the models
