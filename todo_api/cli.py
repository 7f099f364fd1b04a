"""The flask commands, and the names that `flask shell` offers."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import BinaryIO

import click
from flask import Blueprint, Flask, current_app
from flask_jwt_extended import create_access_token

from todo_api.auth import diagnose, get_key_set, is_user_id
from todo_api.database import DatabaseError
from todo_api.openapi import get_document
from todo_api.tasks import OwnedTasks, user_ids

blueprint = Blueprint("cli", __name__, cli_group=None)


def user_id(text: str) -> str:
    if not is_user_id(text):
        raise click.BadParameter("must have 1 to 255 characters")
    return text


def printable(text: str) -> str:
    """Return the text with all but visible ASCII escaped: other characters could control the terminal."""
    return re.sub("[^ -~]", lambda found: ascii(found[0])[1:-1], text)


@contextmanager
def reported_errors() -> Iterator[None]:
    """Report errors of the database in one line."""
    try:
        yield
    except DatabaseError as error:
        raise click.ClickException(f"the database failed (has flask db upgrade run?): {error}") from None


@blueprint.cli.command()
@click.argument("user", type=user_id)
@click.option("--minutes", type=click.IntRange(1, 525_600), default=1440, show_default=True, help="Time to expiry.")
def token(user: str, minutes: int) -> None:
    """Print a development token for USER."""
    if not current_app.config["USES_DEVELOPMENT_SECRET"]:
        raise click.ClickException("needs ENVIRONMENT=development, and neither BETTER_AUTH_SECRET nor a key set")
    click.echo(create_access_token(user, expires_delta=timedelta(minutes=minutes)))


@blueprint.cli.command("token-check")
@click.argument("text", metavar="TOKEN")
def token_check(text: str) -> None:
    """Say whether TOKEN is accepted, and which checks it fails. "-" reads it from standard input."""
    checks, accepted, verdict = diagnose((click.open_file("-").read() if text == "-" else text).strip())
    for name, passed, expected, found in checks:
        click.echo(printable(f"{'ok  ' if passed else 'FAIL'} {name}: expected {expected}; found {found}"))
    click.echo(printable(verdict))
    click.get_current_context().exit(not accepted)


@blueprint.cli.command()
def keys() -> None:
    """Fetch the key set and list its keys."""
    if (key_set := get_key_set()) is None:
        raise click.ClickException("no key set is configured (BETTER_AUTH_URL or JWKS_URL)")
    if not key_set.refresh():
        raise click.ClickException(f"the keys cannot be fetched from {key_set.url}; the log says why")
    click.echo(f"{key_set.url}, fetched {key_set.age():.0f} s ago")
    for kid, by_algorithm in key_set.keys.items():
        for algorithm in by_algorithm:
            click.echo(f"{algorithm} {kid!a}")


@blueprint.cli.command("user-delete")
@click.argument("user", type=user_id)
@click.option("--yes", is_flag=True, help="Delete without asking.")
def user_delete(user: str, yes: bool) -> None:
    """Delete USER and all their tasks."""
    if not yes:
        click.confirm(f"Delete {user!r} and all their tasks? This cannot be undone.", abort=True)
    with reported_errors():
        if not OwnedTasks(user).delete_user():
            raise click.ClickException(f"there is no user {user!r}")
    click.echo(f"Deleted {user!r} and all their tasks.")


@blueprint.cli.command()
def recount() -> None:
    """Count the tasks of all users, once no code from before revision 0003 runs."""
    with reported_errors():
        users = user_ids()
        for user in users:
            OwnedTasks(user).recount()
    click.echo(f"Counted the tasks of {len(users)} users.")


@blueprint.cli.command()
@click.argument("file", type=click.File("wb"), default="-")
def openapi(file: BinaryIO) -> None:
    """Write the OpenAPI document to FILE, or to standard output."""
    file.write(get_document())


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)
    app.shell_context_processor(lambda: {"OwnedTasks": OwnedTasks})  # Flask-SQLAlchemy adds db and the models
