"""Clients that other people's generators make of the OpenAPI document: every error has its type."""

import sys
from pathlib import Path

import pytest
from flask import Flask

from tests.conftest import MISSING_ID, environ_for
from tests.support.issuers import install
from tests.support.programs import ROOT, environment, run, serving
from tests.support.tokens import token

pytestmark = [pytest.mark.slow, pytest.mark.sqlite_only]

PACKAGES = ROOT / "clients" / "typescript"
PYTHON = """
import sys
from uuid import UUID

from task_api_client import AuthenticatedClient
from task_api_client.api.service import get_health
from task_api_client.api.tasks import create_task, delete_tasks, get_task, list_tasks
from task_api_client.models import NewTask, Status, Task, TaskNotFoundError, TokenRefusedError, ValidationError

url, token, task_id = sys.argv[1:]
alice, stranger = AuthenticatedClient(url, token), AuthenticatedClient(url, "no token")

made = create_task.sync(client=alice, body=NewTask(title="Buy milk"))
assert isinstance(made, Task)
assert isinstance(get_health.sync(client=stranger), Status)

invalid = create_task.sync(client=alice, body=NewTask(title=""))
assert isinstance(invalid, ValidationError)
message: str = invalid.errors["title"][0]
assert invalid.detail == f"title: {message}"

missing = get_task.sync(UUID(task_id), client=alice)
assert isinstance(missing, TaskNotFoundError)
assert missing.error_code.value == "TASK_NOT_FOUND"

for refused in (list_tasks.sync(client=stranger), delete_tasks.sync(client=stranger, is_completed=True)):
    assert isinstance(refused, TokenRefusedError)
    assert (refused.error_code.value, refused.status_code) == ("TOKEN_INVALID", 401)
"""
TYPESCRIPT = """
import assert from "node:assert";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const [baseUrl, token, id = ""] = process.argv.slice(2);
const { GET, POST } = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

const invalid = (await POST("/api/tasks", { body: { title: "" } })).error;
assert(invalid?.error_code === "VALIDATION_ERROR");
const messages: string[] | undefined = invalid.errors["title"];
assert.equal(invalid.detail, `title: ${messages?.[0]}`);

const missing = (await GET("/api/tasks/{id}", { params: { path: { id } } })).error;
assert(missing?.error_code === "TASK_NOT_FOUND");
const status: 404 = missing.status_code;
assert.equal(status, 404);

const refused = (await GET("/api/tasks", { headers: { Authorization: "" } })).error;
assert.equal(refused?.error_code, "TOKEN_MISSING");
// @ts-expect-error: no answer has this code
assert(refused?.error_code !== "NO_SUCH_CODE");
"""


@pytest.fixture
def folder(app: Flask, tmp_path: Path) -> Path:
    """A folder with the document."""
    app.test_cli_runner().invoke(args=["openapi", str(tmp_path / "openapi.json")])
    return tmp_path


def run_against_service(*command: str, folder: Path, database_url: str) -> None:
    """Run a program of a client against gunicorn."""
    with serving(environment(**environ_for(database_url))) as server:
        arguments = (f"http://127.0.0.1:{server.port}", token(), MISSING_ID)
        ran = run(*command, *arguments, cwd=folder, env=environment())
    assert ran.returncode == 0, ran.stderr


def test_openapi_python_client_gives_every_error_its_class(folder: Path, database_url: str) -> None:
    generator = str(Path(sys.executable).with_name("openapi-python-client"))
    target = ("--output-path", "task_api_client", "--meta", "none", "--fail-on-warning")
    made = run(generator, "generate", "--path", "openapi.json", *target, cwd=folder, env=environment())
    assert made.returncode == 0, made.stdout + made.stderr
    (folder / "program.py").write_text(PYTHON)
    # Only what the program sees of the client: the generator's own code does not pass.
    options = ("--strict", "--warn-unreachable", "--follow-imports", "silent", "--cache-dir", str(folder / "cache"))
    checked = run(sys.executable, "-m", "mypy", *options, "program.py", cwd=folder, env=environment())
    assert checked.returncode == 0, checked.stdout
    run_against_service(sys.executable, "program.py", folder=folder, database_url=database_url)


def test_openapi_typescript_gives_every_error_its_type(folder: Path, database_url: str) -> None:
    install(PACKAGES)
    (folder / "node_modules").symlink_to(PACKAGES / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "program.ts").write_text(TYPESCRIPT)
    options = ("--strict", "--module", "nodenext", "--target", "es2022", "--noUncheckedIndexedAccess")
    for command in (
        ("openapi-typescript", "openapi.json", "--default-non-nullable=false", "--output", "schema.ts"),
        ("tsc", *options, "program.ts"),
    ):
        done = run(str(folder / "node_modules" / ".bin" / command[0]), *command[1:], cwd=folder, env=environment())
        assert done.returncode == 0, done.stdout + done.stderr
    run_against_service("node", "program.js", folder=folder, database_url=database_url)
