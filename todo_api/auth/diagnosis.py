"""What `flask token-check` says about a token: for operators only, clients never see it."""

import time
from collections.abc import Iterator
from typing import Any

import jwt as pyjwt
from flask import current_app

from todo_api.auth import tokens
from todo_api.auth.keys import ALGORITHMS, KeysUnavailable

Check = tuple[str, bool, str, str]  # what is checked, whether it passed, what was expected, what was found


def diagnose(token: str) -> tuple[list[Check], str | None]:
    """Return the checks of a token, and why the service refuses it; None if it accepts it."""
    refusal = None
    try:
        tokens.get_verifier().verify(token)
    except KeysUnavailable:
        refusal = "refused for now: the keys cannot be fetched"
    except tokens.TokenInvalid as error:
        refusal = f"refused: {error.refusal}: {error.__cause__}"
    return list(checks(token)), refusal


def checks(token: str) -> Iterator[Check]:
    try:
        parts = pyjwt.decode_complete(token, options={"verify_signature": False})
        tokens.check_encoding(token)
    except tokens.BAD_TOKEN as error:
        yield "form", False, "a JWT", str(error)
        return
    problem = signature_problem(token, parts["header"])
    yield "signature", problem is None, "good", problem or "good"
    for part, rows in (("header", header_checks(parts["header"])), ("payload", claim_checks(parts["payload"]))):
        for name, passed, expected in rows:
            yield name, passed, expected, shorten(parts[part][name]) if name in parts[part] else "nothing"


def signature_problem(token: str, header: dict[str, Any]) -> str | None:
    try:
        pyjwt.PyJWS().decode(token, tokens.get_verifier().key_for(header))
    except (*tokens.BAD_TOKEN, KeysUnavailable) as error:
        return str(error)
    return None


def header_checks(header: dict[str, Any]) -> list[tuple[str, bool, str]]:
    verifier, algorithm = tokens.get_verifier(), header.get("alg")
    key_set = verifier.key_set if algorithm in ALGORITHMS else None
    kids = list(key_set.keys) if key_set and key_set.is_usable() else []
    return [
        ("alg", algorithm in verifier.algorithms, " or ".join(verifier.algorithms)),
        ("kid", not kids or header.get("kid") in kids, " or ".join(map(shorten, kids)) or "anything"),
        ("typ", tokens.has_token_type(header), "nothing, JWT or at+jwt"),
    ]


def claim_checks(claims: dict[str, Any]) -> list[tuple[str, bool, str]]:
    issuer, audience = (current_app.config[f"JWT_DECODE_{name}"] for name in ("ISSUER", "AUDIENCE"))
    audiences = claims["aud"] if isinstance(claims.get("aud"), list) else [claims.get("aud")]
    is_for_us = audience in audiences and all(isinstance(member, str) for member in audiences)
    now = time.time()
    exp, nbf, iat = claims.get("exp"), claims.get("nbf", 0), claims.get("iat", 0)
    return [
        ("iss", issuer in (None, claims.get("iss")), shorten(issuer) if issuer else "anything"),
        ("aud", audience is None or is_for_us, shorten(audience) if audience else "anything"),
        ("exp", tokens.is_time(exp) and exp > now - tokens.LEEWAY, f"later than {now:.0f}"),
        ("nbf", tokens.is_time(nbf) and nbf <= now + tokens.LEEWAY, f"nothing, or at most {now:.0f}"),
        ("iat", tokens.is_time(iat) and iat <= now + tokens.LEEWAY, f"nothing, or at most {now:.0f}"),
        ("sub", tokens.is_user_id(claims.get("sub")), "text of 1 to 255 characters"),
        ("jti", isinstance(claims.get("jti", ""), str), "nothing, or text"),
        ("type", claims.get("type", "access") == "access", "nothing, or access"),
    ]


def shorten(value: object) -> str:
    return ascii(value)[:200]
