"""Strategies that generate texts and JSON documents."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STORABLE = st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")
ANY_CHARACTER = st.characters(blacklist_categories=[])
SCALARS = st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
FIELDS = ["title", "description", "is_completed", "due_date", "priority", "tags", "completed_at", "id", "user_id"]
NAMES = st.sampled_from(FIELDS) | st.text(ANY_CHARACTER, max_size=5)
JSON = st.recursive(
    SCALARS | st.text(ANY_CHARACTER, max_size=210),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES, children, max_size=5),
    max_leaves=10,
)
