"""Which checks a token fails: for `flask token-check`, and in development, but there alone, for clients."""

import time
from collections.abc import Iterator
from typing import Any

import jwt as pyjwt

from todo_api.auth import tokens
from todo_api.auth.keys import ALGORITHMS, KeysUnavailable

Check = tuple[str, bool, str, str]  # what is checked, whether it passed, what was expected, what was found


def diagnose(token: str) -> tuple[list[Check], bool, str]:
    """Return the checks of a token, whether the service accepts it, and what it says of it."""
    accepted = False
    try:
        scopes = tokens.scopes_of(tokens.get_verifier().verify(token))
        verdict = "accepted" if scopes is None else f"accepted at /mcp alone, with scope: {' '.join(sorted(scopes))}"
        accepted = True
    except KeysUnavailable:
        verdict = "refused for now: the keys cannot be fetched"
    except tokens.TokenInvalid as error:
        verdict = f"refused: {error.refusal}: {error.__cause__}"
    return list(checks(token)), accepted, verdict


def explain(token: str) -> str:
    """Return the failed checks of a token in words."""
    if not token:
        return "the Authorization header must hold one token after Bearer"
    failed = [in_words(name, expected, found) for name, passed, expected, found in checks(token) if not passed]
    return "; ".join(failed) or "it is an agent's, for /mcp alone"


def in_words(name: str, expected: str, found: str) -> str:
    if name == "form":
        return f"this is not a JWT ({found[:200]})"
    if name == "signature":
        return f"signature: {found}"
    return f"{name} is missing" if found == "nothing" else f"{name}: expected {expected}, found {found}"


def checks(token: str) -> Iterator[Check]:
    """Yield the checks of a token; only its form if it cannot be decoded."""
    try:
        parts = pyjwt.decode_complete(token, options={"verify_signature": False})
        tokens.check_encoding(token)
    except tokens.BAD_TOKEN as error:
        yield "form", False, "a JWT", str(error)
        return
    signature = "good"
    try:
        pyjwt.PyJWS().decode(token, tokens.get_verifier().key_for(parts["header"]))
    except (*tokens.BAD_TOKEN, KeysUnavailable) as error:
        signature = str(error)
    yield "signature", signature == "good", "good", signature
    for part, name, passed, expected in field_checks(parts["header"], parts["payload"]):
        yield name, passed, expected, shorten(part[name]) if name in part else "nothing"


def field_checks(header: dict[str, Any], claims: dict[str, Any]) -> list[tuple[dict[str, Any], str, bool, str]]:
    """Return for each field where it is, its name, whether it passes, and what is expected."""
    verifier, algorithm = tokens.get_verifier(), header.get("alg")
    key_set = verifier.key_set if algorithm in ALGORITHMS else None
    kids = list(key_set.keys) if key_set and key_set.is_usable() else []
    issuer, audience = tokens.expected_pair(claims)
    any_issuer = "any but that of agents' tokens" if tokens.is_agents_issuer(claims) else "anything"
    issuers = {None: any_issuer, tokens.NO_ISSUER: "the value of MCP_ISSUER, which is not set"}
    exp, nbf, iat = claims.get("exp"), claims.get("nbf", 0), claims.get("iat", 0)
    now = time.time()
    earliest, latest = now - tokens.LEEWAY, now + tokens.LEEWAY
    return [
        (header, "alg", algorithm in verifier.algorithms, " or ".join(verifier.algorithms)),
        (header, "kid", not kids or header.get("kid") in kids, " or ".join(map(shorten, kids)) or "anything"),
        (header, "typ", tokens.has_token_type(header), "nothing, JWT or at+jwt"),
        (claims, "iss", tokens.has_issuer(claims, issuer), issuers.get(issuer) or shorten(issuer)),
        (claims, "aud", tokens.has_audience(claims, audience), "anything" if audience is None else shorten(audience)),
        (claims, "exp", tokens.is_time(exp) and exp > earliest, f"later than {now:.0f}"),
        (claims, "nbf", tokens.is_time(nbf) and nbf <= latest, f"nothing, or at most {now:.0f}"),
        (claims, "iat", tokens.is_time(iat) and iat <= latest, f"nothing, or at most {now:.0f}"),
        (claims, "sub", tokens.is_user_id(claims.get("sub")), "text of 1 to 255 characters"),
        (claims, "jti", isinstance(claims.get("jti", ""), str), "nothing, or text"),
        (claims, "cnf", "cnf" not in claims, "nothing"),
        (claims, "client_id", not tokens.is_clients_own(claims), "another than sub"),
        (claims, "type", claims.get("type", "access") == "access", "nothing, or access"),
    ]


def shorten(value: object) -> str:
    return ascii(value)[:200]
