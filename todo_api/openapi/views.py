"""The routes of the OpenAPI document and of the page that shows it. They need no token."""

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Flask, Response, current_app, request

from todo_api.errors import NotFound

STATIC = Path(__file__).with_name("static")
SWAGGER_UI = Path(flask_swagger_ui.__file__).with_name("dist")  # its files only: its own page has inline scripts
ASSETS = {
    "copy.svg": (STATIC, "image/svg+xml"),
    "icon.svg": (STATIC, "image/svg+xml"),
    "page.css": (STATIC, "text/css"),
    "page.js": (STATIC, "text/javascript"),
    "swagger-ui-bundle.js": (SWAGGER_UI, "text/javascript"),
    "swagger-ui.css": (SWAGGER_UI, "text/css"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

blueprint = Blueprint("docs", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Get the OpenAPI document."""
    return Response(get_document(), mimetype="application/json")


def get_document() -> bytes:
    """Return the OpenAPI document of the current application, built once."""
    from todo_api.openapi.document import describe  # here, as it takes 2 MiB that most workers never need

    built = current_app.extensions
    if "openapi" not in built:
        built["openapi"] = json.dumps(describe(current_app), ensure_ascii=False, indent=1).encode() + b"\n"
    document: bytes = built["openapi"]
    return document


@blueprint.get("/docs")
def page() -> Response:
    """Get the documentation page."""
    own = current_app.config["USES_DEVELOPMENT_SECRET"]
    source = "the output of <code>flask token USER</code>" if own else "a token from your Better Auth server"
    html = (STATIC / "index.html").read_bytes().replace(b"SOURCE", source.encode())
    response = _revalidated([html], len(html), blake2b(html, digest_size=8).hexdigest(), "text/html")
    response.headers["Content-Security-Policy"] = POLICY
    return response


@blueprint.get("/docs/<name>")
def asset(name: str) -> Response:
    """Get one of the files that the page loads."""
    if name not in ASSETS:
        raise NotFound
    folder, mimetype = ASSETS[name]
    file = folder / name
    stat = file.stat()
    return _revalidated(_chunks(file), stat.st_size, f"{stat.st_mtime_ns:x}-{stat.st_size:x}", mimetype)


def _revalidated(body: Iterable[bytes], length: int, etag: str, mimetype: str) -> Response:
    """Return a response with an ETag, or 304. Not `make_conditional`, which answers 412 to `If-Match`."""
    response = Response(body, mimetype=mimetype)
    response.content_length = length
    response.set_etag(etag)
    if request.if_none_match.contains_weak(etag):
        response.status_code = 304
    return response


def _chunks(path: Path) -> Iterator[bytes]:
    """Read a file in pieces: reading Swagger UI as a whole would cost each worker 6 MiB."""
    with path.open("rb") as file:
        yield from iter(lambda: file.read(65536), b"")


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)
