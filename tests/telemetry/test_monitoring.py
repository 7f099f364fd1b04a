"""The dashboard and the alerts in deploy/ use exactly the metrics of the service."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from flask import Flask

from tests.conftest import Caller, MakeApp
from tests.mcp.agents import Agent
from tests.support.nginx import DEPLOY
from tests.telemetry.test_metrics import figures

pytestmark = pytest.mark.sqlite_only
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$instance": ".*"}
OF_PROMETHEUS = {"up"}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that these tests may change."""
    return make_app()


def expressions() -> dict[str, str]:
    """Return the expressions by the title of their panel or alert."""
    found = {rule["alert"]: rule["expr"] for rule in RULES}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


def selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    """Yield every metric selector in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if child := getattr(node, name, None):
            yield from selectors(child)
    for child in getattr(node, "args", None) or ():
        yield from selectors(child)


def used() -> dict[str, set[str]]:
    """Return the metrics that the expressions use, with their labels."""
    found: dict[str, set[str]] = {}
    for expression in expressions().values():
        for selector in selectors(promql_parser.parse(expression)):
            labels = {matcher.name for matcher in selector.matchers.matchers}
            found.setdefault(str(selector.name), set()).update(labels)
    return found


def test_every_expression_is_valid_promql() -> None:
    for title, expression in expressions().items():
        assert list(selectors(promql_parser.parse(expression))), title


def test_every_metric_is_used_and_every_used_metric_exists(app: Flask) -> None:
    app.config["ENVIRONMENT"] = "development"
    Caller(app.test_client(), "alice").create()
    app.test_client().get("/api/tasks")
    Agent(app).use("list_tasks")
    shown = {name for name, *_ in figures(app) if not name.endswith("_created")}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in shown}
    assert used().keys() - OF_PROMETHEUS <= shown
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in used()} - OF_PROMETHEUS == families


def test_only_existing_labels_are_used() -> None:
    scrape = {"instance", "job"}
    labels = {"todo_api_token_refusals_total": {"reason"}, "todo_api_tool_calls_total": {"tool", "outcome"}}
    request = {"route", "method", "status"}
    for name, looked_at in used().items():
        own = request if name.startswith("todo_api_request") else labels.get(name, set())
        assert looked_at <= own | scrape, name


def test_an_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "action"}
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
