"""Commands about finished runs: compare, export."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actfer_env.cli.options import SeedOption
from actfer_env.cli.output import console, say
from actfer_env.errors import DataError
from actfer_env.files import check_writable, write_text_atomic

if TYPE_CHECKING:
    from actfer_env.evaluation import Difference
    from actfer_env.evaluation.table_files import Table


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs or of a benchmark; the first is the baseline.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for compare.json, .md, .csv and .tex; nothing is written without.")
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Compare on the samples that both have; else others are refused.")
    ] = False,
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws over samples.")] = 2000,
    seed: SeedOption = 0,
) -> None:
    """Compare runs over the same samples with the first: paired differences with 95 % intervals.

    Accuracy, macro-F1 and AU F1, zooming, violations and turns; tokens and cost of a conversation where runs tell them.
    """
    from actfer_env.evaluation.comparison import check_same_samples
    from actfer_env.evaluation.comparison import compare as compare_two
    from actfer_env.evaluation.export import read_results

    if len(runs) < 2:
        raise DataError("give two runs or more; the first is the baseline")
    if out is not None:
        check_writable(out)
    found, names = [read_results(folder) for folder in runs], [str(folder) for folder in runs]
    if not shared:
        check_same_samples(found, names)
    differences = {
        name: compare_two(found[0], run, draws=draws, seed=seed) for run, name in zip(found[1:], names[1:], strict=True)
    }
    tables = [_table(names[0], name, rows) for name, rows in differences.items()]
    for table in tables:
        _show(table)
    if out is not None:
        from actfer_env.evaluation.table_files import latex, markdown, rows_csv

        rows = [{"run": name, **asdict(row)} for name, found_rows in differences.items() for row in found_rows]
        head = {"schema": 1, "baseline": names[0], "draws": draws, "seed": seed}
        data = head | {"differences": {name: [asdict(row) for row in rows] for name, rows in differences.items()}}
        texts = {
            "json": json.dumps(data, indent=1) + "\n", "md": markdown(tables, "Comparison of runs", [_NOTE]),
            "csv": rows_csv(rows), "tex": "\n".join(map(latex, tables)),
        }  # fmt: skip
        for ending, content in texts.items():
            write_text_atomic(out / f"compare.{ending}", content)
        say(f"written: {out / 'compare.json'}, .md, .csv, .tex")


_COLUMNS = ("samples", "baseline", "run", "difference", "low", "high", "")
_NOTE = "intervals: 95 %, paired bootstrap over samples; * where the interval does not hold 0"


def _table(first: str, second: str, rows: tuple[Difference, ...]) -> Table:
    from actfer_env.evaluation.table_files import Table, TableRow

    cells = [(str(row.n), *(f"{value:.4g}" for value in (row.first, row.second)),
              *(f"{value:+.4g}" for value in (row.difference, row.low, row.high)), "*" if row.clear else "")
             for row in rows]  # fmt: skip
    names = [row.metric.replace("_", " ").replace("f1", "F1").replace("au ", "AU ") for row in rows]
    return Table(f"{second} against {first}", "metric", _COLUMNS,
                 tuple(TableRow(name, cell) for name, cell in zip(names, cells, strict=True)))  # fmt: skip


def _show(table: Table) -> None:
    from rich.markup import escape
    from rich.table import Table as Shown

    shown = Shown(table.head, title=escape(table.title), title_justify="left", caption=_NOTE, caption_justify="left")
    for column in table.columns:
        shown.add_column(escape(column), justify="right", overflow="fold")
    for row in table.rows:
        shown.add_row(row.name, *row.cells)
    console().print(shown)


def export(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a run or of a benchmark.")],
    to: Annotated[
        str, typer.Option(help="csv, parquet, jsonl (a row for each episode), or latex (its figures).")
    ] = "csv",
    out: Annotated[Path | None, typer.Option(help="The file; export.csv and so on in the folder if left out.")] = None,
) -> None:
    """Write a run for other programs: py-feat's columns (face box, AU01 ..., emotions, input, frame), then ours.

    An Action Unit or emotion is 1 where it was answered and 0 where not; without an answer it is empty.
    """
    from actfer_env.evaluation.export import ENDINGS, export_run, read_results

    if to not in ENDINGS:
        raise DataError(f"unknown kind {to!r}: use one of {', '.join(ENDINGS)}")
    run = read_results(folder)
    say(f"{len(run.rollouts)} episodes: {export_run(run, to, out or folder / f'export.{ENDINGS[to]}')}")
