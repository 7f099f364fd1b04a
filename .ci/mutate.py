"""mutmut, for code whose threads go on while it notes which functions a test has called: a set that grows then."""

from collections.abc import Iterator

from mutmut.__main__ import cli
from mutmut.state import state


class Functions(set[str]):
    def __iter__(self) -> Iterator[str]:
        return iter(frozenset(self))


if __name__ == "__main__":
    state()._stats = Functions()
    cli()
