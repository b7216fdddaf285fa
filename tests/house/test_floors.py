"""Imports run downwards: each module stands on a floor of CONTRIBUTING's table, and no two import each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers import ROOT

PACKAGE = "actfer_env"
LOOKED_UP = {
    "_moved": "tables of old and new names; the new one is imported where code of an earlier version asks for the old",
    "data": "the table of data sets; `curated` stands above, and is imported when it is loaded",
    "envs.registration": "gymnasium takes entry points as text, and imports an environment when one is made",
}
"""Modules whose texts may name modules of higher floors -> why."""
DYNAMIC = {
    "_moved": "see above",
    "plugins": "modules and entry points of others, which users name; data sets of the table in `data`",
    "agents.registry": "the module of an agent of others, as in module:Class",
    "agents.toolkits": "the package of a toolkit, by its class's own name for it",
    "agents.qwen.torchvision_guard": "torchvision, whose faulty build must not end the program",
    "integrations.openenv": "modules beside it, so that OpenEnv is loaded only when it is asked for",
    "verl_plugin.beside_trl": "two modules of TRL, of which one may be absent",
}
"""Modules that import by a name at run time -> what they import."""
TEXT = re.compile(rf"{PACKAGE}\.(?P<name>\w+(?:\.\w+)*)(?::\w+)?")
ROW = re.compile(r"\| (?P<number>\d+) (?P<title>[^|]+) \| (?P<names>(?:`[\w.]+`(?:, )?)+) \|")


def module_name(path: Path, root: Path) -> str:
    """The name under which a file is imported, without the package's."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    parts = parts[1:] if parts[0] == PACKAGE else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(root: Path = ROOT) -> dict[str, Path]:
    folders = (root / name for name in (PACKAGE, "agents", "wrappers"))
    return {module_name(path, root): path for folder in folders for path in folder.rglob("*.py")}


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of the package that a file imports, wherever in it; a name of a package stands for the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            base = node.module.removeprefix(PACKAGE).lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                yield inner if inner in known else base
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix(PACKAGE).lstrip(".")
                for alias in node.names
                if alias.name.split(".")[0] == PACKAGE
            )


def named(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of the package that a file names in a text of its own, such as "actfer_env.envs.face:ActFEREnv"."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (text := TEXT.fullmatch(node.value)):
            parts = text["name"].split(".")
            names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
            yield from [name for name in names if name in known][:1]


def arrows(root: Path = ROOT) -> dict[str, set[str]]:
    """Module -> those that it imports or names; the package's own face, which only hands names on, is left out."""
    known = modules(root)
    texts = {name: set[str]() if name in LOOKED_UP else set(named(path, known)) for name, path in known.items()}
    return {name: (set(imports(path, known)) | texts[name]) - {name, ""} for name, path in known.items() if name}


def table() -> dict[str, tuple[int, str]]:
    """Prefix of module names -> its floor and row."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [match for match in map(ROW.fullmatch, text.splitlines()) if match]
    return {
        name: (int(row["number"]), row["title"]) for row in rows for name in re.findall(r"`([\w.]+)`", row["names"])
    }


def place(name: str, floors: Mapping[str, tuple[int, str]]) -> tuple[int, str]:
    """The floor and row of a module, by the longest prefix in the table."""
    parts = name.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    found = next((floors[prefix] for prefix in prefixes if prefix in floors), None)
    assert found is not None, f"{name} stands on no floor: add it to the table in CONTRIBUTING.md"
    return found


def upward(found: Mapping[str, set[str]], floors: Mapping[str, tuple[int, str]]) -> list[str]:
    """One line for each import that leads to a higher floor, or to another row of the same one."""
    lines = []
    for name, others in found.items():
        mine = place(name, floors)
        theirs = {other: place(other, floors) for other in others}
        lines += [
            f"{name} (floor {mine[0]}) imports {other} (floor {there[0]})"
            for other, there in sorted(theirs.items())
            if there != mine and there[0] >= mine[0]
        ]
    return lines


def test_imports_run_downwards() -> None:
    floors = table()
    assert len(floors) > 25
    assert upward(arrows(), floors) == []


def test_no_modules_import_each_other() -> None:
    found = arrows()
    # A package's face imports its modules, which is what a face is for: they may import its neighbours.
    graph = {name: {other for other in others if not name.startswith(f"{other}.")} for name, others in found.items()}
    TopologicalSorter(graph).prepare()


def test_every_row_of_the_table_has_modules() -> None:
    known = modules()
    assert [name for name in table() if name not in known] == []


def test_names_that_are_looked_up_at_run_time_are_listed_with_reasons() -> None:
    known, calls = modules(), ("import_module", "__import__", "entry_points")
    found = set()
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in calls:
                found.add(name)
    assert found == set(DYNAMIC)
    assert [name for name in LOOKED_UP if not set(named(known[name], known))] == []


def test_a_long_file_says_why() -> None:
    long = {name: path.read_text(encoding="utf-8").splitlines() for name, path in modules().items()}
    silent = [name for name, lines in long.items() if len(lines) > 400 and "onger than 400" not in "".join(lines[:25])]
    assert silent == []


def test_an_upward_import_and_a_circle_are_named(tmp_path: Path) -> None:
    package = tmp_path / PACKAGE
    package.mkdir()
    (package / "low.py").write_text("def late():\n    from actfer_env.high import top\n    return top\n")
    (package / "high.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import actfer_env.low\n")
    found = arrows(tmp_path)
    floors = {"low": (1, "ground"), "high": (2, "roof")}
    assert upward(found, floors) == ["low (floor 1) imports high (floor 2)"]
    for text in ("import_module('actfer_env.high').top", "register(entry_point='actfer_env.high:top')"):
        (package / "low.py").write_text(f"def late():\n    return {text}\n")
        assert upward(arrows(tmp_path), floors) == ["low (floor 1) imports high (floor 2)"]
    with pytest.raises(CycleError):
        TopologicalSorter(found).prepare()
