"""Writes docs/api.md: every public name of the Python package, from its signatures and docstrings.

    python tools/api_reference.py           writes the page
    python tools/api_reference.py --check   says what is missing or stale, and changes nothing

It reads the sources and imports nothing, so that the page does not depend on which Python runs it, or on which wheel is
installed. What the extension defines is read from its stub. ``tests/docs/test_api.py`` holds the page against it.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "taskloom"
PAGE = ROOT / "docs" / "api.md"

SECTIONS: dict[str, list[str]] = {
    "Apps and tasks": ["App", "Task", "TaskHandle", "Retry"],
    "Schedules": ["Schedules", "Schedule", "next_firings"],
    "Waiting": ["as_completed", "wait"],
    "In a handler": ["Context", "current_context", "CurrentTask", "PermanentError", "RetryAfter"],
    "What is known of a task": ["TaskInfo", "Progress", "Step", "LogLine", "AttemptError"],
    "Events and monitoring": ["Event", "EventStream", "Health", "Unserved", "events"],
}
"""The page's sections. Public names that are in none of them come under "Errors" if they are one, or else "More"."""

REACHED = {
    "Testing": "testing",
    "AsyncTesting": "testing",
    "Submitted": "testing",
    "Waited": "_waiting",
    "TaskLog": "_context",
    "ResultMetadata": "_context",
    "Handler": "_monitor",
    "EventInfo": "events",
    "Outbox": "outbox/_outbox",
    "RefusedRow": "outbox/_outbox",
    "OutboxHandle": "outbox/_handle",
}
"""Classes that are not exported, but whose instances users are given; and where they are."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
DOTTED = re.compile(r":(?:class|meth|attr|func|mod|data):`([^`]+)`")


@dataclass
class Member:
    """A method, a property or a field."""

    name: str
    signature: str
    doc: str | None


@dataclass
class Item:
    """A public name."""

    name: str
    kind: str
    signature: str
    doc: str | None
    bases: list[str] = field(default_factory=list)
    code: str | None = None
    members: list[Member] = field(default_factory=list)

    @property
    def is_error(self) -> bool:
        return self.code is not None


def module(name: str) -> ast.Module:
    path = PACKAGE / f"{name}.py"
    if not path.exists():
        path = PACKAGE / f"{name}.pyi"
    return ast.parse(path.read_text(encoding="utf-8"))


def exports() -> dict[str, str]:
    """The public names, and the modules that define them."""
    tree = module("__init__")
    origin: dict[str, str] = {}
    public: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            where = node.module.partition(".")[2]
            origin |= {alias.asname or alias.name: where or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            public = ast.literal_eval(node.value)
    return {name: origin[name] for name in public}


def definition(where: str, name: str) -> ast.ClassDef | Function:
    for node in module(where).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return node
    raise LookupError(f"taskloom.{where} does not define {name}")


def decorators(node: ast.ClassDef | Function) -> set[str]:
    return {ast.unparse(decorator) for decorator in node.decorator_list}


def signature(node: Function, name: str | None = None, *, is_method: bool = False) -> str:
    arguments = node.args
    if is_method and "staticmethod" not in decorators(node):
        (arguments.posonlyargs or arguments.args).pop(0)
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    head = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{head}{name or node.name}({ast.unparse(arguments)}){returns}"


def members(node: ast.ClassDef) -> Iterator[Member]:
    """What a class has for its users: its public parts, and those special methods that say what they do."""
    for index, child in enumerate(node.body):
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            name = child.target.id
            after = node.body[index + 1] if index + 1 < len(node.body) else None
            doc = None
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                doc = inspect.cleandoc(str(after.value.value))
            is_class_variable = "ClassVar" in ast.unparse(child.annotation)
            if not name.startswith("_") and not is_class_variable:
                default = "" if child.value is None else f" = {ast.unparse(child.value)}"
                yield Member(name, f"{name}: {ast.unparse(child.annotation)}{default}", doc)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(child)
            is_special = child.name.startswith("__") and child.name.endswith("__")
            if (child.name.startswith("_") and not (is_special and doc)) or "overload" in decorators(child):
                continue
            if "property" in decorators(child):
                annotation = "" if child.returns is None else f": {ast.unparse(child.returns)}"
                yield Member(child.name, f"{child.name}{annotation}", doc)
            else:
                yield Member(child.name, signature(child, is_method=True), doc)


def constructor(node: ast.ClassDef) -> str:
    """How a class is called; only its name if users do not call it, or if its fields say it."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and child.name in ("__init__", "__new__"):
            child.returns = None
            return signature(child, node.name, is_method=True)
    return node.name


def bases(node: ast.ClassDef) -> list[str]:
    plain = [ast.unparse(base) for base in node.bases]
    return [base for base in plain if not base.startswith(("Generic", "_", "NamedTuple"))]


def item(name: str, where: str) -> Item:
    if name == "events":
        return events_module()
    node = definition(where, name)
    doc = ast.get_docstring(node)
    if not isinstance(node, ast.ClassDef):
        return Item(name, "function", signature(node), doc)
    own = list(members(node))
    if name == "App":  # what it has from its bases
        operated = definition("_operating", "_Operated")
        assert isinstance(operated, ast.ClassDef)
        own = [*members(definition_of_native_app()), *own, *members(operated)]
    return Item(name, "class", constructor(node), doc, bases(node), default_code(node), own)


def default_code(node: ast.ClassDef) -> str | None:
    for child in node.body:
        if isinstance(child, (ast.Assign, ast.AnnAssign)) and child.value is not None:
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            if ast.unparse(target) == "default_code":
                return str(ast.literal_eval(child.value))
    return None


def definition_of_native_app() -> ast.ClassDef:
    node = definition("_native", "_App")
    assert isinstance(node, ast.ClassDef)
    node.body = [
        child for child in node.body if not (isinstance(child, ast.FunctionDef) and child.name.startswith("_"))
    ]
    return node


def events_module() -> Item:
    tree = module("events")
    own = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            own.append(Member(node.name, signature(node), ast.get_docstring(node)))
    return Item("events", "module", "events", ast.get_docstring(tree), members=own)


def items() -> dict[str, list[Item]]:
    """All public names, by section."""
    public = exports()
    left = dict(public)
    page: dict[str, list[Item]] = {}
    for section, names in SECTIONS.items():
        page[section] = [item(name, left.pop(name)) for name in names]
    rest = [item(name, where) for name, where in sorted(left.items())]
    page["Errors"] = sorted((each for each in rest if each.is_error), key=lambda each: (each.code or "", each.name))
    page["More"] = [each for each in rest if not each.is_error]
    page["What they return"] = [item(name, where) for name, where in REACHED.items()]
    return {section: each for section, each in page.items() if each}


def undocumented(page: dict[str, list[Item]]) -> list[str]:
    """Public names without a docstring."""
    missing = []
    for each in (each for section in page.values() for each in section):
        if not each.doc:
            missing.append(each.name)
        missing += [f"{each.name}.{member.name}" for member in each.members if not member.doc]
    return missing


def markdown(doc: str | None) -> str:
    """A docstring as Markdown: its code in fences, its references as code."""
    lines: list[str] = []
    fenced = False
    for line in (doc or "").splitlines():
        starts = line.startswith(">>>")
        if starts and not fenced:
            fenced = True
            lines += [] if not lines or not lines[-1] else [""]
            lines.append("```pycon")
        elif fenced and not line:
            fenced = False
            lines.append("```")
        if fenced:
            lines.append(re.sub(r"\s*# doctest:.*", "", line))
        else:
            lines.append(DOTTED.sub(r"`\1`", line).replace("``", "`"))
    if fenced:
        lines.append("```")
    return "\n".join(lines)


def rendered(page: dict[str, list[Item]]) -> str:
    parts = [
        "# API of the Python package",
        "<!-- Written by tools/api_reference.py from the sources of the package: edit the docstrings there. -->",
        "Everything that `taskloom` exports. [Options](options.md) has the settings of apps and the options of tasks, "
        "[errors](errors.md) a\nparagraph for each code.",
        "\n".join(
            f"- {section}: " + ", ".join(f"[`{each.name}`](#{each.name.lower()})" for each in section_items)
            for section, section_items in page.items()
        ),
    ]
    for section, section_items in page.items():
        parts.append(f"## {section}")
        for each in section_items:
            parts.append(f"### {each.name}")
            parts.append(f"```text\n{head(each)}\n```")
            if each.code is not None and each.name != "Error":
                parts.append(f"Code `{each.code}`, unless a more particular one is set.")
            if each.doc:
                parts.append(markdown(each.doc))
            for member in each.members:
                text = markdown(member.doc)
                parts.append(f"**`{member.signature}`**\n\n{text}" if text else f"**`{member.signature}`**")
    return "\n\n".join(parts) + "\n"


def head(each: Item) -> str:
    if each.kind == "module":
        return f"module taskloom.{each.name}"
    if each.kind == "function":
        return each.signature
    of = f", derived from {', '.join(each.bases)}" if each.bases else ""
    return f"class {each.signature}{of}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes docs/api.md from the package's sources.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if it is stale")
    args = parser.parse_args()
    page = items()
    text = rendered(page)
    missing = undocumented(page)
    for name in missing:
        print(f"{name} has no docstring", file=sys.stderr)
    if not args.check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/api.md is stale: python tools/api_reference.py", file=sys.stderr)
        return 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
