"""The tokens of a real Better Auth server, sent to a real gunicorn."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any, cast

import pytest

from tests.support.issuers import SECRET, BetterAuth, Key, better_auth
from tests.support.programs import Program, Server, environment, serving
from tests.support.threads import wait_until
from todo_api.auth.keys import COOLDOWN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def serve(migrated_database: Callable[[str], str]) -> Callable[..., Any]:
    """Run the service in production with these settings."""
    database = migrated_database("better_auth")

    return lambda **settings: serving(environment(DATABASE_URL=database, WEB_CONCURRENCY="1", **settings))


Pair = Callable[..., tuple[BetterAuth, Server]]


@pytest.fixture(scope="module")
def pair(serve: Callable[..., Any]) -> Iterator[Pair]:
    """A Better Auth and a service for it. Each is started once, as the two take 2 s of CPU."""
    programs: list[Program] = []
    with ExitStack() as stack:

        @cache
        def issuer(alg: str, cookies: str) -> BetterAuth:
            started = stack.enter_context(better_auth(alg=alg, cookies=cookies))
            programs.append(started.program)
            return started

        @cache
        def service(alg: str, kind: str, ending: str, cookies: str) -> Server:
            settings = settings_of(issuer(alg, cookies), kind, ending)
            started = cast(Server, stack.enter_context(serve(**settings)))
            programs.append(started.program)
            return started

        def paired(alg: str, kind: str, ending: str = "", cookies: str = "jwt") -> tuple[BetterAuth, Server]:
            return issuer(alg, cookies), service(alg, kind, ending, cookies)

        yield paired
        for program in programs:  # all at once, as each takes up to a second to end
            program.process.terminate()


def settings_of(issuer: BetterAuth, kind: str, ending: str = "") -> dict[str, str]:
    """Return one of the three configurations; `ending` is appended to the URL of Better Auth."""
    key_set = {"BETTER_AUTH_URL": issuer.origin + ending}
    secret = {"BETTER_AUTH_SECRET": SECRET}
    claims = {"JWT_ISSUER": issuer.origin, "JWT_AUDIENCE": issuer.origin}
    return {"key set": key_set, "secret": secret | claims, "both": key_set | secret}[kind]


def ask(server: Server, token: str, method: str = "GET", body: str | None = None) -> tuple[int, Any]:
    return server.request(method, "/api/tasks", body, Authorization=f"Bearer {token}")


@pytest.mark.parametrize(
    ("alg", "kind", "ending"),
    [
        ("EdDSA", "key set", ""),
        ("EdDSA", "key set", "/api/auth"),
        ("EdDSA", "both", ""),
        ("EdDSA", "both", "/api/auth/"),
        ("ES256", "key set", "/"),
        ("HS256", "secret", ""),
        ("HS256", "both", ""),
        # Node.js looks for two large primes, for up to 5 s.
        pytest.param("RS256", "key set", "", marks=pytest.mark.slow),
        pytest.param("PS256", "key set", "", marks=pytest.mark.slow),
    ],
)
def test_a_real_token_names_its_user(pair: Pair, alg: str, kind: str, ending: str) -> None:
    issuer, server = pair(alg, kind, ending)
    user, session, _ = issuer.sign_up("alice")
    token = issuer.token(session)
    status, task = ask(server, token, "POST", '{"title": "Real"}')
    assert (status, task["user_id"]) == (201, user)
    assert ask(server, token) == (200, [task])
    _, session, _ = issuer.sign_up("bob")
    assert ask(server, issuer.token(session)) == (200, [])


def test_a_service_with_only_a_secret_or_only_a_key_set_rejects_tokens_of_the_other(pair: Pair) -> None:
    keys, with_keys = pair("EdDSA", "key set")
    _, with_secret = pair("EdDSA", "secret")
    _, session, _ = keys.sign_up("alice")
    assert ask(with_keys, keys.token(session))[0] == 200
    assert ask(with_secret, keys.token(session))[0] == 401
    signer, _ = pair("HS256", "secret")
    _, session, _ = signer.sign_up("alice")
    assert ask(with_keys, signer.token(session))[0] == 401


def test_a_rotated_key_works_within_5_seconds_and_the_old_key_still_works(serve: Callable[..., Any]) -> None:
    with better_auth(rotate=4) as issuer, serve(**settings_of(issuer, "key set")) as server:
        _, session, _ = issuer.sign_up("alice")
        old = issuer.token(session)
        assert ask(server, old)[0] == 200
        time.sleep(4)
        new = issuer.token(session)
        assert new.partition(".")[0] != old.partition(".")[0]
        wait_until(lambda: ask(server, new)[0] == 200, 5.5)
        assert ask(server, issuer.token(session))[0] == 200
        assert ask(server, old)[0] == 200


def test_while_strangers_name_random_keys_a_rotated_key_is_never_refused(serve: Callable[..., Any]) -> None:
    def ask_as_stranger(kid: str) -> int:
        return ask(server, Key("EdDSA", kid).token())[0]

    with better_auth(rotate=4) as issuer, serve(**settings_of(issuer, "key set")) as server:
        _, session, _ = issuer.sign_up("alice")
        assert ask(server, issuer.token(session))[0] == 200
        time.sleep(4)
        wait_until(lambda: ask_as_stranger("random") == 401, 11)  # the keys have just been fetched
        new = issuer.token(session)
        refusals = set()

        def is_accepted() -> bool:
            ask_as_stranger(f"random {time.monotonic()}")
            status, body = ask(server, new)
            if status != 200:
                refusals.add(body["error_code"])
            return status == 200

        wait_until(is_accepted, 11)
    assert refusals == {"KEYS_UNAVAILABLE"}


def test_users_stay_signed_in_during_an_outage_of_better_auth(serve: Callable[..., Any]) -> None:
    with better_auth() as issuer, serve(**settings_of(issuer, "key set")) as server:
        _, session, _ = issuer.sign_up("alice")
        known, later = issuer.token(session), issuer.token(session)
        assert ask(server, known)[0] == 200
        fetched = time.monotonic()
        issuer.program.stop()
        assert ask(server, known)[0] == 200
        assert ask(server, later)[0] == 200
        with serve(**settings_of(issuer, "key set")) as started_later:
            status, body = ask(started_later, known)
            assert (status, body["error_code"]) == (503, "KEYS_UNAVAILABLE")
        time.sleep(max(fetched + COOLDOWN - time.monotonic(), 0))  # until the keys may be fetched again
        status, body = ask(server, Key("EdDSA", "unknown").token())
        assert (status, body["error_code"]) == (503, "KEYS_UNAVAILABLE")
        server.program.wait_for("keys not fetched")
        assert known.split(".")[2] not in server.program.output


@pytest.mark.parametrize(
    ("cookies", "kind"),
    [
        ("jwt", "secret"),
        ("jwt", "key set"),
        ("jwt", "both"),
        ("jwks", "key set"),
        ("jwks", "both"),
        pytest.param("jwks", "secret", marks=pytest.mark.slow),  # no key could verify this cookie
    ],
)
def test_other_tokens_and_cookies_of_better_auth_are_rejected(pair: Pair, cookies: str, kind: str) -> None:
    issuer, server = pair("EdDSA", kind, cookies=cookies)
    _, session, jar = issuer.sign_up("alice")
    mail = issuer.program.wait_for("mail ").split()[1]
    cookie = jar["better-auth.session_data"]
    assert mail.count(".") == cookie.count(".") == 2
    for token in (mail, cookie, session):
        status, body = ask(server, token)
        assert (status, body["error_code"]) == (401, "TOKEN_INVALID")
