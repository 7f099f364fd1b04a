"""The official conformance suite, scenario by scenario, against a real gunicorn.

Scenarios about what the service does not offer (prompts, resources, sessions, tools made for the suite) are left out.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mcp_clients import FOLDER, LEGACY, MODERN, mcp_service, mcp_url, node
from tests.support.programs import ROOT, environment, free_port, run
from tests.support.tokens import SECRET

pytestmark = pytest.mark.mcp

SUITE = FOLDER / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
UNTESTABLE = "FAILURE: Not testable"  # the scenario wants a tool that was made for the suite
NO_METHOD = "returned JSON-RPC error -32601"
# Version, scenario, checks that succeed, and all others: for want of sessions, subscriptions, prompts and resources.
SCENARIOS: list[tuple[str, str, int, dict[str, str]]] = [
    (LEGACY, "server-initialize", 2, {"server-session-id-visible-ascii": "INFO"}),
    (LEGACY, "ping", 2, {}),
    (LEGACY, "tools-list", 3, {}),
    (LEGACY, "dns-rebinding-protection", 2, {}),
    (LEGACY, "server-session-lifecycle", 0, {"server-session-lifecycle-skipped": "INFO"}),
    (
        LEGACY,
        "server-sse-multiple-streams",
        0,
        {"server-sse-multiple-streams-session": "WARNING"},
    ),
    (MODERN, "tools-list", 4, {}),
    (MODERN, "http-header-validation", 14, {}),
    (MODERN, "dns-rebinding-protection", 2, {}),
    (MODERN, "server-sse-multiple-streams", 1, {"server-sse-streams-functional": "INFO"}),
    (MODERN, "input-required-result-unsupported-methods", 2, {}),
    (
        MODERN,
        "server-stateless",
        21,
        {
            "sep-2575-server-rejects-undeclared-capability": UNTESTABLE,
            "sep-2575-missing-capability-http-400": UNTESTABLE,
            "sep-2575-http-server-no-independent-requests-on-stream": UNTESTABLE,
            "sep-2575-server-no-log-without-loglevel": UNTESTABLE,
            "sep-2575-server-sends-subscription-ack": "SKIPPED",
            "sep-2575-server-tags-subscription-id": "SKIPPED",
            "sep-2575-server-honors-notification-filter": "SKIPPED",
            "sep-2575-server-sends-prompts-list-changed-on-subscription": "SKIPPED",
            "sep-2575-server-sends-tools-list-changed-on-subscription": "SKIPPED",
        },
    ),
    (
        MODERN,
        "caching",
        4,
        {
            "sep-2549-prompts-list-caching-hints": f"FAILURE: prompts/list {NO_METHOD}",
            "sep-2549-resources-list-caching-hints": f"FAILURE: resources/list {NO_METHOD}",
            "sep-2549-resources-templates-list-caching-hints": f"FAILURE: resources/templates/list {NO_METHOD}",
            "sep-2549-resources-read-caching-hints": "SKIPPED",
        },
    ),
]


@pytest.fixture(scope="module")
def url(migrated_database: Callable[[str], str]) -> Iterator[str]:
    """A service that lends the suite a token."""
    port = free_port()
    settings = {"DATABASE_URL": migrated_database("conformance"), "BETTER_AUTH_SECRET": SECRET}
    with mcp_service(port, "tests.mcp.lent_token:app", **settings):
        yield mcp_url(port)


def checks_of(url: str, version: str, scenario: str, folder: Path) -> list[dict[str, Any]]:
    """Run a scenario; return its checks."""
    options = ("--url", url, "--spec-version", version, "--scenario", scenario, "-o", str(folder))
    ended = run(node(), str(SUITE), "server", *options, cwd=ROOT, env=environment())
    written = list(folder.glob("*/checks.json"))
    assert len(written) == 1, ended.stdout + ended.stderr
    return list(json.loads(written[0].read_text()))


def outcome_of(check: dict[str, Any]) -> str:
    """Return the status of a check, with the first part of its message."""
    reason = check.get("errorMessage", "").partition(":")[0]
    return f"{check['status']}: {reason}" if check["status"] == "FAILURE" else str(check["status"])


@pytest.mark.parametrize(
    ("version", "scenario", "successes", "others"),
    SCENARIOS,
    ids=[f"{version} {scenario}" for version, scenario, _, _ in SCENARIOS],
)
def test_each_check_of_a_scenario_ends_as_it_should(
    url: str, tmp_path: Path, version: str, scenario: str, successes: int, others: dict[str, str]
) -> None:
    outcomes = [(check["id"], outcome_of(check)) for check in checks_of(url, version, scenario, tmp_path)]
    assert sorted(item for item in outcomes if item[1] != "SUCCESS") == sorted(others.items())
    assert len(outcomes) - len(others) == successes, outcomes
