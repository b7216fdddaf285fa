"""The report: complete, self-contained, honest about its scores, and usable in a browser and on a phone."""

import base64
import io
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from actfer_env.data import Sample, load_dataset, register_dataset, registered_datasets
from actfer_env.episode import Episode, EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.evaluation.pictures import PictureConfig
from actfer_env.evaluation.report import audit, render_report, write_report
from actfer_env.evaluation.run import Run, read_run, scored_columns, write_run
from actfer_env.tools import FaceTools
from actfer_env.tools.detectors import Face, register_detector, registered_detectors
from actfer_env.tools.zoom import ZoomConfig

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
POINTS = np.array([[203.0, 101], [246, 103], [223, 126], [203, 141], [243, 141]])
"""Eyes, nose and mouth corners of the whole portrait, noted by hand."""


class HandDetector:
    """Knows the face of the whole portrait, and finds none in any other picture."""

    name = "by-hand"

    def detect(self, image):
        if image.shape != (512, 512, 3):
            return []
        return [Face((178.0, 70.0, 272.0, 180.0), POINTS, 0.998)]


if "by-hand" not in registered_detectors():
    register_detector("by-hand", HandDetector)


def build_run() -> Run:
    """Seven episodes of five queries: every way in which an episode can go."""
    samples = load_dataset("portrait")
    whole, lost, poor = samples[0], samples[11], samples[3]
    tools = FaceTools("by-hand", zoom=ZoomConfig(size=48, stretch=True))
    rollouts = [
        _full(whole, tools), _simplified(whole, tools), _wrong(whole, tools),
        _degraded(lost, tools), _truncated(poor, tools), _unlabelled(whole, tools),
        _prealigned(samples[1], tools),
    ]  # fmt: skip
    run = Run(
        tuple(rollouts), dataset=samples.arguments,
        settings={"agent": "by hand", "detector": "by-hand", "seed": 0, "max_turns": 6, "max_zooms": 4},
        failures=({"sample_id": "portrait-99", "error": f"no such picture {HOSTILE}"},),
    )  # fmt: skip
    return replace(run, stored_scores=scored_columns(run.score()))


def _full(sample, tools):
    episode = Episode(sample, tools, group_id="smile")
    episode.detect_align()
    episode.zoom_in(regions=["mouth-chin", "eye-periorbital"])
    episode.zoom_in(boxes=[[0.3, 0.3, 0.7, 0.6]])
    episode.answer("happiness", (6, 12, 25))
    texts = ("I look for the face first.", f"The mouth, then the eyes. {HOSTILE}", "One box.", "A smile" + "e" * 400)
    return episode.rollout(texts)


def _simplified(sample, tools):
    episode = Episode(sample, tools, group_id="smile", member=1)
    episode.detect_align()
    episode.answer("happiness", (12, 4))
    return episode.rollout()


def _wrong(sample, tools):
    episode = Episode(sample, tools, group_id="smile", member=2)
    episode.zoom_in(regions="nose")
    episode.detect_align()
    episode.call(HOSTILE, {"why": HOSTILE})
    episode.answer("contempt", (12, 14))
    return episode.rollout()


def _degraded(sample, tools):
    episode = Episode(sample, tools)
    episode.detect_align()
    episode.answer("neutral", ())
    return episode.rollout(meta={"aus_derived": True})


def _truncated(sample, tools):
    episode = Episode(sample, tools, EpisodeConfig(max_turns=3))
    episode.answer("joyfulness")
    episode.violate("parse_error", "the turn holds no tool call")
    episode.detect_align()
    return episode.rollout()


def _unlabelled(sample, tools):
    episode = Episode(replace(sample, emotion=None, aus=None), tools, group_id=f"open {HOSTILE}")
    episode.answer("surprise", (1, 2))
    return episode.rollout()


def _prealigned(sample, tools):
    episode = Episode(replace(sample, prealigned=True), tools)
    episode.zoom_in(regions=["forehead-eyebrow", "nose", "mouth-chin"])
    episode.answer("happiness", (6, 12))
    return episode.rollout()


@pytest.fixture(scope="module")
def run():
    return build_run()


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    write_run(path, run)
    return path


@pytest.fixture(scope="module")
def html(folder):
    return write_report(folder).read_text(encoding="utf-8")


def articles(html):
    return re.findall(r"<article.*?</article>", html, re.DOTALL)


def text_of(html):
    return " ".join(
        unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.S))).split()
    )


class Links(HTMLParser):
    """Collects what a document refers to."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "poster", "data")]


def test_it_is_self_contained(html):
    links = Links(html).found
    assert sum(link.startswith("data:") for link in links) == 18  # the pictures and the empty icon
    inside = [link for link in links if not link.startswith("data:")]
    assert inside and all(link.startswith("#") for link in inside)
    assert not re.search(r"https?://|<script\s+[^>]*src|@import|url\(|<link rel=\"stylesheet", html)
    assert "default-src 'none'" in html


def test_pictures_are_jpegs_of_every_step(html):
    shown = [re.findall(r'src="data:image/jpeg;base64,([^"]+)"', article) for article in articles(html)]
    # Raw and face, then the crops: 3, none, none; raw alone without a face; raw, face and 3 crops where pre-aligned.
    assert [len(pictures) for pictures in shown] == [5, 2, 2, 1, 1, 1, 5]
    sizes = [Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in shown[0]]
    assert sizes[:2] == [(448, 448), (320, 320)]
    assert all(max(size) == 224 for size in sizes[2:]), "crops are drawn for people, not at the policy's 48 px"
    assert "policy saw 48 × 48 px" in articles(html)[0]
    assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img[^>]*>", html))


def test_seven_episodes_stay_small(html):
    assert len(html) < 1_500_000


def test_hostile_texts_stay_text(html):
    assert HOSTILE not in html
    assert "<script>alert" not in html
    assert "onerror=alert(2)>" not in html
    # The failure, the policy's text, the tool's name and arguments and the violation's message, the group's name.
    assert html.count("&lt;script&gt;alert(1)") >= 5
    assert re.findall("<script[^>]*>", html) == ['<script type="application/json" id="index">', "<script>"]


def test_surrogates_do_not_break_it(run, tmp_path):
    odd = replace(run.rollouts[0], texts=("half a pair: \ud83d",))
    path = write_report(tmp_path, replace(run, rollouts=(odd,), stored_scores={}))
    assert "half a pair: ?" in path.read_text(encoding="utf-8")


def test_head_says_what_was_run(html):
    text = text_of(html)
    assert "by hand on portrait" in text
    assert "max turns 6" in text
    assert "UC-GRPO with its default constants" in text
    assert "portrait-99 no such picture" in text


def test_audit_agrees_and_detects(run, html):
    assert "42 stored scores recomputed: all agree." in html  # 7 rollouts, five terms and the advantage
    tampered = dict(
        run.stored_scores, utility=[value + 0.25 * (i == 1) for i, value in enumerate(run.stored_scores["utility"])]
    )
    found = audit(replace(run, stored_scores=tampered))
    assert (found.state, len(found.lines)) == ("differ", 1)
    assert "smile, member 1: utility" in found.lines[0]
    shown = render_report(replace(run, stored_scores=tampered), pictures=PictureConfig(episodes=0))
    assert 'role="alert"' in shown
    assert "1 of 42 stored score does not follow" in shown


def test_audit_without_stored_scores(run):
    assert audit(replace(run, stored_scores={})).state == "none"


def test_summary_numbers(html):
    text = text_of(html)
    # Six are labelled happiness; right are full, simplified and pre-aligned.
    assert "accuracy 50.0% 6 labelled of 7" in text
    # F1 is 2 * 3 / (6 targets + 3 answers); two samples are too few for more than the whole range
    assert "happiness 6 1.00 0.50 0.67" in text
    assert "macro-F1 0.67 1 emotion 95 % interval 0." in text
    assert "zoomed 28.6%" in text  # full and pre-aligned, 2 of 7
    assert "of 4 episodes 50.0%" in text  # those with a face
    assert "illegal_order in 14.3% of episodes 1" in text
    assert "detection failed 2" in text


def test_episodes_tell_answer_and_truth(html):
    full, simplified, wrong, degraded, truncated, unlabelled, _ = map(text_of, articles(html))
    assert "✓ right" in full and "hit AU6 Cheek Raiser AU12" in full
    assert "missed AU6 Cheek Raiser AU25 Lips Part false alarm AU4 Brow Lowerer" in simplified
    assert "✗ wrong" in wrong and "2 violations" in wrong and "illegal_order" in wrong
    assert "No face was found" in degraded and "derived from its emotion" in degraded
    assert "∅ no answer" in truncated and "parse_error" in truncated and "the turn holds no tool call" in truncated
    assert "no label to compare" in unlabelled and "truth not labelled" in unlabelled and "named AU1" in unlabelled
    assert "right emotion: 0.60 + 0.40 x F1 1.00 = 1.00" in full


def test_group_shows_its_contrast(run, html):
    delta = run.score().delta["smile"]
    assert f"Δ {delta:+.2f} zooming helped: 1 zoomed, 2 did not" in text_of(html)


def test_missing_pictures_leave_the_rest(tmp_path, run):
    image = tmp_path / "smile.png"
    Image.fromarray(load_dataset("portrait")[0].image).save(image)
    (tmp_path / "faces.jsonl").write_text(json.dumps({"id": "x", "image": "smile.png", "labels": ["happy"]}) + "\n")
    data = load_dataset("jsonl", tmp_path / "faces.jsonl")
    episode = Episode(data[0], FaceTools("by-hand"))
    episode.detect_align()
    episode.answer("happiness")
    one = Run((episode.rollout(),), dataset=data.arguments)
    assert "data:image/jpeg" in render_report(one)
    Image.new("RGB", (40, 40)).save(image)
    assert "it has 40 × 40 pixels, but had 512 × 512 when the run was made" in render_report(one)
    image.unlink()
    shown = render_report(one)
    assert "Picture not available: the source picture cannot be shown" in shown
    assert "✓ right" in shown and "data:image/jpeg" not in shown
    (tmp_path / "faces.jsonl").unlink()
    assert "Picture not available" in render_report(one)
    assert "Picture not available" in render_report(replace(one, dataset={}))


def test_no_detector_runs(run, monkeypatch):
    monkeypatch.setattr(HandDetector, "detect", lambda *_: pytest.fail("the report ran a detector"))
    assert "data:image/jpeg" in render_report(run)


def test_a_rollout_without_its_alignment_says_so(run):
    calls = tuple(replace(call, result={}) for call in run.rollouts[0].tool_calls)
    bare = replace(run.rollouts[0], tool_calls=calls)
    shown = render_report(replace(run, rollouts=(bare,), stored_scores={}))
    assert "does not store how its face was aligned" in shown


def test_pictures_have_a_bound(run):
    shown = render_report(run, pictures=PictureConfig(episodes=1))
    assert shown.count("1 of 7 episodes have pictures") == 6


def test_an_empty_run(tmp_path):
    shown = render_report(Run((), dataset={"name": "portrait"}))
    assert "This run holds no episodes." in shown
    with pytest.raises(DataError, match="no stored run here"):
        write_report(tmp_path / "nowhere")


def test_hostile_sample_ids_and_settings(run):
    def load(root):
        yield Sample(HOSTILE, lambda: np.zeros((64, 64, 3), np.uint8), emotion="fear")

    if "hostile" not in registered_datasets():
        register_dataset("hostile", load)
    data = load_dataset("hostile")
    episode = Episode(data[0], FaceTools("by-hand"))
    episode.answer("fear")
    settings = {"agent": HOSTILE, HOSTILE: [HOSTILE]}
    shown = render_report(Run((episode.rollout(meta={"quality": HOSTILE}),), data.arguments, settings))
    assert "<script>alert" not in shown and "<img src=x" not in shown


def test_a_report_is_the_same_twice(folder, html):
    assert write_report(folder, read_run(folder)).read_text(encoding="utf-8") == html
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "rollouts.jsonl", "run.json"]


def test_folders_are_named_without_their_path(run):
    shown = render_report(replace(run, dataset={"name": "photos", "root": "/home/somebody/faces"}))
    assert "root …/faces" in shown and "somebody" not in text_of(shown.split("<main>")[0])


@pytest.fixture
def page(browser, folder, html):
    browser.get("about:blank")
    browser.get((folder / "report.html").as_uri())
    return browser


def shown_episodes(page):
    script = "return [...document.querySelectorAll('.episode')].filter(e => e.offsetParent).map(e => e.id)"
    return [int(name.removeprefix("episode-")) for name in page.execute_script(script)]


def choose(page, name, value):
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("name", name)).select_by_value(value)


@pytest.mark.browser
def test_browser_loads_without_complaint(page):
    assert page.get_log("browser") == []
    page.execute_script("for (const i of document.images) i.loading = 'eager'")
    loaded = page.execute_async_script(
        "Promise.all([...document.images].map(i => i.decode())).then(() => "
        "arguments[0]([...document.images].map(i => i.naturalWidth)))"
    )
    assert len(loaded) == 17 and min(loaded) > 0
    assert (
        page.execute_script("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))")
        == []
    )
    assert page.get_log("browser") == []


@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("emotion", "happiness", [0, 1, 2, 3, 4, 6]), ("emotion", "-", [5]), ("outcome", "right", [0, 1, 6]),
        ("outcome", "wrong", [2, 3]), ("outcome", "none", [4]), ("outcome", "unlabelled", [5]),
        ("zoom", "yes", [0, 6]), ("violations", "yes", [2, 4]),
    ],
)  # fmt: skip
def test_browser_filters(page, name, value, left):
    assert shown_episodes(page) == list(range(7))
    choose(page, name, value)
    assert shown_episodes(page) == left
    assert page.find_element("id", "shown").text == f"{len(left)} of 7 episodes"
    assert page.current_url.endswith(f"#{name}={value}")
    groups = page.execute_script("return [...document.querySelectorAll('.group')].filter(g => g.offsetParent).length")
    assert groups == len({(0, 0, 0, 1, 2, 3, 4)[i] for i in left})


@pytest.mark.browser
def test_browser_keeps_filters_in_the_address(page):
    choose(page, "outcome", "wrong")
    choose(page, "violations", "yes")
    assert shown_episodes(page) == [2]
    page.refresh()
    assert shown_episodes(page) == [2]
    choose(page, "zoom", "yes")
    assert shown_episodes(page) == []
    assert page.find_element("id", "nothing").is_displayed()
    page.find_element("css selector", "button[type=reset]").click()
    assert shown_episodes(page) == list(range(7))
    assert "#" not in page.current_url


@pytest.mark.browser
def test_browser_filters_by_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    field = page.find_element("name", "zoom")
    page.execute_script("arguments[0].focus()", field)
    field.send_keys("z")
    assert shown_episodes(page) == [0, 6]
    field.send_keys(Keys.TAB)
    assert page.execute_script("return document.activeElement.name") == "violations"
    unnamed = (
        "return [...document.querySelectorAll('select')].filter(s => !s.labels.length || !s.labels[0].innerText).length"
    )
    assert page.execute_script(unnamed) == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_browser_fits_the_screen(page, width):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    try:
        inner, scroll = page.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert (inner, scroll <= inner) == (width, True), f"{scroll} px of content on {inner} px"
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
