"""The frame that the report and the page of two runs share: templates, script, and how a page is written."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from actfer_env._version import __version__
from actfer_env.errors import DataError
from actfer_env.evaluation.episodes import VERDICTS
from actfer_env.evaluation.listing import Beside, Listing, PageConfig
from actfer_env.evaluation.pictures import Pictures, legend
from actfer_env.evaluation.tables import counted, signed
from actfer_env.files import write_text_atomic

_TEMPLATES = Path(__file__).parent / "templates"
_COUNT = re.compile(r'<meta name="pictures" content="(\d+)">')
_PICTURE = re.compile(r"<img src=")


def write_page(
    path: Path, episodes: int, config: PageConfig, pictures: Sequence[Pictures],
    render: Callable[[Beside | None, PageConfig], str], *, keep: bool,
) -> None:  # fmt: skip
    """Write a page, and the folder of its files beside it if it is large.

    Args:
        path: The page.
        episodes: Number of episodes that it shows.
        config: Sizes.
        pictures: Drawers of its pictures.
        render: Function from the files beside it (None for a single file) and the sizes to its HTML.
        keep: If source pictures cannot be found, do not replace a page that shows more of them.

    Raises:
        DataError: the folder cannot be written, or the page is kept.
    """
    beside = Beside(path)
    with beside.writing():
        large = episodes > config.single
        for one in pictures:
            if large:
                one.link = lambda content: beside.link(content, ".jpg")
        html = render(beside if large else None, config)
        lost = [one.why_lost() for one in pictures if one.lost]
        if keep and lost and int(_COUNT.findall(html)[0]) < pictures_of(path):
            raise DataError(f"{path} stays as it is: {lost[0]}")
        write_text_atomic(path, html.encode("utf-8", "replace").decode("utf-8"))


def pictures_of(page: str | os.PathLike[str]) -> int:
    """Return how many pictures a written page shows, its pages together; 0 where there is none."""
    try:
        text = Path(page).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    found = _COUNT.search(text)
    return int(found[1]) if found else text.count("data:image/jpeg")


def render_page(template: str, listing: Listing, beside: Beside | None, **content: Any) -> str:
    """Return a page from its template, its list and what else it shows."""
    count = sum(len(_PICTURE.findall(item.html)) for group in listing.groups for item in group.items)
    listing.pack(beside)
    script, style = ((_TEMPLATES / file).read_text(encoding="utf-8") for file in ("report.js", "report.css"))
    script_hash = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return page_templates().get_template(template).render(
        listing=listing, legend=legend(), picture_count=count, version=__version__,
        style=style, script=script, script_hash=script_hash, **content,
    )  # fmt: skip


@lru_cache(maxsize=1)
def page_templates() -> Environment:
    """Return the templates of the pages; they escape what they are given."""
    environment = Environment(
        loader=PackageLoader("actfer_env.evaluation"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["signed"] = signed
    environment.filters["counted"] = counted
    environment.globals["verdicts"] = VERDICTS
    return environment
