"""gunicorn's parser for requests that arrive in parts. No thread waits for the rest of one."""

import re
from typing import Any

from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import LimitRequestHeaders, NoMoreData, ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import Unreader

MOST_HEAD = 64 * 1024
MOST_BODY = 65 * 1024  # as in deploy/nginx.conf; the application rejects such a body without reading all of it
MOST_CHUNKS = 2 * MOST_BODY  # with their sizes and extensions
MOST_SIZE_LINE = 300  # bytes of the line before a chunk
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})(?:[ \t;][^\r\n]{0,255})?\r\n")


class Incomplete(BaseException):
    """The rest of a request has not arrived yet. gunicorn takes every Exception for an error of the client."""


class Received(Unreader):
    """The bytes that have arrived and not been parsed."""

    is_parsing_head = False
    has_ended = False  # the client sends no more
    was_exhausted = False  # a body was longer than what has arrived: the connection cannot be used again

    def add(self, data: bytes) -> None:
        self.has_ended = not data
        self.buf.seek(0, 2)
        self.buf.write(data)

    def size(self) -> int:
        return int(self.buf.seek(0, 2))

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Where gunicorn would wait for the client, end the body or stop parsing."""
        if self.is_parsing_head and not self.has_ended:
            raise Incomplete
        self.was_exhausted = True
        return b""


class Parser(RequestParser):
    """Returns only requests that are complete, or too large to wait for."""

    def __init__(self, cfg: Any, client: Any) -> None:
        super().__init__(cfg, (), client)
        self.unreader = self.received = Received()
        self.begun: Any = None  # a request whose body has not arrived
        self.wants_continue = False

    def next_request(self) -> Any:
        """Return the next request, None if no other can follow. Raises ParseException.

        Raises Incomplete if it has not arrived: call again when more has.
        """
        try:
            return next(self)
        except (StopIteration, NoMoreData):
            return None

    def __next__(self) -> Any:
        request = self.begun or self._parse_head()
        if not self._has_body(request):
            self.wants_continue, request._expected_100_continue = request._expected_100_continue, False
            self.begun = request
            raise Incomplete
        self.begun = None
        return request

    def finish(self) -> bool:
        """Skip what is left of the request's body. Return whether another request can follow."""
        try:
            is_complete = self.finish_body() and not self.received.was_exhausted
        except ParseException:  # the request has had its response
            return False
        self.mesg = None  # else gunicorn looks for its body again, before the next request
        return is_complete

    def _parse_head(self) -> Any:
        received = self.received
        data = received.buf.getvalue()
        received.is_parsing_head = True
        try:
            return super().__next__()
        except Incomplete:
            if len(data) > MOST_HEAD:
                raise LimitRequestHeaders("limit request headers") from None
            received.add(data)
            raise
        finally:
            received.is_parsing_head = False

    def _has_body(self, request: Any) -> bool:
        reader = request.body.reader
        if isinstance(reader, LengthReader):
            length: int = reader.length
            return not length or length > MOST_BODY or length <= self.received.size() or self.received.has_ended
        return not isinstance(reader, ChunkedReader) or self.received.has_ended or self._has_chunks(request)

    def _has_chunks(self, request: Any) -> bool:
        """Return whether the last chunk has arrived, or a malformed one, or too many. Look at each chunk once."""
        data = self.received.buf.getvalue()
        at, size = getattr(request, "next_chunk", (0, 0))
        while (line := CHUNK_SIZE.match(data, at)) and (length := int(line[1], 16)):
            at = line.end() + length + 2
            size += length
        request.next_chunk = at, size
        # After the last chunk come trailers and an empty line. A line that is no size, or has no end, is malformed.
        if line:
            has_end = data.find(b"\r\n\r\n", line.end() - 2) >= 0
        else:
            has_end = data.find(b"\n", at) >= 0 or len(data) - at > MOST_SIZE_LINE
        missing = max(at - 2 - len(data), 0)  # of the last chunk that has begun
        return has_end or size - missing > MOST_BODY or len(data) > MOST_CHUNKS
