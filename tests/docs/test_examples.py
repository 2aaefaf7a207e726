"""The examples run, and the examples in docstrings."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import taskloom

ROOT = Path(__file__).resolve().parents[2]
CENSUS = ROOT / "examples" / "census.py"


@pytest.mark.parametrize("options", [[], ["--store", "sqlite:census.db"], ["--processes", "2"]])
def test_census(options: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-X", "dev", str(CENSUS), *options, "--limit", "150"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "both agree" in done.stdout
    assert done.stderr == ""


def test_every_example_is_tested() -> None:
    assert [path.name for path in (ROOT / "examples").glob("*.py")] == [CENSUS.name]


MODULES = sorted(name for _, name, _ in pkgutil.iter_modules(taskloom.__path__) if name != "_native")


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    module = importlib.import_module(f"taskloom.{name}")
    # Methods of an app speak of one that is there.
    found = doctest.testmod(module, extraglobs={"app": taskloom.App()}, optionflags=doctest.ELLIPSIS)
    assert found.failed == 0


def documented(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            text = ast.get_docstring(node)
            if text is not None and ">>>" in text:
                yield node.name, node.lineno, text


def test_docstrings_of_the_stub() -> None:
    """They are not in any module, so that they are read from the file. `resize` is an example that most speak of."""
    path = ROOT / "python" / "taskloom" / "_native.pyi"
    app = taskloom.App()

    @app.task
    def resize(path: str, width: int) -> str:
        return f"{path} at {width}"

    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    parser = doctest.DocTestParser()
    tried = 0
    with app:
        for name, line, text in documented(ast.parse(path.read_text(encoding="utf-8"))):
            names: dict[str, Any] = {"taskloom": taskloom, "app": app, "resize": resize}
            runner.run(parser.get_doctest(text, names, name, str(path), line))
            tried += 1
        app.stop(timeout=0)
    assert tried > 5
    assert runner.failures == 0
