"""Every callback of progress has one shape: phase, number done, number in all, figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

from actfer_env.agents.base import ChatTrajectory, Usage
from actfer_env.data import load_dataset, prepare_dataset
from actfer_env.data.check import check_dataset
from actfer_env.data.precompute import PrecomputeConfig, precompute
from actfer_env.data.views import ViewConfig
from actfer_env.evaluation import EvalConfig, evaluate
from actfer_env.evaluation.gate.conversations import evaluate_gate
from actfer_env.evaluation.gate.play import play_gate
from actfer_env.evaluation.play import RolloutConfig, play

FACES = load_dataset("synthetic", split="test", n=3)


class Happy:
    name = "happy"

    def play(self, episodes: Any) -> Any:
        for episode in episodes:
            while not episode.done:
                episode.step('<answer>{"emotion": "happiness", "aus": []}</answer>')
            yield ChatTrajectory(episode), Usage()


def picture_folder(place: Path) -> Path:
    folder = place / "happiness"
    folder.mkdir(parents=True)
    for index in range(3):
        (folder / f"{index}.png").write_bytes(png(FACES[index].load()))
    return place


def png(image: Any) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


WORK: dict[str, tuple[str, int, Callable[[Any, Path], Any]]] = {
    "evaluate": ("conversations", 6, lambda watch, place: evaluate(Happy(), FACES, EvalConfig(repeats=2), None, watch)),
    "play": ("episodes", 6, lambda watch, place: play(
        FACES, RolloutConfig(agents=("blind",), group_size=2, detector="simulated"), watch)),
    "prepare": ("pictures", 3, lambda watch, place: prepare_dataset(
        FACES, place / "kept", ViewConfig(16, 16, 16), workers=1, watch=watch)),
    "precompute": ("pictures", 3, lambda watch, place: precompute(
        FACES, place / "found", PrecomputeConfig("simulated"), watch)),
    "gate": ("episodes", 24, lambda watch, place: play_gate(
        FACES, RolloutConfig(agents=("full",), detector="simulated"), swaps=False, watch=watch)),
    "gate of conversations": ("conversations", 9, lambda watch, place: evaluate_gate(
        Happy(), FACES, EvalConfig(), place / "out", swaps=False, watch=watch)),
    "check": ("pictures", 3, lambda watch, place: check_dataset("photos", picture_folder(place / "p"), watch=watch)),
}  # fmt: skip


@pytest.mark.parametrize("name", WORK)
def test_progress_is_told_in_one_shape(name: str, tmp_path: Path) -> None:
    phase, total, work = WORK[name]
    told: list[tuple[str, int, int, Any]] = []
    work(lambda *progress: told.append(progress), tmp_path)
    assert {(one, whole) for one, _, whole, _ in told} == {(phase, total)}
    assert [done for _, done, _, _ in told] == sorted(done for _, done, _, _ in told)
    assert told[-1][1] == total
    assert all(isinstance(figures, dict) for *_, figures in told)
    assert (told[-1][3].get("detected") == 3) is (name == "precompute")


def test_curation_tells_its_progress_in_the_same_shape(tmp_path: Path) -> None:
    pytest.importorskip("imagehash", reason="needs the extra data")
    from actfer_env.curate.curate import curate
    from actfer_env.curate.exports import export
    from actfer_env.curate.options import CurateOptions
    from actfer_env.curate.replay import Curated

    told: list[tuple[Any, ...]] = []
    options = CurateOptions(detector="simulated", rl_size=0)
    curate(FACES, tmp_path / "curated", options, watch=lambda *progress: told.append(progress))
    assert told == [("samples", done, 3, {}) for done in (1, 2, 3)]
    told.clear()
    source = Curated.open(tmp_path / "curated")
    export(source, "facial_r1", tmp_path / "lines", watch=lambda *progress: told.append(progress))
    assert told == [("lines", done, source.count, {}) for done in range(1, source.count + 1)] and told


def test_there_is_no_other_shape() -> None:
    """A callback that is called with numbers done is a `Watch`, in every signature of the package."""
    wrong = re.compile(r"Callable\[\[int(, int)?\], None\]")
    found = [path.name for folder in ("actfer_env", "agents", "wrappers") for path in (ROOT / folder).rglob("*.py")
             if wrong.search(path.read_text(encoding="utf-8"))]  # fmt: skip
    assert found == []
