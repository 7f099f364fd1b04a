"""Schemathesis: valid and invalid requests generated from the OpenAPI document, sent to a real gunicorn."""

import json
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environ_for
from tests.mcp.agents import SETTINGS
from tests.support.programs import environment, run, serving
from tests.support.tokens import token

CONFIG = Path(__file__).parent / "schemathesis.toml"
# Long lines and headers must reach the service.
UNLIMITED = ("--limit-request-line", "0", "--limit-request-field_size", "1000000")
Search = Callable[[str, int], int]


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Send up to `examples` generated requests to each route of a service on that database; return their number."""

    def searching(url: str, examples: int) -> int:
        folder = tmp_path / url.partition(":")[0]
        folder.mkdir()
        env = environment(WEB_CONCURRENCY="1", **environ_for(url, **SETTINGS))
        with serving(env, *UNLIMITED) as server:
            _, document = server.request("GET", "/openapi.json")
            accept_read_only_fields(document)
            (folder / "openapi.json").write_text(json.dumps(document))
            found = schemathesis(folder, server.port, "--max-examples", str(examples))
        report = found.stdout[-5000:] + found.stderr
        assert found.returncode == 0, report
        [(made, passed)] = re.findall(r"(\d+) generated, (\d+) passed", found.stdout)
        assert made == passed, report
        return int(made)

    return searching


def accept_read_only_fields(document: Any) -> None:
    """Drop `readOnly` from bodies: the tool takes it for "must not be sent", but the service ignores such fields."""
    for name in ("NewTask", "TaskChanges"):
        for field in document["components"]["schemas"][name]["properties"].values():
            field.pop("readOnly", None)


def schemathesis(folder: Path, port: int, *options: str) -> Any:
    program = (sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", "openapi.json")
    more = ("--url", f"http://127.0.0.1:{port}", "--header", f"Authorization: Bearer {token()}")
    always = ("--checks", "all", "--generation-database", "none", "--no-color")
    return run(*program, *more, *always, *options, cwd=folder, env=environment(), seconds=900)


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_some_generated_requests_find_nothing(search: Search, database_url: str) -> None:
    assert search(database_url, 5) > 300


@pytest.mark.slow
def test_ten_thousand_generated_requests_find_nothing(search: Search, databases: dict[str, str]) -> None:
    with ThreadPoolExecutor() as both:
        for made in both.map(search, databases.values(), [1150] * len(databases)):
            assert made >= 10_000
