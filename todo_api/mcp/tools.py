"""The tools: what an agent can do with the tasks of its user."""

import json
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from marshmallow import Schema, ValidationError, fields, pre_load
from marshmallow.validate import OneOf, Range

from todo_api.database import DatabaseUnavailable
from todo_api.errors import ApiError, InvalidInput
from todo_api.models import PRIORITIES
from todo_api.openapi import get_document
from todo_api.tasks import (
    SORTS,
    Day,
    IdempotencyKeyReused,
    InputSchema,
    OwnedTasks,
    Query,
    TaskFields,
    TaskForbidden,
    TaskNotFound,
    Text,
    length,
)

DESCRIPTIONS = Path(__file__).with_name("tools.yaml")
HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
READ, WRITE = SCOPES = ("tasks:read", "tasks:write")
MAX_TASKS = 100
BAD_LIMIT = f"Must be a whole number from 1 to {MAX_TASKS}."
STATES = {"all": None, "pending": False, "completed": True}
CLEARED = ("description", "due_date", "priority")  # by ""
# What an agent reads in place of the API's own words.
SENTENCES: dict[type[ApiError], str] = {
    TaskForbidden: TaskNotFound.detail,  # a foreign and a missing task read the same
    IdempotencyKeyReused: "This idempotency_key was used before with other arguments.",
    DatabaseUnavailable: "The database cannot be reached. Try again soon, with the same idempotency_key if any.",
}

Json = dict[str, Any]


class WholeNumber(fields.Integer):
    """A JSON number without a fraction, and unlike marshmallow's neither text nor true."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if type(value) not in (int, float) or value != value // 1:
            raise self.make_error("invalid")
        return super()._deserialize(value, *args, **kwargs)


class Arguments(InputSchema):
    """The arguments of a tool. Null means not given: some agents send every argument."""

    UNSET: tuple[Any, ...] = (None,)

    @pre_load
    def drop_unset(self, data: Json, **kwargs: Any) -> Json:
        return {name: value for name, value in data.items() if value not in self.UNSET}

    def explain(self, unknown: str) -> str:
        """Return the message for an unknown argument: it has the names of all known ones."""
        return f"Unknown argument; known are: {', '.join(self.fields)}."


class OneTask(Arguments):
    task_id = Text(required=True)


class ListTasks(Arguments):
    UNSET = (None, "")

    status = Text(load_default="all", validate=OneOf(STATES))
    search = Text(trim=True, validate=length(0, 200))
    priority = fields.String(validate=OneOf([*PRIORITIES, "none"]))
    tag = Text(trim=True, validate=length(1, 50))
    due_from = Day()
    due_to = Day()
    sort = Text(load_default="-created_at", validate=OneOf(SORTS))
    limit = WholeNumber(
        load_default=50, validate=Range(1, MAX_TASKS, error=BAD_LIMIT), error_messages={"invalid": BAD_LIMIT}
    )
    cursor = Text()


class TaskArguments(Arguments, TaskFields):
    @pre_load
    def drop_unset(self, data: Json, **kwargs: Any) -> Json:
        given: Json = super().drop_unset(data, **kwargs)
        return given | {name: None for name in CLEARED if given.get(name) == ""}


class AddTask(TaskArguments):
    idempotency_key = Text(validate=length(1, 255))

    class Meta:
        exclude = ("is_completed",)


class UpdateTask(OneTask, TaskArguments):
    pass


def list_tasks(tasks: OwnedTasks, arguments: Json) -> Json:
    state, search, tag = STATES[arguments.pop("status")], arguments.pop("search", ""), arguments.pop("tag", None)
    query = Query(is_completed=state, q=search or None, tag=tag and [tag], include_total=True, **arguments)
    page = tasks.list(query)
    found = [without_owner(task) for task in json.loads(page.json or b"[]")]
    return {"tasks": found, "total": int(page.total or 0), "next_cursor": page.next_cursor}


def get_task(tasks: OwnedTasks, arguments: Json) -> Json:
    return without_owner(json.loads(tasks.get(arguments["task_id"]).json))


def add_task(tasks: OwnedTasks, arguments: Json) -> Json:
    if text := arguments.pop("idempotency_key", None):
        arguments["key"] = sha256(text.encode()).hexdigest()  # it may be any text, and an Idempotency-Key may not
    return without_owner(json.loads(tasks.create(**arguments).json))


def update_task(tasks: OwnedTasks, arguments: Json) -> Json:
    return without_owner(json.loads(tasks.update(arguments.pop("task_id"), arguments).json))


def complete_task(tasks: OwnedTasks, arguments: Json) -> Json:
    return without_owner(json.loads(tasks.update(arguments["task_id"], {"is_completed": True}).json))


def delete_task(tasks: OwnedTasks, arguments: Json) -> Json:
    tasks.delete(arguments["task_id"])
    return {"deleted": arguments["task_id"].lower()}


def without_owner(task: Json) -> Json:
    del task["user_id"]
    return task


class Tool(NamedTuple):
    run: Callable[[OwnedTasks, Json], Json]
    arguments: Schema
    scope: str


TOOLS = {
    "list_tasks": Tool(list_tasks, ListTasks(), READ),
    "get_task": Tool(get_task, OneTask(), READ),
    "add_task": Tool(add_task, AddTask(), WRITE),
    "update_task": Tool(update_task, UpdateTask(partial=tuple(TaskFields().fields)), WRITE),
    "complete_task": Tool(complete_task, OneTask(), WRITE),
    "delete_task": Tool(delete_task, OneTask(), WRITE),
}


def call(tool: Tool, tasks: OwnedTasks, arguments: Json) -> Json:
    """Run a tool, and return what it found. Raises ApiError."""
    try:
        return tool.run(tasks, tool.arguments.load(arguments))
    except ValidationError as error:
        raise InvalidInput(error.messages_dict) from None


def sentence(error: ApiError) -> str:
    """Return what an agent is told of an error."""
    return SENTENCES.get(type(error), error.detail)


@cache
def descriptions() -> Json:
    """Return `instructions`, and the descriptions of the `tools` with their schemas."""
    import yaml  # here, as most workers never need it

    found: Json = yaml.safe_load(DESCRIPTIONS.read_text(encoding="utf-8"))
    results = output_schemas()
    for tool in found["tools"]:
        tool["inputSchema"] = object_of(tool.pop("arguments"), tool.pop("required", []))
        tool["outputSchema"] = results.get(tool["name"], results["get_task"])
        tool["annotations"] = {**dict.fromkeys(HINTS, False), **dict.fromkeys(tool.pop("hints"), True)}
    return found


def output_schemas() -> dict[str, Json]:
    """Return the JSON Schemas of results, from that of a task in the OpenAPI document."""
    task = json.loads(get_document())["components"]["schemas"]["Task"]
    properties = {name: rules for name, rules in task["properties"].items() if name != "user_id"}
    public = object_of(properties, list(properties))
    page = {"tasks": {"type": "array", "items": public}, "total": {"type": "integer"}}
    page["next_cursor"] = {"type": ["string", "null"], "description": "The cursor of the next page, if there is one."}
    deleted = {"deleted": {"type": "string", "description": "The id of the task."}}
    return {
        "list_tasks": object_of(page, list(page)),
        "get_task": public,
        "delete_task": object_of(deleted, list(deleted)),
    }


def object_of(properties: Json, required: list[str]) -> Json:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
