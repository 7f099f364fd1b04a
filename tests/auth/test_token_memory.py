"""What is remembered of tokens, and what the log tells of refusals."""

import io
import json
import time
from functools import partial
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller, MakeApp
from tests.support.threads import at_once
from tests.support.tokens import SECRET, token
from todo_api.auth import tokens as auth
from todo_api.auth.tokens import Memory, Trust
from todo_api.telemetry import metrics


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that these tests may change."""
    return make_app()


class Clock:
    """A clock to set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def time(self) -> float:
        return time.time() + self.ahead

    def perf_counter(self) -> float:
        return time.perf_counter()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(auth, "time", clock)
    return clock


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were verified in full."""
    seen: list[str] = []
    genuine = auth.check

    def check(text: str) -> dict[str, Any]:
        seen.append(text)
        return genuine(text)

    monkeypatch.setattr(auth, "check", check)
    return seen


def ask(app: Flask, text: str, request_id: str = "asked-1") -> int:
    headers = {"Authorization": f"Bearer {text}", "X-Request-ID": request_id}
    return app.test_client().get("/api/tasks", headers=headers).status_code


@pytest.fixture(autouse=True)
def _nothing_is_counted_yet() -> None:
    metrics.REFUSED_TOKENS.clear()


def refusals() -> dict[str, float]:
    """How many tokens were refused, by reason."""
    samples = [sample for family in metrics.REFUSED_TOKENS.collect() for sample in family.samples]
    return {sample.labels["reason"]: sample.value for sample in samples if sample.name.endswith("_total")}


def trust(app: Flask) -> Trust:
    found: Trust = app.extensions["trust"]
    return found


def test_a_token_is_verified_once_a_minute(app: Flask, clock: Clock, verified: list[str]) -> None:
    text = token()
    assert [ask(app, text) for _ in range(3)] == [200] * 3
    assert verified == [text]
    clock.ahead = 59
    assert ask(app, text) == 200
    assert verified == [text]
    clock.ahead = 61
    assert [ask(app, text) for _ in range(3)] == [200] * 3
    assert verified == [text] * 2


def test_a_remembered_token_still_names_its_own_user(app: Flask) -> None:
    callers = [Caller(app.test_client(), name) for name in ("alice", "bob")]
    for _ in range(2):
        assert [caller.create()["user_id"] for caller in callers] == ["alice", "bob"]


def test_no_token_is_remembered_beyond_its_expiry(app: Flask, clock: Clock, verified: list[str]) -> None:
    text = token(exp=time.time() + 3)
    assert ask(app, text) == 200
    clock.ahead = 4
    assert ask(app, text) == 200  # the leeway
    assert ask(app, text) == 200
    assert verified == [text] * 3


def test_a_refused_token_is_not_remembered(app: Flask, verified: list[str]) -> None:
    bad = token(secret=SECRET[::-1])
    assert [ask(app, bad) for _ in range(3)] == [401] * 3
    assert verified == [bad] * 3


def test_one_character_more_is_another_token(app: Flask) -> None:
    text = token()
    assert [ask(app, text), ask(app, text + "A"), ask(app, text[:-1])] == [200, 401, 401]


def test_the_memory_keeps_digests_and_no_token(app: Flask) -> None:
    text = token()
    ask(app, text)
    kept = repr(vars(trust(app).memory))
    assert "alice" in kept
    assert not [part for part in text.split(".") if part[:20] in kept]


def test_the_memory_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_TOKENS", 3)
    memory = Memory()

    def keep(*numbers: int) -> list[int]:
        """Keep these in turn; return all that are in the memory then."""
        for number in numbers:
            memory.keep(bytes([number]), f"user {number}", 60)
        return [number for number in range(10) if memory.user(bytes([number])) == f"user {number}"]

    assert keep(0, 1, 2, 3, 4) == [2, 3, 4]
    assert keep(3, 2) == [2, 3, 4]
    assert keep(5) == [2, 3, 5]


def test_threads_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_TOKENS", 50)
    memory, wrong = Memory(), []

    def work(seed: int) -> None:
        for number in range(3000):
            name = (number * seed) % 97
            memory.keep(bytes([name]), f"user {name}", 60)
            if memory.user(bytes([name])) not in (f"user {name}", None):
                wrong.append(name)

    at_once([partial(work, seed) for seed in range(1, 9)])
    assert wrong == []
    assert len(vars(memory)["_entries"]) <= 50


REFUSALS: dict[str, tuple[str, str]] = {
    "expired": (token(exp=int(time.time()) - 3600, iat=None), "INFO"),
    "signature": (token(secret=SECRET[::-1]), "WARNING"),
    "not yet valid": (token(nbf=int(time.time()) + 3600), "WARNING"),
    "algorithm": (token(algorithm="HS384"), "WARNING"),
    "missing claim": (token(exp=None), "WARNING"),
    "malformed": ("not-a-token", "WARNING"),
}


@pytest.mark.parametrize(("reason", "text", "level"), [(reason, *found) for reason, found in REFUSALS.items()])
def test_a_refusal_is_counted_and_logged_with_its_reason_and_without_the_token(
    app: Flask, log: io.StringIO, reason: str, text: str, level: str
) -> None:
    assert ask(app, text, "refused-1") == 401
    assert refusals() == {reason: 1}
    line, request = log.getvalue().splitlines()
    assert f"token refused: {reason}" in line
    assert level in line
    assert "refused-1" in line
    assert "401" in request
    assert not [text[at : at + 20] for at in range(len(text) - 19) if text[at : at + 20] in line]


def test_a_missing_token_is_no_reason_to_warn(app: Flask, log: io.StringIO) -> None:
    app.test_client().get("/api/tasks")
    line, _ = log.getvalue().splitlines()
    assert "token refused: missing" in line
    assert "INFO" in line


def test_issuer_and_audience_are_reasons_of_their_own(make_app: Any) -> None:
    app = make_app(JWT_ISSUER="https://app.example.com", JWT_AUDIENCE="api")
    ask(app, token(iss="https://evil.example", aud="api"))
    ask(app, token(iss="https://app.example.com", aud="other"))
    ask(app, token(aud="api"))
    assert refusals() == {"issuer": 1, "audience": 1, "missing claim": 1}


def test_what_is_told_of_a_token_is_cut_and_escaped(app: Flask, log: io.StringIO) -> None:
    kid, iss = "kid\nforged line \u202e" + "k" * 100, "\x1b[31m" + "i" * 100
    ask(app, token(headers={"kid": kid}, iss=iss, secret=SECRET[::-1]))
    line, _ = log.getvalue().splitlines()
    assert line.isascii()
    line = json.loads(line)["message"] if line.startswith("{") else line
    assert rf"kid='kid\nforged line \u202e{'k' * 47}' " in line
    assert rf"iss='\x1b[31m{'i' * 59}' alg='HS256'" in line


def test_refusals_of_one_reason_are_logged_once_a_second_and_expiries_always(
    app: Flask, log: io.StringIO, clock: Clock
) -> None:
    for _ in range(2):
        for _ in range(20):
            ask(app, REFUSALS["signature"][0])
        clock.ahead += 1.5
    for _ in range(5):
        ask(app, REFUSALS["expired"][0])
    assert refusals() == {"signature": 40, "expired": 5}
    assert log.getvalue().count("token refused: signature") == 2
    assert log.getvalue().count("token refused: expired") == 5
