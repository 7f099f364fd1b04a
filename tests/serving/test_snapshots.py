"""The memory in which each worker keeps a snapshot for the others."""

import os
from mmap import mmap

import pytest

from todo_api.serving import NotKept, Slot, free_slot
from todo_api.serving.snapshots import HEADER, SIZE, SLOTS, WORKERS


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> mmap:
    """Empty memory in place of the process's own."""
    memory = mmap(-1, WORKERS * (1 + 2 * SIZE))
    monkeypatch.setattr("todo_api.serving.snapshots.MEMORY", memory)
    return memory


@pytest.fixture
def slot() -> Slot:
    return SLOTS[-2]


def test_a_slot_holds_the_last_snapshot(slot: Slot) -> None:
    assert slot.read() == b""
    for number in range(5):
        slot.write(b"snapshot " * number)
        assert slot.read() == b"snapshot " * number


def test_other_processes_read_what_a_process_has_written(slot: Slot) -> None:
    child = os.fork()
    if not child:
        slot.write(b"of the child")
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    assert slot.is_live
    assert slot.read() == b"of the child"
    slot.release()
    assert not slot.is_live
    assert slot.read() == b"of the child"


def test_the_snapshots_of_workers_do_not_overlap() -> None:
    longest = SIZE - HEADER.size
    for number, slot in enumerate(SLOTS):
        for _ in range(2):
            slot.write(bytes([number]) * longest)
    assert [slot.read() for slot in SLOTS] == [bytes([number]) * longest for number in range(WORKERS)]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_worker_that_is_killed_while_it_writes_leaves_the_snapshot_before(
    memory: mmap, slot: Slot, number: int
) -> None:
    for earlier in range(number):
        slot.write(b"complete %d" % earlier)
    before = slot.read()
    content = WORKERS + (2 * (WORKERS - 2) + (number + 1) % 2) * SIZE + HEADER.size  # of the older one, being replaced
    memory[content : content + 4] = b"torn"
    assert slot.read() == before
    slot.write(b"the next worker's")
    assert slot.read() == b"the next worker's"


def test_a_snapshot_that_does_not_fit_leaves_the_one_before(slot: Slot) -> None:
    slot.write(b"fits")
    with pytest.raises(NotKept):
        slot.write(bytes(SIZE))
    assert slot.read() == b"fits"


def test_a_new_worker_gets_the_slot_of_one_that_has_ended() -> None:
    assert free_slot([]) is SLOTS[0]
    assert free_slot([SLOTS[0], SLOTS[2], None]) is SLOTS[1]
    assert free_slot(SLOTS) is None
