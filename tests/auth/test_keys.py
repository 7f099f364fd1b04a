"""The key set: how often it is fetched, and what happens when the issuer fails."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from flask import Flask
from jwt.algorithms import OKPAlgorithm

from tests.conftest import Caller, MakeApp, assert_error
from tests.support.clock import Clock, replace_clock
from tests.support.issuers import Behaviour, Key, KeyServer, hang, reset, respond_with, trickle, write_certificate
from tests.support.threads import at_once, wait_until
from todo_api.auth import keys
from todo_api.auth.keys import FETCH_TIMEOUT, REFRESH_INTERVAL, RETRY_INTERVAL, KeySet, KeysUnavailable, UnknownKey

ONE, OTHER = Key("EdDSA", "one"), Key("ES256", "other")
OCT = {"kty": "oct", "kid": "one", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "alg": "HS256"}
ODD_ALGORITHMS: list[Any] = [["x"], {"a": 1}, 1, "none"]
LONG_TIMEOUT = 6.0  # seconds, where those that do not wait are told from those that do
ALLOWANCE = 3  # seconds that a busy machine may take beyond a timeout


FAILURES: dict[str, Behaviour] = {
    "reset": reset,
    "slow": hang,
    "trickle": trickle,
    "500": respond_with(500, json.dumps({"keys": [ONE.jwk]}).encode()),
    "404": respond_with(404, b"{}"),
    "HTML": respond_with(200, b"<html>Sign in</html>"),
    "no UTF-8": respond_with(200, b"\xff\xfe"),
    "array": respond_with(200, b"[]"),
    "too deep": respond_with(200, b"[" * 100_000),
    "empty set": respond_with(200, b'{"keys": []}'),
    "no keys": respond_with(200, b"{}"),
    "keys no list": respond_with(200, b'{"keys": {"a": 1}}'),
    "redirect": respond_with(302, b"", Location="/moved"),
    "50 MB": respond_with(200, b" " * 50_000_000),
    "a secret": respond_with(200, json.dumps({"keys": [OCT]}).encode()),
    "for encryption": respond_with(200, json.dumps({"keys": [ONE.jwk | {"use": "enc"}]}).encode()),
    "odd keys alone": respond_with(
        200, json.dumps({"keys": [ONE.jwk | {"alg": alg} for alg in ODD_ALGORITHMS]}).encode()
    ),
    "unusable": respond_with(200, json.dumps({"keys": [{"kty": "EC", "kid": "one"}, 1, None]}).encode()),
    "no kid": respond_with(200, json.dumps({"keys": [ONE.jwk | {"kid": None}]}).encode()),
}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return replace_clock(monkeypatch, keys)


@pytest.fixture
def endpoint() -> Iterator[KeyServer]:
    with closing(KeyServer(ONE.jwk)) as server:
        yield server


@pytest.fixture
def key_set(endpoint: KeyServer) -> KeySet:
    return KeySet(endpoint.url)


def outcome(key_set: KeySet, kid: str, algorithm: str = "EdDSA") -> str:
    try:
        return key_set.get(kid, algorithm).algorithm_name
    except (UnknownKey, KeysUnavailable) as error:
        return type(error).__name__


def outcomes(number: int, key_set: KeySet, kid: str) -> tuple[set[str], list[float]]:
    """Return the outcomes of threads that start together, and the seconds that each took."""

    def run() -> tuple[str, float]:
        began = time.monotonic()
        return outcome(key_set, kid), time.monotonic() - began

    found = at_once([run] * number)
    return {result for result, _ in found}, [seconds for _, seconds in found]


def test_the_keys_are_fetched_once_for_many_tokens(key_set: KeySet, endpoint: KeyServer) -> None:
    assert endpoint.asked == []
    assert [outcome(key_set, "one") for _ in range(100)] == ["EdDSA"] * 100
    assert endpoint.asked == ["/jwks"]


def test_requests_that_start_together_share_one_fetch(key_set: KeySet, endpoint: KeyServer) -> None:
    assert outcomes(8, key_set, "one")[0] == {"EdDSA"}
    assert len(endpoint.asked) == 1


def test_a_key_is_unknown_after_a_fetch_that_began_once_it_was_asked_for(
    key_set: KeySet, endpoint: KeyServer, clock: Clock
) -> None:
    assert outcome(key_set, "one") == "EdDSA"
    clock.ahead += keys.COOLDOWN - 0.1
    assert {outcome(key_set, f"unknown {number}") for number in range(200)} == {"KeysUnavailable"}
    assert len(endpoint.asked) == 1
    clock.ahead += 0.1
    assert {outcome(key_set, f"unknown {number}") for number in range(200)} == {"UnknownKey"}
    assert len(endpoint.asked) == 2


def test_while_strangers_name_random_keys_a_rotated_key_is_not_called_unknown(
    key_set: KeySet, endpoint: KeyServer, clock: Clock
) -> None:
    assert outcome(key_set, "random 1") == "UnknownKey"
    endpoint.serve(OTHER.jwk)
    assert outcome(key_set, "other", "ES256") == "KeysUnavailable"
    clock.ahead += keys.COOLDOWN
    assert outcome(key_set, "random 2") == "UnknownKey"
    assert outcome(key_set, "other", "ES256") == "ES256"
    assert len(endpoint.asked) == 2


def test_a_fetch_that_began_before_a_key_was_asked_for_does_not_make_it_unknown(
    key_set: KeySet, endpoint: KeyServer, clock: Clock
) -> None:
    asked, rotated = threading.Event(), threading.Event()

    def answer_late(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        rotated.wait(10)
        respond_with(200, json.dumps({"keys": [ONE.jwk]}).encode())(handler)

    endpoint.behaviour = answer_late
    first = threading.Thread(target=outcome, args=[key_set, "one"])
    first.start()
    assert asked.wait(10)
    threading.Timer(0.25, rotated.set).start()
    assert outcome(key_set, "other", "ES256") == "KeysUnavailable"
    first.join()
    endpoint.serve(OTHER.jwk)
    clock.ahead += keys.COOLDOWN
    assert outcome(key_set, "other", "ES256") == "ES256"


def test_the_memory_of_unknown_keys_is_bounded(key_set: KeySet, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_UNKNOWN", 10)
    assert outcome(key_set, "one") == "EdDSA"
    for number in range(30):
        assert outcome(key_set, f"unknown {number}") == "KeysUnavailable"
    clock.ahead += keys.COOLDOWN
    assert [outcome(key_set, f"unknown {number}") for number in (29, 28, 20)] == ["UnknownKey"] * 3
    assert outcome(key_set, "unknown 0") == "KeysUnavailable"


def test_one_kid_may_name_keys_of_different_algorithms(key_set: KeySet, endpoint: KeyServer) -> None:
    """RFC 7517, section 4.5."""
    served = [Key(algorithm, "same") for algorithm in ("ES256", "EdDSA", "RS256")]
    endpoint.serve(*(key.jwk for key in served))
    assert [outcome(key_set, "same", key.algorithm) for key in served] == ["ES256", "EdDSA", "RS256"]
    assert outcome(key_set, "same", "PS256") == "KeysUnavailable"


def test_a_key_of_the_fully_specified_algorithm_ed25519_verifies_eddsa(key_set: KeySet, endpoint: KeyServer) -> None:
    """RFC 9864, section 2.2."""
    endpoint.serve(ONE.jwk | {"alg": "Ed25519"})
    assert outcome(key_set, "one") == "EdDSA"


def test_ed25519_names_no_other_curve(key_set: KeySet, endpoint: KeyServer) -> None:
    public = Ed448PrivateKey.generate().public_key()
    endpoint.serve({**OKPAlgorithm.to_jwk(public, as_dict=True), "alg": "Ed25519", "kid": "one"}, OTHER.jwk)
    assert outcome(key_set, "one") == "UnknownKey"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_rsa_keys_under_2048_bits_are_not_used(
    key_set: KeySet, endpoint: KeyServer, caplog: pytest.LogCaptureFixture, algorithm: str
) -> None:
    short = Key(algorithm, "short\x1b", rsa_bits=2047)
    endpoint.serve(short.jwk, Key(algorithm, "long").jwk)
    assert outcome(key_set, short.kid, algorithm) == "UnknownKey"
    assert outcome(key_set, "long", algorithm) == algorithm
    assert r"key 'short\x1b' not used: an RSA key needs 2048 bits" in caplog.text


def test_malformed_keys_do_not_affect_a_good_key_in_the_same_set(key_set: KeySet, endpoint: KeyServer) -> None:
    endpoint.serve(
        *({"kty": "RSA", "alg": alg, "n": "AQAB", "e": "AQAB", "kid": "z"} for alg in ODD_ALGORITHMS),
        {"kty": "oct", "kid": "z"},
        ONE.jwk,
    )
    assert outcome(key_set, "one") == "EdDSA"
    assert list(key_set.keys) == ["one"]


def test_once_a_set_is_fetched_unknown_keys_block_at_most_two_threads(
    key_set: KeySet, endpoint: KeyServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "FETCH_TIMEOUT", LONG_TIMEOUT)
    assert outcome(key_set, "one") == "EdDSA"
    endpoint.behaviour = hang
    clock.ahead += keys.COOLDOWN
    results, waits = outcomes(8, key_set, "unknown")
    assert results == {"KeysUnavailable"}
    assert len([seconds for seconds in waits if seconds > LONG_TIMEOUT / 2]) == 2


def test_a_rotated_key_is_found_and_a_removed_key_is_forgotten(
    key_set: KeySet, endpoint: KeyServer, clock: Clock
) -> None:
    assert outcome(key_set, "one") == "EdDSA"
    endpoint.serve(OTHER.jwk)
    clock.ahead += keys.COOLDOWN
    assert outcome(key_set, "other", "ES256") == "ES256"
    assert outcome(key_set, "one") == "UnknownKey"


@pytest.fixture
def fetches_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the real intervals; the thread looks at the clock every 50 ms."""
    monkeypatch.setattr(keys, "REFRESH_INTERVAL", REFRESH_INTERVAL)
    monkeypatch.setattr(keys, "RETRY_INTERVAL", RETRY_INTERVAL)
    monkeypatch.setattr(keys, "CLOCK_CHECK_INTERVAL", 0.05)


@pytest.mark.usefixtures("fetches_in_the_background")
def test_the_set_is_refreshed_in_the_background_every_5_minutes(
    key_set: KeySet, endpoint: KeyServer, clock: Clock
) -> None:
    assert outcome(key_set, "one") == "EdDSA"
    endpoint.serve(OTHER.jwk)
    clock.ahead = 299
    time.sleep(0.3)
    assert len(endpoint.asked) == 1
    clock.ahead = 300
    wait_until(lambda: list(key_set.keys) == ["other"])


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_without_a_key_set_a_failing_endpoint_makes_keys_unavailable(
    key_set: KeySet, endpoint: KeyServer, failure: Behaviour
) -> None:
    endpoint.behaviour = failure
    began = time.monotonic()
    assert outcome(key_set, "one") == "KeysUnavailable"
    assert time.monotonic() - began < FETCH_TIMEOUT + ALLOWANCE
    assert outcome(key_set, "one") == "KeysUnavailable"
    assert endpoint.asked == ["/jwks"]


@pytest.mark.parametrize("failure", ["reset", "slow", "500", "empty set"])
def test_with_a_key_set_a_failing_endpoint_does_not_affect_known_users(
    key_set: KeySet, endpoint: KeyServer, clock: Clock, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    monkeypatch.setattr(keys, "FETCH_TIMEOUT", LONG_TIMEOUT)
    assert outcome(key_set, "one") == "EdDSA"
    endpoint.behaviour = FAILURES[failure]
    clock.ahead += keys.COOLDOWN
    unknown = threading.Thread(target=outcome, args=[key_set, "unknown"])
    unknown.start()
    results, waits = outcomes(20, key_set, "one")
    assert results == {"EdDSA"}
    assert max(waits) < LONG_TIMEOUT / 2
    unknown.join()
    assert [outcome(key_set, f"unknown {number}") for number in range(50)] == ["KeysUnavailable"] * 50
    assert endpoint.asked == ["/jwks"] * 2


def test_nobody_waits_longer_for_keys_than_the_timeout(key_set: KeySet, endpoint: KeyServer) -> None:
    endpoint.behaviour = hang
    results, waits = outcomes(8, key_set, "one")
    assert results == {"KeysUnavailable"}
    assert max(waits) < FETCH_TIMEOUT + ALLOWANCE
    assert len(endpoint.asked) == 1


def test_no_request_waits_longer_than_the_timeout_for_a_name_look_up(
    key_set: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's name look-up has no timeout."""
    found, answered = threading.Event(), threading.Event()

    def look_up(_: str) -> bytes:
        found.wait(30)
        answered.set()
        return b""

    monkeypatch.setattr(keys, "download", look_up)
    assert outcome(key_set, "one") == "KeysUnavailable"
    assert not answered.is_set()
    found.set()


def test_an_endpoint_that_recovers_is_used_again(key_set: KeySet, endpoint: KeyServer, clock: Clock) -> None:
    endpoint.behaviour = FAILURES["500"]
    assert outcome(key_set, "one") == "KeysUnavailable"
    endpoint.serve(ONE.jwk)
    clock.ahead += keys.COOLDOWN
    assert outcome(key_set, "one") == "EdDSA"


@pytest.mark.usefixtures("fetches_in_the_background")
def test_a_failed_refresh_is_retried_in_the_background(key_set: KeySet, endpoint: KeyServer, clock: Clock) -> None:
    endpoint.behaviour = FAILURES["500"]
    assert outcome(key_set, "one") == "KeysUnavailable"
    endpoint.serve(ONE.jwk)
    clock.ahead += RETRY_INTERVAL
    wait_until(lambda: list(key_set.keys) == ["one"])


@pytest.mark.parametrize("passing", ["ahead", "asleep"])  # monotonic time stops while the machine sleeps
def test_the_last_set_is_used_for_an_hour_of_an_outage(
    key_set: KeySet, endpoint: KeyServer, clock: Clock, passing: str
) -> None:
    assert outcome(key_set, "one") == "EdDSA"
    endpoint.behaviour = FAILURES["500"]
    setattr(clock, passing, 3590)
    assert outcome(key_set, "one") == "EdDSA"
    setattr(clock, passing, 3605)
    assert outcome(key_set, "one") == "KeysUnavailable"
    assert key_set.age() > 3600


def test_a_clock_that_is_set_back_makes_no_key_younger(key_set: KeySet, endpoint: KeyServer, clock: Clock) -> None:
    assert outcome(key_set, "one") == "EdDSA"
    endpoint.behaviour = FAILURES["500"]
    clock.ahead, clock.asleep = 3605, -7200
    assert outcome(key_set, "one") == "KeysUnavailable"


@pytest.mark.usefixtures("fetches_in_the_background")
def test_a_machine_that_wakes_up_refreshes_the_set_soon(key_set: KeySet, endpoint: KeyServer, clock: Clock) -> None:
    assert outcome(key_set, "one") == "EdDSA"
    endpoint.serve(OTHER.jwk)
    clock.asleep = 299
    time.sleep(0.3)
    assert len(endpoint.asked) == 1
    clock.asleep = 300
    wait_until(lambda: list(key_set.keys) == ["other"])


def ask(app: Flask, key: Key, **claims: Any) -> Any:
    client = Caller(app.test_client(), None)
    client.headers = {"Authorization": f"Bearer {key.token(iss='https://issuer.example', aud='api', **claims)}"}
    return client.get("/api/tasks")


@pytest.mark.sqlite_only
def test_without_keys_a_client_is_told_when_to_retry(make_app: MakeApp, endpoint: KeyServer, clock: Clock) -> None:
    app = make_app(JWKS_URL=endpoint.url, JWT_ISSUER="https://issuer.example", JWT_AUDIENCE="api")
    endpoint.behaviour = FAILURES["HTML"]
    response = ask(app, ONE)
    assert_error(response, 503, "KEYS_UNAVAILABLE")
    assert int(response.headers["Retry-After"]) >= 1
    endpoint.serve(ONE.jwk)
    clock.ahead += keys.COOLDOWN
    assert ask(app, ONE).status_code == 200
    response = ask(app, OTHER)
    assert_error(response, 503, "KEYS_UNAVAILABLE")
    assert int(response.headers["Retry-After"]) >= 1
    clock.ahead += keys.COOLDOWN
    assert_error(ask(app, OTHER), 401, "TOKEN_INVALID")


def test_over_tls_keys_are_fetched_only_with_a_valid_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_certificate(tmp_path)
    with closing(KeyServer(ONE.jwk, certificate=tmp_path)) as server:
        key_set = KeySet(server.url)
        assert not key_set.refresh()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "fullchain.pem"))
        assert key_set.refresh()


def test_a_fetch_names_the_program(key_set: KeySet, endpoint: KeyServer) -> None:
    """Some firewalls of issuers refuse requests without a User-Agent."""
    key_set.refresh()
    assert endpoint.agents == ["todo-api"]


def test_no_proxy_is_used(key_set: KeySet, endpoint: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert key_set.refresh()


def test_a_url_without_a_path_is_fetched_from_the_root(endpoint: KeyServer) -> None:
    keys.download(endpoint.origin)
    assert endpoint.asked == ["/"]


@pytest.mark.parametrize("behaviour", [hang, trickle])
def test_no_fetch_takes_longer_than_the_timeout(endpoint: KeyServer, behaviour: Behaviour) -> None:
    endpoint.behaviour = behaviour
    assert_given_up(endpoint.url)


def test_no_connection_attempt_takes_longer_than_the_timeout() -> None:
    with socket.socket() as busy, ExitStack() as stack:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for _ in range(2):  # fill the queue of the listener; the system accepts no other connection
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(busy.getsockname())
        assert_given_up(f"http://127.0.0.1:{busy.getsockname()[1]}/jwks")


def test_no_tls_handshake_takes_longer_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle_a_handshake() -> None:
            with suppress(OSError), server.accept()[0] as connection:
                for byte in b"\x16\x03\x03\x40\x00" + bytes(16384):  # the header of a long record
                    connection.sendall(bytes([byte]))
                    time.sleep(0.02)

        threading.Thread(target=trickle_a_handshake, daemon=True).start()
        assert_given_up(f"https://127.0.0.1:{server.getsockname()[1]}/jwks")


def assert_given_up(url: str) -> None:
    """A fetch that never ends would leave the service without new keys."""
    given_up = threading.Event()

    def fetch() -> None:
        with suppress(OSError, HTTPException, ValueError):
            keys.download(url)
        given_up.set()

    threading.Thread(target=fetch, daemon=True).start()
    assert given_up.wait(FETCH_TIMEOUT + 10)


@pytest.mark.parametrize(("more", "status"), [(0, True), (1, False)])
def test_a_key_set_has_at_most_256_kib(key_set: KeySet, endpoint: KeyServer, more: int, status: bool) -> None:
    body = json.dumps({"keys": [ONE.jwk]}).encode().rjust(256 * 1024 + more)
    endpoint.behaviour = respond_with(200, body)
    assert key_set.refresh() is status


def test_a_set_that_is_too_large_is_not_read_to_its_end(key_set: KeySet, endpoint: KeyServer) -> None:
    taken: list[bool] = []

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            handler.wfile.write(b" " * 50_000_000)
            taken.append(True)
        except OSError:
            taken.append(False)

    endpoint.behaviour = send
    assert not key_set.refresh()
    wait_until(lambda: taken)
    assert taken == [False]


def test_shutting_down_a_closed_connection_does_nothing() -> None:
    closed = socket.socket()
    closed.close()
    keys.shut_down(closed)


def test_a_key_may_be_marked_for_signatures(key_set: KeySet, endpoint: KeyServer) -> None:
    endpoint.serve(ONE.jwk | {"use": "sig"})
    assert outcome(key_set, "one") == "EdDSA"


def lines_of(endpoint: KeyServer, caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return the level and message of each line about this endpoint; threads of earlier tests may log other lines."""
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    return [(level, message) for level, message in lines if endpoint.url in message]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        ("50 MB", "ValueError: 'larger than 262144 bytes'"),
        ("unusable", "ValueError: 'no usable key'"),
        ("404", "ValueError: 'status 404'"),
    ],
)
def test_an_operator_is_told_why_there_are_no_keys(
    key_set: KeySet, endpoint: KeyServer, caplog: pytest.LogCaptureFixture, failure: str, told: str
) -> None:
    endpoint.behaviour = FAILURES[failure]
    key_set.refresh()
    assert lines_of(endpoint, caplog) == [("WARNING", f"keys not fetched from {endpoint.url}: {told}")]


def test_the_outcome_of_each_fetch_is_logged(key_set: KeySet, endpoint: KeyServer, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "todo_api")
    long = "x" * 100
    endpoint.serve(ONE.jwk, OTHER.jwk | {"kid": long})
    key_set.refresh()
    endpoint.behaviour = FAILURES["500"]
    key_set.refresh()
    assert lines_of(endpoint, caplog) == [
        ("INFO", f"keys fetched from {endpoint.url}: 'one', '{long[:64]}'"),
        ("WARNING", f"keys not fetched from {endpoint.url}: ValueError: 'status 500'"),
    ]
