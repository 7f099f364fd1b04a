"""The routes of the OpenAPI document and of the page that shows it. They need no token."""

import json
from functools import cache
from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Flask, Response, current_app, request, send_from_directory

from todo_api.errors import NotFound
from todo_api.etags import tags_of
from todo_api.responses import JSONResponse

DOCUMENT = Path(__file__).with_name("openapi.yaml")
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


@cache
def get_document() -> bytes:
    """Return the OpenAPI document as JSON."""
    import yaml  # here, as most workers never need it

    document = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Get the OpenAPI document."""
    return JSONResponse(get_document())


@blueprint.get("/docs")
def page() -> Response:
    """Get the documentation page."""
    own = current_app.config["USES_DEVELOPMENT_SECRET"]
    source = "the output of <code>flask token USER</code>" if own else "a token from your Better Auth server"
    html = (STATIC / "index.html").read_text(encoding="utf-8").replace("{{ token_source }}", source)
    response = Response(html, mimetype="text/html", headers={"Content-Security-Policy": POLICY})
    response.add_etag()
    return revalidated(response)


@blueprint.get("/docs/<asset>")
def page_file(asset: str) -> Response:
    """Get one of the files that the page loads."""
    if asset not in ASSETS:
        raise NotFound
    folder, mimetype = ASSETS[asset]
    return revalidated(send_from_directory(folder, asset, mimetype=mimetype, conditional=False))


def revalidated(response: Response) -> Response:
    """Answer 304 to a matching If-None-Match. Flask's `conditional` also answers 206, 412 and 416."""
    known = tags_of(request.headers.get("If-None-Match"))
    if known and known.match(response.get_etag()[0] or ""):
        response.status_code = 304
    response.headers.remove("Cache-Control")  # Flask's own
    if request.method == "HEAD" or response.status_code == 304:
        response.close()  # Werkzeug does not close a file that it does not send
    return response


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)
