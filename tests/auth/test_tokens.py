"""Which tokens are accepted: good ones, and those that an attacker, a mistake or another issuer could make."""

import hmac
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask

from tests.conftest import Caller, MakeApp, assert_error, dispose, environ_for
from tests.support.clock import replace_clock
from tests.support.issuers import Key, KeyServer, segment
from tests.support.tokens import SECRET, token
from todo_api import create_app
from todo_api.auth import keys, tokens
from todo_api.auth.tokens import TokenInvalid, TokenVerifier

ISSUER, AUDIENCE = "https://app.example.com", "https://api.example.com"
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE}
EDDSA, ES256, RS256, PS256 = (Key(algorithm, algorithm.lower()) for algorithm in ("EdDSA", "ES256", "RS256", "PS256"))
KEYS = (EDDSA, ES256, RS256, PS256)
STRANGER = Key("EdDSA", "eddsa")  # another key under the same kid
Sign = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def apps(databases: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Flask]]:
    """The service in its three configurations."""
    with closing(KeyServer(*(key.jwk for key in KEYS))) as endpoint:
        both = environ_for(databases["sqlite"], JWKS_URL=endpoint.url, JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE)
        environments = {
            "both": both,
            "secret": {name: value for name, value in both.items() if name != "JWKS_URL"},
            "key set": {name: value for name, value in both.items() if name != "BETTER_AUTH_SECRET"},
        }
        made = {kind: create_app(environ, tmp_path_factory.mktemp("app")) for kind, environ in environments.items()}
        yield made
        for app in made.values():
            dispose(app)


@pytest.fixture(autouse=True)
def _every_unknown_key_is_looked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "COOLDOWN", 0)


def ask(app: Flask, text: str) -> Any:
    return Caller(app.test_client(), None).get("/api/tasks", headers={"Authorization": f"Bearer {text}"})


def status(app: Flask, text: str) -> int:
    return int(ask(app, text).status_code)


def now() -> int:
    return int(time.time())


def hs256(key: bytes) -> Sign:
    return lambda body: jwt.get_algorithm_by_name("HS256").sign(body, key)


def by(key: Key, algorithm: str | None = None) -> Sign:
    signer = jwt.get_algorithm_by_name(algorithm or key.algorithm)
    return lambda body: signer.sign(body, key.private)


def build(header: Any, payload: Any, sign: Sign | None) -> str:
    """Return a token with any header and payload; bytes are used unchanged."""
    body = f"{segment(header)}.{segment(payload)}"
    return f"{body}.{segment(sign(body.encode())) if sign else ''}"


def head(algorithm: str = "EdDSA", **more: Any) -> dict[str, Any]:
    return {"alg": algorithm, "kid": algorithm.lower(), **more}


def payload(**claims: Any) -> dict[str, Any]:
    return {"sub": "alice", "iat": now(), "exp": now() + 900, **CLAIMS, **claims}


def eddsa(header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Return a good token with this header and these claims changed."""
    return build(head() | (header or {}), payload(**claims), by(EDDSA))


def lacking(name: str, **more: Any) -> str:
    """Return a token with a good signature that lacks a claim."""
    return build(head(), {claim: value for claim, value in payload(**more).items() if claim != name}, by(EDDSA))


def json_text(**texts: str) -> str:
    """Return a token with a good signature whose claims are given as JSON text; `sub_` is a second `sub`."""
    claims = {name: json.dumps(value) for name, value in payload().items()} | texts
    members = ",".join(f'"{name.rstrip("_")}":{text}' for name, text in claims.items())
    return build(head(), f"{{{members}}}".encode(), by(EDDSA))


def pem(key: Key) -> bytes:
    return bytes(key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def raw(key: Key) -> bytes:
    return bytes(key.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def with_other_last_character(text: str) -> str:
    """Return another spelling of the same signature: base64url leaves bits of its last character unused."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + letters[letters.index(text[-1]) ^ 1]


# Times are seconds from now.
GOOD: dict[str, dict[str, Any]] = {
    "plain": {},
    "typ JWT": {"header": {"typ": "JWT"}},
    "typ in lower case": {"header": {"typ": "jwt"}},
    "typ at+jwt": {"header": {"typ": "AT+JWT"}},
    "unknown header": {"header": {"x5t": "ignored"}},
    "type access": {"type": "access"},
    "expired within the leeway": {"exp": -9},
    "valid from now within the leeway": {"nbf": 9, "iat": 9},
    "fraction of a second": {"exp": 60.5, "iat": -0.5},
    "one of two audiences": {"aud": ["https://other.example.com", AUDIENCE]},
    "what Better Auth adds": {"name": "Bob", "email": "bob@example.com", "id": "bob", "userId": "bob"},
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_a_good_token_names_its_user(
    apps: dict[str, Flask], good: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = replace_clock(monkeypatch, tokens)
    claims = good | {name: clock.time() + good[name] for name in ("exp", "nbf", "iat") if name in good}
    for kind in ("key set", "both"):
        caller = Caller(apps[kind].test_client(), None)
        caller.headers = {"Authorization": f"Bearer {eddsa(**claims)}"}
        assert caller.create()["user_id"] == "alice"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.algorithm)
def test_a_token_of_the_key_set_is_accepted_where_a_key_set_is_configured(apps: dict[str, Flask], key: Key) -> None:
    text = key.token(**CLAIMS)
    assert {kind: status(app, text) for kind, app in apps.items()} == {"key set": 200, "both": 200, "secret": 401}


def test_a_token_of_the_secret_is_accepted_where_a_secret_is_configured(apps: dict[str, Flask]) -> None:
    for text in (token(**CLAIMS), token(**CLAIMS, headers={"kid": "unknown"})):
        assert {kind: status(app, text) for kind, app in apps.items()} == {"key set": 401, "both": 200, "secret": 200}


@pytest.mark.sqlite_only
@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_the_secret_verifies_its_configured_algorithm_only(make_app: MakeApp, algorithm: str) -> None:
    app = make_app(JWT_ALGORITHM=algorithm)
    assert [status(app, token(algorithm=algorithm)), status(app, token())] == [200, 401]


@pytest.mark.sqlite_only
def test_without_a_configured_issuer_and_audience_any_are_accepted(app: Flask) -> None:
    assert [status(app, token()), status(app, token(iss="https://any.example", aud=["x"]))] == [200, 200]


@pytest.mark.parametrize("sub", ["1", " ", "x" * 255, "🥛" * 255, "a/b?c=d&e#f", "' OR '1'='1", "%"])
def test_any_text_of_1_to_255_characters_is_a_user(app: Flask, sub: str) -> None:
    user = Caller(app.test_client(), sub)
    assert user.create()["user_id"] == sub
    assert [task["user_id"] for task in user.get("/api/tasks").json or []] == [sub]


CONFUSED = {
    "HS256 by the RSA public PEM": build(head("HS256", kid="rs256"), payload(), hs256(pem(RS256))),
    "HS256 by the Ed25519 public PEM": build(head("HS256", kid="eddsa"), payload(), hs256(pem(EDDSA))),
    "HS256 by the Ed25519 public bytes": build(head("HS256", kid="eddsa"), payload(), hs256(raw(EDDSA))),
    "HS256 by the JWK": build(head("HS256", kid="eddsa"), payload(), hs256(json.dumps(EDDSA.jwk).encode())),
    "HS256 by an empty key": build(head("HS256"), payload(), lambda body: hmac.digest(b"", body, "sha256")),
    "HS256 by another secret": token(secret=SECRET[::-1], **CLAIMS),
    "HS512 by the secret": token(algorithm="HS512", **CLAIMS),
    "EdDSA said, HS256 by the secret": build(head("EdDSA"), payload(), hs256(SECRET.encode())),
    "RS256 said, signed by EdDSA": build(head("RS256", kid="eddsa"), payload(), by(EDDSA)),
    "RS256 with the kid of EdDSA": build(head("RS256", kid="eddsa"), payload(), by(RS256)),
    "EdDSA with the kid of RS256": build(head("EdDSA", kid="rs256"), payload(), by(EDDSA)),
    "RS256 key used for PS256": build(head("PS256", kid="rs256"), payload(), by(RS256, "PS256")),
    "ES512 said": build(head("ES512", kid="es256"), payload(), by(ES256)),
    "stranger's key of the same kid": build(head(), payload(), by(STRANGER)),
    "alg none": build(head() | {"alg": "none"}, payload(), None),
    "alg nOnE": build(head() | {"alg": "nOnE"}, payload(), None),
    "alg empty": build(head() | {"alg": ""}, payload(), None),
    "alg none, signed": build(head() | {"alg": "none"}, payload(), by(EDDSA)),
    "alg in lower case": build(head() | {"alg": "eddsa"}, payload(), by(EDDSA)),
    "alg null": build(head() | {"alg": None}, payload(), by(EDDSA)),
    "alg a list": build(head() | {"alg": ["EdDSA"]}, payload(), by(EDDSA)),
    "alg absent": build({"kid": "eddsa"}, payload(), by(EDDSA)),
}


@pytest.mark.parametrize("attack", CONFUSED.values(), ids=CONFUSED)
def test_no_token_can_choose_how_it_is_verified(apps: dict[str, Flask], attack: str) -> None:
    for app in apps.values():
        assert_error(ask(app, attack), 401, "TOKEN_INVALID")


FOREIGN_JWK = STRANGER.jwk | {"kid": "stranger"}
ODD_KIDS: list[Any] = ["", "unknown", 1, None, ["eddsa"], "../../etc/passwd", "EDDSA", "x" * 9000]
ODD_TYPES: list[Any] = ["JWE", "better-auth.session-cache+jwt", "dpop+jwt", "", 1, None, ["JWT"]]
HEADERS = {
    "kid absent": build({"alg": "EdDSA"}, payload(), by(EDDSA)),
    **{f"kid {kid!r:.20}": eddsa({"kid": kid}) for kid in ODD_KIDS},
    **{f"typ {typ!r}": eddsa({"typ": typ}) for typ in ODD_TYPES},
    "jwk": build(head(kid="stranger", jwk=FOREIGN_JWK), payload(), by(STRANGER)),
    "jwk beside a known kid": build(head(jwk=FOREIGN_JWK), payload(), by(STRANGER)),
    "jku": build(head(kid="stranger", jku="http://127.0.0.1:1/jwks"), payload(), by(STRANGER)),
    "x5c": build(head(kid="stranger", x5c=["AAAA"]), payload(), by(STRANGER)),
    "crit": eddsa({"crit": ["exp"]}),
    "crit empty": eddsa({"crit": []}),
    "b64": eddsa({"b64": False, "crit": ["b64"]}),
}
ODD_TIMES = ('"9999999999"', "true", "1e400", "1e15", "NaN", "Infinity", "null", "[]", "9" * 5000)
TIMES = {
    "exp absent": lacking("exp"),
    **{f"exp {text:.12}": json_text(exp=text) for text in ODD_TIMES},
    **{f"{name} {text}": json_text(**{name: text}) for name in ("nbf", "iat") for text in ODD_TIMES[:5]},
    "exp negative": eddsa(exp=-1),
}
ODD_SUBS: list[Any] = [None, 1, True, "", ["alice"], {"id": "alice"}, "x" * 256, "a\0", "\ud800"]
WRONG_ISSUERS: list[Any] = [None, "", ISSUER + "/", ISSUER[:-1], ISSUER.upper(), [ISSUER], 1]
WRONG_AUDIENCES: list[Any] = [None, "", [], [[AUDIENCE]], AUDIENCE[:-1], f"{AUDIENCE}.evil.example", [AUDIENCE, 1], {}]
ODD_TOKEN_TYPES: list[Any] = ["refresh", "Access", "", None, 1, ["access"]]
BAD_CLAIMS = {
    **{f"{name} absent": lacking(name) for name in ("sub", "iss", "aud")},
    **{f"sub {sub!r:.12}": eddsa(sub=sub) for sub in ODD_SUBS},
    **{f"iss {iss!r}": eddsa(iss=iss) for iss in WRONG_ISSUERS},
    **{f"aud {aud!r}": eddsa(aud=aud) for aud in WRONG_AUDIENCES},
    "aud of the session cookie": eddsa(aud="better-auth:session-cache"),
    **{f"type {kind!r}": eddsa(type=kind) for kind in ODD_TOKEN_TYPES},
    "jti a number": eddsa(jti=1),
    "e-mail and user id without sub": lacking("sub", email="a@b.c", userId="alice", id="alice"),
}
DEEP = b"[" * 30_000 + b"]" * 30_000
MALFORMED = {
    "a JWE": ".".join(segment(part) for part in ({"alg": "dir", "enc": "A256GCM"}, b"", b"iv", b"text", b"tag")),
    "a session token": "zhio5dyUdDCzQ142szviZR5qaXb6cXBL",
    "two parts": eddsa().rpartition(".")[0],
    "four parts": f"{eddsa()}.x",
    "empty parts": "..",
    "40 KB of dots": "." * 40_000,
    "40 KB": build(head(), payload(x="x" * 40_000), by(STRANGER)),
    "no signature": f"{eddsa().rpartition('.')[0]}.",
    "altered signature": eddsa()[:-8] + "AAAAAAAA",
    "signature of another payload": build(head(), payload(sub="bob"), lambda _: by(EDDSA)(b"another")),
    "same signature in another spelling": with_other_last_character(eddsa()),
    "signature with padding": eddsa() + "==",
    "payload with padding": build(head(), payload(x=""), by(EDDSA)).replace(".", "=.", 2),
    "signature with a stray character": eddsa()[:-4] + "*" + eddsa()[-4:],
    "NUL": eddsa() + "\0",
    "not ASCII": "é.é.é",
    "deep payload": build(head(), b'{"a":' + DEEP + b"}", by(EDDSA)),
    "deep header": build(b'{"alg":"EdDSA","a":' + DEEP + b"}", payload(), by(EDDSA)),
    "header no JSON": build(b"x", payload(), by(EDDSA)),
    "header no object": build([], payload(), by(EDDSA)),
    "payload no object": build(head(), "alice", by(EDDSA)),
    "payload no UTF-8": build(head(), b"\xff\xfe", by(EDDSA)),
    "sub twice": json_text(sub_='"bob"'),
    "exp twice": json_text(exp_=str(now() + 900)),
    "nested name twice": json_text(x='{"a": 1, "a": 2}'),
    "alg twice": build(b'{"alg":"none","alg":"EdDSA","kid":"eddsa"}', payload(), by(EDDSA)),
}
ATTACKS = HEADERS | TIMES | BAD_CLAIMS | MALFORMED


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=[name.encode("ascii", "replace").decode() for name in ATTACKS])
def test_a_bad_token_is_rejected(apps: dict[str, Flask], attack: str) -> None:
    response = ask(apps["both"], attack)
    assert response.status_code == 401, response.text
    assert response.json["error_code"] in ("TOKEN_INVALID", "TOKEN_EXPIRED")
    assert_error(response, 401, response.json["error_code"])
    assert re.match("The token (has expired.|is not valid: .)", response.json["detail"])


@pytest.mark.parametrize(
    "claims",
    [{"exp": None}, {"nbf": "soon"}, {"sub": ""}, {"iss": "https://evil.example"}, {"aud": "other"}, {"type": "id"}],
    ids=str,
)
def test_a_token_of_the_secret_must_pass_the_same_checks(apps: dict[str, Flask], claims: dict[str, Any]) -> None:
    for kind in ("secret", "both"):
        assert_error(ask(apps[kind], token(**CLAIMS | claims)), 401, "TOKEN_INVALID")


@pytest.mark.parametrize("ago", [12, 3600, 10**9])
def test_an_expired_token_has_its_own_error_code(apps: dict[str, Flask], ago: int) -> None:
    assert_error(ask(apps["both"], EDDSA.token(**CLAIMS, exp=now() - ago, iat=None)), 401, "TOKEN_EXPIRED")


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_is_rejected_before_it_becomes_valid(apps: dict[str, Flask], claim: str) -> None:
    for ahead in (14, 3600):  # just past the leeway, and far past it
        times: dict[str, Any] = {claim: now() + ahead}
        assert_error(ask(apps["both"], eddsa(**times)), 401, "TOKEN_INVALID")


@pytest.mark.parametrize("wrong", [{"secret": SECRET[::-1]}, {"aud": "other"}, {"sub": 1}], ids=str)
def test_an_expired_token_with_another_fault_is_invalid(apps: dict[str, Flask], wrong: dict[str, Any]) -> None:
    text = token(**{"exp": now() - 3600, **CLAIMS, **wrong})
    assert_error(ask(apps["both"], text), 401, "TOKEN_INVALID")


def test_two_good_tokens_are_rejected(apps: dict[str, Flask]) -> None:
    for first, second in ((eddsa(), token(**CLAIMS)), (token(**CLAIMS), eddsa())):
        assert_error(ask(apps["both"], f"{first}, Bearer {second}"), 401, "TOKEN_INVALID")


REASONS = {
    "unknown key": eddsa({"kid": "unknown"}),
    "expired": eddsa(exp=now() - 3600),
    "not yet valid": eddsa(nbf=now() + 3600),
    "algorithm": token(**CLAIMS, algorithm="HS384"),
    "audience": eddsa(aud="other"),
    "issuer": eddsa(iss="https://evil.example"),
    "signature": build(head(), payload(), by(STRANGER)),
    "missing claim": lacking("sub"),
    "malformed": "garbage",
}


@pytest.mark.parametrize(("reason", "text"), REASONS.items(), ids=REASONS)
def test_a_rejection_has_a_reason(apps: dict[str, Flask], reason: str, text: str) -> None:
    verifier: TokenVerifier = apps["both"].extensions["auth"]
    with apps["both"].app_context(), pytest.raises(TokenInvalid) as refused:
        verifier.remember(text)
    assert refused.value.refusal == reason
