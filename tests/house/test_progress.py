"""Every callback of progress has one shape: phase, number done, number in all, figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actfer_env.agents.base import ChatTrajectory, Usage
from actfer_env.data import load_dataset, prepare_dataset
from actfer_env.data.check import check_dataset
from actfer_env.data.precompute import PrecomputeConfig, precompute
from actfer_env.data.views import ViewConfig
from actfer_env.evaluation import EvalConfig, evaluate
from actfer_env.evaluation.play import RolloutConfig, play

FACES = load_dataset("synthetic", split="test", n=3)


class Happy:
    name = "happy"

    def play(self, episodes: Any) -> Any:
        for episode in episodes:
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
