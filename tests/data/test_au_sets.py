"""Which Action Units count, and what an empty list of them means: from the file to the figures."""

import json

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner

from actfer_env import facs
from actfer_env.agents import make_agent
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.cli import app
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.episode import Episode, EpisodeConfig
from actfer_env.errors import DataError, LabelError
from actfer_env.evaluation import read_run, summarize, summary_rows, write_report
from actfer_env.evaluation.play import RolloutConfig, play
from actfer_env.rewards import UCGRPO
from actfer_env.tools import FaceTools

FRAMES = [[]] * 6 + [["AU12", "AU25"]] * 4
"""Units of ten frames, six of them without any."""


def write_frames(folder, name="manifest.jsonl", units=FRAMES, **fields):
    for i in range(len(units)):
        Image.fromarray(np.full((32, 32, 3), 20 * i, np.uint8)).save(folder / f"{i}.png")
    records = [{"id": str(i), "image": f"{i}.png", "AUs": aus, **fields} for i, aus in enumerate(units)]
    (folder / name).write_text("\n".join(map(json.dumps, records)))
    return folder / name


def answer(sample, units, emotion="happiness", **config):
    episode = Episode(sample, FaceTools(), EpisodeConfig(**config))
    episode.answer(emotion, units)
    return episode.rollout()


@pytest.mark.parametrize("name", ["manifest.jsonl", "f.jsonl"])
def test_frames_without_a_unit_count_against_a_policy_that_always_names_two(tmp_path, name):
    path = write_frames(tmp_path, name)
    place = ("photos", tmp_path) if name == "manifest.jsonl" else ("jsonl", path)
    samples = load_dataset(*place)
    summary = summarize([answer(sample, "AU12+AU25") for sample in samples])
    # Each unit: 4 right, 6 too many, none missed: 2 x 4 / (4 + 10).
    assert summary.au_macro_f1 == pytest.approx(8 / 14) and summary.au_labelled == 10
    assert summary.au_instance_f1 == pytest.approx(0.4)
    with pytest.warns(UserWarning, match="left out as not annotated in 6 lines; if they mean that no unit is active"):
        samples = load_dataset(*place, empty_aus="unlabelled")
    summary = summarize([answer(sample, "AU12+AU25") for sample in samples])
    assert (summary.au_macro_f1, summary.au_labelled) == (1.0, 4)


def test_an_empty_list_beside_an_emotion_is_asked_about(tmp_path, recwarn):
    write_frames(tmp_path, units=[[], [], ["AU6"]], labels=["happiness"])
    load_dataset("photos", tmp_path)
    (told,) = recwarn.list
    assert "an emotion other than neutral has an empty list of AUs" in str(told.message) and "2 lines" in str(
        told.message
    )
    recwarn.clear()
    write_frames(tmp_path, units=[[], []], labels=["neutral"])
    load_dataset("photos", tmp_path)
    assert not recwarn.list
    with pytest.raises(DataError, match="empty_aus='nothing' is unknown: use one of none, unlabelled"):
        load_dataset("photos", tmp_path, empty_aus="nothing")


def test_units_outside_the_set_are_ignored_on_both_sides():
    smile = [Sample(str(i), np.zeros((32, 32, 3), np.uint8), aus={12, 25, 17}) for i in range(2)]
    rollouts = [answer(sample, [7, 12, 17, 25]) for sample in smile]
    # AU7 is in no target. Averaged over the units that occur it costs a quarter, within the set nothing.
    assert summarize(rollouts).au_macro_f1 == pytest.approx(3 / 4)
    missed = [answer(sample, [7, 12, 25]) for sample in smile]
    assert summarize(missed).au_macro_f1 == pytest.approx(2 / 4)
    for given in (rollouts, missed):
        summary = summarize(given, au_set="disfa")
        assert (summary.au_macro_f1, summary.au_instance_f1) == (1.0, 1.0)
        assert summary.au_set == facs.DISFA_AUS and set(summary.au_f1) == {"AU12", "AU25"}
    two = [answer(Sample("a", np.zeros((32, 32, 3), np.uint8), aus={12, 25}), [7, 12, 25])]
    assert summarize(two).au_macro_f1 == pytest.approx(2 / 3) and summarize(two, au_set=(25, 12)).au_macro_f1 == 1.0
    with pytest.raises(LabelError, match="sets are core"):
        summarize(two, au_set="bp4d")


@pytest.mark.parametrize(("au_set", "f1"), [("disfa", 1.0), ("core", 2 * 2 / (3 + 3))])
def test_rewards_ignore_what_lies_outside_the_set(au_set, f1):
    sample = Sample("a", np.zeros((32, 32, 3), np.uint8), "happiness", {12, 25, 17})
    rollout = answer(sample, [7, 12, 25], au_set=au_set)
    scorer = UCGRPO()
    assert scorer.score([rollout]).task[0] == pytest.approx(scorer.config.alpha + scorer.config.beta * f1)
    assert set(rollout.meta["dropped_aus"]) == ({"AU17"} if au_set == "disfa" else set())


def test_environments_and_conversations_take_the_sets_name():
    assert gym.make("ActFER-v0", au_set="disfa").unwrapped.au_set == facs.DISFA_AUS
    assert gym.make("ActFER-v0", au_set="disfa").action_space["aus"].n == 8
    episode = ChatEpisode(load_dataset("portrait")[0], chat_tools(), ChatConfig(), EpisodeConfig(au_set="disfa"))
    assert "AU26" in str(episode.messages) and "AU7" not in str(episode.messages)
    with pytest.raises(LabelError, match="sets are core"):
        EpisodeConfig(au_set="bp4d")


def test_tables_name_the_set_that_they_average(tmp_path):
    dataset = Dataset("two", [Sample(str(i), astronaut(), "happiness", {6, 12}) for i in range(2)])
    run = play(dataset, RolloutConfig(agents=("simplified:happiness",), au_set=facs.parse_au_set("disfa")))
    assert run.au_set == facs.DISFA_AUS and run.settings["au_set"] == "disfa"
    rows = {name: note for name, _, note in summary_rows(summarize(run.rollouts, run.score(), run.au_set))}
    assert rows["script’s AU F1"] == "macro, 2 labelled; 2 of 8 Action Units of disfa"
    assert "2 Action Units that occur" in str(summary_rows(summarize(run.rollouts)))
    assert "2 of 8 Action Units of disfa" in write_report(tmp_path, run).read_text()
    assert "1 of 1 Action Unit of AU12" in write_report(tmp_path, run, au_set=(12,)).read_text()
    space = gym.make("ActFER-MultiDiscrete-v0", dataset=dataset, au_set="disfa").action_space
    make_agent("full", space, dataset=dataset, seed=0, au_set=facs.DISFA_AUS)


def test_commands_choose_units_and_what_an_empty_list_means(tmp_path):
    path = write_frames(tmp_path, "f.jsonl", units=[[], ["AU12", "AU25", "AU7"]], labels=["happiness"])
    out, run = tmp_path / "out", lambda *rest: CliRunner().invoke(app, [*map(str, rest)])
    sets = ["--au-set", "disfa", "--empty-aus", "unlabelled"]
    done = run("rollout", path, "--agent", "simplified:happiness", "--out", out, *sets)
    assert done.exit_code == 0 and "left out as not annotated in 1 line" in done.output, done.output
    assert [rollout.aus for rollout in read_run(out).rollouts] == [None, {12, 25}]
    # Happiness is AU6 and AU12 by its prototype, of which DISFA has both: of AU6, AU12, AU25 only AU12 is right.
    assert "of disfa" in done.output and "0.33" in done.output
    done = run("report", out, "--au-set", "12,25")
    assert done.exit_code == 0 and "no differences" in done.output and "0.50" in done.output
    assert "AU12 AU25 in the tables" in done.output
    done = run("data", "verl", path, "--out", tmp_path / "verl", "--images", "path", *sets)
    if isinstance(done.exception, DataError) and "pyarrow" in str(done.exception):
        pytest.skip("pyarrow is missing")
    assert done.exit_code == 0 and "au_set: [1, 2, 4, 6, 9, 12, 25, 26]" in done.output, done.output
    rows = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "verl").to_pylist()
    truths = [json.loads(row["reward_model"]["ground_truth"])["aus"] for row in rows]
    assert truths == [None, ["AU12", "AU25"]]
    done = run("eval", path, "--model", "m", "--dry-run", *sets)
    assert done.exit_code == 0 and "jsonl: 2 samples, no splits" in done.output
    for command in (["rollout", path], ["eval", path, "--model", "m"], ["data", "verl", path], ["demo"]):
        done = run(*command, "--au-set", "bp4d", "--out", tmp_path / "other")
        assert isinstance(done.exception, LabelError) and not (tmp_path / "other").exists()
    done = run("rollout", "portrait", "--empty-aus", "none", "--out", tmp_path / "other")
    assert "data set 'portrait' has no option 'empty_aus': it takes views" in str(done.exception)
