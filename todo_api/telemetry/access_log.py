"""The log's line for each request; users appear as a keyed hash."""

import logging
from hashlib import blake2b, sha256

from todo_api.log_format import formatter, timestamp
from todo_api.telemetry.requests import RequestRecord


class AccessLog(logging.Formatter):
    """Formats requests; all other records go to the formatter of the environment."""

    def __init__(self, environment: str, hash_key: str) -> None:
        super().__init__()
        self._key = sha256(hash_key.encode()).digest()
        self._format_request = self._text if environment == "development" else self._json
        self._formatter = formatter(environment)

    def format(self, record: logging.LogRecord) -> str:
        return self._format_request(record) if isinstance(record, RequestRecord) else self._formatter.format(record)

    # Both formats escape nothing, because each value comes from a fixed set or matches a safe pattern.

    def _json(self, record: RequestRecord) -> str:
        user = record.user_id and blake2b(record.user_id.encode(), key=self._key, digest_size=8).hexdigest()
        return (
            f'{{"time":"{timestamp(record.created)}","level":"{logging.getLevelName(record.levelno)}",'
            f'"logger":"todo_api.request","request_id":"{record.request_id}","method":"{record.method}",'
            f'"route":"{record.route}","status":{record.status},"error_code":{quoted(record.error_code)},'
            f'"duration_ms":{record.seconds * 1000:.3f},"database_ms":{record.database_seconds * 1000:.3f},'
            f'"user":{quoted(user)},"tool":{quoted(record.tool)},'
            f'"foreign_task":{"true" if record.foreign_task else "false"}}}'
        )

    def _text(self, record: RequestRecord) -> str:
        tool, error_code = (f" {text}" if text else "" for text in (record.tool, record.error_code))
        return (
            f"{timestamp(record.created)} {logging.getLevelName(record.levelno)} [{record.request_id}]"
            f" {record.method} {record.route}{tool} {record.status}{error_code}"
            f" {record.seconds * 1000:.1f} ms, database {record.database_seconds * 1000:.1f} ms"
        )


def quoted(text: str | None) -> str:
    return f'"{text}"' if text else "null"
