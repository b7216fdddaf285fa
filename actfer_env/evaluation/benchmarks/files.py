"""Tables as files: Markdown, CSV, LaTeX, JSON and HTML."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from actfer_env.errors import DataError
from actfer_env.evaluation.benchmarks.layout import Table, benchmark_tables
from actfer_env.files import write_text_atomic

TABLE = "table"
"""Name of the files, without their endings."""
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
          "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "’": "'"}  # fmt: skip


def write_benchmark(folder: str | os.PathLike[str], figures: Mapping[str, Any]) -> list[Path]:
    """Write table.json, .md, .csv, .tex and .html of `benchmark_figures`.

    The CSV file holds the main table alone, with the published rows; the others hold all tables.

    Args:
        folder: The folder; made if it is not there.
        figures: The figures.

    Returns:
        The files.

    Raises:
        DataError: the folder cannot be written.
    """
    tables, place = benchmark_tables(figures), Path(folder)
    texts = {
        "json": json.dumps(figures, indent=1, ensure_ascii=False) + "\n",
        "md": markdown(tables, str(figures["title"]), figures["notes"]),
        "csv": csv_text(tables[0]),
        "tex": "\n".join(latex(table) for table in tables),
        "html": _page(figures, tables),
    }
    for ending, text in texts.items():
        write_text_atomic(place / f"{TABLE}.{ending}", text)
    return [place / f"{TABLE}.{ending}" for ending in texts]


def read_benchmark(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the figures in a folder of `write_benchmark`.

    Raises:
        DataError: there are none.
    """
    path = Path(folder) / f"{TABLE}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found, pooled=dict(found["pooled"]), parts=dict(found["parts"]))
    except OSError as error:
        raise DataError(f"{path}: no table here ({error.strerror}); give the --out folder of a benchmark") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a benchmark's table ({error})") from error


def markdown(tables: Iterable[Table], title: str, notes: Sequence[str] = ()) -> str:
    """Return tables as a page of Markdown."""
    lines = [f"# {title}", ""]
    for table in tables:
        lines += [f"## {table.title}", "", _line((table.head, *table.columns)),
                  _line(["---", *["---:"] * len(table.columns)])]  # fmt: skip
        lines += [_line((_marked(row.name, row.marks), *row.cells)) for row in table.rows]
        lines += ["", *(f"{number}. {note}" for number, note in enumerate(table.notes, 1)), *[""] * bool(table.notes)]
    if notes:
        lines += ["## Notes", "", *(f"- {note}" for note in notes), ""]
    return "\n".join(lines)


def csv_text(table: Table) -> str:
    """Return a table as CSV: name, kind of row, and a column for each of the table's; empty where nothing is known."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([table.head, "kind", *table.columns, "notes"])
    for row in table.rows:
        notes = "; ".join(table.notes[mark - 1] for mark in row.marks)
        writer.writerow([row.name, row.kind, *("" if cell == "–" else cell for cell in row.cells), notes])
    return stream.getvalue()


def latex(table: Table) -> str:
    """Return a table in LaTeX, for the package booktabs."""
    lines = [rf"% {table.title}", rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule",
             _cells((table.head, *table.columns)), r"\midrule"]  # fmt: skip
    kinds = [row.kind for row in table.rows]
    for at, row in enumerate(table.rows):
        if at and kinds[at] != kinds[at - 1]:
            lines.append(r"\midrule")
        marks = "" if not row.marks else f"$^{{{','.join(map(str, row.marks))}}}$"
        lines.append(f"{_escaped(row.name)}{marks} & " + _cells(row.cells))
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"% {number}: {note}" for number, note in enumerate(table.notes, 1)]
    return "\n".join(lines) + "\n"


def _page(figures: Mapping[str, Any], tables: Sequence[Table]) -> str:
    text = _environment().get_template("benchmark.html.j2").render(figures=figures, tables=tables, heat=_heat)
    return text.encode("utf-8", "replace").decode("utf-8")


def _heat(cells: Sequence[str]) -> list[float]:
    """Return each count's share of its row, for the shade of a confusion matrix."""
    counts = [int(cell) for cell in cells]
    total = sum(counts) or 1
    return [round(count / total, 3) for count in counts]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _marked(name: str, marks: Sequence[int]) -> str:
    return name + (f" [{', '.join(map(str, marks))}]" if marks else "")


def _cells(cells: Iterable[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(loader=PackageLoader("actfer_env.evaluation"), autoescape=True, undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True)  # fmt: skip
