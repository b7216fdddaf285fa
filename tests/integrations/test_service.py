"""The tools and episodes for strangers: only what lies below the roots, within bounds, with the library's scores."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import portraits
from integrations.served_faces import FACE, HOSTILE, LOOKS, TEXTS, hostile_folder
from PIL import Image

from actfer_env.errors import ActFERError, DataError, ImageError, SettingsError
from actfer_env.integrations.network import ServiceError
from actfer_env.integrations.roots import Roots
from actfer_env.integrations.served import ROLLOUTS, FaceService, ServiceConfig
from actfer_env.rollout import read_rollouts
from actfer_env.tools.detectors.cached import ABOUT, FORMAT
from actfer_env.wrappers import ChatGroupVectorEnv

ANSWER = ("happiness", ["AU6", "AU12"])
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_folder(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def service(root: Path) -> FaceService:
    return FaceService([root], "mtcnn", ServiceConfig(max_bytes=2**20), portraits())


def play(service: FaceService, **what: str) -> dict:
    """Play the usual calls and the answer, and return the score."""
    handle = service.open(**what).told["episode"]
    for name, arguments in LOOKS:
        service.call(handle, name, arguments)
    service.answer(handle, *ANSWER)
    return service.score(handle).told


@pytest.mark.parametrize("path", HOSTILE)
def test_nothing_outside_the_roots_is_read(service: FaceService, path: str):
    for ask in (
        service.detect_align,
        lambda name: service.open(path=name),
        lambda name: service.zoom_in(name, ["nose"]),
    ):
        with pytest.raises(ImageError) as caught:
            ask(path)
        text = str(caught.value)
        assert "\n" not in text and len(text) < 300 and str(service.roots.folders[0].parent) not in text


def test_a_link_that_is_put_in_meanwhile_is_not_followed(tmp_path: Path):
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "x.png").write_bytes(b"mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.png").write_bytes(b"secret")
    roots = Roots([tmp_path / "root"])
    assert roots.read("a/x.png") == b"mine"
    (tmp_path / "root" / "a").rename(tmp_path / "root" / "b")
    (tmp_path / "root" / "a").symlink_to(tmp_path / "other")
    with pytest.raises(ImageError, match="there is no picture"):
        roots.read("a/x.png")
    assert roots.read("b/x.png") == b"mine" and list(roots.names()) == ["b/x.png"]
    two = Roots([tmp_path / "other", tmp_path / "root"])
    assert two.read("b/x.png") == b"mine" and two.read("x.png") == b"secret"  # the first root's win
    with pytest.raises(SettingsError, match="is no folder"):
        Roots([tmp_path / "root" / "b" / "x.png"])


def test_large_and_broken_pictures_are_refused(service: FaceService, root: Path):
    with pytest.raises(ImageError, match="more than the bound of 1,048,576 bytes"):
        service.detect_align("huge.png")
    with pytest.raises(ImageError, match="not an image"):
        service.detect_align("text.png")
    small = FaceService([root], config=ServiceConfig(max_pixels=50_000))
    with pytest.raises(ImageError, match="bound of 50,000 pixels"):
        small.detect_align(FACE)
    assert service.pictures().told["paths"] == ["grey.png", "huge.png", "text.png", FACE]
    assert service.pictures(1, 1).told == {"paths": ["huge.png"], "samples": ["portrait-01"]}


def test_the_tools_alone(service: FaceService):
    found = service.detect_align(FACE)
    assert found.pictures[0].shape == (224, 224, 3) and list(found.told) == ["message", "regions"]
    assert "Legal now" not in found.told["message"]
    crops = service.zoom_in(FACE, ["nose"], [[100, 100, 300, 300]])
    assert len(crops.pictures) == 2 and crops.told["crops"][0]["region"] == "nose"
    assert service.detect_align("grey.png").pictures == ()
    with pytest.raises(ServiceError, match=r"no face was found in 'grey\.png'"):
        service.zoom_in("grey.png", ["nose"])
    for regions, boxes, message in ((["foot"], None, "unknown region 'foot'"), (None, None, "needs regions"),
                                    (None, [[0, 0, 9e9, 1]], "box"), (["nose"] * 9, None, "9 zooms")):  # fmt: skip
        with pytest.raises(ServiceError, match=message):
            service.zoom_in(FACE, regions, boxes)


def test_episodes_score_as_the_groups_do(service: FaceService):
    told = play(service, sample="portrait-02")
    envs = ChatGroupVectorEnv(None, 1, 1, dataset=portraits(), tools=service.tools)
    envs.reset(options={"samples": ["portrait-02"]})
    for text in (*TEXTS, '<answer>{"emotion": "happiness", "aus": ["AU6", "AU12"]}</answer>'):
        _, rewards, *_, info = envs.step([text])
    assert told["reward"]["total"] == rewards[0] and told["correct"] is info["rollout"][0].correct
    assert told["target"]["emotion"] == "happiness"
    # A folder named after an emotion labels what lies in it; AUs have no target there: right answer 1, clean 0.05,
    # fallback 0.1.
    assert play(service, path=FACE)["reward"]["total"] == pytest.approx(1.15)


def test_an_episode_says_what_it_takes(service: FaceService):
    opened = service.open(path=FACE)
    handle = opened.told["episode"]
    assert len(opened.pictures) == 1 and "detect_align" in opened.told["instructions"]
    refused = service.call(handle, "zoom_in", {"regions": ["nose"]})
    assert refused.told["error"] == "illegal_order" and refused.told["turns_left"] == 5
    assert service.call(handle, "no_such_tool").told["error"] == "unknown_tool"
    assert service.answer(handle, "joyous").told["error"] == "bad_arguments"
    with pytest.raises(ServiceError, match="not over"):
        service.score(handle)
    assert service.answer(handle, "Happy", None).told["done"] is True
    for again in (lambda: service.answer(handle, "fear"), lambda: service.call(handle, "detect_align")):
        with pytest.raises(ServiceError, match="the episode is over"):
            again()
    assert service.score(handle).told["reward"]["structure"] == pytest.approx(-0.4)  # three refused, one unlooked
    for gone in (lambda: service.score(handle), lambda: service.call("x" * 10_000, "detect_align")):
        with pytest.raises(ServiceError, match="no such episode"):
            gone()
    for wrong in ({}, {"path": FACE, "sample": "portrait-00"}):
        with pytest.raises(ServiceError, match="either path or sample"):
            service.open(**wrong)
    with pytest.raises(DataError, match="no sample"):
        service.open(sample="none")


def test_a_picture_that_changes_on_the_way_is_told(tmp_path: Path, root: Path):
    (tmp_path / "a.png").write_bytes((root / FACE).read_bytes())
    service = FaceService([tmp_path], "mtcnn")
    first, other = (service.open(path="a.png").told["episode"] for _ in range(2))
    service.tools._images._map.clear()  # as if many others had been shown since
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"'a\.png' has changed since"):
        service.call(first, "detect_align")
    with pytest.raises(ServiceError, match="no face"):
        service.zoom_in("a.png", ["nose"])  # the new picture
    assert service.answer(other, "fear").told["done"]


def test_bounds_on_calls_and_episodes(root: Path):
    config = ServiceConfig(calls_per_minute=3, max_episodes=2, idle_seconds=60)
    service = FaceService([root], config=config)
    for _ in range(3):
        with service.admitted():
            pass
    with pytest.raises(ServiceError, match="more than 3 calls came in a minute"), service.admitted():
        pass
    service._tokens = 3
    service.config = replace(config, max_waiting=1)
    with service.admitted(), pytest.raises(ServiceError, match="1 calls are waiting"), service.admitted():
        pass
    service.open(path="grey.png")
    handle = service.open(path="grey.png").told["episode"]
    with pytest.raises(ServiceError, match="2 episodes are open already"):
        service.open(path="grey.png")
    for one in service._episodes.values():
        one.used -= 61  # nobody played for a minute
    service.open(path="grey.png")
    with pytest.raises(ServiceError, match="no such episode"):
        service.call(handle, "detect_align")


def test_finished_episodes_are_kept_at_once(root: Path, tmp_path: Path):
    service = FaceService([root], "mtcnn", out=tmp_path)
    handle = service.open(path=FACE, group="mine").told["episode"]
    service.call(handle, "detect_align")
    service.open(path=FACE)
    service.answer(handle, *ANSWER)
    (kept,) = read_rollouts(tmp_path / ROLLOUTS)  # the other one is open
    assert (kept.group_id, kept.predicted_emotion, kept.detection) == ("mine", "happiness", "ok")
    with (tmp_path / ROLLOUTS).open("a") as file:
        file.write('{"schema": 1, "half')  # as a kill leaves it
    again = FaceService([root], "mtcnn", out=tmp_path)
    play(again, path=FACE)
    assert len(read_rollouts(tmp_path / ROLLOUTS)) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ROLLOUTS).write_text("mine")
    with pytest.raises(DataError, match="something else"):
        FaceService([root], out=tmp_path / "other")


def test_two_hundred_at_a_time_get_what_one_gets(service: FaceService):
    alone = json.dumps(play(service, path=FACE))
    with ThreadPoolExecutor(32) as threads:
        handles = [service.open(path=FACE).told["episode"] for _ in range(200)]

        def rest(handle: str) -> str:
            for name, arguments in LOOKS:
                service.call(handle, name, arguments)
            service.answer(handle, *ANSWER)
            return json.dumps(service.score(handle).told)

        assert set(threads.map(rest, handles)) == {alone}
    assert not any(handle in service._episodes for handle in handles)


def test_two_turns_at_once_do_not_mix(service: FaceService):
    handle = service.open(path=FACE).told["episode"]
    with ThreadPoolExecutor(8) as threads:
        replies = [threads.submit(service.call, handle, "detect_align") for _ in range(8)]
        told = [None if reply.exception() else reply.result().told for reply in replies]
    played = [one for one in told if one is not None]
    assert len(played) == 6 and sum("error" not in one for one in played) == 1  # six turns, one of them legal
    assert sorted(one["turns_left"] for one in played) == list(range(6))
    assert service.score(handle).told["truncated"]


def test_what_cannot_be_served_is_named(root: Path):
    with pytest.raises(SettingsError, match="nothing to serve"):
        FaceService()
    with pytest.raises(SettingsError, match="uses no network"):
        FaceService([root], "insightface:buffalo_l")
    with pytest.raises(ActFERError, match="workers must be"):
        ServiceConfig(workers=0)
    with pytest.raises(ServiceError, match="no data set"):
        FaceService([root]).open(sample="x")


@pytest.mark.parametrize(
    "detector",
    ["insightface", "insightface:", "insightface:buffalo_l", "unturned:insightface", "unturned:insightface:x"],
)
def test_a_detector_that_would_be_downloaded_is_refused_by_whatever_name(root: Path, detector: str):
    with pytest.raises(SettingsError, match="a server uses no network"):
        FaceService([root], detector)


def test_detections_of_a_downloaded_detector_are_refused_unless_nothing_is_missing(tmp_path: Path, root: Path):
    (tmp_path / "kept").mkdir()
    about = {"format": FORMAT, "spec": "insightface:buffalo_l", "settings": {}, "buckets": 1}
    (tmp_path / "kept" / ABOUT).write_text(json.dumps(about))
    with pytest.raises(SettingsError, match="a server uses no network"):
        FaceService([root], f"cached:{tmp_path / 'kept'}")
    FaceService([root], f"cached-only:{tmp_path / 'kept'}")


def test_a_picture_has_the_label_of_its_own_root(tmp_path: Path):
    first, second, empty = tmp_path / "first", tmp_path / "second" / "happiness", tmp_path / "empty"
    for number, folder in enumerate((first / "happiness", second, empty)):
        folder.mkdir(parents=True)
        if folder != empty:
            Image.fromarray(np.full((40, 40, 3), 60 * (number + 1), np.uint8)).save(folder / "x.png")
    (first / "manifest.jsonl").write_text('{"id": "x", "image": "happiness/x.png"}\n')  # here it has none
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(second / "y.png")
    (tmp_path / "second" / "manifest.jsonl").write_text(
        '{"id": "x", "image": "happiness/x.png", "labels": ["fear"]}\n'
        '{"id": "y", "image": "happiness/y.png", "labels": ["anger"], "prealigned": true}\n'
    )
    service = FaceService([first, tmp_path / "second", empty], "mtcnn")
    assert service.pictures().told["paths"] == ["happiness/x.png", "happiness/y.png"]
    mine, other = service.start(path="happiness/x.png").sample, service.start(path="happiness/y.png").sample
    assert (mine.emotion, mine.load()[0, 0, 0]) == (None, 60)
    assert (other.emotion, other.prealigned) == ("anger", True)


def test_what_read_refuses_is_not_listed(tmp_path: Path):
    for name in ("good.png", "a\\b.png", "c:d.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    roots = Roots([tmp_path])
    assert list(roots.names()) == ["good.png"]
    for name in ("a\\b.png", "c:d.png", "\ud800.png"):
        with pytest.raises(ImageError, match="is refused"):
            roots.read(name)


def test_an_episode_that_could_not_be_kept_is_kept_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    service = FaceService(detector="mtcnn", dataset=portraits(), out=tmp_path)
    handle = service.open(sample=portraits()[0].id).told["episode"]
    with monkeypatch.context() as broken:
        broken.setattr(service._journal, "append", lambda record: (_ for _ in ()).throw(DataError("the disk is full")))
        for ask in (lambda: service.answer(handle, *ANSWER), lambda: service.score(handle)):
            with pytest.raises(DataError, match="the disk is full"):
                ask()
    assert "reward" in service.score(handle).told
    assert len(read_rollouts(tmp_path / ROLLOUTS)) == 1
    with pytest.raises(ServiceError, match="at most 1,024 characters"):
        service.open(sample=portraits()[0].id, group="g" * 1025)
    handle = service.open(sample=portraits()[0].id).told["episode"]
    for ask in (
        lambda: service.answer(handle, "x" * 9000),
        lambda: service.call(handle, "zoom_in", {"boxes": [[0.5] * 4] * 999}),
    ):
        with pytest.raises(ServiceError, match="characters are too many"):
            ask()
