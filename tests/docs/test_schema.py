"""docs/schema.md has every column of the view, in its order."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from taskloom import App

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "schema.md").read_text(encoding="utf-8")


def test_the_columns_of_the_view(tmp_path: Path) -> None:
    app = App(f"sqlite:{tmp_path}/t.db")
    app.start()
    app.stop()
    reader = sqlite3.connect(tmp_path / "t.db")
    columns = [row[1] for row in reader.execute("PRAGMA table_info(taskloom_tasks)")]
    reader.close()
    assert columns == re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
