"""The service for the conformance suite, which cannot send a token: each request without one gets alice's."""

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask

from tests.support.tokens import token
from wsgi import app as service


class LentToken:
    """A WSGI application that adds a token to the requests of another."""

    def __init__(self, app: Flask, authorization: str) -> None:
        self.app, self.authorization = app, authorization
        self.extensions = app.extensions  # gunicorn.conf.py uses them

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ.setdefault("HTTP_AUTHORIZATION", self.authorization)
        return self.app(environ, start_response)


app = LentToken(service, f"Bearer {token()}")
