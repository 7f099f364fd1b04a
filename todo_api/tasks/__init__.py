"""The tasks blueprint and everything about a task."""

from todo_api.tasks.ownership import OwnedTasks as OwnedTasks
from todo_api.tasks.views import init_app as init_app
