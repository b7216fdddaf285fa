"""A report is not lost: it can be made again from anywhere, and one with pictures is never replaced by one without."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import actfer
from PIL import Image
from skimage.data import astronaut

from actfer_env.agents.base import Usage
from actfer_env.chat import ChatEpisode
from actfer_env.cli.evaluate import _evaluate
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation import EvalConfig, Run, read_run, write_report, write_run
from actfer_env.evaluation import pictures as pictures_module
from actfer_env.evaluation.pictures import embed_pictures
from actfer_env.evaluation.play import RolloutConfig, play


def photos(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for shade, name in enumerate(names):
        Image.new("RGB", (64, 64), (40 * shade, 80, 70)).save(folder / name)
    return folder


def played(data: Dataset) -> Run:
    return play(data, RolloutConfig(agents=("simplified",)))


def shown(out: Path) -> int:
    return (out / "report.html").read_text(encoding="utf-8").count("data:image/jpeg")


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Path, bytes]:
    """The folders of four photos and of a run over them, and its report."""
    root, out = photos(tmp_path / "p", "a.png", "b.png", "c.jpg", "d.png"), tmp_path / "out"
    write_run(out, played(load_dataset("photos", root)))
    return root, out, write_report(out).read_bytes()


def test_a_report_that_is_made_again_elsewhere_keeps_its_pictures(tmp_path: Path) -> None:
    photos(tmp_path / "p", "a.png")
    Image.fromarray(astronaut()).save(tmp_path / "p" / "a.png")
    actfer("rollout", "p", "--out", tmp_path / "out", cwd=tmp_path)
    before = (tmp_path / "out" / "report.html").read_bytes()
    done = actfer("report", tmp_path / "out", cwd=tmp_path / "p")
    assert done.returncode == 0 and (tmp_path / "out" / "report.html").read_bytes() == before
    assert shown(tmp_path / "out") >= 2
    (tmp_path / "p").rename(tmp_path / "q")
    done = actfer("report", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 1 and "report.html stays as it is: the pictures of 1 of 1 samples" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and (tmp_path / "out" / "report.html").read_bytes() == before
    done = actfer("report", tmp_path / "out", "--root", "q", "--embed", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "out" / "report.html").read_bytes() == before.replace(b"/p)", b"/q)")
    shutil.rmtree(tmp_path / "q")
    assert actfer("report", "out", cwd=tmp_path).returncode == 0 and shown(tmp_path / "out") >= 2
    done = actfer("report", "out", "--root", "nowhere", cwd=tmp_path)
    assert done.returncode == 1 and "--root nowhere: no such file" in done.stderr


def test_the_root_is_stored_as_it_can_be_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "p", "a.png")
    monkeypatch.chdir(tmp_path)
    data = load_dataset("photos", "p")
    assert data.arguments["root"] == os.path.realpath(tmp_path / "p")
    write_run(tmp_path / "out", played(data))
    monkeypatch.chdir("/")
    write_report(tmp_path / "out")
    assert shown(tmp_path / "out") == 1


@pytest.mark.parametrize("gone", [("a.png",), ("a.png", "c.jpg"), ("a.png", "b.png", "c.jpg", "d.png")])
def test_lost_pictures_keep_the_report(run: tuple[Path, Path, bytes], gone: tuple[str, ...]) -> None:
    root, out, before = run
    for name in gone:
        (root / name).unlink()
    with pytest.raises(DataError, match=f"stays as it is: the pictures of {len(gone)} of 4 samples") as caught:
        write_report(out)
    assert "a.png" in str(caught.value) and "--embed" in str(caught.value) and "\n" not in str(caught.value)
    assert (out / "report.html").read_bytes() == before
    (out / "report.html").unlink()
    write_report(out)  # no pictures are lost by it
    assert shown(out) == 4 - len(gone)


def test_a_picture_that_is_another_one_by_now_keeps_the_report(tmp_path: Path) -> None:
    folder = photos(tmp_path / "p", "a.png")
    Image.fromarray(astronaut()).save(folder / "a.png")
    write_run(tmp_path / "out", play(load_dataset("photos", folder), RolloutConfig()))
    before = write_report(tmp_path / "out").read_bytes()
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    with pytest.raises(DataError, match="it has 64 × 64 pixels, but had 512 × 512"):
        write_report(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_bytes() == before


def test_a_report_with_fewer_pictures_by_choice_is_written(run: tuple[Path, Path, bytes]) -> None:
    write_report(run[1], pictures=pictures_module.PictureConfig(episodes=2))
    assert shown(run[1]) == 2


def test_a_run_that_carries_its_pictures_needs_nothing_else(run: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    root, out, before = run
    write_run(out, embed_pictures(out, read_run(out)))
    assert sorted(path.suffix for path in (out / "pictures").iterdir()) == [".jpg", ".png", ".png", ".png"]
    shutil.rmtree(root)
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(out, moved)
    (moved / "report.html").unlink()
    assert write_report(moved).read_bytes() == before


def test_a_data_set_made_by_hand_can_be_carried_too(tmp_path: Path) -> None:
    data = Dataset("mine", [Sample("a", np.full((64, 64, 3), 9, np.uint8)), Sample("b", tmp_path / "gone.png")])
    made = played(data)
    assert [failure["sample_id"] for failure in made.failures] == ["b"]
    write_run(tmp_path, embed_pictures(tmp_path, made, data))
    write_report(tmp_path)
    assert shown(tmp_path) == 1


def test_folders_that_are_moved_together_find_each_other(tmp_path: Path) -> None:
    photos(tmp_path / "one" / "p", "a.png")
    out = tmp_path / "one" / "runs" / "x"
    write_run(out, played(load_dataset("photos", tmp_path / "one" / "p")))
    before = write_report(out).read_bytes()
    (tmp_path / "one").rename(tmp_path / "two")
    assert write_report(tmp_path / "two" / "runs" / "x").read_bytes() == before


def test_an_earlier_runs_copies_go_with_it_and_other_files_stay(tmp_path: Path) -> None:
    data = load_dataset("photos", photos(tmp_path / "p", "a.png", "b.png"))
    made = played(data)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "mine.png").write_bytes(b"of the user")
    write_run(tmp_path, embed_pictures(tmp_path, made, data))
    assert len(list((tmp_path / "pictures").iterdir())) == 3
    write_run(tmp_path, made)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["mine.png"]


def test_names_in_a_foreign_run_do_not_lead_out_of_its_folder(run: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    _, out, _ = run
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    head = json.loads((out / "run.json").read_text())
    head["pictures"] = {"a.png": "../../secret.png"}
    (out / "run.json").write_text(json.dumps(head))
    assert "8 × 8 px" not in write_report(out).read_text(encoding="utf-8")


def test_drawn_pictures_are_drawn_again_by_the_same_generator_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = played(load_dataset("synthetic", split="test", n=2))
    write_run(tmp_path, made)
    before = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == before and shown(tmp_path) >= 2
    monkeypatch.setattr(pictures_module, "GENERATOR_VERSION", 99)
    with pytest.raises(DataError, match="drawn by generator 2, and this is 99"):
        write_report(tmp_path)


class Happy:
    name = "happy"
    settings: dict[str, Any] = {}

    def play(self, episodes: Iterable[ChatEpisode]) -> Iterator[Any]:
        for episode in episodes:
            episode.step('<answer>{"emotion": "happiness", "aus": []}</answer>')
            yield SimpleNamespace(episode=episode), Usage()


def test_an_evaluation_that_goes_on_without_its_pictures_keeps_its_report(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "p", "a.png", "b.png"), tmp_path / "out"
    _evaluate(Happy(), load_dataset("photos", root), EvalConfig(), out, False)
    before = (out / "report.html").read_bytes()
    (root / "a.png").write_bytes(b"")
    with pytest.raises(DataError):
        _evaluate(Happy(), load_dataset("photos", root), EvalConfig(), out, False)
    assert (out / "report.html").read_bytes() == before


def test_an_evaluation_that_carries_its_pictures_goes_on_carrying_them(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "p", "a.png", "b.png"), tmp_path / "out"
    _evaluate(Happy(), load_dataset("photos", root), replace(EvalConfig(), number=1), out, True)
    assert len(read_run(out).pictures) == 1
    _evaluate(Happy(), load_dataset("photos", root), EvalConfig(), out, False)
    assert len(read_run(out).pictures) == 2
    shutil.rmtree(root)
    write_report(out)
    assert shown(out) == 2


def test_a_run_is_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from actfer_env.rewards import UCGRPO

    count, score = [], UCGRPO.score
    monkeypatch.setattr(UCGRPO, "score", lambda self, rollouts: (count.append(len(rollouts)), score(self, rollouts))[1])
    made = played(load_dataset("synthetic", split="test", n=2))
    assert made.mismatches() == [] and made.score() is made.scores
    assert count.count(2) == 1, "the others are those of single episodes"
