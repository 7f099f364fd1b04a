"""The MCP server: agents manage the tasks of the user who let them in (Model Context Protocol, Streamable HTTP)."""

from todo_api.mcp.views import init_app

__all__ = ["init_app"]
