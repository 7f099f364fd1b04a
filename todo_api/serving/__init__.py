"""What runs in gunicorn: its worker, its logger, the check before a start or reload, and memory of all workers."""

from todo_api.serving.snapshots import SLOTS, NotKept, Slot, free_slot

__all__ = ["SLOTS", "NotKept", "Slot", "free_slot"]
