"""The feed of changes and its tokens. A token says where a client's copy of the tasks stands.

A user's writes have later versions in the order of their commits, and a response is read in one snapshot together with
the owner's row. So whatever the client has not seen has a later version than that row.

A token is signed by nothing and trusted for nothing: every statement names the owner whatever the token says.
"""

import json
import struct
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from todo_api.tasks.errors import ChangesExpired, InvalidSince
from todo_api.tasks.pagination import decode_base64, digest_of, encode_base64

FORMAT = struct.Struct(">8sqHq16sq16s")  # user, the user's creation, day of issue, and two positions; times in µs
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = 86_400  # seconds
LAST_ID = UUID(int=2**128 - 1)


class Mark(NamedTuple):
    """A place among tasks or deletions, which are sorted by time and id: after this one."""

    time: str
    id: str


BEGINNING = Mark("1970-01-01T00:00:00.000000Z", str(UUID(int=0)))


class Owner(NamedTuple):
    """The owner's row in the snapshot of a response."""

    version: str
    created_at: str
    forgotten_at: str | None

    @classmethod
    def of(cls, row: tuple[bytes, bytes, bytes | None]) -> "Owner":
        version, created_at, forgotten_at = row
        return cls(version.decode(), created_at.decode(), forgotten_at.decode() if forgotten_at else None)


@dataclass(frozen=True)
class Position:
    """What a client has seen. `created_at` is the owner's, None where there was none; `day` counts from 1970."""

    created_at: str | None = None
    day: int = 0
    deletions: Mark = BEGINNING
    tasks: Mark = BEGINNING

    def parameters(self) -> dict[str, str]:
        """Return the parameters of `statements.changes`."""
        marks = {"deletions": self.deletions, "tasks": self.tasks}
        return {f"{name}_{part}": text for name, mark in marks.items() for part, text in mark._asdict().items()}

    def check(self, owner: Owner | None, kept_days: int) -> None:
        """Make sure that all deletions after this position are known. Raises ChangesExpired."""
        if self.created_at is None:
            return  # there was nothing to delete
        if owner is None or owner.created_at != self.created_at or today() - self.day > kept_days:
            raise ChangesExpired
        if owner.forgotten_at and self.deletions.time < owner.forgotten_at:
            raise ChangesExpired

    def encode(self, user_id: str) -> str:
        """Return the token of this position."""
        created_at = microseconds(self.created_at) if self.created_at else -1
        deletion, task = ((microseconds(mark.time), UUID(mark.id).bytes) for mark in (self.deletions, self.tasks))
        return encode_base64(FORMAT.pack(digest_of(user_id)[:8], created_at, self.day, *deletion, *task))


def decode(token: str, user_id: str) -> Position:
    """Return the position in a token. Raises InvalidSince."""
    try:
        user, created_at, day, *places = FORMAT.unpack(decode_base64(token))
        times, ids = map(text_of, places[::2]), (str(UUID(bytes=place)) for place in places[1::2])
        position = Position(None if created_at == -1 else text_of(created_at), day, *map(Mark, times, ids))
    except (ValueError, OverflowError, struct.error):
        raise InvalidSince from None
    if user != digest_of(user_id)[:8]:
        raise InvalidSince
    return position


def document(rows: list[Any], seen: Position, owner: Owner | None, limit: int, user_id: str) -> bytes:
    """Return the JSON of the rows of `statements.changes`: deletions first, then tasks, `limit` at most."""
    deleted = [Mark(when.decode(), task_id.decode()) for when, task_id, task in rows if task is None]
    tasks = [task for _, _, task in rows if task is not None]
    deleted, more_deleted = deleted[:limit], len(deleted) > limit
    room = limit - len(deleted)
    tasks, more_tasks = tasks[:room], len(tasks) > room
    following = Position(day=today())
    if owner:
        done = Mark(owner.version, str(LAST_ID))
        last_task = mark_of(tasks[-1]) if tasks else seen.tasks
        following = Position(
            owner.created_at, today(), deleted[-1] if more_deleted else done, last_task if more_tasks else done
        )
    rest = {
        "deleted": [mark.id for mark in deleted],
        "next": following.encode(user_id),
        "has_more": more_deleted or more_tasks,
    }
    return json_array(tasks, before=b'{"tasks":[', after=b"]," + json.dumps(rest)[1:].encode())


def json_array(members: list[bytes], before: bytes = b"[", after: bytes = b"]") -> bytes:
    """Return a JSON array between two texts. The members, which may be 9 MB, are copied once."""
    first, *others = members or [b""]
    ends = [before + first, *others]
    ends[-1] += after
    return b",".join(ends)


def mark_of(task: bytes) -> Mark:
    found = json.loads(task)
    return Mark(found["updated_at"], found["id"])


def digest(since: str | None, limit: int, user_id: str) -> str:
    """Return a digest of what was asked, by whom and on which day: `next` changes from day to day."""
    return digest_of(user_id, since, limit, today()).hex()


def microseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // MICROSECOND


def text_of(number: int) -> str:
    return (EPOCH + number * MICROSECOND).isoformat(timespec="microseconds").replace("+00:00", "Z")


def today() -> int:
    """Return the day since 1970, in UTC."""
    return int(time.time() // DAY)
