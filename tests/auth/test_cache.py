"""The cache of verified tokens."""

from functools import partial
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller, MakeApp
from tests.support.clock import Clock, replace_clock
from tests.support.threads import at_once
from tests.support.tokens import SECRET, token
from todo_api.auth import tokens
from todo_api.auth.tokens import Identity, TokenCache, TokenVerifier

pytestmark = pytest.mark.sqlite_only


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that these tests may change."""
    return make_app()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return replace_clock(monkeypatch, tokens)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were verified, not found in the cache."""
    seen: list[str] = []
    verify = TokenVerifier.verify

    def spy(verifier: TokenVerifier, text: str) -> dict[str, Any]:
        seen.append(text)
        return verify(verifier, text)

    monkeypatch.setattr(TokenVerifier, "verify", spy)
    return seen


def ask(app: Flask, text: str) -> int:
    return app.test_client().get("/api/tasks", headers={"Authorization": f"Bearer {text}"}).status_code


def test_a_token_is_verified_once_a_minute(app: Flask, clock: Clock, verified: list[str]) -> None:
    text = token()
    assert [ask(app, text) for _ in range(3)] == [200] * 3
    clock.ahead = 59
    assert ask(app, text) == 200
    assert verified == [text]
    clock.ahead = 61
    assert [ask(app, text) for _ in range(3)] == [200] * 3
    assert verified == [text] * 2


def test_a_cached_token_names_its_own_user(app: Flask) -> None:
    callers = [Caller(app.test_client(), name) for name in ("alice", "bob")]
    for _ in range(2):
        assert [caller.create()["user_id"] for caller in callers] == ["alice", "bob"]


def test_no_token_is_cached_past_its_expiry(app: Flask, clock: Clock, verified: list[str]) -> None:
    text = token(exp=clock.time() + 3)
    assert ask(app, text) == 200
    clock.ahead = 4  # expired, but within the leeway
    assert [ask(app, text) for _ in range(2)] == [200] * 2
    assert verified == [text] * 3


def test_a_cached_token_expires_by_the_time_of_day(app: Flask, clock: Clock, verified: list[str]) -> None:
    """Monotonic time stops while a machine sleeps."""
    text = token(exp=clock.time() + 30)
    assert ask(app, text) == 200
    clock.asleep = 28
    assert ask(app, text) == 200
    assert verified == [text]
    clock.asleep = 31
    assert ask(app, text) == 200  # within the leeway
    assert verified == [text] * 2


def test_a_token_is_verified_again_after_the_machine_slept_for_a_minute(
    app: Flask, clock: Clock, verified: list[str]
) -> None:
    text = token()
    assert ask(app, text) == 200
    clock.asleep = 61
    assert ask(app, text) == 200
    assert verified == [text] * 2


def test_no_token_is_cached_longer_because_the_clock_is_set_back(app: Flask, clock: Clock, verified: list[str]) -> None:
    text = token()
    assert ask(app, text) == 200
    clock.ahead, clock.asleep = 61, -3600
    assert ask(app, text) == 200
    assert verified == [text] * 2


def test_a_rejected_token_is_not_cached(app: Flask, verified: list[str]) -> None:
    bad = token(secret=SECRET[::-1])
    assert [ask(app, bad) for _ in range(3)] == [401] * 3
    assert verified == [bad] * 3


def test_a_cached_token_does_not_validate_a_different_one(app: Flask) -> None:
    text = token()
    assert [ask(app, text), ask(app, text + "A"), ask(app, text[:-1])] == [200, 401, 401]


def test_one_token_fills_one_entry_however_its_header_is_written(app: Flask) -> None:
    text = token()
    client = app.test_client()
    for header in [f"{scheme}{gap}{text}" for scheme in ("Bearer", "bearer", "BEARER") for gap in (" ", "  ", "\t")]:
        assert client.get("/api/tasks", headers={"Authorization": header}).status_code == 200
    assert repr(vars(app.extensions["auth"].cache)).count("alice") == 1


def test_the_cache_contains_no_token(app: Flask) -> None:
    text = token()
    ask(app, text)
    kept = repr(vars(app.extensions["auth"].cache))
    assert "alice" in kept
    assert not [part for part in text.split(".") if part[:20] in kept]


def cached(cache: TokenCache) -> list[int]:
    return [number for number in range(100) if cache.get(str(number)) == Identity(f"user {number}")]


def test_the_cache_is_bounded_and_drops_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHE_SIZE", 3)
    cache = TokenCache()
    for added, kept in (((0, 1, 2, 3, 4), [2, 3, 4]), ((3, 2), [2, 3, 4]), ((5,), [2, 3, 5])):
        for number in added:
            cache.put(str(number), Identity(f"user {number}"), 60)
        assert cached(cache) == kept


def test_threads_share_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHE_SIZE", 50)
    cache, wrong = TokenCache(), []

    def work(seed: int) -> None:
        for number in range(3000):
            name = (number * seed) % 97
            cache.put(str(name), Identity(f"user {name}"), 60)
            if cache.get(str(name)) not in (Identity(f"user {name}"), None):
                wrong.append(name)

    at_once([partial(work, seed) for seed in range(1, 9)])
    assert wrong == []
    assert len(cached(cache)) <= 50
