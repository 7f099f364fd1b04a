"""What docs/security.md promises names the tests that prove it: they are there."""

import re

from tests.programs import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PROOFS = re.findall(r"`((?:\w+/)?test_\w+\.py)(?:::(test_\w+))?`", PAGE)


def test_every_promise_names_its_proof() -> None:
    promised = PAGE.partition("## What is promised")[2].partition("## What is not")[0]
    rows = [row for row in promised.splitlines() if row.startswith("| ") and "proved by" not in row]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"`(\w+/)?test_\w+\.py|`make lint`", row.split("|")[2])] == []


def test_every_proof_that_is_named_is_there() -> None:
    assert len(PROOFS) > 30
    for file, name in PROOFS:
        code = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {name}(" in code if name else "def test_" in code, (file, name)
