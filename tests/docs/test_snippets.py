"""Every Python block of the README and of the pages in docs/ runs, and Rust blocks are where doctests find them.

A page's blocks run in order, in one fresh interpreter, as one program. A block that is not to run has a line
`<!-- not run: reason -->` above it; how many there may be is written down here, so that none is added in passing.
A block that begins with a comment such as `# shop/tasks.py` is a file of a recipe, which `test_recipes` runs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, blocks, file_of, program

NOT_RUN = 5
SECONDS = 60

WITH_PYTHON = [page for page in PAGES if program(page).strip()]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_runs(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem}.md.py"
    script.write_text(program(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{page.name}\n{done.stdout}\n{done.stderr}"


def test_blocks_that_are_not_run_are_known() -> None:
    found = [f"{page.name}:{block.line}: {block.reason}" for page in PAGES for block in blocks(page) if block.reason]
    assert len(found) == NOT_RUN, found


def test_files_are_in_recipes_only() -> None:
    assert {page.name for page in PAGES for block in blocks(page) if file_of(block) is not None} == {"recipes.md"}


def test_every_block_names_its_language() -> None:
    unnamed = [f"{page.name}:{block.line}" for page in PAGES for block in blocks(page) if not block.language]
    assert unnamed == []


def test_rust_blocks_are_doctests() -> None:
    included = (ROOT / "core" / "taskloom" / "src" / "lib.rs").read_text(encoding="utf-8")
    for page in PAGES:
        if any(block.language == "rust" for block in blocks(page)):
            assert f'include_str!("../../../{page.relative_to(ROOT).as_posix()}")' in included, page.name


LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchor(heading: str) -> str:
    """As web pages of the usual hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_lead_somewhere() -> None:
    dead = []
    for page in PAGES:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            if target.startswith("https://"):
                continue
            path, _, fragment = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                dead.append(f"{page.name}: {target}")
            elif fragment:
                headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
                if fragment not in map(anchor, headings):
                    dead.append(f"{page.name}: {target}")
    assert dead == []
