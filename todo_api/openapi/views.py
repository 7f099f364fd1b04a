"""What tells others about the API, without a token: the OpenAPI document, and a page to read and to try it."""

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Flask, Response, current_app, request

from todo_api.errors import NotFound
from todo_api.tasks.etags import tags_of

PAGE = Path(__file__).with_name("static")
VIEWER = Path(flask_swagger_ui.__file__).with_name("dist")  # its files only: its own page would need inline scripts
ASSETS = {
    "copy.svg": (PAGE, "image/svg+xml"),
    "icon.svg": (PAGE, "image/svg+xml"),
    "page.css": (PAGE, "text/css"),
    "page.js": (PAGE, "text/javascript"),
    "swagger-ui-bundle.js": (VIEWER, "text/javascript"),
    "swagger-ui.css": (VIEWER, "text/css"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

blueprint = Blueprint("docs", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Get this document."""
    return Response(document(), mimetype="application/json")


def document() -> bytes:
    """Return the OpenAPI document of the current application, which keeps it."""
    from todo_api.openapi.document import describe  # and 2 MiB that most workers never need

    kept = current_app.extensions
    if "openapi" not in kept:
        kept["openapi"] = json.dumps(describe(current_app), ensure_ascii=False, indent=1).encode() + b"\n"
    made: bytes = kept["openapi"]
    return made


@blueprint.get("/docs")
def page() -> Response:
    """Answer the page that shows the viewer."""
    made_here = current_app.config["DEVELOPMENT_SECRET"]
    source = "what <code>flask token you</code> prints" if made_here else "a token of your Better Auth"
    html = (PAGE / "index.html").read_bytes().replace(b"SOURCE", source.encode())
    response = _answer([html], len(html), blake2b(html, digest_size=8).hexdigest(), "text/html")
    response.headers["Content-Security-Policy"] = POLICY
    return response


@blueprint.get("/docs/<name>")
def asset(name: str) -> Response:
    """Answer one of the files that the page is made of."""
    if name not in ASSETS:
        raise NotFound
    folder, mimetype = ASSETS[name]
    file = folder / name
    about = file.stat()
    return _answer(_chunks(file), about.st_size, f"{about.st_mtime_ns:x}-{about.st_size:x}", mimetype)


def _answer(body: Iterable[bytes], length: int, tag: str, mimetype: str) -> Response:
    """Answer the body, or 304: a browser keeps it and asks each time, so that a new version is seen at once."""
    response = Response(body, mimetype=mimetype)
    response.content_length = length
    response.set_etag(tag)
    known = tags_of(request.headers.get("If-None-Match"))
    if known and known.match(tag):
        response.status_code = 304
        response.response = []
    return response


def _chunks(path: Path) -> Iterator[bytes]:
    """Read a file piece by piece: read whole, the viewer would leave 6 MiB in the memory of each worker."""
    with path.open("rb") as file:
        yield from iter(lambda: file.read(65536), b"")


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)
