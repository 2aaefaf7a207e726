"""The Rust benchmarks, and the Rust half of docs/benchmarks.md.

    python tools/bench_rust.py              everything, and writes the page
    python tools/bench_rust.py --no-build   reads what the last run left

Criterion's benches are rates beside peers: the ratio is the peer's time divided by ours, so that more is better. The
memory bench counts allocations, those of the outbox, of time and of the simulator print what they found. All three fail by themselves. The exit code is 1 if a floor was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benches" / "python"))

import report  # noqa: E402

BEGIN, END = "<!-- rust: begin -->", "<!-- rust: end -->"
CRITERION = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "criterion"

TITLES = {
    "submit_and_wait": "submit → result of no-ops, one by one, through the whole engine, 2 workers",
    "sqlite_end_to_end": "SQLite, FULL: submit → result of 20,480 no-ops, beside plain inserts and updates of the rows",
    "sqlite_submitters": "SQLite, FULL: 64 submit, one by one, all on one thread as `submit_async` does, beside one",
    "sqlite_submitting_threads": "SQLite, FULL: 64 threads submit, one by one, beside one",
}
FLOORS = {"submit_and_wait": 0.7, "sqlite_end_to_end": 0.4, "sqlite_submitters": 20}
"""What the ratio to the peer must reach, by the name of the group."""


TOLD = r"^(?:pending task|delayed task|due task|adding a|100,000 delayed|outbox:|a day of).*"
"""The lines that benches without criterion print."""


@dataclass(frozen=True)
class Figure:
    """One function of one group."""

    name: str
    rate: float  # per second
    spread: tuple[float, float]


def cargo(*arguments: str) -> str:
    """Runs Cargo, shows what it prints, and returns it."""
    process = subprocess.Popen(["cargo", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait() != 0:
        raise SystemExit(f"cargo {' '.join(arguments)} ended with exit code {process.returncode}")
    return "".join(lines)


def figures() -> dict[str, list[Figure]]:
    """What criterion measured last, by group: medians as rates, with the bounds of their confidence."""
    groups: defaultdict[str, list[Figure]] = defaultdict(list)
    for path in sorted(CRITERION.glob("*/*/new/estimates.json")):
        about = json.loads((path.parent / "benchmark.json").read_text(encoding="utf-8"))
        median = json.loads(path.read_text(encoding="utf-8"))["median"]
        interval = median["confidence_interval"]
        elements = (about.get("throughput") or {}).get("Elements", 1)
        slow, fast = (elements * 1e9 / interval[bound] for bound in ("upper_bound", "lower_bound"))
        figure = Figure(
            about["function_id"] or about["value_str"], elements * 1e9 / median["point_estimate"], (slow, fast)
        )
        groups[about["group_id"]].append(figure)
    return dict(groups)


def tables(groups: dict[str, list[Figure]], told: dict[str, list[str]]) -> tuple[str, bool]:
    """The page's half below its facts, and whether all floors were reached."""
    parts, passed = [], True
    for name, found in groups.items():
        ours = next((figure for figure in found if figure.name == "taskloom"), None)
        rows = []
        for figure in found:
            ratio = "–"
            if ours is not None and figure is not ours:
                ratio = f"{ours.rate / figure.rate:.2f}×"
            low, high = (report.number(bound) for bound in figure.spread)
            rows.append([figure.name, f"{report.number(figure.rate)} /s", f"{low}–{high}", ratio])
        parts.append(f"**{TITLES.get(name, name)}**\n\n" + report.markdown(["", "rate", "95 %", "taskloom is"], rows))
        floor = FLOORS.get(name)
        if floor is not None and ours is not None:
            for peer in (figure for figure in found if figure is not ours):
                reached = ours.rate / peer.rate >= floor
                passed &= reached
                parts.append(f"Must reach {floor:g}× {peer.name}: {'pass' if reached else 'FAIL'}.")
    for name, lines in told.items():
        parts.append("\n".join([f"**{name}**", "", *(f"- {line}" for line in lines)]))
    return "\n\n".join(parts), passed


def write_page(new: str) -> None:
    page = ROOT / "docs" / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page.name} lacks the marks {BEGIN} and {END}: where should the figures go?")
    page.write_text(f"{before}{BEGIN}\n{new}\n{END}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-build", action="store_true", help="read what the last run left")
    args = parser.parse_args()
    told: dict[str, list[str]] = {}
    if not args.no_build:
        for bench in sorted((ROOT / "benches" / "rust" / "benches").glob("*.rs")):
            printed = cargo("bench", "--locked", "--package", "taskloom-benches", "--bench", bench.stem)
            if bench.stem in ("memory", "outbox", "time"):
                told[bench.stem] = re.findall(TOLD, printed, re.MULTILINE)
        printed = cargo("bench", "--locked", "--package", "taskloom-simulator", "--bench", "day")
        told["simulation"] = re.findall(TOLD, printed, re.MULTILINE)
    facts = report.machine(Path(tempfile.gettempdir()), "python tools/bench_rust.py")
    compiler = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    kept = {"date", "command", "processor", "system"}
    lines = [f"- {name}: {fact}" for name, fact in facts.items() if name in kept]
    lines.append(f"- compiler: {compiler.split(' (')[0]}, release profile")
    text, passed = tables(figures(), told)
    write_page("\n".join(lines) + "\n\n" + text)
    print(text)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
