"""What only plays the tools is never shown as a reading."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from actfer_env import facs
from actfer_env.agents import RandomAgent, ScriptedAgent, register_agent
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.envs.panel import NOBODY_LOOKED, Panel
from actfer_env.episode import Episode
from actfer_env.evaluation import Run, summarize, summary_rows
from actfer_env.evaluation.play import RolloutConfig, make_env, play, play_episode
from actfer_env.evaluation.report import answer_source, render_report, script_notice
from actfer_env.tools import FaceTools

EMOTIONS = re.compile("|".join(facs.EMOTIONS))


class Reader(RandomAgent):
    """Says that it looks."""

    looks = True


register_agent("reader", lambda argument, space, **kwargs: Reader(space, kwargs["seed"]), replace=True)


def photo(label: str | None) -> Dataset:
    return Dataset("photos", [Sample("a", astronaut()[:96, :96], label, meta={"dataset": "photos", "image": "a"})])


def played(data: Dataset, *agents: str, size: int = 1) -> Run:
    return play(data, RolloutConfig(agents=agents, group_size=size))


def words(run: Run) -> str:
    """The report's words about episodes and figures: no script, no style, no choices of the filter, no targets."""
    text = re.sub(r"<(style|script|select)\b.*?</\1>", "", render_report(run), flags=re.S)
    body = text[text.index("<main>") : text.index("<footer>")]
    return re.sub(r"<[^>]+>", " ", body)


def test_an_own_photo_gets_no_emotion_on_the_command_line_and_in_the_report(tmp_path: Path) -> None:
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    command = [sys.executable, "-m", "actfer_env", "rollout", "a.png", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and NOBODY_LOOKED in done.stdout
    assert not EMOTIONS.search(done.stdout) and "accuracy" not in done.stdout and "F1" not in done.stdout
    page = re.sub(r"data:image/jpeg[^\"]*", "", (tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert not EMOTIONS.search(page) and "The tools were played by a script" in page
    assert json.loads((tmp_path / "out" / "rollouts.jsonl").read_text())["meta"]["looked"] is False


@pytest.mark.parametrize("agent", ["full", "simplified:anger", "degraded:fear", "random:unmasked", "full:truth"])
def test_no_script_on_an_unlabelled_photo_shows_an_answer(agent: str) -> None:
    run = played(photo(None), agent)
    assert not EMOTIONS.search(words(run).replace(agent, "")) and "not shown" in words(run)
    assert script_notice(run) == NOBODY_LOOKED
    assert not any("accuracy" in name or "F1" in name for name, _, _ in summary_rows(summarize(run.rollouts)))


def test_a_labelled_photo_shows_its_label_and_no_other_answer() -> None:
    said = words(played(photo("happiness"), "degraded:anger"))
    assert "anger" not in said.replace("degraded:anger", "") and "truth happiness" in " ".join(said.split())
    rows = {name: note for name, _, note in summary_rows(summarize(played(photo("happiness"), "full:anger").rollouts))}
    assert rows["script’s accuracy"] == "no policy looked" and "accuracy" not in rows


def test_the_data_sets_own_label_is_shown_as_the_label() -> None:
    run = played(photo("happiness"), "degraded:truth")
    assert answer_source(run.rollouts[0]) == "label"
    assert "the label, given as answer happiness" in " ".join(words(run).split())


def test_a_demonstration_calls_its_answers_the_scripts() -> None:
    run = played(load_dataset("synthetic", split="test", n=1), "degraded:anger", "degraded:truth", size=2)
    said = " ".join(words(run).split())
    assert "the script’s answer anger" in said and "by the script: " in said and "the label, given as answer" in said
    assert "task: " in said, "the reward is still told in words"


def test_beside_a_policy_that_looks_scripts_are_left_out_of_the_figures() -> None:
    run = played(load_dataset("synthetic", split="test", n=3), "reader", "full:truth", size=2)
    alone = played(load_dataset("synthetic", split="test", n=3), "reader")
    found, wanted = summarize(run.rollouts), summarize(alone.rollouts)
    assert (found.scripted, found.labelled, found.n) == (3, 3, 6) and wanted.scripted == 0
    assert found.accuracy == np.mean([one.correct for one in run.rollouts if one.looked])
    assert {name: note for name, _, note in summary_rows(found)}["accuracy"] == "3 labelled of 3"
    assert script_notice(run) == f"in 3 of 6 episodes {NOBODY_LOOKED}" and script_notice(alone) is None


def test_a_policy_that_says_nothing_of_it_is_taken_to_look() -> None:
    run = played(photo(None), "reader")
    assert run.rollouts[0].looked and "looked" not in run.rollouts[0].meta
    assert "not shown" not in words(run)


def test_the_panel_of_a_script_shows_no_answer() -> None:
    def panel(emotion: str, looked: bool) -> Any:
        episode = Episode(photo("fear")[0], FaceTools("auto"))
        episode.looked = looked
        episode.answer(emotion, ())
        return Panel().draw(episode)

    assert np.array_equal(panel("anger", False), panel("happiness", False))
    assert not np.array_equal(panel("anger", True), panel("happiness", True))


def test_environments_know_who_plays() -> None:
    data = photo(None)
    env = make_env(data, RolloutConfig())
    space = env.unwrapped.action_space
    for agent, looked in ((ScriptedAgent(space), False), (Reader(space, 0), True), (RandomAgent(space, 0), False)):
        assert play_episode(env, agent, {"sample": 0}).looked is looked
