"""Sections that other parts add to a run's report, between its summary and its episodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from markupsafe import Markup

from actfer_env.errors import DataError
from actfer_env.evaluation.gate.page import GATE_FILE, PAGE_FILE, sentence
from actfer_env.evaluation.run import Run


@dataclass(frozen=True)
class Section:
    """One section of the report.

    Attributes:
        name: Its id within the page, a word without spaces.
        title: Its heading.
        body: Its HTML, from a template that escapes; pictures are data URIs, and there are no scripts.
    """

    name: str
    title: str
    body: Markup


SectionMaker: TypeAlias = Callable[[Run, Path | None], Section | None]
"""Function from a run and its folder (None if it has none) to a section, or None where there is nothing to show."""


def gate_section(run: Run, folder: Path | None) -> Section | None:
    """Return what a gate report in the run's folder found, with a link to it."""
    if folder is None or not (folder / GATE_FILE).is_file():
        return None
    try:
        found = sentence(json.loads((folder / GATE_FILE).read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        cure = f"make it again with 'actfer gate {folder}', or delete it"
        raise DataError(f"{folder / GATE_FILE} is no gate report of this version ({error!r}): {cure}") from error
    body = Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(line) for line in found))
    if (folder / PAGE_FILE).is_file():
        body += Markup('<p><a href="{}">The gate report</a></p>').format(PAGE_FILE)
    return Section("gate", "Does it know when, and where, to look closer?", body)


SECTIONS: list[SectionMaker] = [gate_section]
"""The makers, in the order of their sections."""


def extra_sections(run: Run, folder: Path | None) -> list[Section]:
    """Return the sections that a run's report shows."""
    made = (make(run, folder) for make in SECTIONS)
    return [section for section in made if section is not None]
