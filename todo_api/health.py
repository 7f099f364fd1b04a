"""The health blueprint: what a supervisor asks, without a token."""

from flask import Blueprint, Flask, Response

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> Response:
    """Say that the process answers; nothing else is touched."""
    return Response('{"status": "ok"}', mimetype="application/json")


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)
