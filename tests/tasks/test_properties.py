"""Generated bodies: every valid text is stored as it is, and no body makes the service fail."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Caller
from tests.support.generated import EXAMPLES, JSON, NAMES, STORABLE
from tests.support.tasks import path_of, task_in


@EXAMPLES
@given(
    title=st.text(STORABLE, min_size=1, max_size=200).filter(str.strip),
    description=st.none() | st.text(STORABLE, max_size=2000),
    is_completed=st.booleans(),
)
def test_every_valid_task_is_stored_as_it_was_sent(
    alice: Caller, title: str, description: str | None, is_completed: bool
) -> None:
    task = alice.create(title, description=description, is_completed=is_completed)
    assert (task["title"], task["description"], task["is_completed"]) == (title.strip(), description, is_completed)
    assert task_in(alice.get(path_of(task))) == task
    changed = task_in(alice.put(path_of(task), json={"title": title, "description": description}))
    assert changed | {"updated_at": task["updated_at"]} == task


@pytest.mark.sqlite_only
@EXAMPLES
@given(body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f'{{"title": "{text}"}}'.encode()))
def test_any_bytes_are_accepted_or_rejected(alice: Caller, body: bytes) -> None:
    response = alice.post("/api/tasks", data=body, content_type="application/json")
    assert response.status_code in (201, 400), response.text


@EXAMPLES
@given(document=JSON | st.dictionaries(NAMES, JSON, max_size=5))
def test_any_json_document_is_accepted_or_rejected(alice: Caller, document: Any) -> None:
    response = alice.post("/api/tasks", data=json.dumps(document), content_type="application/json")
    assert response.status_code in (201, 400), response.text
