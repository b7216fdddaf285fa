"""What goes on from kept work: only the same work does, and a refusal says in what it differs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from actfer_env.agents.base import Usage
from actfer_env.chat import ChatConfig, ChatEpisode
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.evaluation import EvalConfig, evaluate
from actfer_env.identity import differences, refuse_other
from actfer_env.tools.detectors import Face, register_detector

POINTS = np.array([[20.0, 20], [40, 20], [30, 30], [22, 40], [38, 40]])


class Corner:
    """Finds a face where it was told to; another place is another detector."""

    name = "corner"

    def __init__(self, argument: str = "0") -> None:
        self.shift = float(argument)

    def detect(self, image: Any) -> list[Face]:
        return [Face((10.0, 10.0, 50.0, 50.0), POINTS + self.shift, 0.9)]

    def settings(self) -> dict[str, Any]:
        return {"shift": self.shift}


register_detector("corner", Corner, replace=True)
CONFIG = EvalConfig(detector="corner")


class Happy:
    """Answers happiness at once, and counts what it played."""

    name = "happy"

    def __init__(self, **settings: Any) -> None:
        self.settings, self.identity, self.played = settings, {}, 0

    def play(self, episodes: Iterable[ChatEpisode]) -> Iterator[Any]:
        for episode in episodes:
            self.played += 1
            episode.step('<answer>{"emotion": "happiness", "aus": ["AU6", "AU12"]}</answer>')
            yield SimpleNamespace(episode=episode), Usage()


def photos(folder: Path, labels: dict[str, str], aus: list[str] | None = None, shade: int = 90) -> Path:
    """Write pictures and a manifest; a picture that is there already is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, label in labels.items():
        if not (folder / f"{name}.png").exists():
            Image.new("RGB", (64, 64), (shade, 80, 70)).save(folder / f"{name}.png")
        rows.append({"id": name, "image": f"{name}.png", "labels": [label], **({} if aus is None else {"AUs": aus})})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_mended_labels_are_not_scored_by_the_old_ones(tmp_path: Path) -> None:
    first = evaluate(Happy(), load_dataset("photos", photos(tmp_path / "p", {"a": "sadness"})), CONFIG, tmp_path / "o")
    assert first.rollouts[0].correct is False
    mended, agent = load_dataset("photos", photos(tmp_path / "p", {"a": "happiness"})), Happy()
    with pytest.warns(UserWarning, match="a: labels have changed since"):
        run = evaluate(agent, mended, CONFIG, tmp_path / "o")
    assert run.rollouts[0].correct and run.mismatches() == [] and agent.played == 0, "the kept answer is scored anew"


def test_mended_units_and_labels_that_were_taken_away_are_scored_anew(tmp_path: Path) -> None:
    place = tmp_path / "p"
    evaluate(Happy(), load_dataset("photos", photos(place, {"a": "happiness"}, ["AU1"])), CONFIG, tmp_path / "o")
    with pytest.warns(UserWarning, match="labels have changed"):
        again = load_dataset("photos", photos(place, {"a": "happiness"}, ["AU6", "AU12", "AU38"]))
        run = evaluate(Happy(), again, replace(CONFIG, episode=EpisodeConfig()), tmp_path / "o")
    assert run.rollouts[0].aus == {6, 12} and run.rollouts[0].meta["dropped_aus"] == ["AU38"]
    (place / "manifest.jsonl").write_text(json.dumps({"id": "a", "image": "a.png"}))
    with pytest.warns(UserWarning, match="labels have changed"):
        run = evaluate(Happy(), load_dataset("photos", place), CONFIG, tmp_path / "o")
    assert (run.rollouts[0].emotion, run.rollouts[0].aus) == (None, None)


def test_the_same_labels_go_on_in_silence_and_may_grow(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    data = load_dataset("photos", photos(tmp_path / "p", {"a": "fear", "b": "anger"}))
    evaluate(Happy(), data, replace(CONFIG, number=1), tmp_path / "o")
    agent = Happy()
    assert len(evaluate(agent, data, CONFIG, tmp_path / "o").rollouts) == 2 and agent.played == 1
    grown = load_dataset("photos", photos(tmp_path / "p", {"a": "fear", "b": "anger", "c": "fear"}))
    assert len(evaluate(agent, grown, CONFIG, tmp_path / "o").rollouts) == 3 and agent.played == 2
    assert not [one for one in recwarn if "labels" in str(one.message)]


def test_another_folder_of_the_same_relative_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        photos(tmp_path / name / "p", {"a": "fear"})
    monkeypatch.chdir(tmp_path / "one")
    evaluate(Happy(), load_dataset("photos", "p"), CONFIG, tmp_path / "o")
    evaluate(Happy(), load_dataset("photos", tmp_path / "one" / "p"), CONFIG, tmp_path / "o")  # the same, by its path
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(DataError, match=r"dataset.root is .*two/p \(the evaluation in .* has .*one/p\)"):
        evaluate(Happy(), load_dataset("photos", "p"), CONFIG, tmp_path / "o")
    (tmp_path / "link").symlink_to(tmp_path / "one" / "p")
    assert evaluate(Happy(), load_dataset("photos", tmp_path / "link"), CONFIG, tmp_path / "o").rollouts


def test_a_picture_that_has_changed_is_refused_and_a_touched_one_is_not(tmp_path: Path) -> None:
    data = load_dataset("photos", photos(tmp_path / "p", {"a": "fear", "b": "fear"}))
    evaluate(Happy(), data, CONFIG, tmp_path / "o")
    os.utime(tmp_path / "p" / "a.png", (1, 1))
    assert len(evaluate(Happy(), data, CONFIG, tmp_path / "o").rollouts) == 2
    Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "p" / "a.png")
    with pytest.raises(DataError, match=r"^a: the picture has changed since its conversation was kept"):
        evaluate(Happy(), data, CONFIG, tmp_path / "o")


def test_pictures_given_as_values_are_compared_too(tmp_path: Path) -> None:
    def data(shade: int, **changes: Any) -> Dataset:
        return Dataset("mine", [Sample("a", np.full((64, 64, 3), shade, np.uint8), "fear", **changes)])

    evaluate(Happy(), data(3), CONFIG, tmp_path)
    evaluate(Happy(), data(3), CONFIG, tmp_path)
    for other in (data(4), data(3, prealigned=True)):
        with pytest.raises(DataError, match="the picture has changed"):
            evaluate(Happy(), other, CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("agent", "config", "message"),
    [
        (Happy(temperature=1.0), CONFIG, "sampling.temperature is 1.0"),
        (Happy(address="http://b/v1"), CONFIG, "sampling.address is http://b/v1"),
        (Happy(), replace(CONFIG, detector="corner:5"), "detector.shift is 5.0"),
        (Happy(), replace(CONFIG, chat=ChatConfig(parsing="strict")), "chat.parsing is strict"),
        (Happy(), replace(CONFIG, episode=EpisodeConfig(max_zooms=1)), "episode.max_zooms is 1"),
        (Happy(), replace(CONFIG, episode=EpisodeConfig(au_set=(6, 12))), "episode.au_set is"),
    ],
)
def test_every_setting_that_changes_answers_is_compared(
    agent: Happy, config: EvalConfig, message: str, tmp_path: Path
) -> None:
    data = load_dataset("photos", photos(tmp_path / "p", {"a": "fear"}))
    evaluate(Happy(), data, CONFIG, tmp_path / "o")
    with pytest.raises(DataError) as caught:
        evaluate(agent, data, config, tmp_path / "o")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_whose_files_are_others_is_refused(tmp_path: Path) -> None:
    from actfer_env.identity import model_facts

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    data, agent = load_dataset("photos", photos(tmp_path / "p", {"a": "fear"})), Happy()
    agent.identity = model_facts(tmp_path / "m")
    evaluate(agent, data, CONFIG, tmp_path / "o")
    (tmp_path / "m" / "config.json").write_text("[]")
    agent.identity = model_facts(tmp_path / "m")
    with pytest.raises(DataError, match=r"model\.files\.config\.json is"):
        evaluate(agent, data, CONFIG, tmp_path / "o")


def test_a_refusal_names_every_difference_in_one_line() -> None:
    found, wanted = {"a": 1, "b": {"c": 2, "d": (1, 2)}}, {"a": 3, "b": {"c": 2, "d": [1, 2], "e": None}}
    with pytest.raises(DataError) as caught:
        refuse_other("OUT", "run", found, wanted)
    assert str(caught.value) == (
        "a is 3 (the run in OUT has 1), b.e is None (there none): choose another folder, or the same settings"
    )
    refuse_other("OUT", "run", {"a": (1, {"b": 2})}, {"a": [1, {"b": 2}]})
    assert list(differences({"name": "x", "k": 1}, {"name": "y"})) == [("name", "y", "x")]
