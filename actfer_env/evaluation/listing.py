"""The list of episodes on a page: its order, filters and parts, and the files beside a large page."""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from markupsafe import Markup

from actfer_env.bounds import bounded, check_fields
from actfer_env.files import write_bytes_atomic

_CODES = "0123456789abcdefghijklmnopqrstuvwxyz"
"""A filter's values as single letters, so that a script reads 10,000 of them at once."""
_OURS = re.compile(r"[0-9a-f]{16}\.(js|jpg)")


@dataclass(frozen=True)
class PageConfig:
    """Sizes of a page with a list of episodes; all chosen here.

    Attributes:
        single: Episodes up to which the page is one file; pictures and episodes of a larger one lie in a folder beside.
        shown: Episodes that the list shows at a time; a group is not torn apart.
        part: Episodes in a file beside the page; parts within the page, which hold their pictures, are as large as what
            is shown.
    """

    single: int = bounded(200, ge=0)
    shown: int = bounded(20, ge=1)
    part: int = bounded(50, ge=1)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Item:
    """One entry of the list that filters apply to: an episode, or a pair of episodes.

    Attributes:
        number: Its number in the run, from 0; the element's id is "episode-NUMBER".
        html: Its element.
        values: Filter's name -> the item's value.
    """

    number: int
    html: Markup
    values: Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """Items that are shown together under one head.

    Attributes:
        head: The opening tag of their section, and its head.
        items: The items.
        text: Words that the search finds it by.
        played: Place among the groups in the order of playing.
    """

    head: Markup
    items: tuple[Item, ...]
    text: str
    played: int

    @property
    def html(self) -> Markup:
        """The whole section."""
        return Markup("").join([self.head, *(item.html for item in self.items), Markup("</section>")])


@dataclass(frozen=True)
class Column:
    """A filter: its name in addresses, its title, and its choices as (value, word)."""

    name: str
    title: str
    choices: tuple[tuple[str, str], ...]


@dataclass
class Listing:
    """The list: what a page shows of it at first, and what its script needs to show the rest.

    Attributes:
        noun: "episode" or "pair".
        order_title: Name of the order in which the groups come.
        columns: The filters.
        groups: The groups, in that order.
        config: Sizes.
        parts: (name, groups) of each part that groups are packed into; empty where all are shown at once.
        packed: Name of each part that stands in the page -> its content.
        folder: Name of the folder of the parts that are files beside the page, else empty.
    """

    noun: str
    order_title: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    config: PageConfig = field(default_factory=PageConfig)
    parts: list[tuple[str, int]] = field(default_factory=list)
    packed: dict[str, str] = field(default_factory=dict)
    folder: str = ""

    @property
    def total(self) -> int:
        """Number of items."""
        return sum(len(group.items) for group in self.groups)

    @cached_property
    def first(self) -> tuple[Group, ...]:
        """The groups that stand in the page."""
        if not self.parts:
            return self.groups
        found, room = [], self.config.shown
        for group in self.groups:
            if room <= 0:
                break
            found.append(group)
            room -= len(group.items)
        return tuple(found)

    @property
    def index(self) -> dict[str, Any]:
        """All that the page's script knows of the items without their HTML, as JSON values."""
        items = [item for group in self.groups for item in group.items]
        columns = {}
        for column in self.columns:
            codes = {value: _CODES[i] for i, (value, _) in enumerate(column.choices)}
            columns[column.name] = {
                "values": list(codes), "codes": "".join(codes.get(item.values[column.name], "-") for item in items)
            }  # fmt: skip
        return {
            "noun": self.noun, "page": self.config.shown, "folder": self.folder,
            "parts": [{"name": name, "groups": groups} for name, groups in self.parts],
            "sizes": [len(group.items) for group in self.groups], "numbers": [item.number for item in items],
            "played": [group.played for group in self.groups], "text": [group.text.lower() for group in self.groups],
            "columns": columns,
        }  # fmt: skip

    def pack(self, beside: Beside | None) -> None:
        """Pack the groups of a long list into parts, in the page or in files beside it."""
        self.folder = "" if beside is None else beside.folder.name
        if self.total <= self.config.shown:
            return
        size = self.config.shown if beside is None else self.config.part
        held: list[Group] = []
        for i, group in enumerate(self.groups):
            held.append(group)
            if sum(len(one.items) for one in held) < size and i + 1 < len(self.groups):
                continue
            text = json.dumps([[one.head, [item.html for item in one.items]] for one in held], separators=(",", ":"))
            content = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
            if beside is None:
                name = str(len(self.parts))
                self.packed[name] = content
            else:
                name = beside.put(f'actferPart("{content}")\n'.encode(), ".js").removesuffix(".js")
            self.parts.append((name, len(held)))
            held = []


def choices(column: str, title: str, words: Mapping[str, str]) -> Column:
    """Return a filter of the given values, each with its word."""
    return Column(column, title, tuple(words.items()))


def occurring(column: str, title: str, items: Sequence[Item], last: Mapping[str, str] | None = None) -> Column | None:
    """Return a filter of the values that occur, in order; None where there is nothing to choose, or too much.

    Args:
        column: Name of the filter.
        title: Title of the filter.
        items: The items.
        last: Values that come last, with their words; they are no choice of their own.
    """
    last = last or {}
    found = sorted({item.values[column] for item in items} - set(last))
    words = {value: value for value in found} | dict(last)
    return choices(column, title, words) if len(found) >= 2 and len(words) <= len(_CODES) else None


class Beside:
    """Files in a folder beside a page, each named after its content.

    So a page never meets the files of another one: new files come first, then the page, and files that it does not need
    go last. A process that is killed on the way leaves a page that works.

    Args:
        page: The page's path; of ``report.html`` the folder is ``report_files``.
    """

    def __init__(self, page: str | os.PathLike[str]) -> None:
        self.folder = Path(page).with_name(f"{Path(page).stem}_files")
        self._used: set[str] = set()
        self._made: list[Path] = []

    def put(self, content: bytes, suffix: str) -> str:
        """Write a file unless it is there, and return its name."""
        name = sha256(content).hexdigest()[:16] + suffix
        path = self.folder / name
        if name not in self._used:
            self._used.add(name)
            if not path.is_file() or path.stat().st_size != len(content):
                write_bytes_atomic(path, content)
                self._made.append(path)
        return name

    def link(self, content: bytes, suffix: str) -> str:
        """Write a file unless it is there, and return its address as seen from the page."""
        return f"{self.folder.name}/{self.put(content, suffix)}"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep the files of the page that is written in the block; where it fails, those of the earlier page."""
        try:
            yield
        except BaseException:
            _remove(self._made)
            raise
        finally:
            with suppress(OSError):
                self.folder.rmdir()  # if it is empty
        _remove(path for path in self.folder.glob("*") if _OURS.fullmatch(path.name) and path.name not in self._used)
        with suppress(OSError):
            self.folder.rmdir()


def _remove(paths: Any) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()
