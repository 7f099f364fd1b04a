"""Entity tags: what a client has already, and which version it means to change (RFC 9110, sections 8.8.3 and 13.1)."""

import re
from dataclasses import dataclass

# One tag of the list. W/ and the suffixes are ignored, because nginx and Apache add them when they compress.
ELEMENT = re.compile(r'(?:^|,)[ \t]*(?:W/)?"([\x21\x23-\x7e\x80-\xff]*?)(?:-gzip|-br)?"[ \t]*(?=,|$)')


@dataclass(frozen=True)
class Tags:
    """The tags of an `If-Match` or `If-None-Match` header, without quotes."""

    any: bool
    listed: tuple[str, ...]

    def match(self, tag: str) -> bool:
        return self.any or tag in self.listed


def tags_of(header: str | None) -> Tags | None:
    """Return the tags of a header, None when it was not sent; one with no valid tag matches nothing."""
    if header is None:
        return None
    return Tags(header.strip() == "*", tuple(ELEMENT.findall(header)))
