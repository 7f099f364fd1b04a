"""The Authorization header, the challenge, and the log of rejected tokens."""

import io
import json
import re
import time
from typing import Any

import pytest
from flask import Flask

from tests.conftest import MISSING_ID, Caller, MakeApp, assert_error
from tests.support.clock import Clock
from tests.support.tokens import SECRET, token
from todo_api.auth import guard

pytestmark = pytest.mark.sqlite_only

PUBLIC = {"/health", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs", "/docs/<asset>"}
PUBLIC |= {"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"}


def ask(app: Flask, header: str | None) -> Any:
    headers = {} if header is None else {"Authorization": header}
    return Caller(app.test_client(), None).get("/api/tasks", headers=headers)


def assert_refused(response: Any, code: str = "TOKEN_INVALID") -> None:
    assert_error(response, 401, code)
    challenge = "Bearer" if code == "TOKEN_MISSING" else 'Bearer error="invalid_token"'
    assert response.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "bEaReR ", "Bearer   ", " Bearer ", "Bearer\t"])
def test_a_bearer_token_lets_its_user_in(app: Flask, scheme: str) -> None:
    assert ask(app, f"{scheme}{token()}").status_code == 200


@pytest.mark.parametrize("header", [None, "", " ", "Bearer", "bearer ", "Basic YTpi", "Bearerx", "Bearer:x"])
def test_without_a_bearer_token_the_response_asks_for_one(app: Flask, header: str | None) -> None:
    assert_refused(ask(app, header), "TOKEN_MISSING")


@pytest.mark.parametrize(
    "header",
    [
        "Bearer {},",
        "Bearer {} x",
        "Bearer {},Bearer {}",
        "Bearer {}, Basic YTpi",
        "Basic YTpi, Bearer {}",
        "Bearer ,",
        "Bearer Bearer {}",
        "Bearer {}\xa0{}",
        "Bearer \xa0{}",
    ],
)
def test_a_header_with_anything_but_one_token_is_rejected(app: Flask, header: str) -> None:
    assert_refused(ask(app, header.replace("{}", token())))


@pytest.mark.parametrize("other", ["Bearer {}", "Basic YTpi"])
def test_two_authorization_headers_are_rejected(app: Flask, other: str) -> None:
    headers = [("Authorization", f"Bearer {token()}"), ("Authorization", other.replace("{}", token()))]
    for pair in (headers, headers[::-1]):
        assert_refused(app.test_client().get("/api/tasks", headers=pair))


def test_an_invalid_and_an_expired_token_are_rejected(app: Flask) -> None:
    assert_refused(ask(app, "Bearer x"))
    assert_refused(ask(app, f"Bearer {token(exp=int(time.time()) - 60, iat=None)}"), "TOKEN_EXPIRED")


def test_a_token_is_read_from_the_header_only(app: Flask) -> None:
    client = app.test_client()
    client.set_cookie("access_token_cookie", token())
    for response in (
        client.get(f"/api/tasks?jwt={token()}&access_token={token()}"),
        client.post("/api/tasks", json={"access_token": token()}),
    ):
        assert_refused(response, "TOKEN_MISSING")


def test_every_route_but_the_public_ones_demands_a_valid_token(app: Flask) -> None:
    client = app.test_client()
    guarded = [rule for rule in app.url_map.iter_rules() if rule.rule not in PUBLIC]
    assert {rule.rule for rule in app.url_map.iter_rules()} > PUBLIC
    assert len(guarded) >= 5
    for rule in guarded:
        path = rule.rule.replace("<task:task_id>", MISSING_ID)
        for method in (rule.methods or set()) - {"OPTIONS"}:
            missing, bad = (
                client.open(path, method=method, headers=headers, json={"title": "x"})
                for headers in ({}, {"Authorization": "Bearer x"})
            )
            assert (missing.status_code, bad.status_code) == (401, 401), (method, rule.rule)
            if method != "HEAD" and rule.rule != "/mcp":  # which says more to agents
                assert_refused(missing, "TOKEN_MISSING")
                assert_refused(bad)


REFUSALS: dict[str, tuple[str, str]] = {
    "expired": (token(exp=int(time.time()) - 3600, iat=None), "INFO"),
    "signature": (token(secret=SECRET[::-1]), "WARNING"),
    "not yet valid": (token(nbf=int(time.time()) + 3600), "WARNING"),
    "algorithm": (token(algorithm="HS384"), "WARNING"),
    "missing claim": (token(exp=None), "WARNING"),
    "malformed": ("not-a-token", "WARNING"),
    "malformed header": ("two tokens", "WARNING"),
    "missing": ("", "INFO"),
}


@pytest.mark.parametrize(("reason", "text", "level"), [(reason, *found) for reason, found in REFUSALS.items()])
def test_a_rejected_token_is_logged_as_a_reason_without_the_token(
    app: Flask, log: io.StringIO, reason: str, text: str, level: str
) -> None:
    headers = {"Authorization": f"Bearer {text}", "X-Request-ID": "refused-1"}
    assert app.test_client().get("/api/tasks", headers=headers).status_code == 401
    line, request = log.getvalue().splitlines()
    assert f"token refused: {reason}" in line
    assert level in line
    assert "refused-1" in line
    assert "401" in request
    assert not [text[at : at + 20] for at in range(len(text) - 19) if text[at : at + 20] in line]


FAULTS = {
    "not-a-token": r"this is not a JWT \(Not enough segments\)",
    f"{token()}==": r"this is not a JWT \(Invalid crypto padding\)",
    token(sub=None): "sub is missing",
    token(sub=5): "sub: expected text of 1 to 255 characters, found 5",
    token(exp=None): "exp is missing",
    token(type="refresh"): "type: expected nothing, or access, found 'refresh'",
    token(nbf=9_000_000_000): "nbf: expected nothing, or at most [0-9]{10}, found 9000000000",
    token(exp=17, sub=5): "exp: expected later than [0-9]{10}, found 17; sub: expected .*, found 5",
    token(secret=SECRET[::-1]): "signature: Signature verification failed",
    token(algorithm="HS384"): "signature: alg is not accepted; alg: expected HS256, found 'HS384'",
    token(headers={"crit": ["x" * 1000]}): r"this is not a JWT \(Unsupported critical extension: x{100,170}\)",
    "two tokens": "the Authorization header must hold one token after Bearer",
}


@pytest.mark.parametrize(("text", "fault"), FAULTS.items(), ids=list(FAULTS.values()))
def test_in_development_a_client_learns_which_checks_a_token_fails(app: Flask, text: str, fault: str) -> None:
    response = ask(app, f"Bearer {text}")
    assert_refused(response)
    assert re.fullmatch(rf"The token is not valid: {fault}\.", response.json["detail"])


def test_in_development_other_refusals_say_the_same_as_elsewhere(app: Flask) -> None:
    assert ask(app, None).json["detail"] == "A bearer token is required."
    assert ask(app, f"Bearer {REFUSALS['expired'][0]}").json["detail"] == "The token has expired."


@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_outside_development_a_client_learns_only_that_a_token_is_invalid(make_app: MakeApp, environment: str) -> None:
    app = make_app(ENVIRONMENT=environment)
    for text in FAULTS:
        response = ask(app, f"Bearer {text}")
        assert_refused(response)
        assert response.json["detail"] == "The token is not valid."


def test_logged_parts_of_a_token_are_truncated_and_escaped(app: Flask, log: io.StringIO) -> None:
    kid, iss = "kid\nforged line \u202e" + "k" * 100, "\x1b[31m" + "i" * 100
    ask(app, f"Bearer {token(headers={'kid': kid}, iss=iss, secret=SECRET[::-1])}")
    line, _ = log.getvalue().splitlines()
    assert line.isascii()
    line = json.loads(line)["message"] if line.startswith("{") else line
    assert rf"kid='kid\nforged line \u202e{'k' * 47}' " in line
    assert rf"iss='\x1b[31m{'i' * 59}' alg='HS256'" in line


def test_each_reason_is_logged_once_a_second_but_every_expired_token_is(
    app: Flask, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(guard, "time", clock)
    for _ in range(2):
        for _ in range(20):
            ask(app, f"Bearer {REFUSALS['signature'][0]}")
        clock.ahead += 1.5
    for _ in range(5):
        ask(app, f"Bearer {REFUSALS['expired'][0]}")
    assert log.getvalue().count("token refused: signature") == 2
    assert log.getvalue().count("token refused: expired") == 5
