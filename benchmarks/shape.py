"""How the code is cut: functions per 100 lines, their lengths, private ones, and those that are used once.

python -m benchmarks.shape [CHECKOUT ...]

A body is counted in lines of code, docstring and blank lines left out. A private function counts as used once
where its name occurs once beside its definition, in its own file and in no other.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from statistics import median

FOLDERS = ("actfer_env", "agents", "wrappers")


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    if not body:
        return 0
    return sum(bool(line.strip()) for line in lines[body[0].lineno - 1 : body[-1].end_lineno])


def measure(checkout: Path) -> dict[str, float]:
    files = {path: path.read_text() for folder in FOLDERS for path in sorted((checkout / folder).rglob("*.py"))}
    words = {path: Counter(re.findall(r"\w+", text)) for path, text in files.items()}
    everywhere: Counter[str] = sum(words.values(), Counter())
    bodies: list[int] = []
    private: list[str] = []
    once = total = 0
    for path, text in files.items():
        lines = text.splitlines()
        total += sum(bool(line.strip()) for line in lines)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                bodies.append(body_lines(node, lines))
                if node.name.startswith("_") and not node.name.endswith("__"):
                    private.append(node.name)
                    once += words[path][node.name] == 2 == everywhere[node.name]
    ranked = sorted(bodies)
    longest = {
        str(path.relative_to(checkout)): text.count("\n") for path, text in files.items() if text.count("\n") > 400
    }
    return {
        "files": len(files), "lines": total, "functions per 100 lines": round(100 * len(bodies) / total, 1),
        "body median": median(ranked), "body p90": ranked[int(0.9 * len(ranked))], "body max": ranked[-1],
        "private %": round(100 * len(private) / len(bodies)), "3 lines or fewer %": round(
            100 * sum(length <= 3 for length in bodies) / len(bodies)),
        "private functions": len(private), "of these used once": once, "files over 400 lines": len(longest),
        **{f"  {name}": length for name, length in longest.items()},
    }  # fmt: skip


def main() -> None:
    for name in sys.argv[1:] or ["."]:
        print(name)
        for key, value in measure(Path(name)).items():
            print(f"  {key}: {value:g}")


if __name__ == "__main__":
    main()
