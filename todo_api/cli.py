"""What a developer or an operator types: `flask token`, `flask user-delete`, and names at hand in `flask shell`."""

from datetime import timedelta
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from flask_jwt_extended import create_access_token
from sqlalchemy.exc import OperationalError

from todo_api.auth import USER_ID
from todo_api.extensions import db
from todo_api.models import Task, User
from todo_api.ownership import OwnedTasks


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
        raise click.ClickException("BETTER_AUTH_SECRET is set, so your Better Auth makes the tokens")
    click.echo(create_access_token(user, expires_delta=timedelta(minutes=minutes)))


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
    except OperationalError as error:
        raise click.ClickException(f"the database cannot be reached: {str(error.orig).splitlines()[0]}") from None
    if not found:
        raise click.ClickException(f"there is no user {user!r}")
    click.echo(f"Deleted {user!r} and all their tasks.")


def shell_context() -> dict[str, Any]:
    return {"db": db, "User": User, "Task": Task, "OwnedTasks": OwnedTasks}


def init_app(app: Flask) -> None:
    app.cli.add_command(token)
    app.cli.add_command(user_delete)
    app.shell_context_processor(shell_context)
