"""The benchmark without its load: locust need not be installed."""

import pytest

from bench import run, service


@pytest.fixture(autouse=True)
def _issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reload the issuer's settings, and restore the environment that a benchmark changes."""
    for name in service.ISSUER:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    service.issuer.cache_clear()


@pytest.mark.slow
def test_the_benchmark_serves_fills_and_reads_back() -> None:
    with service.database() as database, service.started(database) as (url, _):
        record = run.fill(url, "alice", 3)
        assert run.read_back(url, [record], leave_tasks=False) == 0
        assert run.read_back(url, [record], leave_tasks=True) == 3


@pytest.mark.parametrize("url", ["https://api.example.com", "http://127.0.0.1.nip.io"])
def test_another_machine_is_loaded_only_when_asked_to(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.parse(["--url", url])
    assert "REMOTE=yes" in capsys.readouterr().err
    assert run.parse(["--url", url, "--remote"]).url == url


@pytest.mark.parametrize("arguments", [("--users", "0"), ("--seconds", "121")])
def test_the_load_is_bounded(arguments: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.parse([*arguments])
