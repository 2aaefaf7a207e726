"""Whether the languages cover the same behaviours, each by a test that it names: tests/golden/behaviours.json.

A record has a `behaviour` in words, and for each language the test that covers it: in `python` the file in
tests/python and the function, in `node` the file in tests/node and the test's name (a test that is run for several
stores has its name without the store). Where a whole file is about the behaviour, the file is enough.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "tests" / "golden" / "behaviours.json"


def python_has(test: str) -> bool:
    name, _, function = test.partition("::")
    path = ROOT / "tests" / "python" / name
    if not path.exists():
        return False
    text = path.read_text(encoding="utf-8")
    return re.search(rf"^\s*(async )?def {re.escape(function or 'test_')}", text, re.MULTILINE) is not None


def node_has(test: str) -> bool:
    name, _, title = test.partition(": ")
    path = ROOT / "tests" / "node" / name
    if not path.exists():
        return False
    text = path.read_text(encoding="utf-8")
    return re.search(rf"\btest\(\s*(['\"`]){re.escape(title)}(: \$\{{kind\}})?\1", text) is not None


def problems() -> Iterator[str]:
    seen: set[str] = set()
    for record in json.loads(RECORDS.read_text(encoding="utf-8")):
        behaviour = record["behaviour"]
        if behaviour in seen:
            yield f"{behaviour}: is there twice"
        seen.add(behaviour)
        for language, has in (("python", python_has), ("node", node_has)):
            test = record.get(language)
            if test is None:
                yield f"{behaviour}: says nothing of {language}"
            elif not has(test):
                yield f"{behaviour}: there is no test {test!r} in tests/{language}"


def main() -> int:
    found = list(problems())
    for problem in found:
        print(problem)
    print("behaviours: " + (f"{len(found)} problems" if found else "covered in each language"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
