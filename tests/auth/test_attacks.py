"""Tokens that an attacker, a mistake or another issuer could make, in the three configurations of the service."""

import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask
from jwt.utils import base64url_decode

from tests.conftest import Caller, assert_error, dispose, environ_for
from tests.support.issuers import Key, KeyServer, segment
from tests.support.tokens import SECRET, token
from todo_api import create_app

ISSUER, AUDIENCE = "https://app.example.com", "https://api.example.com"
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE}
EDDSA, ES256, RS256, PS256 = (Key(algorithm, algorithm.lower()) for algorithm in ("EdDSA", "ES256", "RS256", "PS256"))
KEYS = (EDDSA, ES256, RS256, PS256)
STRANGER = Key("EdDSA", "eddsa")  # another key under the same kid
Sign = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[KeyServer]:
    with closing(KeyServer(*(key.jwk for key in KEYS))) as server:
        yield server


@pytest.fixture(scope="module")
def apps(
    endpoint: KeyServer, databases: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Flask]]:
    claims = {"JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}
    both = environ_for(databases["sqlite"], JWKS_URL=endpoint.url, **claims)
    environments = {
        "both": both,
        "secret": {name: value for name, value in both.items() if name != "JWKS_URL"},
        "key set": {name: value for name, value in both.items() if name != "BETTER_AUTH_SECRET"},
    }
    made = {kind: create_app(environ, tmp_path_factory.mktemp("app")) for kind, environ in environments.items()}
    yield made
    for app in made.values():
        dispose(app)


def ask(app: Flask, header: str) -> Any:
    return Caller(app.test_client(), None).get("/api/tasks", headers={"Authorization": header})


def now() -> int:
    return int(time.time())


def hs256(key: bytes) -> Sign:
    return lambda body: jwt.get_algorithm_by_name("HS256").sign(body, key)


def by(key: Key) -> Sign:
    algorithm = jwt.get_algorithm_by_name(key.algorithm)
    return lambda body: algorithm.sign(body, key.private)


def build(header: Any, payload: Any, sign: Sign | None) -> str:
    """Put a token together from any header and payload; bytes are taken as they are."""
    body = f"{segment(header)}.{segment(payload)}"
    return f"{body}.{segment(sign(body.encode())) if sign else ''}"


def payload(**claims: Any) -> dict[str, Any]:
    return {"sub": "alice", "iat": now(), "exp": now() + 900, **CLAIMS, **claims}


def pem(key: Key) -> bytes:
    return bytes(key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def raw(key: Key) -> bytes:
    return bytes(key.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def head(algorithm: str = "EdDSA", **more: Any) -> dict[str, Any]:
    return {"alg": algorithm, "kid": algorithm.lower(), **more}


def eddsa(header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token that is good but for what is given."""
    return build({**head(), **(header or {})}, payload(**claims), by(EDDSA))


def json_text(**texts: str) -> str:
    """A token with a good signature whose claims are given as JSON text, names repeated where asked."""
    claims = {**{name: json.dumps(value) for name, value in payload().items()}, **texts}
    members = ",".join(f'"{name.rstrip("_")}":{text}' for name, text in claims.items())
    return build(head(), f"{{{members}}}".encode(), by(EDDSA))


def lacking(name: str, **more: Any) -> str:
    """A token with a good signature and without this claim."""
    return build(head(), {claim: value for claim, value in payload(**more).items() if claim != name}, by(EDDSA))


def by_the_secret(attack: str) -> str:
    """The same claims in a token that the shared secret signed."""
    return build(head("HS256"), base64url_decode(attack.split(".")[1]), hs256(SECRET.encode()))


def last_character_altered(text: str) -> str:
    """Change the last character so that the signature's bytes stay the same, where base64url leaves room for that."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + letters[letters.index(text[-1]) ^ 1]


def hs256_empty(body: bytes) -> bytes:
    return hmac.digest(b"", body, "sha256")


ODD_ALGORITHMS: list[Any] = ["none", "eddsa", 1, None, []]
CONFUSED = {
    "HS256 by the RSA public PEM": build(head("HS256", kid="rs256"), payload(), hs256(pem(RS256))),
    "HS256 by the Ed25519 public PEM": build(head("HS256", kid="eddsa"), payload(), hs256(pem(EDDSA))),
    "HS256 by the Ed25519 public bytes": build(head("HS256", kid="eddsa"), payload(), hs256(raw(EDDSA))),
    "HS256 by the JWK": build(head("HS256", kid="eddsa"), payload(), hs256(json.dumps(EDDSA.jwk).encode())),
    "HS256 by the JWK's x": build(head("HS256", kid="eddsa"), payload(), hs256(EDDSA.jwk["x"].encode())),
    "HS256 by an empty key": build(head("HS256"), payload(), hs256_empty),
    "HS512 by the secret": token(algorithm="HS512", **CLAIMS),
    "EdDSA said, HS256 by the secret": build(head("EdDSA"), payload(), hs256(SECRET.encode())),
    "RS256 said, signed by EdDSA": build(head("RS256", kid="eddsa"), payload(), by(EDDSA)),
    "RS256 with the kid of EdDSA": build(head("RS256", kid="eddsa"), payload(), by(RS256)),
    "EdDSA with the kid of RS256": build(head("EdDSA", kid="rs256"), payload(), by(EDDSA)),
    "PS256 with the kid of RS256": build(head("PS256", kid="rs256"), payload(), by(PS256)),
    "RS256 key used for PS256": build(
        head("PS256", kid="rs256"), payload(), lambda b: jwt.get_algorithm_by_name("PS256").sign(b, RS256.private)
    ),
    "ES512 said": build(head("ES512", kid="es256"), payload(), by(ES256)),
    "a stranger's key of the same kid": build(head(), payload(), by(STRANGER)),
    **{f"alg {alg!r}": build(head() | {"alg": alg}, payload(), None) for alg in ("none", "None", "NONE", "nOnE", "")},
    **{f"alg {alg!r}": build(head() | {"alg": alg}, payload(), by(EDDSA)) for alg in ODD_ALGORITHMS},
    "no alg": build({"kid": "eddsa"}, payload(), by(EDDSA)),
}
KIDS = {
    "absent": build({"alg": "EdDSA"}, payload(), by(EDDSA)),
    **{
        repr(kid)[:20]: eddsa({"kid": kid})
        for kid in ("", "unknown", 1, None, ["eddsa"], {"a": 1}, "../../etc/passwd", "' OR 1=1 --", "EDDSA", "x" * 9000)
    },
}
FOREIGN_JWK = {**STRANGER.jwk, "kid": "stranger"}
HEADERS = {
    "jwk": build(head(kid="stranger", jwk=FOREIGN_JWK), payload(), by(STRANGER)),
    "jwk beside a known kid": build(head(jwk=FOREIGN_JWK), payload(), by(STRANGER)),
    "jku": build(head(kid="stranger", jku="http://127.0.0.1:1/jwks"), payload(), by(STRANGER)),
    "x5u": build(head(kid="stranger", x5u="http://127.0.0.1:1/x5u"), payload(), by(STRANGER)),
    "x5c": build(head(kid="stranger", x5c=["AAAA"]), payload(), by(STRANGER)),
    "crit": eddsa({"crit": ["exp"]}),
    "crit empty": eddsa({"crit": []}),
    "crit unknown": eddsa({"crit": ["x"], "x": 1}),
    "b64": eddsa({"b64": False, "crit": ["b64"]}),
    **{
        f"typ {kind!r}": eddsa({"typ": kind})
        for kind in ("JWE", "better-auth.session-cache+jwt", "dpop+jwt", "logout+jwt", "", 1, None, ["JWT"])
    },
}
TIMES = {
    "exp absent": lacking("exp"),
    **{
        f"{name} {text[:12]}": json_text(**{name: text})
        for name in ("exp", "nbf", "iat")
        for text in (
            '"soon"',
            '"9999999999"',
            "1e400",
            "NaN",
            "Infinity",
            "null",
            "[]",
            "{}",
            "9" * 5000,
            "1" + "0" * 400,
            "1e300",
            "1e15",
        )
    },
    "exp negative": eddsa(exp=-1),
    "exp just past the leeway": eddsa(exp=now() - 12),
    "nbf past the leeway": eddsa(nbf=now() + 3600),
    "iat past the leeway": eddsa(iat=now() + 3600),
}
WRONG_ISSUERS: list[Any] = [None, "", ISSUER + "/", ISSUER[:-1], ISSUER.upper(), f" {ISSUER}", [ISSUER], 1, {}]
WRONG_AUDIENCES: list[Any] = [None, "", [], [[AUDIENCE]], AUDIENCE[:-1], f"{AUDIENCE}.evil.example", ["a", 1], 1, {}]
CLAIMED = {
    "no sub": lacking("sub"),
    "no iss": lacking("iss"),
    "no aud": lacking("aud"),
    **{
        f"sub {sub!r}"[:20]: eddsa(sub=sub)
        for sub in (None, 1, 1.5, True, "", [], ["alice"], {"id": "alice"}, "x" * 256, "a\0", "\ud800")
    },
    **{f"iss {iss!r}"[:40]: eddsa(iss=iss) for iss in WRONG_ISSUERS},
    **{f"aud {aud!r}"[:50]: eddsa(aud=aud) for aud in WRONG_AUDIENCES},
    "the session cookie's audience": eddsa(aud="better-auth:session-cache"),
    **{f"type {kind!r}": eddsa(type=kind) for kind in ("refresh", "id", "Access", "", None, 1, ["access"])},
    "e-mail and user id without sub": lacking("sub", email="a@b.c", userId="alice", id="alice"),
}
SHAPES = {
    "a JWE": ".".join(segment(part) for part in ({"alg": "dir", "enc": "A256GCM"}, b"", b"iv", b"text", b"tag")),
    "two parts": ".".join(eddsa().split(".")[:2]),
    "four parts": f"{eddsa()}.x",
    "five parts": f"{eddsa()}.x.y",
    "no signature": f"{eddsa().rpartition('.')[0]}.",
    "40 KB": build(head(), payload(x="x" * 40_000), by(STRANGER)),
    "40 KB of dots": "." * 40_000,
    "deep payload": build(head(), b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", by(EDDSA)),
    "deep header": build(b'{"alg":"EdDSA","a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", payload(), by(EDDSA)),
    "header no JSON": build(b"x", payload(), by(EDDSA)),
    "header no object": build([], payload(), by(EDDSA)),
    "payload no object": build(head(), "alice", by(EDDSA)),
    "payload no UTF-8": build(head(), b"\xff\xfe", by(EDDSA)),
    **{
        f"{name} twice": json_text(**{f"{name}_": json.dumps(payload()[name])}) for name in ("sub", "exp", "iss", "aud")
    },
    "alg twice": build(b'{"alg":"none","alg":"EdDSA","kid":"eddsa"}', payload(), by(EDDSA)),
    "the same signature in another spelling": last_character_altered(eddsa()),
    "signature with padding": eddsa() + "==",
    "signature with a stray character": eddsa()[:-4] + "*" + eddsa()[-4:],
    "payload with padding": build(head(), payload(x=""), by(EDDSA)).replace(".", "=.", 2),
    "altered signature": eddsa()[:-8] + "AAAAAAAA",
    "altered payload": ".".join(
        [part if i != 1 else segment(payload(sub="bob")) for i, part in enumerate(eddsa().split("."))]
    ),
    "white space": eddsa().replace(".", ". "),
    "percent": eddsa().replace(".", "%2E"),
    "NUL": eddsa() + "\0",
    "a session token": "zhio5dyUdDCzQ142szviZR5qaXb6cXBL",
}
ATTACKS = {
    f"{kind}: {name}": attack
    for kind, table in {
        "confusion": CONFUSED, "kid": KIDS, "header": HEADERS, "time": TIMES, "claim": CLAIMED, "shape": SHAPES,
    }.items()
    for name, attack in table.items()
}  # fmt: skip
BY_THE_SECRET = {f"by the secret: {name}": by_the_secret(attack) for name, attack in (TIMES | CLAIMED).items()}
TRIED = {"key set": ATTACKS, "both": ATTACKS | BY_THE_SECRET, "secret": ATTACKS | BY_THE_SECRET}


def test_the_table_is_long() -> None:
    assert len(set(ATTACKS.values())) >= 120


@pytest.mark.parametrize(
    ("kind", "attack"),
    [
        pytest.param(kind, attack, id=f"{kind}-{name}".encode("ascii", "replace").decode())
        for kind, attacks in TRIED.items()
        for name, attack in attacks.items()
    ],
)
def test_an_attack_is_refused(apps: dict[str, Flask], kind: str, attack: str) -> None:
    response = ask(apps[kind], f"Bearer {attack}")
    assert response.status_code == 401, response.text
    assert response.json["error_code"] in ("TOKEN_INVALID", "TOKEN_EXPIRED")
    assert_error(response, 401, response.json["error_code"])


@pytest.mark.parametrize("kind", ["secret", "key set", "both"])
def test_two_good_tokens_are_refused(apps: dict[str, Flask], kind: str) -> None:
    for first, second in ((eddsa(), token(**CLAIMS)), (token(**CLAIMS), eddsa())):
        assert_error(ask(apps[kind], f"Bearer {first}, Bearer {second}"), 401, "TOKEN_INVALID")


@pytest.mark.parametrize(("key", "good"), [(key, kind) for key in KEYS for kind in ("key set", "both")])
def test_a_token_of_the_key_set_is_taken_where_the_set_is_on(apps: dict[str, Flask], key: Key, good: str) -> None:
    assert ask(apps[good], f"Bearer {key.token(**CLAIMS)}").status_code == 200
    assert_error(ask(apps["secret"], f"Bearer {key.token(**CLAIMS)}"), 401, "TOKEN_INVALID")


def test_a_token_of_the_secret_is_taken_where_the_secret_is_on(apps: dict[str, Flask]) -> None:
    for good in (token(**CLAIMS), by_the_secret(eddsa())):
        statuses = [ask(apps[kind], f"Bearer {good}").status_code for kind in ("secret", "both", "key set")]
        assert statuses == [200, 200, 401]


@pytest.mark.parametrize(
    "good",
    [
        {"exp": -5},
        {"exp": 60.7},
        {"nbf": 5, "iat": 5},
        {"aud": ["https://other.example.com", AUDIENCE]},
        {"header": {"typ": "AT+JWT"}},
        {"header": {"x5t": "unknown members are ignored"}},
        {"type": "access"},
    ],
    ids=str,
)
def test_what_the_rules_allow_is_taken(apps: dict[str, Flask], good: dict[str, Any]) -> None:
    """Times are seconds from now."""
    claims = {name: now() + value if name in ("exp", "nbf", "iat") else value for name, value in good.items()}
    for kind in ("key set", "both"):
        assert ask(apps[kind], f"Bearer {eddsa(**claims)}").status_code == 200
