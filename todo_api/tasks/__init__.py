"""The tasks blueprint and everything about a task."""

from todo_api.tasks.ownership import TASK_ID as TASK_ID
from todo_api.tasks.ownership import OwnedTasks as OwnedTasks
from todo_api.tasks.schemas import CHANGES as CHANGES
from todo_api.tasks.schemas import LIST as LIST
from todo_api.tasks.schemas import MARK as MARK
from todo_api.tasks.schemas import NEW_TASK as NEW_TASK
from todo_api.tasks.schemas import WHICH as WHICH
from todo_api.tasks.schemas import Text as Text
from todo_api.tasks.views import IDEMPOTENCY_KEY as IDEMPOTENCY_KEY
from todo_api.tasks.views import init_app as init_app
