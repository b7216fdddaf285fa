"""What the commands print: lines, complaints, tables, progress bars."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actfer_env.evaluation import Run


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """Print a line about a problem, on standard error."""
    sys.stderr.write(f"actfer: {text}\n")


def is_terminal(stream: Any) -> bool:
    """Whether a stream is there and shows what is written to a person."""
    return bool(stream and not stream.closed and stream.isatty())


def console() -> Any:
    """Return a console of rich on standard output, for tables."""
    from rich.console import Console

    return Console()


def progress_bar() -> Any:
    """Return a progress bar on standard error, to be used in a `with` block."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # What goes to a file or pipe must not be led into the bar's terminal.
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=is_terminal(sys.stdout))


def print_summary(run: Run, au_set: Iterable[int] | None = None) -> None:
    """Print a run's figures as a table, those of Action Units over a set; None is the run's own."""
    from rich.table import Table

    from actfer_env.evaluation import summarize, summary_rows

    table = Table(show_header=False, title=f"{len(run.rollouts)} episodes")
    for row in summary_rows(summarize(run.rollouts, run.score(), run.au_set if au_set is None else au_set)):
        table.add_row(*row)
    console().print(table)
