"""The benchmark's verdicts, and whom it refuses to load: no time is asserted, and locust need not be installed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from bench import report, run, service
from bench.report import Row
from tests.conftest import Caller, MakeApp
from tests.support.databases import rows_of
from todo_api.config import ConfigError

MILK = {"id": "1", "title": "Milk"}
BREAD = {"id": "2", "title": "Bread"}


@pytest.fixture(autouse=True)
def _the_environment_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in service.ISSUER:
        monkeypatch.delenv(name, raising=False)
    service.issuer.cache_clear()
    yield
    service.issuer.cache_clear()


def acknowledged(*known: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"known": {task["id"]: task for task in known}, "gone": [], "unsure": [], "unsure_creates": 0, **more}


@pytest.mark.parametrize(
    ("row", "passed"),
    [
        (Row("p95", 500, 500, "ms"), True),
        (Row("p95", 501, 500, "ms"), False),
        (Row("found", 99.9, 99.9, "%", at_least=True), True),
        (Row("found", 99.8, 99.9, "%", at_least=True), False),
        (Row("nothing was measured", None, 500, "ms"), False),
    ],
)
def test_a_target_is_met_or_missed(row: Row, passed: bool) -> None:
    assert row.passed is passed


def test_the_table_is_markdown_and_never_rounds_up_to_a_target() -> None:
    assert report.table([Row("read back", 99.9999, 100, "%", at_least=True), Row("failed", 0, 0)]).splitlines() == [
        "| criterion | measured | target         | verdict |",
        "| --------- | -------- | -------------- | ------- |",
        "| read back | 99.999 % | at least 100 % | FAIL    |",
        "| failed    | 0        | at most 0      | pass    |",
    ]


@pytest.mark.parametrize(("failures", "status"), [(0, 0), (1, 1)])
def test_one_missed_target_fails_the_run(
    failures: int, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = [Row("p95", 3, 500, "ms"), Row("failed", failures, 0)], tmp_path / "new" / "bench.json"
    assert report.publish(rows, report.machine(), {"seen": 7}, out) == status
    written = json.loads(out.read_text(encoding="utf-8"))
    assert [written["passed"], written["details"]] == [status == 0, {"seen": 7}]
    assert [row["passed"] for row in written["criteria"]] == [True, status == 0]
    assert written["machine"]["cores"] >= 1
    assert report.table(rows) in capsys.readouterr().out


def test_a_load_without_answers_passes_nothing_but_the_count_of_failures() -> None:
    silent = {"by_request": {}, "total": {"requests": 0, "failures": 0, "p95_ms": None}}
    rows = run.criteria(silent, silent, 1000, acknowledged=0, bad=0)
    assert [row.target for row in rows if row.passed] == [0, 0]


@pytest.mark.parametrize(
    ("record", "listed", "wrong"),
    [
        (acknowledged(MILK, BREAD), [BREAD, MILK], 0),
        (acknowledged(MILK, gone=["2"]), [MILK], 0),
        (acknowledged(unsure=["1"], unsure_creates=1), [MILK, BREAD], 0),
        (acknowledged(MILK), [], 1),
        (acknowledged(MILK), [MILK, MILK], 1),
        (acknowledged(MILK), [{**MILK, "title": "Older"}], 1),
        (acknowledged(gone=["1"]), [MILK], 1),
        (acknowledged(MILK), [MILK, BREAD], 1),
    ],
)
def test_only_what_was_acknowledged_counts_as_consistent(
    record: dict[str, Any], listed: list[dict[str, Any]], wrong: int
) -> None:
    assert run.not_as_acknowledged(record, listed) == wrong


@pytest.mark.parametrize(
    "url", ["https://api.example.com", "http://10.0.0.1:8000", "http://127.0.0.1.nip.io", "nowhere"]
)
def test_another_machine_is_not_loaded_unless_that_is_meant(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.parse(["--url", url])
    assert "REMOTE=yes" in capsys.readouterr().err
    assert run.parse(["--url", url, "--remote"]).url == url


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"])
def test_this_machine_may_be_loaded(url: str) -> None:
    assert run.parse(["--url", url]).url == url


@pytest.mark.parametrize("arguments", [("--users", "0"), ("--seconds", "121")])
def test_the_load_is_bounded(arguments: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.parse([*arguments])


def test_the_callers_are_whom_the_service_lets_in(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = {"JWT_ISSUER": "https://issuer.example.com", "JWT_AUDIENCE": "tasks"}
    app = make_app(**claims)
    for name, value in {service.SECRET: app.config["JWT_SECRET_KEY"], **claims}.items():
        monkeypatch.setenv(name, value)
    caller = Caller(app.test_client(), None)
    caller.headers = {"Authorization": f"Bearer {service.token('alice')}"}
    assert caller.create()["user_id"] == "alice"


def test_without_the_shared_secret_there_are_no_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETTER_AUTH_URL", "https://app.example.com")
    with pytest.raises(ConfigError, match="BETTER_AUTH_SECRET is required"):
        service.token("alice")


def test_the_benchmarks_database_keeps_what_it_commits_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(service.SECRET, "an operator's, and to be put back")
    monkeypatch.setenv("TEST_DATABASE_URL", "postgresql://elsewhere")
    with service.database() as url:
        socket = Path(str(make_url(url).query["host"]))
        assert rows_of(url, "SHOW fsync") == ["on"]
    assert not socket.exists()
