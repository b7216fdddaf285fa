"""Runs of agents that are killed, and go on to what they would have been."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from actfer_env.cli import app
from actfer_env.data import Dataset, load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation.journal import JOURNAL, ROLLOUT_SETTINGS, SETTINGS
from actfer_env.evaluation.play import RolloutConfig, play

FACES = load_dataset("synthetic", split="test", n=3, preset="easy")
CONFIG = RolloutConfig(agents=("random", "full:truth", "random:unmasked"), group_size=3)


def stop_after(count):
    def watch(*_):
        nonlocal count
        count -= 1
        if count <= 0:
            raise KeyboardInterrupt

    return watch


@pytest.mark.parametrize("evaluation", [True, False])
def test_what_was_stopped_goes_on_to_what_it_would_have_been(evaluation, tmp_path):
    whole = play(FACES, CONFIG)
    for count in (1, 2, 4):  # of what is left
        part = play(FACES, CONFIG, stop_after(count), tmp_path, evaluation=evaluation)
        assert part.failures[-1]["error"].startswith("interrupted")
    played = len((tmp_path / JOURNAL).read_text().splitlines())
    assert 4 <= played < 9
    # A process that is killed leaves half a line.
    with (tmp_path / JOURNAL).open("a") as handle:
        handle.write('{"schema": 1, "sample')
    run = play(FACES, CONFIG, None, tmp_path, evaluation=evaluation)
    assert run.rollouts == whole.rollouts and run.stored_scores == whole.stored_scores and not run.failures
    assert (tmp_path / (SETTINGS if evaluation else ROLLOUT_SETTINGS)).exists()


def test_more_samples_may_be_asked_for_later(tmp_path):
    play(FACES, replace(CONFIG, number=1), None, tmp_path, evaluation=True)
    run = play(FACES, CONFIG, None, tmp_path, evaluation=True)
    assert run.rollouts == play(FACES, CONFIG).rollouts


def test_an_evaluation_of_another_agent_is_refused_and_an_unfinished_run_begun_anew(tmp_path):
    other = replace(CONFIG, seed=7)
    for evaluation in (True, False):
        play(FACES, CONFIG, stop_after(2), tmp_path / str(evaluation), evaluation=evaluation)
    with pytest.raises(DataError, match=r"seed is 7 \(the evaluation in .* has 0\)"):
        play(FACES, other, None, tmp_path / "True", evaluation=True)
    with pytest.warns(UserWarning, match=r"unfinished run in .* is of other settings \(seed\): it begins anew"):
        run = play(FACES, other, None, tmp_path / "False")
    assert run.rollouts == play(FACES, other).rollouts


def relabelled(emotion):
    samples = [replace(sample, emotion=emotion, annotate=None, aus=frozenset({6})) for sample in FACES]
    return Dataset("mine", samples, FACES.arguments)


def test_mended_labels_are_taken_over_unless_an_agent_answers_with_them(tmp_path):
    one, truth = replace(CONFIG, agents=("simplified",)), replace(CONFIG, agents=("simplified:truth",))
    play(relabelled("fear"), one, None, tmp_path / "a")
    play(relabelled("fear"), truth, None, tmp_path / "b")
    with pytest.warns(UserWarning, match="labels have changed since"):
        run = play(relabelled("anger"), one, None, tmp_path / "a")
    assert {rollout.emotion for rollout in run.rollouts} == {"anger"}
    with pytest.raises(DataError, match="labels have changed since, and an agent answers with them"):
        play(relabelled("anger"), truth, None, tmp_path / "b")


def test_the_commands_go_on_and_only_an_evaluation_keeps_its_journal(tmp_path):
    def run(command):
        out = tmp_path / command
        words = [command, "synthetic", "--agent", "random", "-n", "3", "--out", str(out)]
        result = CliRunner().invoke(app, words)
        return result, [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]

    for command in ("eval", "rollout"):
        out = tmp_path / command
        result, whole = run(command)
        assert result.exit_code == 0, result.output
        assert (out / JOURNAL).exists() is (out / SETTINGS).exists() is (command == "eval")
        assert not (out / ROLLOUT_SETTINGS).exists()
        if command == "eval":  # killed after the first episode
            first = (out / JOURNAL).read_text().splitlines()[0]
            (out / JOURNAL).write_text(first + "\n")
            result, again = run(command)
            assert result.exit_code == 0 and "will be replaced" not in result.output
            for one, two in zip(whole, again, strict=True):
                for call in (*one["tool_calls"], *two["tool_calls"]):
                    call.pop("elapsed_ms")
                assert one == two
            assert (out / "summary.json").exists()
    assert "\nthe earlier run in" in run("rollout")[0].stdout
