"""A benchmark's tables as files: Markdown, CSV, LaTeX, JSON and HTML."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from actfer_env.errors import DataError
from actfer_env.evaluation.benchmarks.layout import benchmark_tables
from actfer_env.evaluation.table_files import Table, csv_text, latex, markdown
from actfer_env.files import write_text_atomic

TABLE = "table"
"""Name of the files, without their endings."""


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


def _page(figures: Mapping[str, Any], tables: Sequence[Table]) -> str:
    text = _environment().get_template("benchmark.html.j2").render(figures=figures, tables=tables, heat=_heat)
    return text.encode("utf-8", "replace").decode("utf-8")


def _heat(cells: Sequence[str]) -> list[float]:
    """Return each count's share of its row, for the shade of a confusion matrix."""
    counts = [int(cell) for cell in cells]
    total = sum(counts) or 1
    return [round(count / total, 3) for count in counts]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(loader=PackageLoader("actfer_env.evaluation"), autoescape=True, undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True)  # fmt: skip
