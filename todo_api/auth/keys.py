"""The issuer's public keys (JWKS, RFC 7517): fetched apart from requests, and kept through an outage."""

import json
import logging
import socket
import threading
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPSConnection
from typing import NoReturn
from urllib.parse import urlsplit

from jwt import PyJWK
from jwt.exceptions import PyJWTError

ALGORITHMS = ("EdDSA", "ES256", "RS256", "PS256")
REFRESH_SECONDS = 300
RETRY_SECONDS = 30  # after a failure, unless a request asks sooner
COOLDOWN_SECONDS = 5  # between two fetches, whatever the requests ask
STALE_SECONDS = 3600
PATIENCE_SECONDS = 3  # of a fetch, and of a request that needs one
WAITERS = 2  # once a set is at hand: unknown keys, which anybody can name, must not hold all threads of a worker
MAX_BYTES = 256 * 1024


class UnknownKeyError(PyJWTError):
    """A good, fresh set does not hold the key."""


class KeysUnavailableError(ConnectionError):
    """The key may exist, but no set can be fetched that would tell."""


class KeySet:
    """The keys at `url`, by `kid`. One thread, started on first need, does all the fetching.

    Times are of time.monotonic(), in seconds.
    """

    def __init__(self, url: str, logger: logging.Logger) -> None:
        self.url = url
        self.keys: dict[str, PyJWK] = {}
        self.good_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching = self._wanted = False
        self._waiting = 0
        self._logger = logger
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def age(self) -> float:
        """Return the seconds since the set in use was fetched; infinite without one."""
        return time.monotonic() - self.good_at

    def fetched_at(self) -> float:
        """Return when the set in use was fetched, in seconds since 1970; 0 without one."""
        return max(time.time() - self.age(), 0.0)

    def are_usable(self) -> bool:
        """Tell whether there is a set that tokens can be verified with; without one, fetch it. May take 3 s."""
        if self.age() >= STALE_SECONDS:
            with self._changed:
                self._await_fetch()
        return self.age() < STALE_SECONDS

    def key(self, kid: str) -> PyJWK:
        """Return the key; one that is not at hand may take a fetch. Raises UnknownKeyError, KeysUnavailableError."""
        if found := self._at_hand(kid):
            return found
        with self._changed:
            self._await_fetch()
            if found := self._at_hand(kid):
                return found
            if self._wanted or self._fetching or self.good_at < self._tried_at:
                raise KeysUnavailableError
            raise UnknownKeyError

    def _at_hand(self, kid: str) -> PyJWK | None:
        return self.keys.get(kid) if self.age() < STALE_SECONDS else None

    def _await_fetch(self) -> None:
        """Wait for a fetch that is under way or due, unless enough others do; the caller holds the lock."""
        if not self._fetching and time.monotonic() - self._tried_at < COOLDOWN_SECONDS:
            return
        self._want_fetch()
        if self.keys and self._waiting >= WAITERS:
            return
        self._waiting += 1
        self._changed.wait_for(lambda: not (self._wanted or self._fetching), PATIENCE_SECONDS)
        self._waiting -= 1

    def _want_fetch(self) -> None:
        self._wanted = not self._fetching
        self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_fresh, name="keys", daemon=True)
            self._thread.start()

    def _keep_fresh(self) -> NoReturn:
        while True:
            seconds = REFRESH_SECONDS if self.refresh() else RETRY_SECONDS
            with self._changed:
                self._changed.wait_for(lambda: self._wanted, seconds)

    def refresh(self) -> bool:
        """Fetch the keys now and return whether that worked."""
        with self._changed:
            self._wanted, self._fetching, self._tried_at = False, True, time.monotonic()
        keys = self._fetch()
        with self._changed:
            self._fetching = False
            if keys:
                self.keys, self.good_at = keys, self._tried_at
            self._changed.notify_all()
        return bool(keys)

    def _fetch(self) -> dict[str, PyJWK]:
        try:
            keys = parse(download(self.url))
        except Exception as error:  # whatever an issuer sends: the thread that fetches must go on
            self._logger.warning("keys not fetched from %s: %s: %.200r", self.url, type(error).__name__, str(error))
            return {}
        self._logger.info("keys fetched from %s: %s", self.url, ", ".join(repr(kid[:64]) for kid in keys))
        return keys


def download(url: str) -> bytes:
    """Return the body at `url`, read within PATIENCE_SECONDS in all; no redirect is followed.

    Raises OSError, HTTPException, ValueError.
    """
    parts = urlsplit(url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(connect(parts.netloc, timeout=PATIENCE_SECONDS)) as connection:
        connection.connect()
        # The connection's own timeout is for each read, so that a trickle could last for ever.
        deadline = threading.Timer(PATIENCE_SECONDS, hang_up, [connection.sock])
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


def hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it may be closed in this very moment
        connection.shutdown(socket.SHUT_RDWR)


def parse(body: bytes) -> dict[str, PyJWK]:
    """Return the keys of a JWKS document that can verify a token here. Raises ValueError when there is none."""
    keys = {}
    for member in json.loads(body)["keys"]:
        try:
            key = PyJWK(member)
            usable = key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig")
        except (PyJWTError, AttributeError, TypeError, ValueError):
            continue  # a key of a kind that is not for us, or none at all
        if usable and isinstance(key.key_id, str):
            keys[key.key_id] = key
    if not keys:
        raise ValueError("no key that can be used")
    return keys
