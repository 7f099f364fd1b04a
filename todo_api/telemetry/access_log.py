"""One line of the log for each request; users appear as a keyed hash."""

import logging
from hashlib import blake2b, sha256

from todo_api.log_format import formatter, timestamp
from todo_api.telemetry.requests import RequestRecord


class AccessLog(logging.Formatter):
    """Formats requests, and hands all other records to the formatter of the environment.

    Nothing in a request's line needs escaping: no client can choose its words.
    """

    def __init__(self, environment: str, hash_key: str) -> None:
        super().__init__()
        self._key = sha256(hash_key.encode()).digest()
        self._line = self._text if environment == "development" else self._json
        self._others = formatter(environment)

    def format(self, record: logging.LogRecord) -> str:
        return self._line(record) if isinstance(record, RequestRecord) else self._others.format(record)

    def user_hash(self, user_id: str) -> str:
        """Return what stands for a user in the log."""
        return blake2b(user_id.encode(), key=self._key, digest_size=8).hexdigest()

    def _json(self, record: RequestRecord) -> str:
        return (
            f'{{"time":"{timestamp(record.created)}","level":"{logging.getLevelName(record.levelno)}",'
            f'"logger":"{record.name}","request_id":"{record.request_id}","method":"{record.method}",'
            f'"route":"{record.route}","status":{record.status},"error_code":{quoted(record.error_code)},'
            f'"duration_ms":{record.seconds * 1000:.3f},"database_ms":{record.database_seconds * 1000:.3f},'
            f'"user":{quoted(record.user_id and self.user_hash(record.user_id))},'
            f'"foreign_task":{"true" if record.foreign_task else "false"}}}'
        )

    def _text(self, record: RequestRecord) -> str:
        outcome = f"{record.status} {record.error_code}" if record.error_code else record.status
        return (
            f"{timestamp(record.created)} {logging.getLevelName(record.levelno)} [{record.request_id}] "
            f"{record.method} {record.route} {outcome} {record.seconds * 1000:.1f} ms, "
            f"database {record.database_seconds * 1000:.1f} ms"
        )


def quoted(text: str | None) -> str:
    return f'"{text}"' if text else "null"
