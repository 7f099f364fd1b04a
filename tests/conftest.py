"""Shared fixtures. Alice owns the tasks, Bob is a stranger. A test that takes `app` runs on both databases."""

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import create_engine, make_url, text
from werkzeug.test import TestResponse

from tests.support import citus, pgbouncer, postgres
from tests.support.databases import PATIENT, as_role, engine_of, grant, rows_of
from tests.support.pgbouncer import pooled
from tests.support.response_checker import checked_client
from tests.support.statements import database_of
from tests.support.tokens import SECRET, lines_with_secrets, token
from todo_api import create_app
from todo_api.auth import keys
from todo_api.auth.fairness import RunningRequests
from todo_api.auth.tokens import TokenCache
from todo_api.extensions import db

SERVER = pytest.StashKey[ExitStack]()
MakeApp = Callable[..., Flask]
MISSING_ID = "01a1fc99-ee71-72ec-b587-48e127eeb180"  # no task has this id
MISSING = f"/api/tasks/{MISSING_ID}"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start PostgreSQL once, before xdist starts its workers, which find its URL in the environment."""
    os.environ["TZ"] = "IST-5:30"  # no test may pass in UTC only
    time.tzset()
    if "TODO_TEST_SERVER" in os.environ or config.option.collectonly:
        return
    config.stash[SERVER] = ExitStack()
    folder = mkdtemp(prefix="todo-tests-")
    config.option.basetemp = config.option.basetemp or folder
    try:
        server = os.environ["TODO_TEST_SERVER"] = config.stash[SERVER].enter_context(postgres.server(folder))
        if pgbouncer.WANTED:
            pooler = config.stash[SERVER].enter_context(pgbouncer.pooler(pgbouncer.database_line(server)))
            os.environ[pgbouncer.PORT] = str(pooler.port)
    except RuntimeError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    if SERVER in config.stash:
        for name in ("TODO_TEST_SERVER", pgbouncer.PORT):
            os.environ.pop(name, None)  # it may not have started
        config.stash[SERVER].close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Fail a test that leaves a token or secret in the log, and with CI=true each test that is skipped."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.passed and (leaked := [line for _, text in report.sections for line in lines_with_secrets(text)]):
        report.outcome = "failed"
        report.longrepr = "\n".join(["in the log:", *leaked])
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


@pytest.fixture(autouse=True)
def _push_request_context() -> None:
    """Replace pytest-flask's fixture. Its one context for a whole test would hide a view that does not commit."""


@pytest.fixture(autouse=True, scope="session")
def _keys_are_fetched_for_requests_only() -> Iterator[None]:
    """Keep the threads of applications of finished tests from fetching keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "RETRY_INTERVAL", 3600)
        patch.setattr(keys, "REFRESH_INTERVAL", 3600)
        yield


@pytest.fixture(autouse=True, scope="session")
def _responses_match_the_document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Check every response to a test client against the OpenAPI document."""
    app = create_app({"ENVIRONMENT": "development"}, tmp_path_factory.mktemp("document"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flask, "test_client_class", checked_client(app))
        yield


@pytest.fixture(scope="session")
def fresh_database(fresh_role: Callable[[str], str]) -> Iterator[Callable[..., str]]:
    """Make a PostgreSQL database, empty or a copy of `template`, and return its URL."""
    server = make_url(os.environ["TODO_TEST_SERVER"]).set(drivername="postgresql+psycopg2")
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def make(purpose: str, template: str = "template1") -> str:
        name = f"todo_test_{purpose}_{os.getpid()}_{len(made)}"
        made.append(name)
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        url = server.set(drivername="postgresql", database=name)
        patient = url.update_query_dict(PATIENT)
        return patient.render_as_string(hide_password=False)

    yield make
    with admin.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="session")
def migrated_database(
    tmp_path_factory: pytest.TempPathFactory, fresh_database: Callable[..., str]
) -> Iterator[Callable[[str], str]]:
    """Make a migrated PostgreSQL database and return its URL: a copy takes 40 ms, `flask db upgrade` 900."""
    folder = tmp_path_factory.mktemp("template")
    if citus.SERVER:
        with citus.distributed_databases(partial(migrate, instance=folder)) as make:
            yield make
    else:
        template = fresh_database("template")
        migrate(template, folder)
        yield partial(fresh_database, template=make_url(template).database)


@pytest.fixture(scope="session")
def fresh_role() -> Iterator[Callable[[str], str]]:
    """Make a role of PostgreSQL and return its name. Take it before the databases: they are dropped before it."""
    made: list[str] = []

    def make(purpose: str) -> str:
        made.append(f"todo_test_{purpose}_{os.getpid()}")
        rows_of(os.environ["TODO_TEST_SERVER"], f"CREATE ROLE {made[-1]} LOGIN")  # Citus logs in to its workers with it
        return made[-1]

    yield make
    for name in made:
        rows_of(os.environ["TODO_TEST_SERVER"], f"DROP ROLE {name}")


@pytest.fixture(scope="session")
def databases(
    tmp_path_factory: pytest.TempPathFactory,
    fresh_role: Callable[[str], str],
    migrated_database: Callable[[str], str],
) -> dict[str, str]:
    """The URLs of one migrated database of each kind; PostgreSQL's has the rights of docs/deploy.md only."""
    folder = tmp_path_factory.mktemp("databases")
    url, role = migrated_database("main"), fresh_role("service")
    grant(url, role)
    urls = {"sqlite": f"sqlite:///{folder / 'todo.db'}", "postgresql": as_role(url, role)}
    migrate(urls["sqlite"], folder)
    return urls


def migrate(url: str, instance: Path) -> None:
    app = create_app(environ_for(url), instance)
    with app.app_context():
        upgrade()
        dispose(app)


def environ_for(url: str, **settings: str) -> dict[str, str]:
    """The environment of a patient application on that database: production, unless it is SQLite."""
    patience = {"DB_STATEMENT_TIMEOUT": "30", "DB_POOL_TIMEOUT": "30"}
    environment = "development" if url.startswith("sqlite") else "production"
    return {"ENVIRONMENT": environment, "DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET, **patience, **settings}


def in_process(app: Flask) -> Flask:
    """Let a user have many requests under way: tests send more at once than a process has threads."""
    app.extensions["running_requests"] = RunningRequests(1000)
    return app


def dispose(app: Flask) -> None:
    """Close the application's connections."""
    database_of(app).connections.pool.dispose()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="session")
def delete_rows(databases: dict[str, str]) -> Iterator[Callable[[str], None]]:
    """Delete all users and their tasks over a persistent connection."""
    with ExitStack() as stack:
        engines = {url: stack.enter_context(engine_of(url, pool_pre_ping=True)) for url in databases.values()}

        def delete(url: str) -> None:
            with engines[url].begin() as connection:
                connection.execute(text("DELETE FROM users"))

        yield delete


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with a database on both kinds, or on SQLite only if it is marked `sqlite_only`."""
    chosen = any("database_url" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "database_url" in metafunc.fixturenames and not chosen:
        is_sqlite_only = metafunc.definition.get_closest_marker("sqlite_only")
        metafunc.parametrize("database_url", ["sqlite"] if is_sqlite_only else ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, databases: dict[str, str], delete_rows: Callable[[str], None]) -> str:
    """A migrated database without rows."""
    url = databases[request.param]
    delete_rows(url)
    return url


@pytest.fixture
def make_app(database_url: str, tmp_path: Path) -> Iterator[MakeApp]:
    """Make an application for this test alone, with its own settings."""
    made: list[Flask] = []

    def make(**settings: str) -> Flask:
        app = in_process(create_app(environ_for(pooled(database_url), **settings), tmp_path))
        made.append(app)
        return app

    yield make
    for app in made:
        dispose(app)


@pytest.fixture(scope="session")
def shared_apps(databases: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Flask]]:
    """An application on each database; making one takes 10 ms, as long as a test."""
    folder = tmp_path_factory.mktemp("shared")
    apps = {url: in_process(create_app(environ_for(pooled(url)), folder)) for url in databases.values()}
    yield apps
    for app in apps.values():
        dispose(app)


@pytest.fixture
def app(shared_apps: dict[str, Flask], database_url: str) -> Iterator[Flask]:
    """A shared application with an empty token cache. Tests that change the application take `make_app`."""
    app = shared_apps[database_url]
    app.extensions["auth"].cache = TokenCache()
    app.extensions["auth"].logged_at.clear()
    app.logger.handlers = [app.extensions["log"]]  # the logger is the same for all applications
    app.logger.setLevel(app.config["LOG_LEVEL"])
    before = state_of(app)
    yield app
    assert state_of(app) == before, "this test changes the shared application: use make_app"


def state_of(app: Flask) -> list[Any]:
    """What a test could change in an application."""
    hooks = (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs)
    return [
        {**app.config},
        {**app.view_functions},
        {name: id(extension) for name, extension in app.extensions.items()},
        [{scope: [*functions] for scope, functions in hook.items()} for hook in hooks],
        app.extensions["log"].stream,
        app.wsgi_app,
    ]


@pytest.fixture
def log(app: Flask) -> Iterator[io.StringIO]:
    """What the application's own handler writes."""
    handler, stream = app.extensions["log"], io.StringIO()
    before = handler.setStream(stream)
    yield stream
    handler.setStream(before)


class Caller:
    """A user with a token, or nobody, and the requests they send."""

    def __init__(self, client: FlaskClient, user: str | None) -> None:
        self.client = client
        self.headers = {"Authorization": f"Bearer {token(user)}"} if user else {}

    def __call__(self, method: str, path: str, **more: Any) -> TestResponse:
        headers = {**self.headers, **more.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **more)

    def get(self, path: str, **more: Any) -> TestResponse:
        return self("GET", path, **more)

    def post(self, path: str, **more: Any) -> TestResponse:
        return self("POST", path, **more)

    def put(self, path: str, **more: Any) -> TestResponse:
        return self("PUT", path, **more)

    def patch(self, path: str, **more: Any) -> TestResponse:
        return self("PATCH", path, **more)

    def delete(self, path: str, **more: Any) -> TestResponse:
        return self("DELETE", path, **more)

    def create(self, title: str = "Buy milk", **fields: Any) -> dict[str, Any]:
        """Create a task and return it."""
        response = self.post("/api/tasks", json={"title": title, **fields})
        assert response.status_code == 201, response.text
        return cast(dict[str, Any], response.json)


@pytest.fixture
def alice(app: Flask) -> Caller:
    return Caller(app.test_client(), "alice")


@pytest.fixture
def bob(app: Flask) -> Caller:
    return Caller(app.test_client(), "bob")


@pytest.fixture
def nobody(app: Flask) -> Caller:
    return Caller(app.test_client(), None)


def headers_of(response: TestResponse) -> list[tuple[str, str]]:
    """Return the headers, except those that differ between requests: the request ID and Server-Timing."""
    return [item for item in response.headers if item[0] not in ("X-Request-ID", "Server-Timing")]


def assert_error(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Check the status and the error body."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    body = cast(dict[str, Any], response.json)
    extra = {"errors"} if code == "VALIDATION_ERROR" else set()
    assert set(body) == {"detail", "error_code", "status_code"} | extra
    assert (body["error_code"], body["status_code"]) == (code, status)
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert response.headers["X-Request-ID"]
    return body
