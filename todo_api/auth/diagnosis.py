"""What `flask token-check` finds in a token: for the operator only, a client never learns it."""

import time
from collections.abc import Iterator
from typing import Any

import jwt as pyjwt
from flask import current_app
from jwt.types import Options

from todo_api.auth.keys import ALGORITHMS, KeysUnavailableError
from todo_api.auth.tokens import (
    BAD_TOKEN,
    LEEWAY,
    TOKEN_TYPES,
    USER_ID,
    is_time,
    key_for,
    refuse_other_spellings,
    trust,
)

SIGNATURE_ALONE: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def findings(text: str) -> Iterator[tuple[str, bool, str, str]]:
    """Yield each check as its name, whether it holds, what is expected here and what was found."""
    try:
        refuse_other_spellings(text)
        parts = pyjwt.decode_complete(text, options={"verify_signature": False})
    except BAD_TOKEN as error:
        yield "form", False, "a JWT", str(error)
        return
    header, claims, config, sources = parts["header"], parts["payload"], current_app.config, trust()
    accepted = ([sources.secret.algorithm_name] if sources.secret else []) + list(ALGORITHMS if sources.keys else [])
    signed = verified(text, header)
    by_key_set = sources.keys is not None and header.get("alg") in ALGORITHMS
    if sources.keys and by_key_set and not sources.keys.keys:
        sources.keys.refresh()
    kids = list(sources.keys.keys) if sources.keys and by_key_set else []
    issuer, audience, now = config["JWT_DECODE_ISSUER"], config["JWT_DECODE_AUDIENCE"], time.time()
    audiences = claims.get("aud") if isinstance(claims.get("aud"), list) else [claims.get("aud")]
    for_us = audience is None or (audience in audiences and all(isinstance(member, str) for member in audiences))

    def line(name: str, good: bool, expected: str) -> tuple[str, bool, str, str]:
        part = header if name in ("alg", "kid", "typ") else claims
        return name, good, expected, shown(part[name]) if name in part else "nothing"

    yield line("alg", header.get("alg") in accepted, " or ".join(accepted))
    yield line("kid", not by_key_set or header.get("kid") in kids, " or ".join(map(shown, kids)) or "anything")
    yield line("typ", str(header.get("typ", "JWT")).lower() in TOKEN_TYPES, "nothing, JWT or at+jwt")
    yield "signature", signed == "good", "good", signed
    yield line("iss", issuer in (None, claims.get("iss")), shown(issuer) if issuer else "anything")
    yield line("aud", for_us, shown(audience) if audience else "anything")
    yield line("exp", is_time(claims.get("exp")) and claims["exp"] > now - LEEWAY, f"more than {now:.0f}")
    for name in ("nbf", "iat"):
        held = name not in claims or (is_time(claims[name]) and claims[name] <= now + LEEWAY)
        yield line(name, held, f"nothing, or at most {now:.0f}")
    named = isinstance(claims.get("sub"), str) and USER_ID.fullmatch(claims["sub"]) is not None
    yield line("sub", named, "text of 1 to 255 characters")
    yield line("jti", isinstance(claims.get("jti", ""), str), "nothing, or text")
    yield line("type", claims.get("type", "access") == "access", "nothing, or access")


def verified(text: str, header: dict[str, Any]) -> str:
    """Return "good" for a signature that one of the service's keys verifies, else what is wrong."""
    try:
        pyjwt.decode(text, key_for(header, {}), options=SIGNATURE_ALONE)
    except (*BAD_TOKEN, KeysUnavailableError) as error:
        return str(error) or "no key to verify it with"
    return "good"


def shown(value: object) -> str:
    return ascii(value)[:200]
