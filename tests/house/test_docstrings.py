"""Docstrings begin with a noun or a verb; of public ones so do the lines of their sections."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for name in ("actfer_env", "agents", "wrappers") for path in (ROOT / name).rglob("*.py"))
QUESTION = re.compile(r"(What|How|Where|Who|Whom|Whose|Whether|When|Why|Which)\b")
SECTION = re.compile(r"\s*(Attributes|Args|Arguments|Fields):\s*$")
ENTRY = re.compile(r"(?P<names>\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: +(?P<text>\S.*)")
HEADLESS = re.compile(r"(of|in|for|from|by|to|at|on|with|as|that)\b")


def public_nodes(tree):
    """The module and its public classes and functions, methods included."""
    yield tree
    for node in getattr(tree, "body", ()):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield from public_nodes(node)


def entries_of(text):
    """The lines `name: text` of a docstring's sections of arguments and attributes."""
    indent = None
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if SECTION.match(line):
            indent = depth + 4
        elif line.strip() and indent is not None:
            if depth < indent:
                indent = None
            elif depth == indent and (entry := ENTRY.match(line.strip())):
                yield entry["names"], entry["text"]


def docstrings(tree):
    """The texts that stand alone: docstrings, private ones too, and those behind attributes and constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def faults(path):
    """One line for each docstring, or entry of its sections, that does not name its thing first."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, text in docstrings(tree):
        if QUESTION.match(text.lstrip()):
            yield f"{path.relative_to(ROOT)}: line {line}: {text.splitlines()[0]}"
    for node in public_nodes(tree):
        text = ast.get_docstring(node)
        name = f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}"
        for names, entry in entries_of(text or ""):
            asks = QUESTION.match(entry.capitalize()) and not entry.lower().startswith("whether ")
            if HEADLESS.match(entry) or asks:
                yield f"{name}: {names}: {entry}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_name_their_thing_first(path):
    assert list(faults(path)) == []


def test_a_docstring_that_asks_and_an_entry_without_a_head_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    text = '"""Where it lies.\n\nArgs:\n    seed: of the data set.\n    side: Pixels of a side.\n"""\n'
    (tmp_path / "one.py").write_text(text + 'def _own():\n    """What it does."""\n')
    assert list(faults(tmp_path / "one.py")) == [
        "one.py: line 1: Where it lies.",
        "one.py: line 8: What it does.",
        "one.py: module: seed: of the data set.",
    ]
