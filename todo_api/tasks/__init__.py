"""The tasks blueprint and everything about a task."""

from todo_api.tasks.errors import IdempotencyKeyReused, MalformedJSON, TaskForbidden, TaskNotFound
from todo_api.tasks.ownership import OwnedTasks, user_ids
from todo_api.tasks.pagination import Query
from todo_api.tasks.parsing import parse_json, read_body
from todo_api.tasks.schemas import SORTS, Day, InputSchema, TaskFields, Text, length
from todo_api.tasks.views import init_app

__all__ = ["SORTS", "Day", "IdempotencyKeyReused", "InputSchema", "MalformedJSON", "OwnedTasks", "Query", "TaskFields"]
__all__ += ["TaskForbidden", "TaskNotFound", "Text", "init_app", "length", "parse_json", "read_body", "user_ids"]
