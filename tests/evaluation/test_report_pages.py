"""The report of many episodes: pages, files beside it, what comes first, and the figures on top."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from report_runs import (
    HOSTILE,
    MEMBERS,
    PAGES,
    SAMPLES,
    SMALL,
    build,
    choose,
    episodes_of,
    index_of,
    numbers,
    packed,
    parts_of,
    press,
    rollout,
    state_of,
    wait,
)

from actfer_env.data import Dataset
from actfer_env.errors import DataError
from actfer_env.evaluation import Run, read_run, summarize, write_report, write_run
from actfer_env.evaluation import sections as sections_module
from actfer_env.evaluation.classes import class_tables
from actfer_env.evaluation.intervals import bootstrap_sums
from actfer_env.evaluation.pictures import PictureConfig, stratified
from actfer_env.evaluation.report import render_report
from actfer_env.evaluation.sections import Section


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large")
    write_run(path, run)
    write_report(path, run, pictures=SMALL, pages=PAGES)
    return path


# Files


def test_a_large_report_is_a_small_page_and_files_beside_it(folder: Path) -> None:
    html = (folder / "report.html").read_text("utf-8")
    assert html.count("<article") == 6 and "data:image/jpeg" not in html
    assert len(episodes_of(folder / "report.html")) == SAMPLES * MEMBERS
    shown = re.findall(r'src="report_files/(\w+\.jpg)"', "".join(episodes_of(folder / "report.html")))
    # Raw image and face of every episode; both members of a group show the same, which is kept once.
    assert len(shown) == 2 * SAMPLES * MEMBERS and '<meta name="pictures" content="96">' in html
    assert set(shown) == {path.name for path in (folder / "report_files").glob("*.jpg")}
    assert len(set(shown)) <= 2 * SAMPLES
    index = index_of(html)
    assert index["sizes"] == [MEMBERS] * SAMPLES and sum(part["groups"] for part in index["parts"]) == SAMPLES


def test_it_asks_no_network_and_allows_no_foreign_script(folder: Path) -> None:
    html = (folder / "report.html").read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy and "default-src 'none'" in policy[1] and "base-uri 'none'" in policy[1]
    assert "unsafe" not in policy[1].split("script-src")[1] and "http" not in policy[1]
    everything = html + "".join(episodes_of(folder / "report.html"))
    assert not re.search(r"https?://|@import|url\(|<script\s+[^>]*src", everything)


def test_hostile_texts_stay_texts_in_every_form(folder: Path, run: Run, tmp_path: Path) -> None:
    middle = write_report(tmp_path, run, pictures=SMALL, pages=replace(PAGES, single=100))
    for page in (folder / "report.html", middle):
        html, inside = page.read_text("utf-8"), "".join(episodes_of(page))
        assert HOSTILE not in html and HOSTILE not in inside and "<script" not in inside
        assert "&lt;script&gt;window.hit" in inside and "<img src=x" not in html + inside
    names = [replace(one, sample_id=f"{one.sample_id} {HOSTILE}", group_id=f"{one.group_id} {HOSTILE}",
                     meta={"agent": f"{HOSTILE} {one.member}", "quality": HOSTILE})
             for one in run.rollouts]  # fmt: skip
    html = render_report(run.replace(rollouts=tuple(names)), pictures=PictureConfig(episodes=0))
    assert HOSTILE not in html and "<script>window" not in html and HOSTILE.lower() in index_of(html)["text"][0]


def test_the_bytes_are_the_same_again_and_in_any_folder(folder: Path, run: Run, tmp_path: Path) -> None:
    before = state_of(folder / "report.html")
    write_report(folder, read_run(folder), pictures=SMALL, pages=PAGES)
    assert state_of(folder / "report.html") == before
    write_report(tmp_path, run, pictures=SMALL, pages=PAGES)
    assert state_of(tmp_path / "report.html") == before


def test_a_report_that_got_small_again_leaves_no_files(run: Run, tmp_path: Path) -> None:
    write_report(tmp_path, run, pictures=SMALL, pages=PAGES)
    (tmp_path / "report_files" / "notes.txt").write_text("of the user")
    write_report(tmp_path, run.replace(rollouts=run.rollouts[:4]), pictures=SMALL, pages=PAGES)
    assert [path.name for path in (tmp_path / "report_files").iterdir()] == ["notes.txt"]
    (tmp_path / "report_files" / "notes.txt").unlink()
    write_report(tmp_path, run.replace(rollouts=run.rollouts[:4]), pictures=SMALL, pages=PAGES)
    assert not (tmp_path / "report_files").exists()


def test_lost_pictures_keep_a_large_report_and_its_files(run: Run, photos: Dataset, tmp_path: Path) -> None:
    root = tmp_path / "p"
    shutil.copytree(photos.arguments["root"], root)
    mine = run.replace(dataset={**run.dataset, "root": str(root)})
    out = tmp_path / "out"
    write_report(out, mine, pictures=SMALL, pages=PAGES)
    before = state_of(out / "report.html")
    (root / "03.png").unlink()
    with pytest.raises(DataError, match="stays as it is: the pictures of 1 of 24 samples"):
        write_report(out, mine, pictures=replace(SMALL, quality=20), pages=PAGES)
    assert state_of(out / "report.html") == before
    write_report(out, mine, pictures=replace(SMALL, quality=20), pages=PAGES, keep=False)
    assert '<meta name="pictures" content="92">' in (out / "report.html").read_text("utf-8")


def test_a_failure_on_the_way_leaves_the_earlier_report(
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path, run, pictures=SMALL, pages=PAGES)
    before = state_of(tmp_path / "report.html")

    def fail(*_: Any) -> None:
        raise DataError("cannot write")

    monkeypatch.setattr("actfer_env.evaluation.page.write_text_atomic", fail)
    with pytest.raises(DataError):
        write_report(tmp_path, run, pictures=replace(SMALL, face=40), pages=PAGES)
    assert state_of(tmp_path / "report.html") == before


# Order and pictures


def test_wrong_answers_come_first(folder: Path) -> None:
    groups = [items for part in parts_of(folder / "report.html") for _, items in part]
    wrong = ["✗ wrong" in "".join(items) for items in groups]
    assert wrong == [True] * 6 + [False] * 18  # every fourth sample has a wrong answer
    index = index_of((folder / "report.html").read_text("utf-8"))
    assert index["played"][:6] == [0, 4, 8, 12, 16, 20] and sorted(index["played"]) == list(range(SAMPLES))


def test_pictures_are_spread_over_outcomes_and_emotions(run: Run, tmp_path: Path) -> None:
    page = write_report(tmp_path, run, pictures=replace(SMALL, episodes=24), pages=PAGES)
    with_pictures = [item for item in episodes_of(page) if "<img" in item]
    kinds = Counter((re.search(r"truth <b>(\w+)", item)[1], "✗ wrong" in item) for item in with_pictures)  # type: ignore[index]
    targets = Counter(emotion for emotion, _ in kinds.elements())
    assert len(with_pictures) == 24 and set(targets) == {"happiness", "fear", "anger"}
    assert max(targets.values()) <= 10 and 6 <= sum(count for (_, wrong), count in kinds.items() if wrong) <= 12
    first = [bool(re.search("<img", item)) for item in episodes_of(page) if "✗ wrong" in item]
    assert first == sorted(first, reverse=True), "of the wrong ones those with pictures come first"
    assert "24 of 48 episodes have pictures" in "".join(episodes_of(page))


def test_each_beginning_of_a_stratified_order_is_balanced() -> None:
    strata = {f"{kind}{i}": kind for kind, count in (("a", 50), ("b", 3), ("c", 20)) for i in range(count)}
    order = stratified(strata)
    assert sorted(order) == sorted(strata) and order == stratified(dict(reversed(strata.items())))
    assert Counter(strata[name] for name in order[:9]) == {"a": 3, "b": 3, "c": 3}
    assert Counter(strata[name] for name in order[:23]) == {"a": 10, "b": 3, "c": 10}
    assert [name for name in order if strata[name] == "a"] != [f"a{i}" for i in range(50)], "neighbours are torn apart"


def test_rewards_are_shown_only_where_a_group_was_played(run: Run, photos: Dataset) -> None:
    alone, group = render_report(build(photos, 1), pictures=SMALL), render_report(run, pictures=SMALL)
    mixed = render_report(run.replace(rollouts=run.rollouts[:5]), pictures=SMALL)
    words = ("mean reward", "advantage <b>", "The reward in words", "Reward, mean", "<h5>Reward", ">Δ<", "UC-GRPO")
    found = [
        html + "".join(item for part in packed(html) for _, items in part for item in items) for html in (alone, group)
    ]
    assert not any(word in found[0] for word in words) and "on average" in found[0]
    assert "mean reward" in found[1] and "UC-GRPO" in found[1] and found[1].count("advantage <b>") >= 48
    assert mixed.count("advantage <b>") == 4 and mixed.count("<article") == 5, "the last one is alone in its group"


# Tables


def test_the_confusion_matrix_and_figures_by_class_by_hand(run: Run) -> None:
    found = class_tables(run.rollouts)
    # Of 24 samples each target has 8. Of the 6 that are wrong at first (0, 4, ..., 20) each target has 2; of the 3 that
    # are wrong twice (0, 8, 16) it has 1.
    assert found.answers == ("happiness", "surprise", "fear", "disgust", "anger")
    assert [[cell.count for cell in row.cells] for row in found.matrix] == [
        [13, 2, 0, 1, 0],
        [0, 2, 13, 1, 0],
        [0, 2, 0, 1, 13],
    ]
    row = found.emotions[0]
    assert (row.name, row.n, row.precision, row.recall, row.f1) == ("happiness", 16, "1.00", "0.81", "0.90")
    assert found.matrix[0].cells[1].link == "emotion=happiness&answer=surprise"
    assert [(row.name, row.n, row.f1) for row in found.units] == [("AU6", 48, "0.00"), ("AU12", 48, "1.00")]
    assert set(found.intervals) == {"accuracy", "macro-F1", "AU F1", "zoomed"}


def test_the_figures_are_those_of_the_summary_and_lie_in_their_intervals() -> None:
    rng = np.random.default_rng(0)
    names = ["happiness", "fear", "anger", "neutral"]
    rollouts = [
        replace(
            rollout(str(i), 0, 0, rng.choice([*names, None])), emotion=str(rng.choice(names[:3])),
            aus=frozenset(rng.choice([1, 6, 12], 2).tolist()),
            predicted_aus=frozenset(rng.choice([1, 6, 9], 2).tolist()),
        )
        for i in range(200)
    ]  # fmt: skip
    found, summary = class_tables(rollouts), summarize(rollouts)
    assert {row.name: row.f1 for row in found.emotions} == {
        name: f"{value:.2f}" for name, value in summary.emotion_f1.items()
    }
    assert {row.name: row.f1 for row in found.units} == {name: f"{value:.2f}" for name, value in summary.au_f1.items()}
    low, high = map(float, found.intervals["macro-F1"].split("–"))
    assert low < (summary.macro_f1 or 0) < high and high - low < 0.2
    assert class_tables(rollouts, (6,)).units[0].name == "AU6" and len(class_tables(rollouts, (6,)).units) == 1
    one = class_tables(rollouts[:1])
    assert one.intervals == {} and "one sample" in one.note and class_tables(()).matrix == ()


def test_an_interval_of_sums_is_that_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(3, 1, 400)
    counts = np.stack([values, np.ones_like(values)], axis=1)
    low, high = bootstrap_sums(counts, lambda sums: np.stack([sums[:, 0] / sums[:, 1], np.full(len(sums), np.nan)], 1))
    assert low[0] < values.mean() < high[0] and np.isnan(low[1])
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_other_parts_can_add_sections(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = lambda run, folder: Section("gate", "When it looks", Markup("<p>%s</p>") % f"{len(run.rollouts)} {folder}")  # noqa: E731
    monkeypatch.setattr(sections_module, "SECTIONS", [made, lambda run, folder: None])
    html = write_report(tmp_path, run, pictures=PictureConfig(episodes=0)).read_text("utf-8")
    assert '<h2 id="gate-title">When it looks</h2>' in html and f"<p>48 {tmp_path}</p>" in html
    assert html.index("By emotion") < html.index("When it looks") < html.index(">Episodes<")


# In a browser


@pytest.fixture(params=["files", "one file"])
def page(browser: Any, folder: Path, run: Run, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The open report, as a page with files and as a single file."""
    if request.param == "one file":
        folder = write_report(tmp_path, run, pictures=SMALL, pages=replace(PAGES, single=100)).parent
    browser.get("about:blank")
    browser.get((folder / "report.html").as_uri())
    return browser


@pytest.mark.browser
def test_browser_turns_pages(page: Any) -> None:
    wait(page, "page 1 of 8")
    nodes = page.execute_script("return document.querySelectorAll('*').length")
    assert numbers(page) == [0, 1, 8, 9, 16, 17]
    press(page, "next")
    wait(page, "page 2 of 8")
    assert numbers(page) == [24, 25, 32, 33, 40, 41] and page.current_url.endswith("#page=2")
    assert page.execute_script("return document.querySelectorAll('*').length") < 1.1 * nodes
    page.refresh()
    wait(page, "page 2 of 8")
    assert numbers(page)[0] == 24
    press(page, "last")
    wait(page, "page 8 of 8")
    assert numbers(page) == [42, 43, 44, 45, 46, 47]
    assert not page.find_element("css selector", "button[title='next page']").is_enabled()
    choose(page, "many", "30")
    wait(page, "page 1 of 2")
    assert len(numbers(page)) == 30
    page.execute_script("for (const i of document.images) i.loading = 'eager'")
    sizes = page.execute_async_script(
        "Promise.all([...document.images].map(i => i.decode())).then(() => "
        "arguments[0]([...document.images].map(i => i.naturalWidth)))"
    )
    assert len(sizes) == 60 and set(sizes) == {32}
    assert page.get_log("browser") == [] and page.execute_script("return window.hit") is None


@pytest.mark.browser
def test_browser_filters_searches_and_orders_all_pages(page: Any) -> None:
    choose(page, "outcome", "right")
    wait(page, "page 1 of 7")
    assert page.find_element("id", "shown").text == "39 of 48 episodes"
    page.find_element("name", "search").send_keys("21.p")
    wait(page, "page 1 of 1")
    assert numbers(page) == [42, 43] and page.current_url.endswith("#outcome=right&search=21.p")
    page.find_element("css selector", "button[type=reset]").click()
    choose(page, "order", "played")
    wait(page, "page 1 of 8")
    assert numbers(page) == [0, 1, 2, 3, 4, 5]
    page.find_element("name", "search").send_keys("no such sample")
    assert page.find_element("id", "nothing").is_displayed()
    wait(page, "page 1 of 0")
    assert numbers(page) == []


@pytest.mark.browser
def test_browser_goes_from_the_matrix_and_from_an_address_to_episodes(page: Any, browser: Any) -> None:
    page.find_element("css selector", "a[href='#emotion=fear&answer=disgust']").click()
    wait(page, "page 1 of 1")
    assert numbers(page) == [33] and page.find_element("id", "shown").text == "1 of 48 episodes"  # sample 16, once more
    page.get(page.current_url.split("#")[0] + "#episode-45")
    wait(page, "page 8 of 8")
    assert 45 in numbers(page)
    top = page.execute_script("return document.getElementById('episode-45').getBoundingClientRect().top")
    assert -50 < top < 700


@pytest.mark.browser
def test_browser_names_the_files_that_are_missing(browser: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "report.html", tmp_path)
    browser.get((tmp_path / "report.html").as_uri())
    assert numbers(browser) == [0, 1, 8, 9, 16, 17], "the first page stands in the document"
    press(browser, "next")
    wait(browser, "page 2 of 8")
    assert "keep that folder beside this page" in browser.find_element("id", "groups").text
    browser.get_log("browser")
