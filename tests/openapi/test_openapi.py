"""The OpenAPI document: it matches the URL map, the errors, nginx and the responses of the service."""

import json
import re
import sys
from collections.abc import Iterator
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask, Response
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from tests.conftest import MISSING, Caller, MakeApp
from tests.support.generated import EXAMPLES, JSON
from tests.support.issuers import install
from tests.support.programs import ROOT, environment, run
from tests.support.response_checker import NOT_TO_DESCRIBE, Undocumented
from tests.support.rules import of_body, of_query, of_response, without_texts
from todo_api import __version__
from todo_api.cors import ALLOWED_HEADERS, EXPOSED_HEADERS, MCP_HEADERS
from todo_api.errors import error_types
from todo_api.tasks.ownership import TASK_ID
from todo_api.tasks.schemas import CHANGES, COMPLETION, FEED, LIST, NEW_TASK, SELECTION
from todo_api.tasks.views import IDEMPOTENCY_KEY
from todo_api.telemetry.requests import REQUEST_ID

pytestmark = pytest.mark.sqlite_only

NOT_DESCRIBED = "GET /docs/<asset>"  # the files of the page
OF_JSON_RPC = {"$ref": "#/components/schemas/RpcError"}  # has a body of its own
OF_OTHER_PROXIES = "REQUEST_TIMEOUT"  # nginx hangs up instead
NGINX = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
LINTER = Path(__file__).parent / "openapi_lint"
DOCUMENT = ROOT / "todo_api" / "openapi" / "openapi.yaml"
QUERIES = {
    "GET /api/tasks": LIST,
    "GET /api/tasks/changes": FEED,
    "PATCH /api/tasks": SELECTION,
    "DELETE /api/tasks": SELECTION,
}


@pytest.fixture
def document(nobody: Caller) -> Any:
    return nobody.get("/openapi.json").json


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield every operation with its method and path."""
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            yield f"{method.upper()} {path}", item[method]


def resolve(document: Any, described: Any) -> Any:
    """Return what a reference stands for; anything else as it is."""
    if "$ref" not in described:
        return described
    _, _, kind, name = described["$ref"].split("/")
    return document["components"][kind][name]


def responses(document: Any) -> Iterator[tuple[int, Any]]:
    """Yield every response of every operation with its status."""
    for _, operation in operations(document):
        for status, response in operation["responses"].items():
            yield int(status), resolve(document, response)


def details(response: Any) -> dict[str, str]:
    """Return the detail of each error code that a response describes."""
    return dict(re.findall("^- `(.*)`: (.*)$", response["description"], re.MULTILINE))


def errors(document: Any) -> dict[str, tuple[int, str]]:
    """Return the status and the detail of each error code."""
    return {
        code: (status, detail) for status, response in responses(document) for code, detail in details(response).items()
    }


def errors_of_nginx() -> dict[str, tuple[int, str]]:
    """Return the status and the detail of each error code of nginx; it has one code for all other statuses, too."""
    codes, details = (
        dict(re.findall(r'^    (\d{3}|default) "?(.*?)"?;$', block, re.MULTILINE))
        for block in re.findall(r"map \$status \$error_(?:code|detail) \{\n(.*?)\n\}", NGINX, re.DOTALL)
    )
    assert codes.keys() == details.keys()
    return {code: (400 if status == "default" else int(status), details[status]) for status, code in codes.items()}


# --- What is described ---


def test_every_route_is_described_and_nothing_else(app: Flask, document: Any) -> None:
    routes = {
        f"{method} {rule.rule.replace('<task:task_id>', '{id}')}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert set(dict(operations(document))) == routes - {NOT_DESCRIBED}


def test_the_parameters_and_fields_follow_from_the_schemas(document: Any) -> None:
    assert (document["openapi"], document["info"]["title"]) == ("3.1.0", "Task API")
    query = {found["name"]: found for found in document["paths"]["/api/tasks"]["get"]["parameters"] if "name" in found}
    assert query["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1000}
    assert query["sort"]["schema"]["default"] == "-created_at"
    schemas = document["components"]["schemas"]
    assert (
        set(schemas["Task"]["required"]) == set(schemas["Task"]["properties"]) == set(schemas["NewTask"]["properties"])
    )
    assert schemas["Task"]["properties"]["title"]["maxLength"] == 200
    assert schemas["NewTask"]["properties"]["created_at"]["readOnly"] is True
    assert schemas["NewTask"]["properties"]["is_completed"]["default"] is False
    assert "default" not in schemas["TaskChanges"]["properties"]["is_completed"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Task", of_response(NEW_TASK)),
        ("NewTask", of_body(NEW_TASK)),
        ("TaskChanges", of_body(CHANGES)),
        ("Mark", of_body(COMPLETION)),
    ],
)
def test_the_rules_of_fields_are_those_of_the_schemas(document: Any, name: str, expected: dict[str, Any]) -> None:
    described = document["components"]["schemas"][name]
    fields = described["properties"]
    assert all(field["description"] for field in fields.values())
    described = described | {"properties": {name: without_texts(field) for name, field in fields.items()}}
    assert in_order(described) == in_order(expected)


def in_order(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"required": sorted(schema.get("required", []))}


def test_the_rules_of_query_parameters_are_those_of_the_schemas(document: Any) -> None:
    for route, operation in operations(document):
        sent = [resolve(document, parameter) for parameter in operation.get("parameters", [])]
        query = [parameter for parameter in sent if parameter["in"] == "query"]
        assert all(parameter["description"] for parameter in query)
        expected = of_query(QUERIES[route]) if route in QUERIES else []
        assert [without_texts(parameter) for parameter in query] == expected, route


def test_every_body_has_its_media_type_checked(document: Any) -> None:
    for route, operation in operations(document):
        assert ("requestBody" in operation) == ("415" in operation["responses"]), route


def test_the_patterns_are_those_of_the_service(document: Any) -> None:
    parameters, headers = document["components"]["parameters"], document["components"]["headers"]
    assert parameters["id"]["schema"]["pattern"] == f"^{TASK_ID.pattern}$"
    assert parameters["Idempotency-Key"]["schema"]["pattern"] == f"^{IDEMPOTENCY_KEY.pattern}$"
    assert headers["X-Request-ID"]["schema"]["pattern"] == f"^{REQUEST_ID.pattern}$"
    assert f"`{REQUEST_ID.pattern}`" in parameters["X-Request-ID"]["description"]
    assert headers["Access-Control-Expose-Headers"]["schema"]["const"] == EXPOSED_HEADERS


def test_the_headers_for_pages_of_other_origins_are_described(document: Any) -> None:
    parameters, headers = document["components"]["parameters"], document["components"]["headers"]
    assert set(EXPOSED_HEADERS.split(", ")) <= headers.keys()
    sent = {name for name, parameter in parameters.items() if parameter["in"] == "header"}
    allowed = {*ALLOWED_HEADERS.split(", "), *MCP_HEADERS.split(", ")}
    ignored = {"Mcp-Session-Id", "Last-Event-ID"}  # of sessions and streams, which the server does not have
    assert allowed == sent | {"Authorization", "Content-Type"} | ignored


def test_every_response_has_the_headers_of_every_response(make_app: MakeApp, document: Any) -> None:
    client = make_app(ENVIRONMENT="development", CORS_ORIGINS="https://app.example.com").test_client()
    answer = client.get("/health/live", headers={"Origin": "https://app.example.com"})
    common = set(answer.headers.keys()) - NOT_TO_DESCRIBE
    for _, response in responses(document):
        assert common <= response["headers"].keys(), response["description"]


def test_the_version_is_that_of_the_code(document: Any) -> None:
    assert document["info"]["version"] == __version__


def test_the_summaries_are_those_of_the_views(app: Flask, document: Any) -> None:
    views: dict[str, str] = {
        f"{method} {rule.rule.replace('<task:task_id>', '{id}')}": app.view_functions[rule.endpoint].__doc__ or ""
        for rule in app.url_map.iter_rules()
        for method in rule.methods or set()
    }
    for route, operation in operations(document):
        assert operation["summary"] == views[route].partition(".")[0]


def test_every_operation_has_a_name_of_its_own_and_a_summary(document: Any) -> None:
    described = [operation for _, operation in operations(document)]
    assert len({operation["operationId"] for operation in described}) == len(described)
    for operation in described:
        assert re.fullmatch("[a-z]+([A-Z][a-z]+)+", operation["operationId"])
        assert operation["summary"][-1].isalpha()


def test_the_operations_on_tasks_need_a_token_and_the_others_none(document: Any) -> None:
    for route, operation in operations(document):
        if " /api/" in route or route.endswith(" /mcp"):
            assert operation["tags"] == (["tasks"] if " /api/" in route else ["agents"])
            assert operation["security"] == [{"token": []}]
            assert "401" in operation["responses"]
        elif "/.well-known/" in route:
            assert (operation["tags"], operation["security"]) == (["agents"], [])
        else:
            assert operation["tags"] == ["service"]
            assert operation["security"] in ([], [{}, {"metricsToken": []}])


def test_every_error_of_the_service_is_described(document: Any) -> None:
    described = errors(document)
    for error in error_types():
        assert described[error.error_code] == (error.status_code, error.detail)
    schemas = [
        schema
        for name, schema in document["components"]["schemas"].items()
        if name.endswith("Error") and name != "RpcError"
    ]
    codes = [code for schema in schemas for code in schema["properties"]["error_code"]["enum"]]
    assert set(codes) == described.keys()


def test_every_error_of_nginx_is_described_in_the_same_words(document: Any) -> None:
    described = errors(document)
    for code, error in errors_of_nginx().items():
        assert described[code] == error


def test_no_other_error_is_described(document: Any) -> None:
    of_service = {error.error_code for error in error_types()}
    assert errors(document).keys() == of_service | errors_of_nginx().keys() | {OF_OTHER_PROXIES}


def test_the_schema_of_every_error_has_the_codes_of_its_text_and_its_status(document: Any) -> None:
    for status, response in responses(document):
        if status < 400:
            continue
        schema = response["content"]["application/json"]["schema"]
        refs = [described for described in schema.get("oneOf", [schema]) if described != OF_JSON_RPC]
        schemas = [resolve(document, described) for described in refs]
        for own in schemas:
            assert own["additionalProperties"] is False
            members = {"detail", "error_code", "status_code"} | ({"errors"} & own["properties"].keys())
            assert set(own["required"]) == set(own["properties"]) == members
            assert own["properties"]["status_code"]["const"] == status
        codes = [code for own in schemas for code in own["properties"]["error_code"]["enum"]]
        assert codes == sorted(details(response))


def test_the_errors_are_described_as_generators_of_clients_read_them(document: Any) -> None:
    """Generators do not merge schemas, and call each class after its schema."""
    for status, response in responses(document):
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        for described in schema.get("oneOf", [schema]) if status >= 400 else []:
            assert described["$ref"].endswith("Error")
    assert "allOf" not in json.dumps(document)


def test_every_error_is_described_with_its_headers(document: Any) -> None:
    headers = {error.error_code: {*error.headers} for error in error_types()}
    headers |= {"METHOD_NOT_ALLOWED": {"Allow"}, "RATE_LIMITED": {"Retry-After"}}
    special = set().union(*headers.values())
    for status, response in responses(document):
        expected = set().union(*(headers.get(code, set()) for code in details(response)))
        assert response["headers"].keys() & special == expected, (status, response["description"])


def test_every_operation_has_the_errors_of_nginx(document: Any) -> None:
    [codes] = re.findall(r"map \$status \$error_code \{\n(.*?)\n\}", NGINX, re.DOTALL)
    [let_in] = re.findall(r"location ~ (\^/\(api/\S+)", NGINX)
    anywhere = set(re.findall(r"^    (\d{3}) ", codes, re.MULTILINE)) - {"404"} | {"400"}
    for route, operation in operations(document):
        expected = anywhere if re.match(let_in, route.split()[1]) else anywhere | {"404"}
        assert expected <= operation["responses"].keys(), route


def test_the_limits_are_described(make_app: MakeApp, document: Any) -> None:
    text = document["info"]["description"].replace("\n", " ")
    config = make_app().config
    assert f"Tasks per user: {config['MAX_TASKS_PER_USER']:,}" in text
    assert f"Request body: {(config['MAX_CONTENT_LENGTH'] - 1) // 1024} KiB" in text
    for pattern in (r"rate=(\d+)r/s", r"burst=(\d+)", r"limit_conn connections (\d+)"):
        for number in re.findall(pattern, NGINX):
            assert re.search(rf"\b{number}\b", text), pattern


# --- Whether it is valid ---


def test_it_is_a_valid_openapi_document(document: Any) -> None:
    validate(document, cls=OpenAPIV31SpecValidator)


def test_the_linter_reports_nothing(tmp_path: Path) -> None:
    install(LINTER)
    options = ("--config", str(LINTER / "redocly.yaml"), "--format", "stylish")
    env = environment(REDOCLY_TELEMETRY="off", REDOCLY_SUPPRESS_UPDATE_NOTICE="true")
    program = LINTER / "node_modules" / ".bin" / "redocly"
    linted = run(str(program), "lint", str(DOCUMENT), *options, cwd=tmp_path, env=env)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def examples(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every example with its schema."""
    components = document["components"]
    described = [operation for _, operation in operations(document)]
    bodies = [operation["requestBody"] for operation in described if "requestBody" in operation]
    answers = [response for _, response in responses(document)]
    media_types = chain.from_iterable(holder.get("content", {}).values() for holder in (*bodies, *answers))
    for holder in (*components["headers"].values(), *components["parameters"].values(), *media_types):
        if "example" in holder:
            yield holder["example"], holder["schema"]


def test_every_example_is_valid(document: Any) -> None:
    found = list(examples(document))
    assert len(found) > 15
    for example, schema in found:
        whole = {**schema, "components": document["components"]}
        Draft202012Validator(whole, validate_formats=True).validate(example)


# --- Where it is served ---


def test_the_command_writes_it_to_a_file_or_to_the_terminal(app: Flask, nobody: Caller, tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    runner = app.test_cli_runner()
    assert runner.invoke(args=["openapi", str(file)]).output == ""
    served = nobody.get("/openapi.json").data
    assert file.read_bytes() == served == runner.invoke(args=["openapi"]).stdout_bytes


# --- Whether the service does what it says; every response that a test client gets is checked as well ---


@pytest.mark.parametrize(
    ("status", "headers", "changes"),
    [
        (202, {}, {}),
        (200, {"ETag": "no-quotes"}, {}),
        (200, {"X-Debug": "1"}, {}),
        (200, {}, {"secret": 1}),
        (200, {}, {"created_at": "2026-02-08T09:30:00Z"}),
        (403, {}, {}),
    ],
)
def test_a_response_that_is_not_described_fails_any_test(
    make_app: MakeApp, document: Any, status: int, headers: dict[str, str], changes: dict[str, Any]
) -> None:
    app = make_app()
    alice = Caller(app.test_client(), "alice")
    described = document["paths"]["/api/tasks/{id}"]["get"]["responses"]["200"]
    task = described["content"]["application/json"]["example"]
    headers = {"ETag": f'"{task["updated_at"]}"'} | headers

    def answer(status: int, headers: dict[str, str], task: Any) -> None:
        response = Response(json.dumps(task), status, headers, mimetype="application/json")
        app.view_functions["tasks.get_task"] = Mock(return_value=response)

    answer(200, {"ETag": f'"{task["updated_at"]}"'}, task)
    assert alice.get(MISSING).status_code == 200
    answer(status, headers, task | changes)
    with pytest.raises(Undocumented):
        alice.get(MISSING)


def test_the_headers_for_pages_of_other_origins_and_for_developers_are_described(make_app: MakeApp) -> None:
    client = make_app(ENVIRONMENT="development", CORS_ORIGINS="https://app.example.com").test_client()
    for path in ("/health/live", "/api/tasks", "/docs", "/nowhere"):
        answer = client.get(path, headers={"Origin": "https://app.example.com"})
        for name in ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Server-Timing"):
            assert name in answer.headers


def test_titles_and_tags_are_described_as_the_service_trims_them(document: Any) -> None:
    fields = document["components"]["schemas"]["NewTask"]["properties"]
    for described in (fields["title"], fields["tags"]["items"]):
        pattern = re.compile(described["pattern"])
        for character in map(chr, range(1, sys.maxunicode + 1)):
            assert bool(pattern.fullmatch(character)) == bool(character.strip()), character


WHITE = st.text(st.sampled_from(" \t\x1c\x85\u3000"), max_size=3)
STORABLE = st.characters(exclude_categories=["Cs"])
TITLES = st.builds(
    lambda before, middle, number, after: before + middle * number + after,
    WHITE,
    st.sampled_from(["x", "é", "😀", "\0", "\ufeff", " "]),
    st.sampled_from([0, 1, 199, 200, 201]),
    WHITE,
)
TAG = st.builds(
    lambda before, middle, number, after: before + middle * number + after,
    WHITE,
    st.sampled_from(["x", "😀", "\0"]),
    st.sampled_from([0, 1, 50, 51]),
    WHITE,
)
TAGS = st.lists(TAG, max_size=2) | st.sampled_from([20, 21]).map(lambda n: ["x"] * n)
DESCRIPTIONS = st.none() | st.text(STORABLE, max_size=5) | st.sampled_from([2000, 2001]).map(lambda n: "😀" * n)
FIELDS = {
    "title": TITLES | JSON,
    "description": DESCRIPTIONS | JSON,
    "is_completed": st.booleans() | JSON,
    "due_date": st.dates().map(date.isoformat) | st.sampled_from([None, "2026-02-29", "2026-2-8", "20260208"]) | JSON,
    "priority": st.sampled_from([None, "low", "high", "none", "High"]) | JSON,
    "tags": TAGS | st.lists(JSON, max_size=2) | JSON,
    "completed_at": JSON,
    "id": JSON,
    "user_id": JSON,
    "updated_at": JSON,
    "owner": JSON,
}
SENT = st.fixed_dictionaries({}, optional=FIELDS).filter(lambda body: "\\ud" not in json.dumps(body))
ROUTES = [
    ("POST", "/api/tasks", "NewTask"),
    ("PATCH", "/api/tasks/{id}", "TaskChanges"),
    ("PATCH", "/api/tasks", "Mark"),
]


@EXAMPLES
@given(body=SENT, route=st.sampled_from(ROUTES))
def test_the_service_accepts_what_the_schema_of_the_body_accepts(
    alice: Caller, body: dict[str, Any], route: tuple[str, str, str]
) -> None:
    document: Any = alice.get("/openapi.json").json
    method, path, schema = route
    if path.endswith("{id}"):
        path = path.replace("{id}", alice.create()["id"])
    elif method == "PATCH":
        path += "?is_completed=true"
    whole = {**document["components"]["schemas"][schema], "components": document["components"]}
    response = alice(method, path, json=body)
    assert response.status_code in (200, 201, 400)
    assert Draft202012Validator(whole, validate_formats=True).is_valid(body) == (response.status_code != 400), (
        response.text
    )
