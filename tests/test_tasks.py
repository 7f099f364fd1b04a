"""Creating, reading, changing and deleting one's own tasks."""

from tests.conftest import Caller


def test_a_created_task_is_read_back_as_it_was_answered(alice: Caller) -> None:
    created = alice.post("/api/tasks", json={"title": "Buy milk", "description": "2 l", "is_completed": True})
    assert created.status_code == 201
    assert created.json is not None
    assert created.headers["Location"] == f"/api/tasks/{created.json['id']}"
    assert alice.get(created.headers["Location"]).json == created.json
    assert alice.get("/api/tasks").json == [created.json]
