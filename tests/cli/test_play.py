"""A person inspects by keyboard: piped lines, what is shown, and what is kept."""

import io
import subprocess
import sys
from itertools import pairwise

import cv2
import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from actfer_env.agents.person import PersonAgent, StopPlayingError
from actfer_env.cli import app
from actfer_env.data import load_dataset
from actfer_env.envs import panel
from actfer_env.errors import DataError
from actfer_env.evaluation import read_run
from actfer_env.evaluation.play import play_episode

FACES = load_dataset("synthetic", preset="easy", n=2)


def person(env, text, **options):
    out, lines = io.StringIO(), io.StringIO(text)
    console = Console(file=out, width=100, highlight=False, **options)
    return PersonAgent(env.action_space, read=lines.readline, console=console), out


@pytest.mark.parametrize("env_id", ["ActFER-v0", "ActFER-MultiDiscrete-v0"])
def test_typed_lines_become_an_episode(env_id):
    env = gym.make(env_id, dataset=FACES)
    lines = "z mouth\nd\nd\nz mouth\nz 4\nz 1\nanswer sad 1, 4 15\n"
    agent, out = person(env, lines)
    rollout = play_episode(env, agent, {"sample": 0})
    assert [c.name for c in rollout.tool_calls] == ["detect_align", "zoom_in", "zoom_in"] and not rollout.violations
    assert (rollout.predicted_emotion, rollout.predicted_aus, rollout.looked) == ("sadness", {1, 4, 15}, True)
    shown = out.getvalue()
    for text in ("detect first", "searched for already", "mouth-chin was magnified already", "face aligned, 5 turns",
                 "crop 2", "1 neutral"):  # fmt: skip
        assert text in shown, text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fly", "'fly' is not known: d, z REGION"), ("a", "name an emotion"),
        ("a glee", "'glee' is no emotion: 1 neutral"),
        ("a 9", "'9' is no emotion"), ("a s", "'s' is no emotion"), ("a joy AU99", "AU99"),
        ("a joy 45", "AU45 do not count"),
        ("z", "detect first"), ("?", "Action Units: 1 Inner Brow Raiser"), ("", "d               detect"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_explained_and_costs_no_turn(line, message):
    env = gym.make("ActFER-Discrete-v0", dataset=FACES)
    agent, out = person(env, f"{line}\na 2\n")
    rollout = play_episode(env, agent, {"sample": 0})
    assert message in out.getvalue() and rollout.turns == 1 and rollout.predicted_emotion == "happiness"


def test_without_a_face_nothing_can_be_magnified(tmp_path):
    Image.fromarray(np.full((64, 64, 3), 120, np.uint8)).save(tmp_path / "blank.png")
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=load_dataset("photos", root=tmp_path))
    agent, out = person(env, "d\nz 1\na neutral\n")
    assert play_episode(env, agent, {"sample": 0}).detection == "failed"
    assert "there is no face to zoom into: answer" in out.getvalue() and "no face was found" in out.getvalue()


@pytest.mark.parametrize("end", ["q\n", "", "QUIT\n"])
def test_stopping(end):
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES)
    agent, _ = person(env, f"d\n{end}")
    with pytest.raises(StopPlayingError):
        play_episode(env, agent, {"sample": 0})


def test_a_terminal_with_colours_gets_coloured_pictures():
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES)
    agent, out = person(env, "a 1\n", force_terminal=True, color_system="truecolor")
    play_episode(env, agent, {"sample": 0})
    assert "▀" in out.getvalue() and "48;2;" in out.getvalue()


def test_a_person_plays_one_episode_at_a_time():
    envs = gym.vector.SyncVectorEnv([lambda: gym.make("ActFER-Discrete-v0", dataset=FACES)] * 2)
    agent, _ = person(gym.make("ActFER-Discrete-v0", dataset=FACES), "d\n")
    with pytest.raises(DataError, match="one episode at a time"):
        agent.act(*envs.reset())


def run(lines, folder, *arguments):
    command = [sys.executable, "-m", "actfer_env", "play", "synthetic", "--preset", "easy", "--out", str(folder)]
    return subprocess.run([*command, *arguments], input=lines, capture_output=True, text=True, check=False)


def test_the_command_records_and_shows_the_reward(tmp_path):
    lines = "d\nz mouth\na happiness 6 12\nd\na neutral\nd\n"
    done = run(lines, tmp_path / "out", "-n", "3", "--seed", "5")
    assert done.returncode == 0, done.stderr
    kept = read_run(tmp_path / "out")
    assert len(kept.rollouts) == 2 and not kept.mismatches() and (tmp_path / "out" / "report.html").exists()
    assert kept.rollouts[0].zoomed and kept.settings["agent"] == "person"
    for text in (
        "you said happiness, AU6 AU12",
        "label: ",
        "task: ",
        "total: ",
        "stopped; 2 finished episodes are kept",
    ):
        assert text in done.stdout, text


def test_the_same_command_goes_on_with_further_samples(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in "ab":
        Image.fromarray(np.full((64, 64, 3), 120, np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    words, found = ["play", str(tmp_path / "photos"), "--out", str(tmp_path / "out")], []
    for session in range(3):
        result = CliRunner().invoke(app, words, input=f"a {session + 1}\n")
        assert result.exit_code == 0, result.output
        assert (f"{session} episodes of earlier sessions" in result.output) is (session > 0)
        run = read_run(tmp_path / "out")
        found.append([(one.sample_id, one.member, one.predicted_emotion) for one in run.rollouts])
        assert not run.mismatches()
    assert found[1][:1] == found[0] and found[2][:2] == found[1]
    assert len({name for name, _, _ in found[1]}) == 2 and found[2][2] == (found[0][0][0], 1, "sadness")
    assert CliRunner().invoke(app, words, input="q\n").exit_code == 1  # stopped before an answer
    assert len(read_run(tmp_path / "out").rollouts) == 3


def test_a_broken_picture_costs_no_finished_episode(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in "abc":
        Image.fromarray(np.full((64, 64, 3), 120, np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    words = ["play", str(tmp_path / "photos"), "-n", "3", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words, input="a 1\na 2\n")
    assert result.exit_code == 0, result.output
    run = read_run(tmp_path / "out")
    assert {one.sample_id for one in run.rollouts} == {"a.png", "c.png"}
    assert [one["sample_id"] for one in run.failures] == ["b.png"]


def test_nothing_is_written_where_nothing_was_finished(tmp_path):
    done = run("d\nq\n", tmp_path / "out")
    assert done.returncode == 1 and done.stderr == "actfer: no episode was finished: nothing is written\n"
    assert not (tmp_path / "out").exists()


def test_a_window_shows_each_turn_and_closes(tmp_path, monkeypatch):
    """A double of cv2's window: what `--window` shows, in what order, and that it goes again."""
    shown, closed = [], []
    monkeypatch.setattr(panel, "_has_display", lambda: True)
    monkeypatch.setattr(cv2, "imshow", lambda name, picture: shown.append((name, picture.copy())))
    monkeypatch.setattr(cv2, "waitKey", lambda ms: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: float(bool(shown)))
    monkeypatch.setattr(cv2, "destroyWindow", closed.append)
    words = ["play", "synthetic", "--preset", "easy", "--window", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words, input="d\nz mouth\na happiness 6 12\n")
    assert result.exit_code == 0, result.output
    assert len(shown) == 4 and {name for name, _ in shown} == {"actfer_env"}  # the raw picture, and each turn
    assert all(picture.shape == (540, 960, 3) and picture.dtype == np.uint8 for _, picture in shown)
    assert all((one != two).any() for (_, one), (_, two) in pairwise(shown))
    assert closed == ["actfer_env"] and (tmp_path / "out" / "report.html").exists()
