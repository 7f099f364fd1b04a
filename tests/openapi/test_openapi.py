"""The OpenAPI document: equal to the URL map, to the schemas and to what the service answers."""

import json
import re
import sys
from collections.abc import Iterator
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

from tests.conftest import Caller, MakeApp
from tests.support.described import Undescribed
from tests.support.issuers import install
from tests.support.programs import ROOT, environment, run
from tests.tasks.test_properties import EXAMPLES, JSON
from todo_api import errors
from todo_api.openapi.document import WHITE_SPACE, routes
from todo_api.openapi.operations import ALL_ERRORS, DESCRIPTION, OPERATIONS, REFUSALS, SERVER_FIELDS, TITLE, VERSION
from todo_api.tasks import schemas

NOT_DESCRIBED = "GET /docs/<name>"  # what the page is made of
NGINX = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
LINTER = Path(__file__).parent / "openapi_lint"
TASK = "/api/tasks/01a1fc99-ee71-72ec-b587-48e127eeb180"


@pytest.fixture
def document(nobody: Caller) -> Any:
    return nobody.get("/openapi.json").json


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    """Every operation by its method and path."""
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            yield f"{method.upper()} {path}", item[method]


def test_every_route_is_described_and_nothing_else(app: Flask, document: Any) -> None:
    assert set(dict(operations(document))) == routes(app).keys() - {NOT_DESCRIBED}


def test_the_document_says_what_it_is_of(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert (document["info"]["title"], document["info"]["version"]) == (TITLE, VERSION)
    assert document["servers"] == [{"url": "/"}]
    limit = [found for found in document["paths"]["/api/tasks"]["get"]["parameters"] if found.get("name") == "limit"]
    assert [(found["schema"]["minimum"], found["schema"]["maximum"]) for found in limit] == [(1, 1000)]
    set_by_the_service = document["components"]["schemas"]["NewTask"]["properties"]["created_at"]
    assert set_by_the_service["readOnly"] is True


def test_every_description_has_its_route(app: Flask) -> None:
    assert OPERATIONS.keys() <= routes(app).keys()


def test_every_operation_has_a_name_of_its_own_and_a_summary(document: Any) -> None:
    described = [operation for _, operation in operations(document)]
    assert len({operation["operationId"] for operation in described}) == len(described)
    for operation in described:
        assert re.fullmatch("[a-z]+([A-Z][a-z]+)+", operation["operationId"])
        assert operation["summary"][-1].isalpha()


def test_every_operation_has_the_tag_of_its_kind(document: Any) -> None:
    for route, operation in operations(document):
        assert operation["tags"] == ["tasks" if " /api/" in route else "service"]


def test_every_operation_but_the_public_ones_needs_a_token(document: Any) -> None:
    for route, operation in operations(document):
        if " /api/" in route:
            assert operation["security"] == [{"token": []}]
            assert "401" in operation["responses"]
        else:
            assert operation["security"] in ([], [{}, {"metricsToken": []}])


def test_every_error_code_is_described_in_answers_of_its_status() -> None:
    assert set(chain(*REFUSALS.values())) == ALL_ERRORS.keys()
    for codes in REFUSALS.values():
        assert len({ALL_ERRORS[code][0] for code in codes}) == 1
    assert ALL_ERRORS.keys() >= {error.error_code for error in errors.error_types()}


def test_the_proxys_own_answers_and_limits_are_described() -> None:
    codes, details = (
        dict(re.findall(r'^    (\d{3}) "?(.*?)"?;$', block, re.MULTILINE))
        for block in re.findall(r"map \$status \$error_(?:code|detail) \{\n(.*?)\n\}", NGINX, re.DOTALL)
    )
    for status, code in codes.items():
        assert ALL_ERRORS[code] == (int(status), details[status])
    for pattern in (r"rate=(\d+)r/s", r"burst=(\d+)", r"limit_conn connections (\d+)"):
        for number in re.findall(pattern, NGINX):
            assert re.search(rf"\b{number}\b", DESCRIPTION), pattern


def test_whatever_a_request_asks_for_the_proxy_may_refuse_it(document: Any) -> None:
    [codes] = re.findall(r"map \$status \$error_code \{\n(.*?)\n\}", NGINX, re.DOTALL)
    [let_in] = re.findall(r"location ~ (\^/\(api/\S+)", NGINX)
    anywhere = set(re.findall(r"^    (\d{3}) ", codes, re.MULTILINE)) - {"404"} | {"400"}
    for route, operation in operations(document):
        refused = anywhere if re.match(let_in, route.split()[1]) else anywhere | {"404"}
        assert refused <= operation["responses"].keys(), route


def test_the_services_own_limits_are_described(make_app: MakeApp) -> None:
    config = make_app().config
    assert f"A user: {config['MAX_TASKS_PER_USER']:,} tasks" in DESCRIPTION
    assert f"A body: {(config['MAX_CONTENT_LENGTH'] - 1) // 1024} KiB" in DESCRIPTION


def test_the_fields_of_the_server_are_described() -> None:
    assert SERVER_FIELDS.keys() == schemas.READ_ONLY


def test_a_pattern_trims_what_the_service_trims() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        assert (re.fullmatch(f"[{WHITE_SPACE}]", character) is None) == bool(character.strip()), character


def test_it_is_an_openapi_document_in_the_strict_sense(document: Any) -> None:
    validate(document, cls=OpenAPIV31SpecValidator)
    document["paths"]["/api/tasks"]["get"]["responses"]["200"].pop("description")
    with pytest.raises(Exception, match="description"):
        validate(document, cls=OpenAPIV31SpecValidator)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_linter_says_nothing(document: Any, tmp_path: Path) -> None:
    install(LINTER)
    file = tmp_path / "openapi.json"
    options = ("--config", str(LINTER / "redocly.yaml"), "--format", "stylish")
    program = (str(LINTER / "node_modules" / ".bin" / "redocly"), "lint", str(file), *options)
    env = environment(REDOCLY_TELEMETRY="off", REDOCLY_SUPPRESS_UPDATE_NOTICE="true")
    file.write_text(json.dumps(document))
    linted = run(*program, cwd=tmp_path, env=env)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    document["paths"]["/api/tasks"]["get"].pop("summary")
    file.write_text(json.dumps(document))
    linted = run(*program, cwd=tmp_path, env=env)
    assert linted.returncode != 0
    assert "operation-summary" in linted.stdout + linted.stderr


def examples(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every example with its schema."""
    components = document["components"]
    bodies = [operation["requestBody"] for _, operation in operations(document) if "requestBody" in operation]
    answers = chain.from_iterable(operation["responses"].values() for _, operation in operations(document))
    for holder in (*components["headers"].values(), *components["parameters"].values()):
        yield holder["example"], holder["schema"]
    for holder in (*bodies, *components["responses"].values(), *answers):
        for media_type in holder.get("content", {}).values():
            shown = [example["value"] for example in media_type.get("examples", {}).values()]
            for example in shown + ([media_type["example"]] if "example" in media_type else []):
                yield example, media_type["schema"]


def test_every_example_is_one(document: Any) -> None:
    found = list(examples(document))
    assert len(found) > 50
    for example, schema in found:
        whole = {**schema, "components": document["components"]}
        Draft202012Validator(whole, validate_formats=True).validate(example)


def test_it_needs_no_token_and_is_made_once(make_app: MakeApp) -> None:
    app = make_app()
    nobody = Caller(app.test_client(), None)
    first = nobody.get("/openapi.json")
    assert first.json["openapi"] == "3.1.0" if first.json else False
    assert app.extensions["openapi"] == first.data
    app.extensions["openapi"] = b"{}"
    assert nobody.get("/openapi.json").data == b"{}"


def test_a_worker_that_is_not_asked_for_it_does_not_hold_what_makes_it(tmp_path: Path) -> None:
    code = "import sys, todo_api; todo_api.create_app(); print(sys.modules.keys() & {'apispec', 'todo_api.operations'})"
    env = environment(ENVIRONMENT="development", DATABASE_URL=f"sqlite:///{tmp_path / 'todo.db'}", PYTHONPATH=str(ROOT))
    env["BETTER_AUTH_SECRET"] = "x" * 32
    done = run(sys.executable, "-c", code, cwd=tmp_path, env=env)
    assert done.stdout == "set()\n", done.stderr


def test_the_command_writes_it_to_a_file_or_to_the_terminal(app: Flask, nobody: Caller, tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    runner = app.test_cli_runner()
    assert runner.invoke(args=["openapi", str(file)]).output == ""
    served = nobody.get("/openapi.json").data
    assert file.read_bytes() == served == runner.invoke(args=["openapi"]).stdout_bytes


GOOD = {**OPERATIONS["GET /api/tasks/{id}"].answers[200].example}
TAG = {"ETag": f'"{GOOD["updated_at"]}"'}
FORBIDDEN = {"detail": "This task belongs to another user.", "error_code": "TASK_FORBIDDEN", "status_code": 403}


def test_an_answer_as_described_passes(make_app: MakeApp) -> None:
    app = make_app()
    alice = Caller(app.test_client(), "alice")
    for status, body, headers in ((200, GOOD, TAG), (403, FORBIDDEN, {})):
        answer = Response(json.dumps(body), status, headers, mimetype="application/json")
        app.view_functions["tasks.get_task"] = Mock(return_value=answer)
        assert alice.get(TASK).status_code == status


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (202, GOOD, TAG),
        (200, GOOD, {}),
        (200, GOOD, {"ETag": "no-quotes"}),
        (200, GOOD, TAG | {"Location": TASK}),
        (200, GOOD, TAG | {"X-Debug": "1"}),
        (200, GOOD, TAG | {"Content-Type": "application/problem+json"}),
        (200, {**GOOD, "secret": 1}, TAG),
        (200, {name: value for name, value in GOOD.items() if name != "user_id"}, TAG),
        (200, GOOD | {"title": ""}, TAG),
        (200, GOOD | {"title": "x" * 201}, TAG),
        (200, GOOD | {"created_at": "2026-02-08T09:30:00Z"}, TAG),
        (200, GOOD | {"created_at": "2026-02-30T09:30:00.000000Z"}, TAG),
        (200, [GOOD], TAG),
        (304, GOOD, {}),
        (403, FORBIDDEN | {"error_code": "TASK_NOT_FOUND"}, {}),
        (403, FORBIDDEN | {"status_code": 404}, {}),
        (403, FORBIDDEN | {"trace": "..."}, {}),
        (503, FORBIDDEN | {"error_code": "DATABASE_UNAVAILABLE", "status_code": 503}, {}),
    ],
)
def test_an_answer_that_is_not_described_fails_any_test(
    make_app: MakeApp, status: int, body: Any, headers: dict[str, str]
) -> None:
    app = make_app()
    answer = Response(json.dumps(body), status, {"Content-Type": "application/json", **headers})
    app.view_functions["tasks.get_task"] = Mock(return_value=answer)
    with pytest.raises(Undescribed):
        Caller(app.test_client(), "alice").get(TASK)


def test_the_headers_for_pages_of_other_origins_and_for_developers_are_described(make_app: MakeApp) -> None:
    client = make_app(ENVIRONMENT="development", CORS_ORIGINS="https://app.example.com").test_client()
    for path in ("/health/live", "/api/tasks", "/docs", "/nowhere"):
        answer = client.get(path, headers={"Origin": "https://app.example.com"})
        for name in ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Server-Timing"):
            assert name in answer.headers


def test_an_answer_without_the_common_headers_fails_any_test(make_app: MakeApp) -> None:
    app = make_app()
    alice = Caller(app.test_client(), "alice")
    app.after_request_funcs.clear()
    for path in ("/api/tasks", "/health/live", "/nowhere"):
        with pytest.raises(Undescribed, match="X-Request-ID"):
            alice.get(path)


WHITE = st.text(st.sampled_from(" \t\x1c\x85\u3000"), max_size=3)
STORABLE = st.characters(exclude_categories=["Cs"])
TITLES = st.builds(
    lambda before, middle, number, after: before + middle * number + after,
    WHITE,
    st.sampled_from(["x", "é", "😀", "\0", "\ufeff", " "]),
    st.sampled_from([0, 1, 199, 200, 201]),
    WHITE,
)
DESCRIPTIONS = st.none() | st.text(STORABLE, max_size=5) | st.sampled_from([2000, 2001]).map(lambda n: "😀" * n)
FIELDS = {
    "title": TITLES | JSON,
    "description": DESCRIPTIONS | JSON,
    "is_completed": st.booleans() | JSON,
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
def test_a_body_is_good_by_its_schema_when_the_service_takes_it(
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
    assert Draft202012Validator(whole).is_valid(body) == (response.status_code != 400), response.text
