"""What can be wrong with a request for a task."""

from todo_api.errors import ApiError, InvalidInput


class MalformedJSON(ApiError):
    """The body is not one JSON object (RFC 8259) in UTF-8."""

    status_code, error_code, detail = 400, "MALFORMED_JSON", "The body is not a JSON object."


class TaskNotFound(ApiError):
    status_code, error_code, detail = 404, "TASK_NOT_FOUND", "There is no such task."


class TaskForbidden(ApiError):
    status_code, error_code, detail = 403, "TASK_FORBIDDEN", "This task belongs to another user."
    foreign_task = True


class PreconditionFailed(ApiError):
    status_code, error_code, detail = 412, "PRECONDITION_FAILED", "The task has changed since you read it."


class TaskLimitReached(ApiError):
    status_code, error_code, detail = 422, "TASK_LIMIT_REACHED", "This user has as many tasks as a user may have."


class IdempotencyKeyReused(ApiError):
    status_code, error_code = 422, "IDEMPOTENCY_KEY_REUSED"
    detail = "This Idempotency-Key was sent before with another body."


class ChangesExpired(ApiError):
    status_code, error_code = 410, "CHANGES_EXPIRED"
    detail = "What was deleted since then is no longer known; begin again without `since`."


class InvalidSince(InvalidInput):
    """The token is broken or another user's."""

    def __init__(self) -> None:
        super().__init__({"since": ["Is broken, or another user's."]})


class InvalidCursor(InvalidInput):
    """The cursor is broken, another user's, or made under other parameters."""

    def __init__(self) -> None:
        super().__init__({"cursor": ["Is broken, or from a list with other parameters."]})
