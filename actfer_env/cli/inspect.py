"""The command inspect: the tools alone, on images."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actfer_env.cli.options import DetectorOption, OutOption
from actfer_env.cli.output import complain, follow, is_terminal, progress_bar, say
from actfer_env.errors import ImageError, plain
from actfer_env.files import check_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from actfer_env.progress import Watch


class Format(str, Enum):
    """Format in which results are printed."""

    jsonl = "jsonl"
    csv = "csv"


def inspect(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    images: Annotated[list[Path], typer.Argument(help="Images or folders.")],
    detector: DetectorOption = "auto",
    size: Annotated[
        int, typer.Option(min=16, max=4096, help="Side of the aligned face and of crops, in pixels.")
    ] = 224,
    face: Annotated[
        str, typer.Option(help="largest, all, an index by size from 0, or a point X,Y in pixels.")
    ] = "largest",
    out: OutOption = Path("actfer-inspect"),
    format_: Annotated[Format, typer.Option("--format", help="JSON lines, or a table with one row for each face.")] = (
        Format.jsonl
    ),
    panels: Annotated[bool, typer.Option("--panels/--no-panels", help="Write a picture of all that was found.")] = True,
    save: Annotated[str, typer.Option(help="Pictures to save besides: faces, crops, or faces,crops.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the images.")] = 1,
) -> None:
    """Run the tools alone: print what they find, and write a picture for each image.

    Results go to standard output in the order of the images; all else goes to standard error. Images that cannot be
    read are named there and left out. The exit code is 0 if at least one image was read, else 1.
    """
    from actfer_env.inspection import InspectConfig, inspect_all, parse_face

    wanted = tuple(part for part in (part.strip() for part in save.split(",")) if part)
    config = InspectConfig(detector, size, parse_face(face), out, panels, wanted)
    if config.writes:
        check_writable(out)
    paths, failed = _find(images)
    show, done, faces = _printer(format_), 0, 0
    with _progress() as watch:
        for number, one in enumerate(inspect_all(paths, config, workers=workers), 1):
            watch("images", number, len(paths), {})
            if one.error:
                complain(one.error)
                failed += 1
                continue
            for record in one.records:
                show(record)
            done += 1
            faces += sum(record["found"] for record in one.records)
    if not done and failed == 1:
        raise typer.Exit(1)  # its one line tells all
    complain(f"detector {detector}: {done} images read, {faces} faces looked at; {failed} failed")
    if not done:
        raise typer.Exit(1)


def _find(images: Sequence[Path]) -> tuple[list[Path], int]:
    """Return the images that the arguments name, in order, and how many arguments name none."""
    from actfer_env.tools import find_images

    paths: list[Path] = []
    failed = 0
    for given in images:
        try:
            paths += find_images(given)
        except ImageError as error:
            complain(str(error))
            failed += 1
    return paths, failed


def _printer(format_: Format) -> Callable[[dict[str, Any]], None]:
    """Return what prints a record: a line of JSON, or a row below a table's head."""
    if format_ is Format.jsonl:
        return lambda record: say(json.dumps(record))
    from actfer_env.inspection import flat

    heads: list[list[str]] = []

    def row(record: dict[str, Any]) -> None:
        cells = flat(record)
        if not heads:
            heads.append(list(cells))
            say(_row(heads[0]))
        say(_row(cells.values()))

    return row


def _row(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(plain(cell) if isinstance(cell, str) else cell for cell in cells)
    return text.getvalue()


@contextmanager
def _progress() -> Iterator[Watch]:
    """Give what moves a bar; there is none where the results themselves scroll by, or nobody looks."""
    if is_terminal(sys.stdout) or not is_terminal(sys.stderr):
        yield lambda *progress: None
        return
    with progress_bar() as bar:
        yield follow(bar)
