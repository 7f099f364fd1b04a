"""What can be wrong with a request for a task."""

from todo_api.errors import ApiError, InvalidInput


class MalformedJSON(ApiError):
    """The body is not one JSON object (RFC 8259) in UTF-8."""

    status_code = 400
    error_code = "MALFORMED_JSON"
    detail = "The body is not a JSON object."


class TaskNotFound(ApiError):
    status_code = 404
    error_code = "TASK_NOT_FOUND"
    detail = "There is no such task."


class TaskForbidden(ApiError):
    status_code = 403
    error_code = "TASK_FORBIDDEN"
    detail = "This task belongs to another user."
    foreign_task = True


class TaskConcealed(TaskNotFound):
    """The task belongs to another user, which the client is not told (CONCEAL_FOREIGN_TASKS)."""

    foreign_task = True


class PreconditionFailed(ApiError):
    status_code = 412
    error_code = "PRECONDITION_FAILED"
    detail = "The task has changed since you read it."


class TaskLimitReached(ApiError):
    status_code = 422
    error_code = "TASK_LIMIT_REACHED"
    detail = "This user has as many tasks as a user may have."


class IdempotencyKeyReused(ApiError):
    status_code = 422
    error_code = "IDEMPOTENCY_KEY_REUSED"
    detail = "This Idempotency-Key was sent before with another body."


class InvalidCursor(InvalidInput):
    """The cursor is broken, another user's, or made under other parameters."""

    def __init__(self) -> None:
        super().__init__({"cursor": ["Is broken, or from a list with other parameters."]})
