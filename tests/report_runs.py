"""Runs of many small episodes, and what their pages hold: for the tests of reports, in files and in a browser."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

from actfer_env.data import Dataset
from actfer_env.evaluation import Run
from actfer_env.evaluation.listing import PageConfig
from actfer_env.evaluation.pictures import PictureConfig
from actfer_env.rollout import Rollout

HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 2'>"
SMALL = PictureConfig(original=32, face=32, crop=32)
PAGES = PageConfig(single=12, shown=6, part=10)
SAMPLES, MEMBERS = 24, 2


def answers(i: int) -> tuple[str, str, str]:
    """Target, first and second answer of sample i: every fourth sample is wrong, every eighth twice."""
    target = ("happiness", "fear", "anger")[i % 3]
    return target, "surprise" if i % 4 == 0 else target, "disgust" if i % 8 == 0 else target


def rollout(sample: str, i: int, member: int, answer: str | None, **fields: Any) -> Rollout:
    target = answers(i)[0]
    return Rollout(sample, sample, target, frozenset({6, 12}), answer, frozenset({12}), (), "prealigned", turns=1,
                   member=member, texts=(f"I think so. {HOSTILE}",), **fields)  # fmt: skip


def build(photos: Dataset, members: int = MEMBERS) -> Run:
    """48 episodes in 24 groups, or one of each sample."""
    rollouts = [rollout(photos[i].id, i, member, answers(i)[1 + member])
                for i in range(SAMPLES) for member in range(members)]  # fmt: skip
    return Run(tuple(rollouts), photos.arguments, {"agent": f"reader {HOSTILE}", "group_size": members})


def index_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="index">(.*?)</script>', html, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def parts_of(page: Path) -> list[list[tuple[str, list[str]]]]:
    """The groups of each part, as (head, episodes), from the files beside a page or from the page."""
    html = page.read_text("utf-8")
    index = index_of(html)
    beside = page.parent / index["folder"]
    texts = [
        (beside / f"{part['name']}.js").read_text()[len('actferPart("') : -3] if index["folder"] else
        re.search(rf'id="part-{part["name"]}">(.*?)</script>', html)[1]  # type: ignore[index]
        for part in index["parts"]
    ]  # fmt: skip
    return [json.loads(zlib.decompress(base64.b64decode(text))) for text in texts]


def episodes_of(page: Path) -> list[str]:
    return [item for part in parts_of(page) for _, items in part for item in items]


def state_of(page: Path) -> dict[str, bytes]:
    files = [page, *page.with_name(f"{page.stem}_files").glob("*")]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def packed(html: str) -> list[Any]:
    return [json.loads(zlib.decompress(base64.b64decode(text)))
            for text in re.findall(r'id="part-\d+">(.*?)</script>', html)]  # fmt: skip


def wait(browser: Any, words: str) -> None:
    """Wait until a page of the list is drawn and the pager says so."""
    from selenium.webdriver.support.ui import WebDriverWait

    script = "return [document.querySelector('.pager span').textContent, document.getElementById('groups').ariaBusy]"
    WebDriverWait(browser, 20).until(
        lambda _: (found := browser.execute_script(script))[0] == words and found[1] != "true"
    )


def numbers(browser: Any) -> list[int]:
    script = "return [...document.querySelectorAll('.episode')].map(e => e.id)"
    return [int(name.removeprefix("episode-")) for name in browser.execute_script(script)]


def press(browser: Any, name: str) -> None:
    browser.find_element("css selector", f"button[title='{name} page']").click()


def choose(browser: Any, name: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("name", name)).select_by_value(value)
