"""What was measured, as tables, as JSON, and as the Python half of docs/benchmarks.md."""

import datetime
import importlib.metadata
import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from harness import Row

BEGIN, END = "<!-- python: begin -->", "<!-- python: end -->"

PAGE = """\
# Benchmarks

What the engine itself costs, measured beside what one would use in its place. `make bench` measures on your machine and
writes this page. The machines that run it are shared and virtual, and their absolute figures move by a factor of two
from one day to the next, so look at the ratios: both sides of a ratio ran in the same process, in alternating rounds.

The tasks do nothing, which is the worst case for a queue. A handler that takes a millisecond hides most differences.

## Python

<!-- python: begin -->
<!-- python: end -->

## Node

<!-- node: begin -->
<!-- node: end -->

## Command line

<!-- command line: begin -->
<!-- command line: end -->

## Rust

<!-- rust: begin -->
<!-- rust: end -->
"""


def machine(directory: Path, command: str) -> dict[str, str]:
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "command": command,
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": " ".join([platform.system(), platform.release().partition("-")[0], platform.machine()]),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "SQLite": f"{sqlite3.sqlite_version} (Python's, used by Huey)",
        "disk": f"{_file_system(directory)}, a write and fsync of 4 KiB takes {_sync_time(directory):.2f} ms",
    }
    versions = []
    for package in ("taskloom", "msgspec", "huey"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    facts["packages"] = ", ".join(versions) or "none"
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def _file_system(directory: Path) -> str:
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "unknown file system"
    here = directory.resolve()
    under = [(len(point), kind) for point, kind in mounts if here.is_relative_to(point)]
    return max(under)[1] if under else "unknown file system"


def _sync_time(directory: Path) -> float:
    """Milliseconds, the median of a few."""
    path = directory / f"sync-{os.getpid()}"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(20):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            times.append((time.perf_counter() - start) * 1e3)
    path.unlink()
    return statistics.median(times)


def number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _figure(values: Sequence[float], unit: str) -> str:
    return f"{number(statistics.median(values))}{unit if unit == '×' else f' {unit}'}" if values else "–"


def verdict(row: Row) -> str:
    return {True: "pass", False: "FAIL", None: ""}[row.passed]


def _title(row: Row) -> str:
    several = len(row.comparison.metrics) > 1
    return f"{row.comparison.title}: {row.metric.name}" if several else row.comparison.title


def cells(row: Row) -> list[str]:
    ratio = spread = "–"
    if row.ours:
        ratio = f"{number(statistics.median(row.ratios))}×"
        spread = f"{number(min(row.ratios))}–{number(max(row.ratios))}"
    return [
        _title(row),
        "on" if row.collector else "off",
        _figure(row.ours, row.metric.unit),
        row.comparison.peer_name,
        _figure(row.peer, row.metric.unit),
        ratio,
        spread,
    ]


COLUMNS = ["measured", "gc", "ours", "peer", "peer's", "ratio", "min–max"]
FLOOR_COLUMNS = ["must reach", "bound", "is", "verdict"]


def floor_cells(row: Row) -> list[str]:
    absolute = row.metric.ours_at_most is not None or row.metric.ours_at_least is not None
    value = _figure(row.ours, row.metric.unit) if absolute else f"{number(statistics.median(row.ratios))}×"
    return [_title(row), row.metric.bound, value, verdict(row)]


def aligned(columns: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    widths = [max(len(line[i]) for line in (columns, *table)) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in (columns, *table)]
    return "\n".join([lines[0], "─" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def markdown(columns: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *table]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bounded(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.passed is not None]


def text(rows: Sequence[Row], facts: dict[str, str], rounds: int) -> str:
    parts = ["\n".join(f"{name:<10} {fact}" for name, fact in facts.items()), aligned(COLUMNS, list(map(cells, rows)))]
    if bounded(rows):
        parts.append(aligned(FLOOR_COLUMNS, list(map(floor_cells, bounded(rows)))))
    parts.append(f"medians of up to {rounds} alternating rounds; the ratio is the median of the rounds' own ratios")
    return "\n\n".join(parts)


def as_json(rows: Sequence[Row], facts: dict[str, str]) -> dict[str, object]:
    return {
        "machine": facts,
        "rows": [
            {
                "name": row.comparison.name,
                "title": row.comparison.title,
                "metric": row.metric.name,
                "unit": row.metric.unit,
                "collector": row.collector,
                "peer_name": row.comparison.peer_name,
                "ours": row.ours,
                "peer": row.peer,
                "ratios": row.ratios,
                "bound": row.metric.bound or None,
                "passed": row.passed,
            }
            for row in rows
        ],
    }


def section(rows: Sequence[Row], facts: dict[str, str], rounds: int) -> str:
    """What stands between the marks."""
    return "\n\n".join(
        [
            BEGIN,
            markdown(FLOOR_COLUMNS, list(map(floor_cells, bounded(rows)))),
            "Everything, with Python's garbage collector on and off. Figures are medians of up to "
            f"{rounds} rounds; the ratio is\nthe median of the rounds' ratios, ours divided by the peer's.",
            markdown(COLUMNS, list(map(cells, rows))),
            "\n".join(f"- {name}: {f'`{fact}`' if name == 'command' else fact}" for name, fact in facts.items()),
            END,
        ]
    )


def write_page(page: Path, new: str) -> None:
    """Replaces the Python half of the page and leaves the rest alone."""
    old = page.read_text(encoding="utf-8") if page.exists() else PAGE
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page.name} lacks the marks {BEGIN} and {END}: where should the figures go?")
    page.write_text(before + new + after, encoding="utf-8")
