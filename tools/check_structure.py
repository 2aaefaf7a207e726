"""What the compiler does not check about how the project is built (docs/architecture.md, "Who may use whom").

* Crates depend on each other in one direction, by the table below, and core crates on no foreign runtime.
* Every dependency, Rust and Python, has its line in docs/dependencies.md, and the page has no other lines.
* Every crate takes the workspace's lints and its oldest compiler.
* `unsafe` is in the modules listed below and nowhere else, and each use has a SAFETY comment.
* Lock files and requirements name packages, never the place where some machine got them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

EXTENSION = {
    "taskloom-allocator",
    "taskloom-bridge",
    "taskloom-cli",
    "taskloom-engine",
    "taskloom-model",
    "taskloom-store",
}
"""What an extension of a language may use."""

MAY_USE: dict[str, set[str]] = {
    "taskloom-model": set(),
    "taskloom-sync": set(),
    "taskloom-store": {"taskloom-model", "taskloom-sync"},
    "taskloom-store-sqlite": {"taskloom-model", "taskloom-store", "taskloom-sync"},
    "taskloom-engine": {"taskloom-model", "taskloom-store", "taskloom-sync"},
    "taskloom": {"taskloom-engine", "taskloom-model", "taskloom-store", "taskloom-store-sqlite"},
    "taskloom-cli": {"taskloom", "taskloom-engine", "taskloom-model", "taskloom-store"},
    "taskloom-allocator": set(),
    "taskloom-bridge": {"taskloom", "taskloom-engine", "taskloom-model", "taskloom-store"},
    "taskloom-python": EXTENSION,
    "taskloom-node": EXTENSION,
    "taskloom-testkit": {"taskloom-engine", "taskloom-model", "taskloom-store"},
    "taskloom-simulator": {"taskloom-engine", "taskloom-model", "taskloom-store"},
    "taskloom-crash": {"taskloom", "taskloom-engine"},
    "taskloom-peer": {"taskloom"},
    "taskloom-benches": {"taskloom", "taskloom-engine", "taskloom-model", "taskloom-store", "taskloom-store-sqlite"},
}
"""Which of our crates each of them may use when it is shipped."""

TESTS_MAY_USE: dict[str, set[str]] = {
    "taskloom-engine": {"taskloom-store-sqlite"},  # what it does on a durable store
}
"""What its tests may use besides, and `taskloom-testkit`."""

DEVELOPMENT = {"taskloom-simulator", "taskloom-testkit", "taskloom-benches", "taskloom-crash", "taskloom-peer"}
"""Crates that nothing which is shipped may use."""

FOREIGN = {"pyo3", "napi", "tokio"}
"""What no core crate may contain, not even by way of another crate."""

EXCEPT = {("taskloom", "tokio"), ("taskloom-cli", "tokio")}
"""The facade runs async Rust handlers on tokio: one feature, which the bindings and the command leave out."""

UNSAFE = {
    "core/sync/src/spot.rs": "parks threads on an atomic byte",
    "core/sync/src/nursery.rs": "fills memory that was fetched before its value was made",
    "core/sync/src/fork.rs": "has the system tell us of forks",
    "core/store-sqlite/src/locks/owned/hooks.rs": "takes the place of system calls that SQLite makes",
    "core/store-sqlite/src/locks/owned/system.rs": "locks and closes SQLite's descriptors",
    "core/store-sqlite/src/locks/network.rs": "asks what kind of file system a file is on",
    "core/store-sqlite/tests/vfs/calls.rs": "stands between SQLite and the disk",
    "core/store-sqlite/tests/locks.rs": "locks files as another SQLite library does",
    "core/cli/src/worker/signals.rs": "takes away handlers that the host has for the supervisor's signals",
    "bindings/allocator/src/lib.rs": "asks mimalloc for memory",
    "bindings/python/src/ffi.rs": "calls CPython where pyo3 has no safe form",
    "bindings/python/src/variables.rs": "copies, enters and leaves contexts by CPython's own functions",
    "bindings/python/src/place.rs": "counts references to what tasks carry",
    "bindings/python/src/current.rs": "borrows the attempt that a thread runs",
    "bindings/node/src/words.rs": "writes into the typed array that JavaScript lends, looks at its word, makes strings of ASCII",
    "benches/rust/benches/memory.rs": "counts allocations, as a global allocator",
    "core/engine/tests/allocations.rs": "counts allocations, as a global allocator",
}
"""The modules that may contain `unsafe`, and what for. Each explains itself at its top."""

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
"""How Cargo writes its default registry, wherever it downloads from."""


def npm_packages() -> list[Path]:
    """The `package.json` files that are ours."""
    return sorted(path for path in ROOT.glob("*/package.json")) + sorted(ROOT.glob("*/node/package.json"))


def metadata() -> Any:
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def directions(facts: Any) -> Iterator[str]:
    """Crates against the table."""
    own = {package["name"]: package for package in facts["packages"] if package["source"] is None}
    for name in own.keys() ^ MAY_USE.keys():
        yield f"{name}: is in {'the workspace' if name in own else 'the table'} only; correct MAY_USE"
    for name, package in own.items():
        shipped = MAY_USE.get(name, set())
        tests = shipped | TESTS_MAY_USE.get(name, set()) | {"taskloom-testkit"}
        for dependency in package["dependencies"]:
            used, kind = dependency["name"], dependency["kind"]
            if used not in own:
                continue
            if kind is None and used not in shipped:
                yield f"{name}: may not use {used}"
            elif kind == "dev" and used not in tests:
                yield f"{name}: its tests may not use {used}"
            elif kind == "build":
                yield f"{name}: may not use {used} to build"
            elif kind is None and used in DEVELOPMENT:
                yield f"{name}: {used} is for development only"


def runtimes(facts: Any) -> Iterator[str]:
    """Foreign runtimes under core crates, found by walking what Cargo resolved."""
    names = {package["id"]: package["name"] for package in facts["packages"]}
    shipped = {
        node["id"]: [d["pkg"] for d in node["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
        for node in facts["resolve"]["nodes"]
    }
    for package in facts["packages"]:
        if package["source"] is not None or "/core/" not in package["manifest_path"].replace("\\", "/"):
            continue
        seen: set[str] = set()
        pending = [package["id"]]
        while pending:
            node = pending.pop()
            if node not in seen:
                seen.add(node)
                pending += shipped[node]
        for found in sorted(FOREIGN & {names[node] for node in seen}):
            if (package["name"], found) in EXCEPT:
                continue
            yield f"{package['name']}: contains {found}, which no core crate may"


def documented(facts: Any) -> Iterator[str]:
    """docs/dependencies.md against what is used."""
    page = ROOT / "docs" / "dependencies.md"
    lines = re.findall(r"^\| `([^`]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    used = {
        dependency["name"]
        for package in facts["packages"]
        if package["source"] is None
        for dependency in package["dependencies"]
        if dependency["source"] is not None
    }
    for requirements in sorted(ROOT.glob("requirements-*.txt")):
        used |= set(re.findall(r"^([A-Za-z0-9._-]+)==", requirements.read_text(encoding="utf-8"), re.MULTILINE))
    for package in npm_packages():
        about = json.loads(package.read_text(encoding="utf-8"))
        used |= {*about.get("dependencies", {}), *about.get("devDependencies", {})}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for array in re.findall(r"^dependencies = \[(.*?)\]", project, re.MULTILINE | re.DOTALL):
        used |= set(re.findall(r'"([A-Za-z0-9._-]+)', array))
    for name in sorted(used - set(lines)):
        yield f"docs/dependencies.md: says nothing of {name}"
    for name in sorted(set(lines) - used):
        yield f"docs/dependencies.md: nothing uses {name}"
    for name in sorted({name for name in lines if lines.count(name) > 1}):
        yield f"docs/dependencies.md: has {name} twice"


def manifests() -> Iterator[str]:
    """What every crate must say of itself."""
    for manifest in sorted(ROOT.glob("*/*/Cargo.toml")):
        text = manifest.read_text(encoding="utf-8")
        for wanted in (r"\[lints\]\nworkspace = true", r"rust-version\.workspace = true", r"license\.workspace = true"):
            if not re.search(wanted, text):
                yield f"{manifest.relative_to(ROOT)}: lacks {wanted.replace(chr(92), '')!r}"


def uncommented(line: str) -> str:
    """A line of Rust without strings and comment, as far as this check needs it."""
    return re.sub(r"//.*", "", re.sub(r'"(?:[^"\\]|\\.)*"', '""', line))


def unsafety() -> Iterator[str]:
    """`unsafe`, where it may be and with a reason."""
    used: set[str] = set()
    for folder in ("core", "bindings", "benches"):
        for path in sorted((ROOT / folder).rglob("*.rs")):
            name = path.relative_to(ROOT).as_posix()
            lines = path.read_text(encoding="utf-8").splitlines()
            for number, line in enumerate(lines, 1):
                if not re.search(r"\bunsafe\b", uncommented(line)):
                    continue
                used.add(name)
                if name not in UNSAFE:
                    yield f"{name}:{number}: unsafe is only in {', '.join(UNSAFE)}"
                elif re.search(r"\bunsafe\s*(\{|impl\b)", uncommented(line)) and not reasoned(lines, number - 1):
                    yield f"{name}:{number}: unsafe without a SAFETY comment above it"
    for name in sorted(UNSAFE.keys() - used):
        yield f"{name}: is listed in UNSAFE and has none"


def reasoned(lines: list[str], index: int) -> bool:
    """Whether the comment right above the statement of this line says why it is safe."""
    for line in reversed(lines[:index]):
        text = line.strip()
        if text.startswith("// SAFETY:"):
            return True
        if not text.startswith(("//", "#[")) and text.endswith((";", "{", "}", "")) and not text.endswith("="):
            return False
    return False


def addresses() -> Iterator[str]:
    """Where packages come from is the business of the machine, not of the project."""
    for source in sorted(set(re.findall(r'^source = "(.*)"', (ROOT / "Cargo.lock").read_text(), re.MULTILINE))):
        if source != CRATES_IO:
            yield f"Cargo.lock: {source} is not the default registry"
    for requirements in sorted(ROOT.glob("requirements-*.txt")):
        for line in requirements.read_text(encoding="utf-8").splitlines():
            if not re.fullmatch(r"#.*|-r requirements-\w+\.txt|[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*|", line):
                yield f"{requirements.name}: {line!r} is neither an exact version nor a comment"
    for package in npm_packages():
        name = package.relative_to(ROOT).as_posix()
        lock = package.with_name("package-lock.json")
        if not lock.exists():
            yield f"{name}: has no package-lock.json beside it"
        elif '"resolved"' in lock.read_text(encoding="utf-8"):
            yield f"{lock.relative_to(ROOT).as_posix()}: says where packages come from (omit-lockfile-registry-resolved)"
        about = json.loads(package.read_text(encoding="utf-8"))
        for dependency, version in {**about.get("dependencies", {}), **about.get("devDependencies", {})}.items():
            if not re.fullmatch(r"[0-9][0-9A-Za-z.-]*", version):
                yield f"{name}: {dependency} is {version}, which is no exact version"
    for name in (".cargo/config.toml", ".cargo/config", "pip.conf"):
        if (ROOT / name).exists():
            yield f"{name}: belongs to a machine, not to the project"


def main() -> int:
    facts = metadata()
    problems = [
        *directions(facts),
        *runtimes(facts),
        *documented(facts),
        *manifests(),
        *unsafety(),
        *addresses(),
    ]
    for problem in problems:
        print(problem)
    print("structure: " + (f"{len(problems)} problems" if problems else "as it should be"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
