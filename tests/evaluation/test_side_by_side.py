"""The page of two runs: their episodes on the same samples side by side."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import actfer
from report_runs import (
    HOSTILE,
    PAGES,
    SAMPLES,
    SMALL,
    answers,
    build,
    episodes_of,
    index_of,
    numbers,
    rollout,
    state_of,
    wait,
)

from actfer_env.data import Dataset, load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation import Run, read_run, write_run
from actfer_env.evaluation.side_by_side import write_side_by_side
from actfer_env.images import save_png


@pytest.fixture(scope="module")
def two(run: Run, photos: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of two runs: what the second answers alone is right where the first is wrong, and the other way."""
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    write_run(one, build(photos, 1))
    mine = [rollout(photos[i].id, i, 0, answers(i)[0] if i % 6 else "contempt") for i in range(SAMPLES - 2)]
    write_run(other, Run(tuple(mine), photos.arguments, {"agent": "other"}))
    return one, other


def test_two_runs_stand_side_by_side(two: tuple[Path, Path]) -> None:
    page = write_side_by_side(*two, pictures=SMALL, pages=PAGES)
    assert page == two[0] / "side_by_side.html" and (two[0] / "side_by_side_files").is_dir()
    html, items = page.read_text("utf-8"), episodes_of(page)
    assert len(items) == 22 and all(item.count('class="side"') == 2 for item in items)
    assert "2 samples of A alone" in html
    # Of 0 to 21 the first is wrong at 0, 4, 8, 12, 16, 20, the second at 0, 6, 12, 18.
    index = index_of(html)
    outcomes = index["columns"]["outcome"]
    words = [outcomes["values"][int(code, 36)] for code in outcomes["codes"]]
    assert words == ["a"] * 2 + ["b"] * 4 + ["neither"] * 2 + ["both"] * 14
    assert index["numbers"][:6] == [6, 18, 4, 8, 16, 20]
    assert HOSTILE not in html and HOSTILE not in "".join(items)
    before = state_of(page)
    write_side_by_side(*two, pictures=SMALL, pages=PAGES)
    assert state_of(page) == before


def test_runs_that_cannot_be_compared_are_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    run = read_run(two[1])
    write_run(
        tmp_path / "a", run.replace(rollouts=tuple(replace(one, sample_id=f"x{one.sample_id}") for one in run.rollouts))
    )
    write_run(tmp_path / "b", run.replace(rollouts=tuple(replace(one, emotion="neutral") for one in run.rollouts)))
    with pytest.raises(DataError, match="share no sample"):
        write_side_by_side(two[0], tmp_path / "a")
    with pytest.raises(DataError, match=r"sample 00.png is labelled happiness in one run and neutral"):
        write_side_by_side(two[0], tmp_path / "b")
    assert not (tmp_path / "a" / "side_by_side.html").exists()


def test_the_command_writes_either_page(two: tuple[Path, Path], tmp_path: Path) -> None:
    one, other = (shutil.copytree(path, tmp_path / path.name) for path in two)
    done = actfer("report", one, other, "--pictures", "3", cwd=tmp_path)
    assert done.returncode == 0 and f"side by side: {one / 'side_by_side.html'}" in done.stdout.replace("\n", "")
    assert not (one / "report.html").exists()
    done = actfer("report", one, "--pictures", "0", cwd=tmp_path)
    assert done.returncode == 0 and '<meta name="pictures" content="0">' in (one / "report.html").read_text("utf-8")
    done = actfer("report", one, other, "--embed", cwd=tmp_path)
    assert done.returncode == 1 and "go with one run" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1280])
def test_browser_shows_two_runs_on_any_screen(browser: Any, two: tuple[Path, Path], width: int) -> None:
    path = write_side_by_side(*two, pictures=SMALL, pages=PAGES)
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        browser.get("about:blank")
        browser.get(path.as_uri())
        wait(browser, "page 1 of 4")
        browser.find_element("css selector", "a[href='#outcome=b']").click()
        wait(browser, "page 1 of 1")
        assert numbers(browser) == [4, 8, 16, 20]
        script = "return [...document.querySelectorAll('.side')].slice(0, 2).map(s => s.getBoundingClientRect().top)"
        tops = browser.execute_script(script)
        assert (tops[0] == tops[1]) == (width == 1280), "beside each other, or one below the other"
        inner, scroll = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert (inner, scroll <= inner) == (width, True)
        assert browser.get_log("browser") == [] and browser.execute_script("return window.hit") is None
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_figures_of_a_script_are_hidden_and_others_have_readable_names(
    two: tuple[Path, Path], tmp_path: Path
) -> None:  # fmt: skip
    html = write_side_by_side(*two, pictures=SMALL, pages=PAGES).read_text("utf-8")
    assert "macro-F1" in html and "AU F1, macro" in html and "au_macro_f1" not in html
    save_png(load_dataset("portrait")[0].load(), tmp_path / "a.png")
    line = '{"id": "a", "image": "a.png", "labels": ["happiness"], "AUs": ["AU6"]}\n'
    (tmp_path / "faces.jsonl").write_text(line)
    for name in ("one", "other"):
        done = actfer("rollout", tmp_path / "faces.jsonl", "--agent", "full", "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    html = write_side_by_side(tmp_path / "one", tmp_path / "other", pictures=SMALL, pages=PAGES).read_text("utf-8")
    assert "zoomed" in html and not any(word in html for word in ("macro-F1", "macro_f1", "AU F1, macro"))
