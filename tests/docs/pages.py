"""The pages for users, and the blocks of code on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

FILE = re.compile(r"# ([\w./]+\.py)\n")

BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    reason: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["text"], text.count("\n", 0, found.start("text")) + 1, found["reason"])
        for found in BLOCK.finditer(text)
    ]


def file_of(block: Block) -> str | None:
    """The file that a block is, if it is one."""
    found = FILE.match(block.text) if block.language == "python" else None
    return None if found is None else found[1]


def program(page: Path) -> str:
    """The page's blocks, each on the lines that it has in the page, so that tracebacks point there."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and block.reason is None and file_of(block) is None:
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.text.splitlines()
    return "\n".join(lines) + "\n"
