"""The Python benchmarks, side by side with what one would use in Taskloom's place.

    python benches/python/run.py                 everything, and writes docs/benchmarks.md
    python benches/python/run.py --quick         a tenth of the work in three rounds: does it still run?
    python benches/python/run.py --only latency  one of them

The exit code is 1 if a floor was missed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import backlog
import cpu_bound
import event_loop
import footprint
import monitoring
import outbox
import processes
import report
import sqlite_file
import threads
from harness import Row, Settings, measure

COMPARISONS = (
    *threads.COMPARISONS,
    *event_loop.COMPARISONS,
    *footprint.COMPARISONS,
    *sqlite_file.COMPARISONS,
    *backlog.COMPARISONS,
    *processes.COMPARISONS,
    *cpu_bound.COMPARISONS,
    *monitoring.COMPARISONS,
    *outbox.COMPARISONS,
)
ROOT = Path(__file__).resolve().parents[2]


def tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def main() -> int:
    names = [comparison.name for comparison in COMPARISONS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the work in three rounds; writes no page")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help="alternating rounds of each (default: 7)")
    parser.add_argument("--peers-only", action="store_true", help="without Taskloom; writes no page")
    parser.add_argument("--json", action="store_true", help="print JSON, with every round")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where stores are made (default: the system's)")
    args = parser.parse_args()

    rounds = args.rounds or (3 if args.quick else 7)
    settings = Settings(quick=args.quick, directory=args.directory or Path(tempfile.gettempdir()))
    options = ["--directory=DIR" if arg.startswith("--directory=") else arg for arg in sys.argv[1:]]
    options = ["DIR" if arg == str(args.directory) else arg for arg in options]
    facts = report.machine(settings.directory, " ".join(["python benches/python/run.py", *options]))
    if args.quick:
        facts["quick"] = "a tenth of the tasks that the titles name"
    rows: list[Row] = []
    for comparison in COMPARISONS:
        if not args.only or comparison.name in args.only:
            rows += measure(comparison, settings, rounds, peers_only=args.peers_only, tell=tell)
    tell("")

    if args.json:
        print(json.dumps(report.as_json(rows, facts), indent=2))
    else:
        print(report.text(rows, facts, rounds))
    if not (args.quick or args.only or args.peers_only):
        report.write_page(ROOT / "docs" / "benchmarks.md", report.section(rows, facts, rounds))
    return 1 if any(row.passed is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
