"""The issuer's public keys (JWKS, RFC 7517), and the thread that keeps them fresh."""

import json
import logging
import socket
import threading
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPSConnection
from typing import NoReturn
from urllib.parse import urlsplit

from jwt import PyJWK, PyJWTError

from todo_api.errors import Unavailable

# Times are in seconds.
ALGORITHMS = ("EdDSA", "ES256", "RS256", "PS256")
REFRESH_INTERVAL = 300
RETRY_INTERVAL = 30  # after a failed fetch, unless a request asks sooner
COOLDOWN = 5  # between two fetches, however many requests ask
MAX_AGE = 3600  # how long a key set serves through an outage
FETCH_TIMEOUT = 3  # to connect, and again to read the response; a request waits as long for both together
MAX_WAITERS = 2  # requests that wait for a fetch while there are keys: unknown kids must not block a whole worker
MAX_BYTES = 256 * 1024

logger = logging.getLogger(__name__)


class UnknownKey(PyJWTError):
    """A freshly fetched key set lacks the key."""


class KeysUnavailable(Unavailable):
    """The key may exist, but the key set cannot be fetched."""

    error_code, detail = "KEYS_UNAVAILABLE", "The keys that verify tokens cannot be fetched."


class KeySet:
    """The keys at a URL, by `kid`. One thread, started when keys are first needed, fetches them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, PyJWK] = {}
        self._fetched = self._tried = float("-inf")  # time.monotonic() of the last good fetch, and of the last attempt
        self._pending = False  # a fetch is due or under way
        self._waiters = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._keep_fresh, name="keys", daemon=True)

    def age(self) -> float:
        """Return the seconds since the keys were fetched; infinite without keys."""
        return time.monotonic() - self._fetched

    def fetched_at(self) -> float:
        """Return when the keys were fetched, in seconds since 1970; 0 without keys."""
        return max(time.time() - self.age(), 0.0)

    def is_usable(self) -> bool:
        """Return whether there are keys to verify tokens with; fetch them first if there are none."""
        if self.age() >= MAX_AGE:
            self._await_fetch()
        return self.age() < MAX_AGE

    def get(self, kid: str) -> PyJWK:
        """Return a key; wait for a fetch if the set lacks it. Raises UnknownKey, KeysUnavailable."""
        if self.age() >= MAX_AGE or kid not in self.keys:
            self._await_fetch()
        with self._changed:
            if self.age() < MAX_AGE and kid in self.keys:
                return self.keys[kid]
            if self._fetched < self._tried:  # the last fetch failed, or is not done yet
                raise KeysUnavailable
        raise UnknownKey("the key set has no such key")

    def _await_fetch(self) -> None:
        """Request a fetch (at most every COOLDOWN). Wait for it if there are no keys or fewer than MAX_WAITERS wait."""
        with self._changed:
            if not self._pending and time.monotonic() - self._tried >= COOLDOWN:
                self._pending, self._tried = True, time.monotonic()
                self._changed.notify_all()
                if not self._thread.is_alive():
                    self._thread.start()
            if not self.keys or self._waiters < MAX_WAITERS:
                self._waiters += 1
                self._changed.wait_for(lambda: not self._pending, self._tried + FETCH_TIMEOUT - time.monotonic())
                self._waiters -= 1

    def _keep_fresh(self) -> NoReturn:
        while True:
            seconds = REFRESH_INTERVAL if self.refresh() else RETRY_INTERVAL
            with self._changed:
                self._changed.wait_for(lambda: self._pending, seconds)

    def refresh(self) -> bool:
        """Fetch the keys now, log the outcome and return whether that worked."""
        with self._changed:
            self._pending, self._tried = True, time.monotonic()
        keys = {}
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
    """Return the body at `url`; follow no redirect. Raises OSError, HTTPException, ValueError."""
    parts = urlsplit(url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(connect(parts.netloc, timeout=FETCH_TIMEOUT)) as connection:
        connection.connect()
        # The connection's own timeout is for connecting and for each read; the timer is for all reads together.
        deadline = threading.Timer(FETCH_TIMEOUT, shut_down, [connection.sock])
        deadline.start()
        try:
            connection.request("GET", f"{parts.path or '/'}?{parts.query}".rstrip("?"))
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


def parse(body: bytes) -> dict[str, PyJWK]:
    """Return the keys of a JWKS document that can verify tokens here. Raises ValueError if there are none."""
    keys = {}
    for member in json.loads(body)["keys"]:
        with suppress(Exception):  # an odd key does no harm to the good ones beside it
            key = PyJWK(member)  # without `alg`, PyJWK infers it from the kind of key
            can_verify = key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig")
            if can_verify and isinstance(key.key_id, str):
                keys[key.key_id] = key
    if not keys:
        raise ValueError("no usable key")
    return keys
