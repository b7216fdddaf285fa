"""Output of the commands: lines, complaints, tables, progress bars; to any encoding, and where nobody reads."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from actfer_env.evaluation import Run
    from actfer_env.progress import Watch

_SPELT = {"−": "-", "–": "-", "—": "-", "…": "...", "±": "+-", "×": "x", "→": "->", "≥": ">=", "≤": "<=",
          "‘": "'", "’": "'", "“": '"', "”": '"'}  # fmt: skip
"""Signs that some encodings lack -> how to write them there; any other becomes an escape such as \\u4e2d."""

result_is_printed = True
"""True where the command's result is what it prints, so that output which is lost is an error."""


class Stream:
    """A text stream that outlives its reader: what can no longer be written is dropped, and the work goes on.

    Attributes:
        error: The first failure to write, or None.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text, and return how long it is."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Hand what was written to the system."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.error = self.error or error
        with suppress(OSError, ValueError):  # what is still in memory goes nowhere, when Python ends at the latest
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_streams() -> None:
    """Make standard output and error safe to write to, whatever they are: closed, full, or of a small encoding."""
    codecs.register_error("spell", _spell)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed; the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spell")
        if not isinstance(stream, Stream):
            setattr(sys, name, Stream(stream))


def lost_output() -> OSError | None:
    """Return why standard output was not written; None also where its reader had read enough (`| head`)."""
    sys.stdout.flush()
    error: OSError | None = getattr(sys.stdout, "error", None)
    return None if error is None or error.errno == errno.EPIPE else error


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """Print a line about a problem, on standard error."""
    sys.stdout.flush()
    sys.stderr.write(f"actfer: {' '.join(text.split(chr(10)))}\n")


def is_terminal(stream: Any) -> bool:
    """Tell whether a stream is there and shows what is written to a person."""
    return bool(stream and not stream.closed and stream.isatty())


def console() -> Any:
    """Return a console of rich on standard output, for tables."""
    from rich.console import Console

    return Console()


def progress_bar() -> Any:
    """Return a progress bar on standard error, to be used in a `with` block.

    It appears with the first step that is done, so that a command which fails before has shown none, and goes again at
    the end.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    class Bar(Progress):
        def __enter__(self) -> Bar:
            return self

        def stop(self) -> None:
            self.live.stop()  # Progress adds an empty line where no terminal is

        def advance(self, task_id: TaskID, advance: float = 1) -> None:
            self.start()
            super().advance(task_id, advance)

        def update(self, task_id: TaskID, **changes: Any) -> None:
            self.start()
            super().update(task_id, **changes)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # What goes to a file or pipe must not be led into the bar's terminal.
    stays = is_terminal(sys.stdout)
    return Bar(*columns, console=Console(stderr=True), transient=True, redirect_stdout=stays)


def first_of(failures: Sequence[Mapping[str, str]]) -> str:
    """Return in one line why nothing could be done: the first failure, and how many others there are."""
    if not failures:
        return "there was nothing to do"
    others = f"; and {len(failures) - 1} more" if len(failures) > 1 else ""
    return failures[0]["error"] + others


def follow(progress: Any) -> Watch:
    """Return a callback that moves a progress bar, a bar for each phase."""
    tasks: dict[str, Any] = {}

    def watch(phase: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        if phase not in tasks:
            tasks[phase] = progress.add_task(phase, total=total)
        progress.update(tasks[phase], completed=done, total=total)

    return watch


def print_summary(run: Run, au_set: Iterable[int] | None = None) -> None:
    """Print a run's figures as a table, those of Action Units over a set; None is the run's own."""
    from rich.table import Table

    from actfer_env.evaluation import summarize, summary_rows

    table = Table(show_header=False, title=f"{len(run.rollouts)} episodes")
    for row in summary_rows(summarize(run.rollouts, run.score(), run.au_set if au_set is None else au_set)):
        table.add_row(*row)
    console().print(table)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SPELT.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end
