"""Properties: whatever text the rules admit comes back, and no body whatever breaks the service."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Caller

EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STORABLE = st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")
ANYTHING = st.characters(blacklist_categories=[])
SCALARS = st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.sampled_from(["title", "description", "is_completed", "id", "user_id"]) | st.text(ANYTHING, max_size=5)
JSON = st.recursive(
    SCALARS | st.text(ANYTHING, max_size=210),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES, children, max_size=5),
    max_leaves=10,
)


@EXAMPLES
@given(
    title=st.text(STORABLE, min_size=1, max_size=200).filter(str.strip),
    description=st.none() | st.text(STORABLE, max_size=2000),
    is_completed=st.booleans(),
)
def test_admitted_text_comes_back_as_the_rules_say(
    alice: Caller, title: str, description: str | None, is_completed: bool
) -> None:
    task = alice.create(title, description=description, is_completed=is_completed)
    assert (task["title"], task["description"], task["is_completed"]) == (title.strip(), description, is_completed)
    path = f"/api/tasks/{task['id']}"
    assert alice.get(path).json == task
    changed = alice.put(path, json={"title": title, "description": description}).json
    assert changed is not None
    assert changed | {"updated_at": task["updated_at"]} == task


@EXAMPLES
@given(document=JSON | st.dictionaries(NAMES, JSON, max_size=5))
def test_any_json_document_is_taken_or_refused(alice: Caller, document: Any) -> None:
    response = alice.post("/api/tasks", data=json.dumps(document), content_type="application/json")
    assert response.status_code in (201, 400), response.text


@EXAMPLES
@given(body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f'{{"title": "{text}"}}'.encode()))
def test_any_bytes_are_taken_or_refused(alice: Caller, body: bytes) -> None:
    response = alice.post("/api/tasks", data=body, content_type="application/json")
    assert response.status_code in (201, 400), response.text
