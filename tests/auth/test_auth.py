"""Who is let in with the shared secret, and with which words everybody else is turned away."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from flask import Flask

from tests.conftest import NOWHERE, Caller, MakeApp, assert_error
from tests.support.tokens import SECRET, token

PUBLIC = {"/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs", "/docs/<name>"}
ISSUER, AUDIENCE = "https://app.example.com", "https://api.example.com"
CLAIMED = {"iss": ISSUER, "aud": AUDIENCE}


def ask(app: Flask, header: str | None) -> Any:
    return Caller(app.test_client(), None).get(
        "/api/tasks", headers={} if header is None else {"Authorization": header}
    )


def assert_refused(response: Any, code: str = "TOKEN_INVALID") -> None:
    assert_error(response, 401, code)
    challenge = "Bearer" if code == "TOKEN_MISSING" else 'Bearer error="invalid_token"'
    assert response.headers["WWW-Authenticate"] == challenge


def now() -> int:
    return int(time.time())


# times are seconds from now
GOOD: dict[str, dict[str, Any]] = {
    "plain": {},
    "typ absent": {"headers": {"typ": None}},
    "typ at+jwt": {"headers": {"typ": "AT+jwt"}},
    "typ lower case": {"headers": {"typ": "jwt"}},
    "type access": {"type": "access"},
    "expired just within the leeway": {"exp": -8},
    "valid from now just within the leeway": {"nbf": 9, "iat": 9},
    "a fraction of a second": {"exp": 60.5, "iat": -0.5},
    "all that Better Auth adds": {
        "name": "Alice",
        "email": "a@example.com",
        "id": "bob",
        "userId": "bob",
        "aud": ["x"],
    },
    "a key id": {"headers": {"kid": "unknown"}},
}


@pytest.mark.parametrize("claims", GOOD.values(), ids=GOOD)
def test_a_good_token_names_its_user(app: Flask, claims: dict[str, Any]) -> None:
    claims = claims | {name: now() + claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    alice = Caller(app.test_client(), None)
    alice.headers = {"Authorization": f"Bearer {token(**claims)}"}
    assert alice.create()["user_id"] == "alice"


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer   ", " Bearer ", "Bearer\t"])
def test_the_scheme_may_be_in_any_case(app: Flask, scheme: str) -> None:
    assert ask(app, f"{scheme}{token()}").status_code == 200


@pytest.mark.parametrize("sub", ["1", " ", "x" * 255, "🥛" * 255, "a/b?c=d&e#f", "' OR '1'='1", "%", "zhio5dyUdDCzQ14"])
def test_any_text_of_1_to_255_characters_is_a_user(app: Flask, sub: str) -> None:
    user = Caller(app.test_client(), sub)
    assert user.create()["user_id"] == sub
    assert [task["user_id"] for task in user.get("/api/tasks").json or []] == [sub]


@pytest.mark.parametrize("header", [None, "", " ", "Bearer", "bearer ", "Basic YTpi", "Token x", "Bearerx", "Bearer:x"])
def test_a_missing_token_is_asked_for(app: Flask, header: str | None) -> None:
    assert_refused(ask(app, header), "TOKEN_MISSING")


@pytest.mark.parametrize(
    "header",
    ["Bearer {},", "Bearer {} x", "Bearer {},Bearer {}", "Bearer {}, Basic YTpi", "Basic YTpi, Bearer {}", "Bearer ,",
     "Bearer Bearer {}", "Bearer {}\xa0{}", "Bearer \xa0{}"],
)  # fmt: skip
def test_anything_that_is_not_one_token_is_refused(app: Flask, header: str) -> None:
    assert_refused(ask(app, header.replace("{}", token())))


@pytest.mark.parametrize("other", ["Bearer {}", "Basic YTpi"])
def test_two_headers_are_refused(app: Flask, other: str) -> None:
    headers = [("Authorization", f"Bearer {token()}"), ("Authorization", other.replace("{}", token()))]
    for pair in (headers, headers[::-1]):
        assert_refused(app.test_client().get("/api/tasks", headers=pair))


def payload(**claims: Any) -> dict[str, Any]:
    return {"sub": "alice", "iat": now(), "exp": now() + 900, **claims}


def signed(raw_payload: bytes, raw_header: bytes = b'{"alg":"HS256","typ":"JWT"}') -> str:
    """A token with a good signature over any bytes."""

    def part(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    body = part(raw_header) + b"." + part(raw_payload)
    mac = jwt.get_algorithm_by_name("HS256").sign(body, SECRET.encode())
    return (body + b"." + part(mac)).decode()


def raw(**texts: str) -> str:
    """A signed token whose claims are given as JSON text."""
    claims = {"sub": '"alice"', "exp": str(now() + 900), **texts}
    return signed("{{{}}}".format(",".join(f'"{name}":{text}' for name, text in claims.items())).encode())


def unsigned(spelling: str) -> str:
    good = token().split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": spelling, "typ": "JWT"}).encode()).rstrip(b"=").decode()
    return f"{header}.{good[1]}."


BAD: dict[str, str] = {
    "another secret": token(secret=SECRET[::-1]),
    "another algorithm": token(algorithm="HS512"),
    **{f"alg {spelling}": unsigned(spelling) for spelling in ("none", "None", "NONE", "nOnE", "", "HS256")},
    "no exp": token(exp=None),
    **{
        f"exp {text[:9]}": raw(exp=text)
        for text in ('"9999999999"', "null", "1e400", "1e308", "9" * 5000, "[]", "{}", "NaN", "Infinity")
    },
    "valid later": token(nbf=now() + 3600),
    "issued later": token(iat=now() + 3600),
    **{f"iat {text}": raw(iat=text) for text in ('"1"', "true", "null", "[]", "1e400")},
    **{f"nbf {text}": raw(nbf=text) for text in ('"1"', "true", "null", "[]", "1e400")},
    "no sub": token(None),
    **{
        f"sub {text[:9]}": raw(sub=text)
        for text in ("1", "null", "true", '""', '["alice"]', '{"a":1}', f'"{"x" * 256}"', r'"a\u0000b"', r'"\ud800"')
    },
    **{f"type {text}": raw(type=text) for text in ('"refresh"', '"id"', "null", '""', "1", '["access"]')},
    **{f"typ {kind}": token(headers={"typ": kind}) for kind in ("JWE", "dpop+jwt", "better-auth.session-cache+jwt")},
    "typ 1": signed(json.dumps(payload()).encode(), b'{"alg":"HS256","typ":1}'),
    "no alg": signed(json.dumps(payload()).encode(), b'{"typ":"JWT"}'),
    "header no object": signed(json.dumps(payload()).encode(), b"[]"),
    "payload no object": signed(b"[]"),
    "payload no JSON": signed(b"x"),
    "payload no UTF-8": signed(b"\xff"),
    "payload too deep": signed(b'{"a":' + b"[" * 40_000 + b"]" * 40_000 + b"}"),
    "critical extension": token(headers={"crit": ["x"], "x": 1}),
    "garbage": "garbage",
    "two parts": ".".join(token().split(".")[:2]),
    "five parts": f"{token()}.x.y",
    "empty parts": "..",
    "not ASCII": "é.é.é",
    "40 KB": "x" * 40_000,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_token_is_refused(app: Flask, bad: str) -> None:
    assert_refused(ask(app, f"Bearer {bad}"))


@pytest.mark.parametrize("exp", [-60, -3600, -(10**9)])
def test_an_expired_token_is_told_so(app: Flask, exp: int) -> None:
    assert_refused(ask(app, f"Bearer {token(exp=now() + exp, iat=None)}"), "TOKEN_EXPIRED")


@pytest.mark.parametrize(
    ("claim", "code"), [("exp", "TOKEN_EXPIRED"), ("nbf", "TOKEN_INVALID"), ("iat", "TOKEN_INVALID")]
)
def test_a_time_just_past_the_leeway_is_refused(app: Flask, claim: str, code: str) -> None:
    times: dict[str, Any] = {claim: now() + (-12 if claim == "exp" else 14)}
    assert_refused(ask(app, f"Bearer {token(**times)}"), code)


@pytest.mark.parametrize("text", ["true", "false", '"1"', '""', "-1"])
def test_an_expiry_that_is_no_time_is_refused(app: Flask, text: str) -> None:
    """Read as numbers these are long past, so a client may hear either of the two."""
    response = ask(app, f"Bearer {raw(exp=text)}")
    assert response.json["error_code"] in ("TOKEN_EXPIRED", "TOKEN_INVALID")
    assert_refused(response, response.json["error_code"])


def test_an_expired_token_that_is_wrong_besides_is_invalid(app: Flask) -> None:
    assert_refused(ask(app, f"Bearer {token(exp=now() - 3600, secret=SECRET[::-1])}"))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_the_configured_algorithm_alone_is_taken(make_app: MakeApp, algorithm: str) -> None:
    app = make_app(JWT_ALGORITHM=algorithm)
    assert ask(app, f"Bearer {token(algorithm=algorithm)}").status_code == 200
    assert_refused(ask(app, f"Bearer {token()}"))


@pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE], ["https://other.example.com", AUDIENCE]])
def test_the_configured_issuer_and_audience_are_taken(make_app: MakeApp, aud: Any) -> None:
    app = make_app(JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE)
    assert ask(app, f"Bearer {token(iss=ISSUER, aud=aud)}").status_code == 200


WRONG_ISSUERS: list[Any] = [None, "", ISSUER + "/", ISSUER[:-1], "https://evil.example", [ISSUER], 1]
WRONG_AUDIENCES: list[Any] = [None, "", [], AUDIENCE + "/", AUDIENCE[:-1], ["https://evil.example"], 1, {}]


@pytest.mark.parametrize(
    "wrong", [*({"iss": value} for value in WRONG_ISSUERS), *({"aud": value} for value in WRONG_AUDIENCES)]
)
def test_another_issuer_or_audience_is_refused(make_app: MakeApp, wrong: dict[str, Any]) -> None:
    claims = {name: value for name, value in (payload(**CLAIMED) | wrong).items() if value is not None}
    app = make_app(JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE)
    assert_refused(ask(app, f"Bearer {signed(json.dumps(claims).encode())}"))


def test_every_route_but_the_public_ones_demands_a_good_token(app: Flask) -> None:
    client = app.test_client()
    guarded = [rule for rule in app.url_map.iter_rules() if rule.rule not in PUBLIC]
    assert {rule.rule for rule in app.url_map.iter_rules()} > PUBLIC
    assert len(guarded) >= 5
    for rule in guarded:
        path = rule.rule.replace("<task_id>", NOWHERE)
        for method in rule.methods - {"OPTIONS"} if rule.methods else ():
            missing, bad = (
                client.open(path, method=method, headers=headers, json={"title": "x"})
                for headers in ({}, {"Authorization": "Bearer x"})
            )
            assert (missing.status_code, bad.status_code) == (401, 401), (method, rule.rule)
            if method != "HEAD":
                assert_refused(missing, "TOKEN_MISSING")
                assert_refused(bad)


def test_nothing_but_the_header_carries_a_token(app: Flask) -> None:
    client = app.test_client()
    client.set_cookie("access_token_cookie", token())
    for response in (
        client.get(f"/api/tasks?jwt={token()}&access_token={token()}"),
        client.post("/api/tasks", json={"access_token": token()}),
    ):
        assert_refused(response, "TOKEN_MISSING")
