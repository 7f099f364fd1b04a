"""The tasks blueprint and everything about a task."""

from todo_api.tasks.ownership import OwnedTasks, user_ids
from todo_api.tasks.views import init_app

__all__ = ["OwnedTasks", "init_app", "user_ids"]
