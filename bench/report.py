"""What was measured beside what was promised: the table, the JSON, the verdict."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One criterion; nothing measured is a failure."""

    criterion: str
    measured: float | None
    target: float
    unit: str
    at_least: bool = False

    @property
    def passed(self) -> bool:
        if self.measured is None:
            return False
        return self.measured >= self.target if self.at_least else self.measured <= self.target

    @property
    def cells(self) -> tuple[str, str, str, str]:
        measured = "-" if self.measured is None else f"{shown(self.measured)} {self.unit}"
        bound = "at least" if self.at_least else "at most"
        verdict = "pass" if self.passed else "FAIL"
        return self.criterion, measured.strip(), f"{bound} {shown(self.target)} {self.unit}".strip(), verdict


def shown(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) or number >= 1000 else f"{number:,.4g}"


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown that also reads well in a terminal."""
    cells = [("criterion", "measured", "target", "verdict"), *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Return what the figures depend on; the load is that of others when this is called first."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


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
