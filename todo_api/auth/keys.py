"""The issuer's public keys (JWKS, RFC 7517), and the thread that keeps them fresh."""

import json
import logging
import socket
import threading
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPSConnection
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from jwt import PyJWK, PyJWTError

from todo_api.errors import Unavailable

# Times are in seconds.
ALGORITHMS = ("EdDSA", "ES256", "RS256", "PS256")
REFRESH_INTERVAL = 300
RETRY_INTERVAL = 30  # after a failed fetch, unless a request asks sooner
CLOCK_CHECK_INTERVAL = 30  # between two looks at the clock, which moves on while the machine sleeps
COOLDOWN = 5  # between two fetches, however many requests ask
MAX_AGE = 3600  # how long a key set serves through an outage
FETCH_TIMEOUT = 3  # to connect, for TLS, and to read the response, each; a request waits as long for all together
MAX_WAITERS = 2  # requests that wait for a fetch while there are keys: unknown kids must not block a whole worker
MAX_UNKNOWN = 10_000  # unknown keys that are remembered; some 1 MB
MAX_BYTES = 256 * 1024
MIN_RSA_BITS = 2048
USER_AGENT = "todo-api"  # some firewalls of issuers want one

Keys = dict[str, dict[str, PyJWK]]  # by `kid`, then by algorithm: a kid may name keys of different kinds

logger = logging.getLogger(__name__)


class UnknownKey(PyJWTError):
    """A key set fetched after the key was first asked for lacks it."""


class KeysUnavailable(Unavailable):
    """The key may exist, but the key set cannot be fetched, or not yet."""

    error_code, detail = "KEYS_UNAVAILABLE", "The keys that verify tokens cannot be fetched."


class Moment(NamedTuple):
    """A moment by two clocks: monotonic time stops while the machine sleeps, and the time of day can be set back."""

    monotonic: float
    time_of_day: float

    @classmethod
    def now(cls) -> "Moment":
        return cls(time.monotonic(), time.time())

    def age(self) -> float:
        """Return the seconds since then, by the clock that shows more."""
        return max(time.monotonic() - self.monotonic, time.time() - self.time_of_day)


NEVER = Moment(float("-inf"), float("-inf"))


class KeySet:
    """The keys at a URL, by `kid` and algorithm. One thread, started when keys are first needed, fetches them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: Keys = {}
        self._fetched = self._tried = NEVER  # the last good fetch, and the last attempt
        self._attempts = 0
        self._unknown: dict[int, int] = {}  # hashes of keys that were not there: the attempts before each was asked for
        self._pending = False  # a fetch is due or under way
        self._waiters = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._keep_fresh, name="keys", daemon=True)

    def age(self) -> float:
        """Return the seconds since the keys were fetched; infinite without keys."""
        return self._fetched.age()

    def fetched_at(self) -> float:
        """Return when the keys were fetched, in seconds since 1970; 0 without keys."""
        return max(self._fetched.time_of_day, 0.0)

    def is_usable(self) -> bool:
        """Return whether there are keys to verify tokens with; fetch them first if there are none."""
        if self.age() >= MAX_AGE:
            self._await_fetch()
        return self.age() < MAX_AGE

    def get(self, kid: str, algorithm: str) -> PyJWK:
        """Return a key; wait for a fetch if the set lacks it. Raises UnknownKey, KeysUnavailable."""
        if key := self._find(kid, algorithm):
            return key
        attempts_before = self._remember_unknown(kid, algorithm)
        self._await_fetch()
        with self._changed:
            if key := self._find(kid, algorithm):
                return key
            failed = self._fetched != self._tried  # or is not done yet
            if failed or self._attempts == attempts_before:
                raise KeysUnavailable
        raise UnknownKey("the key set has no such key")

    def _find(self, kid: str, algorithm: str) -> PyJWK | None:
        return self.keys.get(kid, {}).get(algorithm) if self.age() < MAX_AGE else None

    def _remember_unknown(self, kid: str, algorithm: str) -> int:
        """Return how many fetches had begun when the key was first asked for; strangers can ask for any."""
        name = hash((kid, algorithm))
        with self._changed:
            if name not in self._unknown and len(self._unknown) >= MAX_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]  # the oldest
            return self._unknown.setdefault(name, self._attempts)

    def _await_fetch(self) -> None:
        """Request a fetch (at most every COOLDOWN). Wait for it if there are no keys or fewer than MAX_WAITERS wait."""
        with self._changed:
            if not self._pending and self._tried.age() >= COOLDOWN:
                self._pending, self._tried = True, Moment.now()
                self._changed.notify_all()
                if not self._thread.is_alive():
                    self._thread.start()
            if not self.keys or self._waiters < MAX_WAITERS:
                self._waiters += 1
                give_up = self._tried.monotonic + FETCH_TIMEOUT
                self._changed.wait_for(lambda: not self._pending, give_up - time.monotonic())
                self._waiters -= 1

    def _keep_fresh(self) -> NoReturn:
        while True:
            interval = REFRESH_INTERVAL if self.refresh() else RETRY_INTERVAL
            with self._changed:
                while not self._pending and self._tried.age() < interval:
                    self._changed.wait(min(interval, CLOCK_CHECK_INTERVAL))

    def refresh(self) -> bool:
        """Fetch the keys now, log the outcome and return whether that worked."""
        with self._changed:
            self._pending, self._tried, self._attempts = True, Moment.now(), self._attempts + 1
        keys: Keys = {}
        try:
            keys = parse(download(self.url))
            logger.info("keys fetched from %s: %s", self.url, ", ".join(repr(kid[:64]) for kid in keys))
        except Exception as error:  # the thread must survive whatever the issuer sends
            logger.warning("keys not fetched from %s: %s: %.200r", self.url, type(error).__name__, str(error))
        with self._changed:
            self._pending = False
            if keys:
                self.keys, self._fetched = keys, self._tried
            self._changed.notify_all()
        return bool(keys)


def download(url: str) -> bytes:
    """Return the body at `url`; use no proxy and follow no redirect. Raises OSError, HTTPException, ValueError."""
    parts = urlsplit(url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(connect(parts.netloc, timeout=FETCH_TIMEOUT)) as connection:
        connection.connect()
        # The connection's own timeout is for connecting and for each read; the timer is for all reads together.
        deadline = threading.Timer(FETCH_TIMEOUT, shut_down, [connection.sock])
        deadline.start()
        try:
            target = f"{parts.path or '/'}?{parts.query}".rstrip("?")
            connection.request("GET", target, headers={"User-Agent": USER_AGENT})
            response = connection.getresponse()
            body = response.read(MAX_BYTES + 1)
        finally:
            deadline.cancel()
    if response.status != 200:
        raise ValueError(f"status {response.status}")
    if len(body) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    return body


def shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # it may have been closed meanwhile
        connection.shutdown(socket.SHUT_RDWR)


def parse(body: bytes) -> Keys:
    """Return the keys of a JWKS document that can verify tokens here. Raises ValueError if there are none."""
    keys: Keys = {}
    for member in json.loads(body)["keys"]:
        with suppress(Exception):  # an odd key does no harm to the good ones beside it
            key = PyJWK(member, algorithm_of(member))
            if isinstance(key.key_id, str) and can_verify(key):
                keys.setdefault(key.key_id, {})[key.algorithm_name] = key
    if not keys:
        raise ValueError("no usable key")
    return keys


def algorithm_of(member: dict[str, Any]) -> str | None:
    """Return the algorithm of a key as tokens name it; None leaves it to PyJWK, which infers it without `alg`."""
    is_ed25519 = (member.get("alg"), member.get("crv")) == ("Ed25519", "Ed25519")  # RFC 9864
    return "EdDSA" if is_ed25519 else None


def can_verify(key: PyJWK) -> bool:
    if key.algorithm_name not in ALGORITHMS or key.public_key_use not in (None, "sig"):
        return False
    is_short = key.key_type == "RSA" and key.key.key_size < MIN_RSA_BITS
    if is_short:
        logger.warning("key %.64a not used: an RSA key needs %d bits", key.key_id, MIN_RSA_BITS)
    return not is_short
