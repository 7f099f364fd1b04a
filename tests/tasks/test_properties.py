"""Generated bodies: every valid text is stored as it is, and no body makes the service fail."""

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Caller
from tests.support.generated import EXAMPLES, JSON, NAMES, STORABLE
from tests.support.tasks import listed, path_of, task_in


@EXAMPLES
@given(
    title=st.text(STORABLE, min_size=1, max_size=200).filter(str.strip),
    description=st.none() | st.text(STORABLE, max_size=2000),
    more=st.fixed_dictionaries(
        {
            "is_completed": st.booleans(),
            "due_date": st.none() | st.dates().map(date.isoformat),
            "priority": st.sampled_from([None, "low", "medium", "high"]),
            "tags": st.lists(st.text(STORABLE, min_size=1, max_size=50).filter(str.strip), max_size=20),
        }
    ),
)
def test_every_valid_task_is_stored_as_it_was_sent(
    alice: Caller, title: str, description: str | None, more: dict[str, Any]
) -> None:
    task = alice.create(title, description=description, **more)
    tags = list(dict.fromkeys(tag.strip() for tag in more["tags"]))
    stored = {**more, "title": title.strip(), "description": description, "tags": tags}
    assert {name: task[name] for name in stored} == stored
    assert task_in(alice.get(path_of(task))) == task
    assert task in listed(alice, tag=tags)
    changed = task_in(alice.put(path_of(task), json={"title": title, "description": description, **more}))
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
