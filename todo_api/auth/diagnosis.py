"""What `flask token-check` says about a token: for operators only, clients never see it."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jwt as pyjwt
from flask import current_app

from todo_api.auth.keys import ALGORITHMS, KeysUnavailable
from todo_api.auth.tokens import (
    BAD_TOKEN,
    LEEWAY,
    TokenInvalid,
    check_encoding,
    get_verifier,
    is_time,
    is_token_type,
    is_user_id,
)


class Check(NamedTuple):
    name: str
    passed: bool
    expected: str
    found: str


def diagnose(token: str) -> tuple[list[Check], str | None]:
    """Return the checks of a token, and why the service refuses it; None if it accepts it."""
    refusal = None
    try:
        get_verifier().verify(token)
    except KeysUnavailable:
        refusal = "refused for now: the keys cannot be fetched"
    except TokenInvalid as error:
        refusal = f"refused: {error.refusal}: {error.__cause__}"
    return list(checks(token)), refusal


def checks(token: str) -> Iterator[Check]:
    try:
        parts = pyjwt.decode_complete(token, options={"verify_signature": False})
        check_encoding(token)
    except BAD_TOKEN as error:
        yield Check("form", False, "a JWT", str(error))
    else:
        problem = signature_problem(token, parts["header"])
        yield from header_checks(parts["header"])
        yield Check("signature", problem is None, "good", problem or "good")
        yield from claim_checks(parts["payload"])


def signature_problem(token: str, header: dict[str, Any]) -> str | None:
    try:
        pyjwt.PyJWS().decode(token, get_verifier().key_for(header))
    except (*BAD_TOKEN, KeysUnavailable) as error:
        return str(error)
    return None


def header_checks(header: dict[str, Any]) -> Iterator[Check]:
    verifier = get_verifier()
    accepted = [verifier.secret.algorithm_name] if verifier.secret else []
    kids = None
    if verifier.key_set:
        accepted += ALGORITHMS
        if header.get("alg") in ALGORITHMS and verifier.key_set.is_usable():
            kids = list(verifier.key_set.keys)
    expected_kid = "anything" if kids is None else " or ".join(map(shorten, kids))
    yield check(header, "alg", header.get("alg") in accepted, " or ".join(accepted))
    yield check(header, "kid", kids is None or header.get("kid") in kids, expected_kid)
    yield check(header, "typ", is_token_type(header.get("typ", "JWT")), "nothing, JWT or at+jwt")


def claim_checks(claims: dict[str, Any]) -> Iterator[Check]:
    issuer, audience = (current_app.config[f"JWT_DECODE_{name}"] for name in ("ISSUER", "AUDIENCE"))
    audiences = claims["aud"] if isinstance(claims.get("aud"), list) else [claims.get("aud")]
    is_for_us = audience in audiences and all(isinstance(member, str) for member in audiences)
    now = time.time()
    is_current = is_time(claims.get("exp")) and claims["exp"] > now - LEEWAY
    yield check(claims, "iss", issuer in (None, claims.get("iss")), shorten(issuer) if issuer else "anything")
    yield check(claims, "aud", audience is None or is_for_us, shorten(audience) if audience else "anything")
    yield check(claims, "exp", is_current, f"later than {now:.0f}")
    for name in ("nbf", "iat"):
        has_begun = name not in claims or (is_time(claims[name]) and claims[name] <= now + LEEWAY)
        yield check(claims, name, has_begun, f"nothing, or at most {now:.0f}")
    yield check(claims, "sub", is_user_id(claims.get("sub")), "text of 1 to 255 characters")
    yield check(claims, "jti", isinstance(claims.get("jti", ""), str), "nothing, or text")
    yield check(claims, "type", claims.get("type", "access") == "access", "nothing, or access")


def check(part: dict[str, Any], name: str, passed: bool, expected: str) -> Check:
    """Return the check of a member of the header or the claims."""
    return Check(name, passed, expected, shorten(part[name]) if name in part else "nothing")


def shorten(value: object) -> str:
    return ascii(value)[:200]
