"""What was measured beside what was promised: the table, the JSON, the verdict."""

import json
import os
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from todo_api.config import ConfigError


@dataclass(frozen=True)
class Row:
    """One criterion; nothing measured is a failure."""

    criterion: str
    measured: float | None
    target: float
    unit: str = ""
    at_least: bool = False

    @property
    def passed(self) -> bool:
        if self.measured is None:
            return False
        return self.measured >= self.target if self.at_least else self.measured <= self.target

    @property
    def cells(self) -> tuple[str, ...]:
        measured = "nothing" if self.measured is None else f"{shown(self.measured)} {self.unit}"
        target = f"at {'least' if self.at_least else 'most'} {shown(self.target)} {self.unit}"
        return self.criterion, measured.strip(), target.strip(), "pass" if self.passed else "FAIL"


def shown(number: float) -> str:
    """Return at most three decimals, never rounded up to a target: 99.9999 is not 100."""
    return f"{int(number * 1000) / 1000:,.10g}"


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown that also reads well in a terminal."""
    cells = [("criterion", "measured", "target", "verdict"), *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def machine() -> dict[str, Any]:
    """Return what the figures depend on. To be asked first: the load is that of others then."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    facts = {"cores": os.cpu_count(), "memory_gib": round(memory / 2**30), "python": platform.python_version()}
    return {**facts, "load_before": round(os.getloadavg()[0], 2)}


def publish(rows: list[Row], where: dict[str, Any], details: dict[str, Any], out: Path) -> int:
    """Print the table, write the JSON; return the exit status."""
    print(f"\n{table(rows)}\n")
    print("{cores} cores, {memory_gib} GiB, Python {python}, load before {load_before}".format_map(where))
    passed = all(row.passed for row in rows)
    criteria = [{**asdict(row), "passed": row.passed} for row in rows]
    document = {"passed": passed, "machine": where, "criteria": criteria, "details": details}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{json.dumps(document, indent=1)}\n", encoding="utf-8")
    print(f"In JSON: {out}")
    return 0 if passed else 1


def run(main: Callable[[], int]) -> None:
    """Run to the end, or leave on Ctrl-C and SIGTERM alike: what was started is taken away."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (ConfigError, OSError) as error:
        sys.exit(f"bench: {error}")
