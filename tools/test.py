"""The one test command: `make test` runs this, with nothing but Python's standard library.

    python tools/test.py                     everything, from nothing
    python tools/test.py --fast              what `make lint` runs: no tests, no builds but checks
    python tools/test.py --soak              longer versions of the searching tests, again and again
    python tools/test.py --only NAME …       some stages; --list names them

Each stage is a command. Its output passes through as it comes, and its counts are read from it; a stage that has none
counts as one test. A failed stage stops only those that need it. At the end there is a table of the stages, and as the
last line the sum of all counts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / ("Scripts" if os.name == "nt" else "bin")
PYTHON = str(BIN / "python")
LOOM_TARGET = os.environ.get("CARGO_TARGET_DIR", "target") + "-loom"
MINORS = range(10, 15)
"""The CPython versions, 3.x, that the Python tests run on where they are found."""

INTERPRETER = [
    f"tests/python/test_{name}.py"
    for name in (
        *(
            "async",
            "awaiting",
            "cancel",
            "context",
            "event_streams",
            "executor",
            "exit",
            "exit_daemons",
            "fork",
            "gc",
            "golden",
        ),
        *(
            "interrupts",
            "lifecycle",
            "lives",
            "processes",
            "results",
            "testing_async",
            "testing_together",
            "timeouts",
            "watchdog",
        ),
    )
]
"""What depends on the interpreter: threads, loops, interrupts, exit, memory. The wheel is one for all versions; on those
that did not build it `make test` runs these, and `make soak` all."""

BETWEEN = [
    f"tests/python/test_{name}.py"
    for name in ("async", "awaiting", "gc", "golden", "testing_async", "testing_together")
]
"""What `make test` runs on versions between the oldest and the newest: what has changed there and back."""

FEATURES = "taskloom/tracing,taskloom/outbox-rusqlite,taskloom/outbox-tokio-postgres"
"""What a Rust user may turn on."""

MINUTE = 60.0


# ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __iadd__(self, other: Counts) -> Counts:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        return self

    def __bool__(self) -> bool:
        return bool(self.passed or self.failed or self.skipped)

    def __str__(self) -> str:
        text = f"{self.passed} passed, {self.failed} failed"
        return f"{text}, {self.skipped} skipped" if self.skipped else text


def numbers(line: str, **words: str) -> Counts:
    """Counts from a summary: how often each of some words is said, as in `3 passed, 1 failed`."""
    counts = Counts()
    for name, pattern in words.items():
        found = sum(int(number) for number in re.findall(rf"(\d+) (?:{pattern})\b", line))
        setattr(counts, name, found)
    return counts


def by_cargo(line: str) -> Counts:
    if not re.match(r"test result: ", line):
        return Counts()
    return numbers(line, passed="passed", failed="failed", skipped="ignored")


def by_nextest(line: str) -> Counts:
    if not re.match(r"\s*Summary \[", line):
        return Counts()
    return numbers(line, passed="passed", failed="failed|timed out|exec failed", skipped="skipped")


def by_pytest(line: str) -> Counts:
    if not re.match(r"(=+ )?\d+ \w+.* in [\d.:]+", line):
        return Counts()
    return numbers(line, passed="passed|xfailed", failed="failed|errors?|xpassed", skipped="skipped")


def by_node(line: str) -> Counts:
    found = re.match(r"\S+ (pass|fail|cancelled|skipped) (\d+)$", line.strip())
    if not found:
        return Counts()
    word, number = found[1], int(found[2])
    return Counts(
        passed=number if word == "pass" else 0,
        failed=number if word in ("fail", "cancelled") else 0,
        skipped=number if word == "skipped" else 0,
    )


def by_itself(line: str) -> Counts:
    """Of a command that has no counts: one, by its exit code."""
    return Counts()


# ── stages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Stage:
    name: str
    command: Sequence[str]
    count: Callable[[str], Counts] = by_itself
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    limit: float = 20 * MINUTE
    """Seconds after which it is taken to hang, and is ended."""


@dataclass
class Outcome:
    stage: Stage
    counts: Counts
    seconds: float = 0.0
    note: str = ""


def run(stage: Stage) -> Outcome:
    counts = Counts()
    start = time.monotonic()
    environment = {**os.environ, "CARGO_TERM_COLOR": "never", "NO_COLOR": "1", **stage.environment}
    try:
        process = subprocess.Popen(
            stage.command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return Outcome(stage, Counts(failed=1), note=f"cannot be run: {error}")
    late = threading.Event()

    def end() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(stage.limit, end)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            counts += stage.count(line)
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        timer.cancel()
    note = ""
    if late.is_set():
        note = f"was ended: it took longer than {stage.limit / MINUTE:.0f} minutes"
    elif code != 0:
        note = f"exit code {code}"
    elif not counts and stage.count is not by_itself:
        note = "no test was counted"
    if note and not counts.failed:
        counts.failed += 1
    elif stage.count is by_itself and not note:
        counts.passed += 1
    return Outcome(stage, counts, time.monotonic() - start, note)


def cargo(*arguments: str) -> list[str]:
    return ["cargo", *arguments, "--locked"]


def cargo_tests(*more: str) -> tuple[list[str], Callable[[str], Counts]]:
    """The workspace's tests. The extensions have none in Rust: as tests they would want Python's and Node's symbols."""
    which = ["--workspace", "--exclude", "taskloom-python", "--exclude", "taskloom-node"]
    which += ["--features", FEATURES]
    # Those of the outbox share one PostgreSQL.
    around = [sys.executable, "tools/postgres.py", "--around"]
    if shutil.which("cargo-nextest"):
        return [*around, *cargo("nextest", "run"), *which, "--no-fail-fast", *more], by_nextest
    return [*around, *cargo("test"), *which, "--no-fail-fast", "--lib", "--bins", "--tests"], by_cargo


def loom(name: str, limit: float = 20 * MINUTE, **environment: str) -> Stage:
    return Stage(
        name,
        cargo("test", "--release", "--package", "taskloom-sync", "--test", "loom"),
        by_cargo,
        environment={"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": LOOM_TARGET, **environment},
        limit=limit,
    )


def simulation(name: str, seeds: int, limit: float = 20 * MINUTE) -> Stage:
    """Days under a virtual clock, with faults. Optimized, since that is what takes its time."""
    return Stage(
        name,
        cargo("test", "--profile", "simulation", "--package", "taskloom-simulator", "--test", "simulation"),
        by_cargo,
        environment={"TASKLOOM_SEEDS": str(seeds)},
        limit=limit,
    )


def pytest(
    name: str, python: str, *arguments: str, needs: tuple[str, ...] = ("wheel",), dist: str = "worksteal"
) -> Stage:
    options = ["-q", "-ra", "-o", "faulthandler_timeout=120"]
    # Most tests wait for something most of the time, so more of them run at once than there are cores.
    options += ["-n", str((os.cpu_count() or 2) + 1), "--dist", dist]
    return Stage(name, [python, "-m", "pytest", *options, *arguments], by_pytest, needs=needs)


TYPED = [
    "python/taskloom",
    "python/taskloom_command",
    "tests/python/typing_cases.py",
    "tests/python/test_golden.py",
    "tests/docs",
    "tests/cross_language/peer.py",
    "tests/cross_language/test_crossing.py",
    "tests/cross_language/test_outbox.py",
    "examples",
    "benches/python",
    "benches/command_line",
    "tools",
]

FORMAT = Stage("format", ["cargo", "fmt", "--all", "--check", "--", "-l"])
CLIPPY = Stage(
    "clippy",
    [*cargo("clippy", "--workspace", "--all-targets", "--features", FEATURES), "--", "-D", "warnings"],
)
STRUCTURE = Stage("structure", [sys.executable, "tools/check_structure.py"])
BEHAVIOURS = Stage("behaviours", [sys.executable, "tools/check_behaviours.py"])
VENV = Stage("venv", ["make", "--no-print-directory", "venv"])
WHEEL = Stage("wheel", ["make", "--no-print-directory", "wheel"], needs=("venv",))
LINT = Stage("python lint", [PYTHON, "-m", "ruff", "check", "--quiet", "."], needs=("venv",))
LAYOUT = Stage("python format", [PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."], needs=("venv",))
TYPES = Stage("types", [PYTHON, "-m", "mypy", *TYPED], needs=("venv",))
NODE = Stage("npm package", ["make", "--no-print-directory", "node-packed"])
NODE_TESTS = Stage(
    "node",
    ["npm", "--prefix", "tests/node", "run", "--silent", "test"],
    by_node,
    needs=("npm package",),
)
NODE_TYPES = Stage("node types", ["npm", "--prefix", "tests/node", "run", "--silent", "types"], needs=("npm package",))
POSTGRES = Stage("postgresql", [sys.executable, "tools/postgres.py", "--prepare"])
STUBS = Stage(
    "stubs",
    [PYTHON, "-m", "mypy.stubtest", "--mypy-config-file", "pyproject.toml", "taskloom._native"],
    needs=("wheel",),
)


def fast() -> Iterator[Stage]:
    yield from (FORMAT, STRUCTURE, BEHAVIOURS, VENV, LAYOUT, LINT, TYPES, CLIPPY)


def everything() -> Iterator[Stage]:
    yield from (FORMAT, STRUCTURE, BEHAVIOURS, VENV, LAYOUT, LINT, TYPES, CLIPPY)
    yield POSTGRES
    command, count = cargo_tests()
    yield Stage("rust", command, count)
    yield Stage(
        "rust docs",
        [
            *cargo("test", "--workspace", "--exclude", "taskloom-python", "--exclude", "taskloom-node"),
            "--doc",
            "--features",
            FEATURES,
        ],
        by_cargo,
    )
    yield loom("loom")
    yield simulation("simulation, 50 days", 50)
    yield WHEEL
    yield STUBS
    yield pytest("python", PYTHON, "tests/python")
    yield pytest("command line", PYTHON, "tests/command_line")
    yield pytest("process pool", PYTHON, "tests/process_pool")
    # A PostgreSQL for each process that has tests of it.
    yield pytest("outbox", PYTHON, "tests/outbox", dist="loadfile", needs=("wheel", POSTGRES.name))
    # Some of a file's tests look at what the others have found.
    yield pytest("docs", PYTHON, "tests/docs", dist="loadfile")
    yield from (NODE, NODE_TYPES, NODE_TESTS)
    # The peer in Rust is built with the tests in Rust.
    yield pytest("cross language", PYTHON, "tests/cross_language", needs=("rust", "wheel", NODE.name))
    yield from other_pythons(INTERPRETER, BETWEEN)


def soak() -> Iterator[Stage]:
    yield from (VENV, WHEEL, POSTGRES)
    command, count = cargo_tests("--stress-count", "20")
    yield Stage("rust, 20 times", command, count, limit=60 * MINUTE)
    seed = str(time.time_ns() % 2**32)
    print(f"random tests are seeded with PROPTEST_RNG_SEED={seed}")
    yield Stage(
        "properties",
        [
            *cargo("test", "--workspace", "--exclude", "taskloom-python", "--exclude", "taskloom-node"),
            "--lib",
            "--tests",
        ],
        by_cargo,
        environment={"PROPTEST_CASES": "50000", "PROPTEST_RNG_SEED": seed},
        limit=120 * MINUTE,
    )
    yield simulation("simulation, 1,000 days", 1_000, limit=60 * MINUTE)
    yield Stage(
        "kills",
        cargo("test", "--package", "taskloom-crash"),
        by_cargo,
        environment={"TASKLOOM_CRASH_KILLS": "2000"},
        limit=60 * MINUTE,
    )
    yield Stage(
        "kills of supervised workers",
        [PYTHON, "-m", "pytest", "-q", "-o", "faulthandler_timeout=600", "tests/command_line/test_kills.py"],
        by_pytest,
        needs=("wheel",),
        environment={"TASKLOOM_KILLS": "100"},
    )
    yield Stage(
        "power cuts",
        cargo("test", "--release", "--package", "taskloom-store-sqlite", "--test", "power", "--test", "faults"),
        by_cargo,
        environment={"TASKLOOM_POWER_STATES": "200000", "TASKLOOM_FAULT_SCRIPTS": "4"},
        limit=120 * MINUTE,
    )
    # Deeper than the bounds in the file; a model whose states do not end is left after so many seconds.
    yield loom("loom, deeper", 120 * MINUTE, LOOM_MAX_PREEMPTIONS="4", LOOM_MAX_DURATION="600")
    yield from other_pythons(["tests/python"], ["tests/python"])
    for again in range(1, 11):
        yield pytest(f"python, {again} of 10", PYTHON, "tests/python")


# ── Pythons ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ABOUT = """
import platform, sys, sysconfig
print(platform.python_implementation(), *sys.version_info[:2], bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
"""


def version_of(python: str) -> int | None:
    """Its minor version, if it is one that the wheel is for."""
    try:
        about = subprocess.run([python, "-c", ABOUT], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    name, major, minor, free_threaded = about.split()
    suits = name == "CPython" and major == "3" and int(minor) in MINORS and free_threaded == "False"
    return int(minor) if suits else None


def candidates() -> Iterator[str]:
    for minor in MINORS:
        found = shutil.which(f"python3.{minor}")
        if found:
            yield found
    yield sys.executable
    pyenv = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    for directory in sorted(Path(pyenv).glob("versions/3.*")):
        yield str(directory / "bin" / "python")


def found_pythons() -> dict[int, str]:
    found: dict[int, str] = {}
    for python in candidates():
        minor = version_of(python)
        if minor is not None:
            found.setdefault(minor, python)
    return found


def other_pythons(tests: Sequence[str], between: Sequence[str]) -> Iterator[Stage]:
    """Python tests on each further version that there is, other ones on those in between. Says what there is not."""
    own = version_of(PYTHON) or sys.version_info.minor
    found = found_pythons()
    missing = [f"3.{minor}" for minor in MINORS if minor not in found and minor != own]
    for minor, python in sorted(found.items()):
        if minor == own:
            continue
        directory = ROOT / ".venvs" / f"3.{minor}"
        prepare = Stage(
            f"venv 3.{minor}",
            [sys.executable, str(Path(__file__)), "--prepare", python, str(directory)],
            needs=("wheel",),
        )
        yield prepare
        those = between if min(found) < minor < max(found) else tests
        yield pytest(f"python 3.{minor}", str(directory / BIN.name / "python"), *those, needs=(prepare.name,))
    if missing:
        print(f"note: not found here, and so not tested on: CPython {', '.join(missing)}", flush=True)
    if len(missing) == len(MINORS) - 1:
        print("=" * 100)
        print(f"WARNING: the only Python found is 3.{own}. Nothing is known of the wheel on any other version.")
        print("=" * 100, flush=True)
        yield Stage("other Pythons", [sys.executable, "-c", "print('1 skipped in 0.0s')"], by_pytest)


def prepare(python: str, directory: Path) -> None:
    """A virtual environment with the wheel and what its tests need. Made anew when the requirements change."""
    requirements = ROOT / "requirements-test.txt"
    fingerprint = hashlib.sha256(requirements.read_bytes() + python.encode()).hexdigest()
    stamp = directory / "stamp"
    own = str(directory / BIN.name / "python")
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not stamp.exists() or stamp.read_text() != fingerprint:
        subprocess.run([python, "-m", "venv", "--clear", str(directory)], check=True)
        subprocess.run([*pip, "-r", str(requirements)], check=True)
        stamp.write_text(fingerprint)
    wheels = list((ROOT / "dist").glob("taskloom-*.whl"))
    if len(wheels) != 1:
        sys.exit(f"there are {len(wheels)} wheels in dist, and there should be one: make -B wheel")
    subprocess.run([*pip, "--force-reinstall", "--no-deps", str(wheels[0])], check=True)
    print(f"{own} is ready")


# ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────────────


def title(text: str) -> None:
    print(f"\n── {text} " + "─" * max(0, 116 - len(text)), flush=True)


def run_all(stages: Iterator[Stage]) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}
    for stage in stages:
        title(f"{stage.name}: {' '.join(map(short, stage.command))}")
        broken = [name for name in stage.needs if name in outcomes and outcomes[name].counts.failed]
        if broken:
            outcome = Outcome(stage, Counts(failed=1), note=f"not run: {broken[0]} failed")
            print(outcome.note, flush=True)
        else:
            outcome = run(stage)
        outcomes[stage.name] = outcome
    return list(outcomes.values())


def short(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(ROOT)) if path.is_absolute() and path.is_relative_to(ROOT) else argument


def report(outcomes: Sequence[Outcome]) -> Counts:
    title("stages")
    width = max(len(outcome.stage.name) for outcome in outcomes)
    total = Counts()
    for outcome in outcomes:
        total += outcome.counts
        mark = "FAILED" if outcome.counts.failed else "ok"
        line = f"{mark:<7} {outcome.stage.name:<{width}}  {outcome.seconds:>6.1f} s  {outcome.counts}"
        print(f"{line}  ({outcome.note})" if outcome.note else line)
    print(f"{'':7} {'in all':<{width}}  {sum(outcome.seconds for outcome in outcomes):>6.1f} s")
    return total


def hear_interrupts() -> None:
    """What a script starts in the background ignores them, and so do its children: here are tests that send them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.prepare:
        prepare(args.prepare[0], Path(args.prepare[1]))
        return 0
    stages = soak() if args.soak else fast() if args.fast else everything()
    if args.only:
        stages = (stage for stage in stages if stage.name in args.only)
    if args.list:
        print("\n".join(stage.name for stage in stages))
        return 0
    hear_interrupts()
    outcomes = run_all(stages)
    if not outcomes:
        parser.error(f"there is no stage {' or '.join(args.only or [])}; --list names them")
    total = report(outcomes)
    print(flush=True)
    print(total, flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 (whoever is called by `make` may be older)
        sys.exit("tools/test.py needs Python 3.10 or newer: make test PYTHON=python3.12")
    sys.exit(main())
