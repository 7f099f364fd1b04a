"""The output of `flask token-check` and `flask keys`."""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask

from tests.conftest import MakeApp
from tests.support.clock import replace_clock
from tests.support.issuers import Key, KeyServer, respond_with, segment
from tests.support.tokens import SECRET, token
from todo_api.auth import keys

pytestmark = pytest.mark.sqlite_only

ISSUER, AUDIENCE = "https://app.example.com", "https://api.example.com"
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE}
KEY, STRANGER = Key("EdDSA", "one"), Key("EdDSA", "one")


@pytest.fixture
def endpoint() -> Iterator[KeyServer]:
    with closing(KeyServer(KEY.jwk)) as server:
        yield server


@pytest.fixture
def app(endpoint: KeyServer, make_app: MakeApp) -> Flask:
    return make_app(JWKS_URL=endpoint.url, JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE)


def now() -> int:
    return int(time.time())


def failed(output: str) -> set[str]:
    """Return the names of the failed checks."""
    return {line.split()[1].rstrip(":") for line in output.splitlines() if line.startswith("FAIL ")}


TOKENS: dict[str, tuple[str, set[str]]] = {
    "good": (KEY.token(**CLAIMS), set()),
    "good by the secret": (token(**CLAIMS), set()),
    "expired": (KEY.token(**CLAIMS, exp=now() - 3600, iat=None), {"exp"}),
    "not yet valid": (KEY.token(**CLAIMS, nbf=now() + 3600), {"nbf"}),
    "issued in the future": (KEY.token(**CLAIMS, iat=now() + 3600), {"iat"}),
    "another issuer": (KEY.token(iss="https://evil.example", aud=AUDIENCE), {"iss"}),
    "no audience": (KEY.token(iss=ISSUER), {"aud"}),
    "one of two audiences": (KEY.token(iss=ISSUER, aud=["b", AUDIENCE]), set()),
    "an audience that is no text": (KEY.token(iss=ISSUER, aud=[AUDIENCE, 1]), {"aud"}),
    "everything wrong": (KEY.token(exp=now() - 3600, type="id", sub=""), {"exp", "iss", "aud", "type", "sub"}),
    "a stranger's key": (STRANGER.token(**CLAIMS), {"signature"}),
    "another secret": (token(**CLAIMS, secret=SECRET[::-1]), {"signature"}),
    "an unknown key": (KEY.token({"kid": "two"}, **CLAIMS), {"kid", "signature"}),
    "no key id": (KEY.token({"kid": None}, **CLAIMS), {"kid", "signature"}),
    "another algorithm": (token(**CLAIMS, algorithm="HS512"), {"alg", "signature"}),
    "another type": (KEY.token({"typ": "dpop+jwt"}, **CLAIMS), {"typ", "signature"}),
    "a number for a user": (KEY.token(**CLAIMS, sub=None, jti=None), {"sub"}),
    "a number for an id": (KEY.token(**CLAIMS, jti=5), {"jti"}),
    "no expiry": (KEY.token(**CLAIMS, exp=None), {"exp"}),
    "no token": ("garbage", {"form"}),
    "another spelling": (KEY.token(**CLAIMS) + "==", {"form"}),
}


@pytest.mark.parametrize(("text", "wrong"), TOKENS.values(), ids=TOKENS)
def test_failed_checks_are_named_and_the_verdict_matches_the_service(app: Flask, text: str, wrong: set[str]) -> None:
    checked = app.test_cli_runner().invoke(args=["token-check", text])
    served = app.test_client().get("/api/tasks", headers={"Authorization": f"Bearer {text}"})
    assert failed(checked.stdout) == wrong
    assert checked.exit_code == (1 if wrong else 0)
    assert checked.stdout.splitlines()[-1].startswith("refused" if wrong else "accepted")
    assert served.status_code == (401 if wrong else 200)


@pytest.mark.parametrize("seconds", [{"exp": -5}, {"nbf": 5}, {"iat": 5}], ids=str)
def test_a_small_clock_difference_is_tolerated(app: Flask, seconds: dict[str, Any]) -> None:
    claims = CLAIMS | {name: now() + value for name, value in seconds.items()}
    text = KEY.token(**claims)
    checked = app.test_cli_runner().invoke(args=["token-check", text])
    assert (failed(checked.stdout), checked.exit_code) == (set(), 0)


def lines_for(app: Flask, text: str) -> dict[str, str]:
    """Return the printed checks by name."""
    lines = app.test_cli_runner().invoke(args=["token-check", text]).stdout.splitlines()
    return {line.split()[1]: line for line in lines[:-1]}


def test_the_expected_and_the_found_value_are_printed(app: Flask) -> None:
    lines = lines_for(app, KEY.token(iss="https://evil.example", aud=["a", "b"], exp=17))
    assert f"expected '{ISSUER}'; found 'https://evil.example'" in lines["iss:"]
    assert f"expected '{AUDIENCE}'; found ['a', 'b']" in lines["aud:"]
    assert "expected later than " in lines["exp:"]
    assert lines["exp:"].endswith("found 17")
    assert lines["alg:"].endswith("expected HS256 or EdDSA or ES256 or RS256 or PS256; found 'EdDSA'")
    assert lines["kid:"].endswith("expected 'one'; found 'one'")
    assert lines["typ:"].endswith("expected nothing, JWT or at+jwt; found nothing")
    assert lines["signature:"].endswith("expected good; found good")
    assert lines["sub:"].endswith("expected text of 1 to 255 characters; found 'alice'")
    assert lines["jti:"].endswith("expected nothing, or text; found nothing")
    assert lines["type:"].endswith("expected nothing, or access; found nothing")
    for name in ("nbf:", "iat:"):
        assert re.search("expected nothing, or at most [0-9]{10}; found ([0-9]{10}|nothing)$", lines[name])


@pytest.mark.parametrize(("configured", "alg"), [("JWKS_URL", "EdDSA or ES256 or RS256 or PS256"), (None, "HS256")])
def test_the_expected_alg_and_kid_follow_from_the_configured_keys(
    endpoint: KeyServer, make_app: MakeApp, configured: str | None, alg: str
) -> None:
    settings = {"BETTER_AUTH_SECRET": "", configured: endpoint.url} if configured else {}
    lines = lines_for(make_app(JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE, **settings), token(**CLAIMS))
    assert lines["alg:"].endswith(f"expected {alg}; found 'HS256'")
    assert lines["kid:"].endswith("expected anything; found nothing")


def test_without_a_configured_issuer_and_audience_any_are_accepted(make_app: MakeApp) -> None:
    lines = lines_for(make_app(), token(sub="a" * 300, headers={"typ": "AT+JWT"}))
    assert lines["iss:"].endswith("expected anything; found nothing")
    assert lines["aud:"].endswith("expected anything; found nothing")
    assert lines["typ:"].endswith("; found 'AT+JWT'")
    assert lines["sub:"].endswith(f"; found '{'a' * 199}"), "a long value is cut"


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\nok   signature\u202e\x9b31m\x7f"
HOSTILE_TOKENS = {
    "crit": token(**CLAIMS, headers={"crit": [HOSTILE]}),
    "alg": f"{segment({'alg': HOSTILE})}.{segment({})}.",
    "kid": KEY.token({"kid": HOSTILE}, **CLAIMS),
    "typ": KEY.token({"typ": HOSTILE}, **CLAIMS),
    **{name: KEY.token(**CLAIMS | {name: HOSTILE}) for name in ("iss", "aud", "sub", "jti", "type")},
    "exp": token(**CLAIMS | {"exp": HOSTILE}),
    "no JWT": HOSTILE,
    "no JSON": f"{segment(HOSTILE.encode())}.{segment({})}.",
}


@pytest.mark.parametrize("text", HOSTILE_TOKENS.values(), ids=HOSTILE_TOKENS)
def test_what_a_token_says_reaches_the_terminal_in_visible_ascii_only(app: Flask, text: str) -> None:
    printed = app.test_cli_runner().invoke(args=["token-check", text]).stdout
    assert re.fullmatch("[ -~\n]+", printed)
    assert not re.search("^ok   signature[^:]", printed, re.MULTILINE)


def test_a_token_signed_with_the_secret_is_checked_without_the_key_set(app: Flask, endpoint: KeyServer) -> None:
    assert lines_for(app, token(**CLAIMS))["kid:"].endswith("expected anything; found nothing")
    assert endpoint.asked == []


def test_each_key_of_the_set_is_named(app: Flask, endpoint: KeyServer) -> None:
    endpoint.serve(KEY.jwk, Key("ES256", "two").jwk)
    lines = lines_for(app, KEY.token({"kid": "three"}, **CLAIMS))
    assert lines["kid:"].endswith("expected 'one' or 'two'; found 'three'")
    assert lines["signature:"].endswith("expected good; found the key set has no such key")


def test_text_that_is_not_a_token_fails_one_check(app: Flask) -> None:
    [line, _] = app.test_cli_runner().invoke(args=["token-check", "garbage"]).stdout.splitlines()
    assert line.endswith("expected a JWT; found Not enough segments")


@pytest.mark.parametrize("text", [KEY.token(**CLAIMS), KEY.token(**CLAIMS) + "\n", "garbage"])
def test_a_token_is_read_from_standard_input(app: Flask, text: str) -> None:
    checked = app.test_cli_runner().invoke(args=["token-check", "-"], input=text)
    assert checked.exit_code == (text == "garbage")


def test_keys_that_cannot_be_fetched_are_not_blamed_on_the_token(app: Flask, endpoint: KeyServer) -> None:
    endpoint.behaviour = respond_with(500, b"")
    checked = app.test_cli_runner().invoke(args=["token-check", KEY.token(**CLAIMS)])
    assert checked.exit_code == 1
    assert "keys cannot be fetched" in checked.stdout.splitlines()[-1]


def test_the_key_set_is_shown_with_its_source_and_age(
    app: Flask, endpoint: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_clock(monkeypatch, keys)
    shown = app.test_cli_runner().invoke(args=["keys"])
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [f"{endpoint.url}, fetched 0 s ago", "EdDSA 'one'"]


def test_a_key_set_that_cannot_be_shown_is_an_error(app: Flask, endpoint: KeyServer, make_app: MakeApp) -> None:
    endpoint.behaviour = respond_with(500, b"")
    unreachable = app.test_cli_runner().invoke(args=["keys"])
    assert unreachable.exit_code == 1
    assert f"the keys cannot be fetched from {endpoint.url}" in unreachable.output
    assert make_app().test_cli_runner().invoke(args=["keys"]).exit_code == 1
