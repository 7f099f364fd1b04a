"""The OpenAPI document and the page that shows it."""

from todo_api.openapi.views import get_document, init_app

__all__ = ["get_document", "init_app"]
