"""Tables for papers: rows of cells, and their text in Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actfer_env.evaluation.tables import DASH

OWN, PUBLISHED = "yours", "published"
"""Kinds of rows."""
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
          "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "’": "'"}  # fmt: skip


@dataclass(frozen=True)
class TableRow:
    """A row: its name, a cell for each column, its kind, and the numbers of its notes."""

    name: str
    cells: tuple[str, ...]
    kind: str = OWN
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: Heading.
        head: Heading of the first column.
        columns: Headings of the others.
        rows: Rows, of `columns`' length.
        notes: Notes of the rows, numbered from 1.
    """

    title: str
    head: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()


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
        writer.writerow([row.name, row.kind, *("" if cell == DASH else cell for cell in row.cells), notes])
    return stream.getvalue()


def rows_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows, column -> value, as CSV with a line of headings; None is empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
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


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _marked(name: str, marks: Sequence[int]) -> str:
    return name + (f" [{', '.join(map(str, marks))}]" if marks else "")


def _cells(cells: Iterable[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
