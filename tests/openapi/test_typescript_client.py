"""The TypeScript client: its types match the OpenAPI document, and it works in Node.js against a real gunicorn."""

import re
from pathlib import Path

import pytest

from tests.conftest import environ_for
from tests.support.issuers import install
from tests.support.programs import GUNICORN, ROOT, Server, copy_project, environment, run, running
from tests.support.tokens import SECRET

CLIENT = Path("clients", "typescript")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone with the packages of the client."""
    install(ROOT / CLIENT)
    project = copy_project(tmp_path_factory.mktemp("client"))
    (project / CLIENT / "node_modules").symlink_to(ROOT / CLIENT / "node_modules")
    return project


@pytest.fixture(scope="module")
def built(project: Path) -> Path:
    """The compiled client with its tests: a warning of the compiler is an error."""
    compiled = run("npm", "run", "build:test", cwd=project / CLIENT, env=environment(), seconds=300)
    assert compiled.returncode == 0, compiled.stdout
    return project


@pytest.mark.client
def test_the_types_are_those_of_the_service(project: Path) -> None:
    checked = run("npm", "run", "generate", "--", "--check", cwd=project / CLIENT, env=environment())
    assert checked.returncode == 0, f"run `npm run generate` in {CLIENT}\n{checked.stderr}"


@pytest.mark.client
def test_the_client_works_as_documented(built: Path, database_url: str) -> None:
    service = environ_for(database_url)
    with running(*GUNICORN, cwd=built, env=environment(**service)) as program:
        settings = {"TASKS_URL": f"http://127.0.0.1:{Server(program).port}", "TASKS_SECRET": SECRET}
        env = environment(**service, **settings)  # of the service too, so that the tests can run `flask`
        tested = run("npm", "run", "test:node", cwd=built / CLIENT, env=env, seconds=300)
    assert tested.returncode == 0, tested.stdout
    counts = {name: int(number) for name, number in re.findall(r"^# (\w+) (\d+)$", tested.stdout, re.MULTILINE)}
    assert counts["pass"] == counts["tests"] > 0, tested.stdout
