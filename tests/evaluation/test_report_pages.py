"""The report of many episodes: pages, files beside it, what comes first, and the page of two runs side by side."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import actfer
from markupsafe import Markup
from PIL import Image

from actfer_env.data import Dataset, load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation import Run, read_run, summarize, write_report, write_run
from actfer_env.evaluation import sections as sections_module
from actfer_env.evaluation.classes import class_tables
from actfer_env.evaluation.intervals import bootstrap_sums
from actfer_env.evaluation.listing import PageConfig
from actfer_env.evaluation.pictures import PictureConfig, stratified
from actfer_env.evaluation.report import render_report
from actfer_env.evaluation.sections import Section
from actfer_env.evaluation.side_by_side import write_side_by_side
from actfer_env.rollout import Rollout

HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 2'>"
SMALL = PictureConfig(original=32, face=32, crop=32)
PAGES = PageConfig(single=12, shown=6, part=10)
SAMPLES, MEMBERS = 24, 2


def answers(i: int) -> tuple[str, str, str]:
    """Target, first and second answer of sample i: every fourth sample is wrong, every eighth twice."""
    target = ("happiness", "fear", "anger")[i % 3]
    return target, "surprise" if i % 4 == 0 else target, "disgust" if i % 8 == 0 else target


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(SAMPLES):
        Image.new("RGB", (24, 24), (10 * i, 80, 70)).save(folder / f"{i:02}.png")
    return load_dataset("photos", folder)


def rollout(sample: str, i: int, member: int, answer: str | None, **fields: Any) -> Rollout:
    target = answers(i)[0]
    return Rollout(sample, sample, target, frozenset({6, 12}), answer, frozenset({12}), (), "prealigned", turns=1,
                   member=member, texts=(f"I think so. {HOSTILE}",), **fields)  # fmt: skip


def build(photos: Dataset, members: int = MEMBERS) -> Run:
    """48 episodes in 24 groups, or one of each sample."""
    rollouts = [rollout(photos[i].id, i, member, answers(i)[1 + member])
                for i in range(SAMPLES) for member in range(members)]  # fmt: skip
    return Run(tuple(rollouts), photos.arguments, {"agent": f"reader {HOSTILE}", "group_size": members})


@pytest.fixture(scope="module")
def run(photos: Dataset) -> Run:
    return build(photos)


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large")
    write_run(path, run)
    write_report(path, run, pictures=SMALL, pages=PAGES)
    return path


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


def packed(html: str) -> list[Any]:
    return [json.loads(zlib.decompress(base64.b64decode(text)))
            for text in re.findall(r'id="part-\d+">(.*?)</script>', html)]  # fmt: skip


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


# Two runs


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


# In a browser


@pytest.fixture(params=["files", "one file"])
def page(browser: Any, folder: Path, run: Run, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The open report, as a page with files and as a single file."""
    if request.param == "one file":
        folder = write_report(tmp_path, run, pictures=SMALL, pages=replace(PAGES, single=100)).parent
    browser.get("about:blank")
    browser.get((folder / "report.html").as_uri())
    return browser


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
