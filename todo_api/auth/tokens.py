"""Token verification, the cache of verified tokens, and the `init_app` of the package."""

import json
import logging
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from threading import Lock
from typing import Any, NamedTuple, TypeGuard, cast

import jwt as pyjwt
from flask import Flask, current_app
from flask_jwt_extended import decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import PyJWK

from todo_api.auth.keys import ALGORITHMS, KeySet, UnknownKey
from todo_api.errors import ApiError
from todo_api.extensions import jwt

# Times are in seconds.
LEEWAY = 10
CACHE_SECONDS = 60
CACHE_SIZE = 10_000  # tokens; some 3 MB
YEAR_10000 = 253_402_300_800
USER_ID = re.compile("[^\x00\ud800-\udfff]{1,255}")
NO_ISSUER = ""  # where agents' tokens have no configured issuer, none is accepted
TOKEN_TYPES = ("jwt", "at+jwt")  # RFC 7519 section 5.1, RFC 9068 section 2.1
# What PyJWT and Flask-JWT-Extended raise for invalid tokens.
BAD_TOKEN = (JWTExtendedException, pyjwt.PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError)
REASONS: dict[type[Exception], str] = {
    UnknownKey: "unknown key",
    pyjwt.ExpiredSignatureError: "expired",
    pyjwt.ImmatureSignatureError: "not yet valid",
    pyjwt.InvalidAlgorithmError: "algorithm",
    pyjwt.InvalidAudienceError: "audience",
    pyjwt.InvalidIssuerError: "issuer",
    pyjwt.InvalidSignatureError: "signature",
    pyjwt.MissingRequiredClaimError: "missing claim",
    JWTExtendedException: "missing claim",
}

logger = logging.getLogger(__name__)


class TokenInvalid(ApiError):
    """The request carries no valid token; `refusal` says why, to operators only."""

    status_code, error_code, detail = 401, "TOKEN_INVALID", "The token is not valid."
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}

    def __init__(self, refusal: str | None = None) -> None:
        super().__init__()
        self.refusal = refusal


class TokenExpired(TokenInvalid):
    error_code, detail = "TOKEN_EXPIRED", "The token has expired."


class TokenMissing(TokenInvalid):
    error_code, detail = "TOKEN_MISSING", "A bearer token is required."
    headers = {"WWW-Authenticate": "Bearer"}


class Identity(NamedTuple):
    """Whom a token stands for. A user's own token may do everything, and has no scopes; an agent's has its own."""

    user_id: str
    scopes: frozenset[str] | None = None


NO_ENTRY = (Identity(""), 0.0, 0.0)


class TokenCache:
    """The identities of verified tokens, by digests of `Bearer <token>`. A hit takes 2 µs, verification 290."""

    def __init__(self) -> None:
        # Until when by two clocks: monotonic time stops while the machine sleeps, the time of day can be set back.
        self._entries: dict[bytes, tuple[Identity, float, float]] = {}
        self._lock = Lock()

    def get(self, header: str) -> Identity | None:
        identity, until, until_time_of_day = self._entries.get(digest_of(header), NO_ENTRY)
        return identity if time.monotonic() < until and time.time() < until_time_of_day else None

    def put(self, header: str, identity: Identity, seconds: float) -> None:
        digest = digest_of(header)
        with self._lock:
            self._entries.pop(digest, None)
            if len(self._entries) >= CACHE_SIZE:
                del self._entries[next(iter(self._entries))]  # the oldest
            self._entries[digest] = identity, time.monotonic() + seconds, time.time() + seconds


def digest_of(header: str) -> bytes:
    return sha256(header.encode()).digest()


class TokenVerifier:
    """Verification keys and the cache of verified tokens."""

    def __init__(self, secret: PyJWK | None, key_set: KeySet | None) -> None:
        self.secret, self.key_set = secret, key_set
        self.algorithms = ([secret.algorithm_name] if secret else []) + ([*ALGORITHMS] if key_set else [])
        self.cache = TokenCache()
        self.logged_at: dict[str, float] = {}  # time.monotonic() of the last logged refusal, by reason

    def remember(self, token: str) -> Identity:
        """Verify a token, and return whom it stands for. Raises TokenInvalid, TokenExpired, KeysUnavailable.

        The usual header is remembered, and not others with the same token: they could fill the cache.
        """
        claims = self.verify(token)
        identity = Identity(str(claims["sub"]), scopes_of(claims))
        self.cache.put(f"Bearer {token}", identity, min(CACHE_SECONDS, claims["exp"] - time.time()))
        return identity

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a valid token. Raises TokenInvalid, TokenExpired, KeysUnavailable."""
        try:
            check_encoding(token)
            claims = decode_token(token, allow_expired=True)
            check_claims(claims)
        except BAD_TOKEN as error:
            reason = next((text for kind, text in REASONS.items() if isinstance(error, kind)), "malformed")
            raise (TokenExpired if reason == "expired" else TokenInvalid)(reason) from error
        return claims

    def key_for(self, header: dict[str, Any]) -> PyJWK:
        """Return the key for a token with this unverified header. Raises PyJWTError, KeysUnavailable."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if not has_token_type(header):
            raise pyjwt.DecodeError("typ must be JWT or at+jwt")
        if self.secret and algorithm == self.secret.algorithm_name:
            return self.secret
        if self.key_set is None or algorithm not in ALGORITHMS:
            raise pyjwt.InvalidAlgorithmError("alg is not accepted")
        if not isinstance(kid, str):
            raise UnknownKey("kid is missing")
        return self.key_set.get(kid, str(algorithm))


def check_encoding(token: str) -> None:
    """Refuse what PyJWT lets pass: base64url with padding, and objects that repeat a name. Raises ValueError."""
    if "=" in token:
        raise ValueError("base64url must not be padded (RFC 7515)")
    for part in token.split(".")[:2]:
        json.loads(urlsafe_b64decode(f"{part}=="), object_pairs_hook=unique_names)


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object repeats a name")
    return members


def check_claims(claims: dict[str, Any]) -> None:
    """Check what Flask-JWT-Extended does not. Raises PyJWTError."""
    if "exp" not in claims:
        raise pyjwt.MissingRequiredClaimError("exp")
    if not all(is_time(claims[name]) for name in ("exp", "nbf", "iat") if name in claims):
        raise pyjwt.DecodeError("exp, nbf and iat must be times")
    if claims["type"] != "access" or not is_user_id(claims["sub"]):
        raise pyjwt.DecodeError("type must be access and sub a user id")
    if "cnf" in claims or is_clients_own(claims):
        raise pyjwt.DecodeError("it belongs to the holder of a key (cnf), or to a client and no user (client_id)")
    check_addressee(claims)
    if claims["exp"] <= time.time() - LEEWAY:  # last: an expired token with another fault is invalid
        raise pyjwt.ExpiredSignatureError("Signature has expired")


def check_addressee(claims: Mapping[str, Any]) -> None:
    """Check that the issuer and the audience belong together: agents have a pair of their own. Raises PyJWTError."""
    issuer, audience = expected_pair(claims)
    for name, expected in (("iss", issuer), ("aud", audience)):
        if expected is not None and not claims.get(name):
            raise pyjwt.MissingRequiredClaimError(name)
    if not has_issuer(claims, issuer):
        raise pyjwt.InvalidIssuerError("Invalid issuer")
    if not has_audience(claims, audience):
        raise pyjwt.InvalidAudienceError("Audience doesn't match")


def expected_pair(claims: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the issuer and the audience that a token must have; None allows any, NO_ISSUER none."""
    config = current_app.config
    if is_agents(claims):
        return config["MCP_ISSUER"] or NO_ISSUER, config["MCP_URL"]
    return config["JWT_ISSUER"], config["JWT_AUDIENCE"]


def is_agents(claims: Mapping[str, Any]) -> bool:
    """Return whether a token is an agent's: one of its audiences is MCP_URL."""
    url = current_app.config["MCP_URL"]
    return url is not None and url in audiences_of(claims)


def is_clients_own(claims: Mapping[str, Any]) -> bool:
    """Return whether a client got the token for itself: by the grant `client_credentials` (RFC 9068, section 2.2)."""
    return "client_id" in claims and claims["client_id"] == claims.get("sub")


def has_issuer(claims: Mapping[str, Any], issuer: str | None) -> bool:
    """Return whether a token is of the issuer. None allows any but that of agents' tokens."""
    if issuer is None:
        return not is_agents_issuer(claims)
    return issuer != NO_ISSUER and claims.get("iss") == issuer


def is_agents_issuer(claims: Mapping[str, Any]) -> bool:
    return claims.get("iss") is not None and claims["iss"] == current_app.config["MCP_ISSUER"]


def has_audience(claims: Mapping[str, Any], audience: str | None) -> bool:
    """Return whether a token is for the audience; None allows any."""
    found = audiences_of(claims)
    return audience is None or (audience in found and all(isinstance(member, str) for member in found))


def audiences_of(claims: Mapping[str, Any]) -> list[Any]:
    found = claims.get("aud")
    return found if isinstance(found, list) else [found]


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str] | None:
    """Return what an agent's token allows (RFC 9068, section 2.2.3); None for a user's own token."""
    if not is_agents(claims):
        return None
    scope = claims.get("scope")
    return frozenset(scope.split(" ") if isinstance(scope, str) else ())


def is_time(value: Any) -> TypeGuard[float]:
    """Return whether a claim is a NumericDate (RFC 7519, section 2) of the years 1970 to 9999."""
    return type(value) in (int, float) and 0 <= value < YEAR_10000


def has_token_type(header: dict[str, Any]) -> bool:
    return str(header.get("typ", "JWT")).lower() in TOKEN_TYPES


def is_user_id(value: object) -> bool:
    """Return whether a value can be a user id: text of 1 to 255 characters without NUL or lone surrogates."""
    return isinstance(value, str) and USER_ID.fullmatch(value) is not None


def get_verifier() -> TokenVerifier:
    """Return the current application's verifier."""
    return cast(TokenVerifier, current_app.extensions["auth"])


def get_key_set() -> KeySet | None:
    """Return the current application's key set; None when it trusts the shared secret alone."""
    return get_verifier().key_set


def init_app(app: Flask) -> None:
    """Bind Flask-JWT-Extended and a TokenVerifier to the application."""
    secret, algorithm, url = (app.config[name] for name in ("JWT_SECRET_KEY", "JWT_ALGORITHM", "JWKS_URL"))
    key = PyJWK({"kty": "oct", "alg": algorithm, "k": urlsafe_b64encode(secret.encode()).decode()}) if secret else None
    app.extensions["auth"] = verifier = TokenVerifier(key, KeySet(url) if url else None)
    # A copy, as Flask-JWT-Extended adds its own. No harm: with a PyJWK, PyJWT accepts only the algorithm of that key.
    app.config.update(JWT_DECODE_LEEWAY=LEEWAY, JWT_DECODE_ALGORITHMS=[*verifier.algorithms])
    jwt.init_app(app)
    jwt.decode_key_loader(lambda header, _claims: get_verifier().key_for(header))
    unset = [name for name in ("JWT_ISSUER", "JWT_AUDIENCE") if app.config[name] is None]
    if unset and app.config["ENVIRONMENT"] != "development" and not app.config["ALREADY_CHECKED"]:
        logger.warning("%s not set: tokens of any issuer or audience are accepted", " and ".join(unset))
