"""The tasks blueprint and everything about a task."""

from todo_api.tasks.errors import (
    IdempotencyKeyReused,
    PreconditionFailed,
    TaskForbidden,
    TaskLimitReached,
    TaskNotFound,
)
from todo_api.tasks.ownership import TASK_ID, OwnedTasks
from todo_api.tasks.parsing import MalformedJSON
from todo_api.tasks.schemas import CHANGES, LIST, MARK, NEW_TASK, WHICH, Text
from todo_api.tasks.views import IDEMPOTENCY_KEY, init_app

__all__ = [
    "CHANGES",
    "IDEMPOTENCY_KEY",
    "LIST",
    "MARK",
    "NEW_TASK",
    "TASK_ID",
    "WHICH",
    "IdempotencyKeyReused",
    "MalformedJSON",
    "OwnedTasks",
    "PreconditionFailed",
    "TaskForbidden",
    "TaskLimitReached",
    "TaskNotFound",
    "Text",
    "init_app",
]
