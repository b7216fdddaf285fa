"""The gate report from the first episode to the page: known gates get known figures, blind ones are exposed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from helpers import actfer, one_line

from actfer_env import facs
from actfer_env.data import Sample, load_dataset
from actfer_env.data.registry import Dataset
from actfer_env.episode import Episode, EpisodeConfig
from actfer_env.errors import AgentError, DataError, SettingsError
from actfer_env.evaluation import read_run
from actfer_env.evaluation.gate import statistics
from actfer_env.evaluation.gate.evidence import SwappedTools, blurred
from actfer_env.evaluation.gate.figures import gate_figures, over_seeds
from actfer_env.evaluation.gate.outcomes import joined, read_plays, write_plays
from actfer_env.evaluation.gate.page import gate_tables, markdown, sentence, write_gate
from actfer_env.evaluation.gate.play import WAYS, play_gate
from actfer_env.evaluation.play import RolloutConfig, play
from actfer_env.tools import FaceTools, ZoomConfig

N = 12
KEYS = {
    "regret",
    "qini",
    "calibration",
    "evidence",
    "where",
    "zoom_ratio",
    "reference_gates",
    "gain_and_harm",
    "stability",
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Values do not depend on the bootstrap's draws."""
    monkeypatch.setattr(statistics, "DRAWS", 30)


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return load_dataset("synthetic", split="test", n=N)


@cache
def played(faces, *names, swaps=False, env_id="ActFER-MultiDiscrete-v0"):
    specs = tuple(f"gate_agents:{name}" for name in names)
    return play_gate(faces, RolloutConfig(env_id=env_id, agents=specs), swaps=swaps)[0]


@pytest.mark.parametrize("env_id", ["ActFER-MultiDiscrete-v0", "ActFER-Discrete-v0", "ActFER-v0"])
def test_a_gate_that_is_always_right_has_no_regret_in_any_action_format(faces, env_id):
    figures = gate_figures(played(faces, "Knows", env_id=env_id))
    helped = figures["zoom_ratio"]
    assert 0.2 < helped < 0.8 and set(figures) >= KEYS
    assert figures["values"]["oracle"]["value"] == figures["values"]["free"]["value"] == 1
    assert figures["values"]["always"]["value"] == pytest.approx(helped)
    assert figures["regret"]["0"]["value"] == 0 and figures["regret"]["0"]["gates"]["oracle"] == 0
    assert min(figures["regret"]["0"]["gates"][gate] for gate in ("never", "always", "random", "focus")) >= 0
    assert figures["qini"]["value"] == pytest.approx(1) and figures["qini"]["ordered_by"].startswith("the policy's own")
    assert figures["calibration"]["rank_correlation"]["value"] == pytest.approx(1)
    harm = figures["gain_and_harm"]
    assert harm["call_gain"]["value"] == pytest.approx(helped) and harm["call_harm"]["value"] == 0
    assert not figures["stability"]["collapsed"] and figures["evidence"] is None


def test_gates_that_are_wrong_or_do_not_choose_are_exposed(faces):
    wrong, always = (gate_figures(played(faces, name)) for name in ("ZoomsWrongly", "AlwaysZooms"))
    assert wrong["regret"]["0"]["value"] > 1 and wrong["qini"]["value"] == pytest.approx(-1)
    assert always["zoom_ratio"] == 1 and always["stability"]["collapsed"] == 1
    assert always["regret"]["0"]["value"] == always["regret"]["0"]["gates"]["always"]
    assert always["qini"]["value"] == pytest.approx(0)
    # What a zoom costs it pays each time.
    less = always["values"]["free"]["value"] - always["reference_gates"]["0.2"]["always"]["value"]
    assert less == pytest.approx(0.2)
    assert "collapsed" in markdown(always)


def test_a_policy_that_ignores_its_crops_is_exposed_and_one_that_reads_them_is_not(faces):
    blind, reads = (gate_figures(played(faces, name, swaps=True))["evidence"] for name in ("Blind", "ReadsCrops"))
    assert blind["looks"] is False and reads["looks"] is True
    for swap in ("blurred", "person", "region"):
        assert blind[swap]["moved"]["value"] == blind[swap]["fall"]["value"] == 0
        assert reads[swap]["moved"]["value"] > 0.5
    assert "it does not look at them" in markdown(gate_figures(played(faces, "Blind", swaps=True)))


def test_a_policy_that_reads_no_mask_is_forced_and_its_free_episodes_are_left_alone(faces):
    plays = played(faces, "Defies")
    table = plays.table()
    assert table.zoomed("always")[table.face].all() and not table.zoomed("never").any()
    assert set(table.answers("never").ravel()) == {"surprise"}
    assert set(table.answers("free")[table.face].ravel()) == {""}  # it never answers of its own accord
    for name in facs.REGIONS:
        assert set(table.looks(f"only {name}")) == {(name,)}
    with pytest.raises(AgentError, match="tool_scores"):
        played(faces, "Defies", env_id="ActFER-Discrete-v0")


def test_seeds_have_an_interval_of_their_own_and_collapses_are_counted(faces, tmp_path):
    plays = played(faces, "Knows", "AlwaysZooms", "ZoomsWrongly")
    figures = gate_figures(plays)
    assert "Student" in figures["intervals"] and len(figures["seeds"]) == 3
    assert figures["stability"]["collapsed"] == 1
    regrets = [one["regret"]["0"]["value"] for one in figures["seeds"]]
    mean, half = np.mean(regrets), 4.302653 * np.std(regrets, ddof=1) / 3**0.5  # t of two degrees of freedom
    assert figures["regret"]["0"]["value"] == pytest.approx(mean)
    assert figures["regret"]["0"]["high"] == pytest.approx(mean + half)
    # The same from three runs of their own, by way of files.
    for number, name in enumerate(("Knows", "AlwaysZooms", "ZoomsWrongly")):
        write_plays(tmp_path / str(number), played(faces, name))
    again = joined([read_plays(tmp_path / str(number)) for number in range(3)])
    assert json.loads(json.dumps(gate_figures(again)))["seeds"] == json.loads(json.dumps(figures["seeds"]))
    other = replace(again, samples=(replace(again.samples[0], emotion="fear"), *again.samples[1:]))
    with pytest.raises(DataError, match="not the same"):
        joined([again, other])


def test_repeats_are_kept_apart_and_every_pass_is_played(faces):
    plays = play_gate(faces, RolloutConfig(agents=("random",), number=4), repeats=2)[0]
    assert len(plays.outcomes) == 4 * 2 * (len(WAYS) + 3) and not plays.looks
    again = play_gate(faces, RolloutConfig(agents=("random",), number=4), repeats=2)[0]
    assert plays.outcomes == again.outcomes
    figures = gate_figures(plays)
    assert figures["repeats"] == 2 and figures["evidence"]["moved_anyhow"] is not None


def test_swapped_crops_keep_their_box_and_show_something_else(faces):
    base = FaceTools(zoom=ZoomConfig(size=48, stretch=True))
    sample = next(one for one in faces if base.alignment(one) is not None)
    alignment = base.alignment(sample)
    box = alignment.regions["mouth-chin"]
    real = base.crop(sample, alignment, box, "mouth-chin")
    shown = {swap: SwappedTools(base, faces, swap).crop(sample, alignment, box, "mouth-chin")
             for swap in ("blurred", "person", "region")}  # fmt: skip
    for crop in shown.values():
        assert (crop.box, crop.region, crop.image.shape) == (real.box, real.region, real.image.shape)
        assert not np.array_equal(crop.image, real.image)
    assert abs(shown["blurred"].image.mean() - real.image.mean()) < 2  # the same field of view
    assert np.array_equal(shown["blurred"].image, blurred(real.image))
    others = [base.crop(sample, alignment, alignment.regions[name], name).image for name in facs.REGIONS[:3]]
    assert any(np.array_equal(shown["region"].image, other) for other in others)
    again = SwappedTools(base, faces, "person").crop(sample, alignment, box, "mouth-chin")
    assert np.array_equal(again.image, shown["person"].image)


def test_an_episode_hides_or_forces_the_zoom(faces):
    tools = FaceTools()
    sample = next(one for one in faces if tools.alignment(one) is not None)

    def begun(zoom, **settings):
        episode = Episode(sample, tools, EpisodeConfig(zoom=zoom, **settings))
        episode.detect_align()
        return episode

    never = begun("never")
    assert never.legal_tools() == ("answer",) and never.legal_regions() == ()
    assert never.zoom_in(["nose"]).violation == "unknown_tool" and never.answer("fear").done
    always = begun("always")
    assert always.legal_tools() == ("zoom_in",)
    assert always.answer("fear").violation == "illegal_order"
    assert always.zoom_in(["nose"]).legal and "answer" in always.legal_tools() and always.answer("fear").done
    last = begun("always", max_turns=2)  # no turn is left for a look: the answer is not refused
    assert last.answer("fear").done and last.predicted_emotion == "fear"
    early = Episode(sample, tools, EpisodeConfig(zoom="always"))
    assert early.answer("fear").violation == "illegal_order"
    with pytest.raises(SettingsError, match="max_zooms"):
        EpisodeConfig(zoom="always", max_zooms=0)
    with pytest.raises(SettingsError, match="never"):
        EpisodeConfig(zoom="sometimes")


@pytest.mark.parametrize(("zoom", "ratio"), [("never", 0.0), ("always", 1.0)])
def test_rollouts_are_forced_too_and_their_record_says_so(faces, zoom, ratio):
    run = play(faces, RolloutConfig(agents=("random",), zoom=zoom, seed=3, number=6))
    found = [one.zoomed for one in run.rollouts if one.detection == "ok"]
    assert np.mean(found) == ratio and run.settings["zoom"] == zoom
    assert "zoom" not in play(faces, RolloutConfig(agents=("full",), number=1)).settings


def test_one_command_plays_and_another_makes_the_report_again(tmp_path):
    out, again = tmp_path / "run", tmp_path / "again"
    done = actfer("eval", "synthetic", "-n", "4", "--agent", "full:truth", "--gate", "--no-swaps", "--out", out)
    assert done.returncode == 0, done.stderr
    figures = json.loads((out / "gate.json").read_text())
    assert set(figures) >= KEYS and figures["n"] == 4 and not figures["looks"]
    assert "A script played" in done.stdout and "gate.html" in done.stdout
    assert len(read_run(out).rollouts) == 4 and (out / "report.html").exists()
    assert {path.name for path in out.glob("gate-*.png")} == {
        f"gate-{name}.png" for name in ("regret", "uplift", "reliability")
    }
    page = (out / "gate.html").read_text()
    assert page.count("data:image/png") == 3 and "<script" not in page and 'href="report.html"' in page
    report = (out / "report.html").read_text()
    assert 'href="gate.html"' in report and "A script played: no policy looked" in report
    before = (out / "gate.json").read_bytes()
    (out / "gate.json").unlink()
    assert actfer("gate", out).returncode == 0 and (out / "gate.json").read_bytes() == before
    twin = tmp_path / "twin"
    shutil.copytree(out, twin)
    assert actfer("gate", out, twin, "--quality", "task", "--out", again).returncode == 0
    for places, words in (((out, out), "named twice"), ((out, twin, "--out", out), "holds a run of its own")):
        done = actfer("gate", *places, *(() if "--out" in places else ("--out", tmp_path / "new")))
        assert done.returncode == 1 and words in done.stderr, done.stderr
    assert json.loads((again / "gate.json").read_text())["stability"]["seeds"] == 2
    assert "report.html" not in (again / "gate.html").read_text()  # several runs have no report of their own
    other, page = tmp_path / "other", (again / "gate.html").read_bytes()
    assert actfer("rollout", "synthetic", "-n", "1", "--out", other).returncode == 0
    for place, words in ((other, "holds a run of its own"), (again, "agents is ['full:truth'] (the report in")):
        done = actfer("gate", out, "--out", place)
        assert done.returncode == 1 and words in done.stderr and "choose another folder" in done.stderr, done.stderr
    assert (again / "gate.html").read_bytes() == page and not (other / "gate.json").exists()


def test_what_cannot_be_is_refused_in_one_line(tmp_path):
    for words, arguments in (
        ("holds no passes", ["gate", tmp_path]),
        ("need a folder", ["gate", tmp_path, tmp_path]),
        (
            "leave out --zoom",
            ["eval", "synthetic", "--agent", "full", "--gate", "--zoom", "never", "--out", tmp_path / "x"],
        ),
        (
            "use one of free, never, always",
            ["rollout", "synthetic", "-n", "1", "--zoom", "maybe", "--out", tmp_path / "x"],
        ),
        (
            "unknown quality",
            ["eval", "synthetic", "--agent", "full", "--gate", "--quality", "f1", "--out", tmp_path / "x"],
        ),
    ):
        done = actfer(*arguments)
        assert done.returncode == 1 and one_line(done.stderr) and words in done.stderr, done.stderr
    assert not (tmp_path / "x").exists()


def test_unlabelled_and_broken_samples_are_left_out(faces, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    mixed = Dataset("mixed", [faces[0], Sample("bad", bad, "fear"), faces[1], replace(faces[2], emotion=None)])
    plays, free = play_gate(mixed, RolloutConfig(agents=("full:neutral",)), swaps=False)
    assert [one["sample_id"] for one in plays.failures] == ["bad"] and len(free) == 3
    assert gate_figures(plays)["n"] == 2
    nobody = Dataset("nobody", [replace(faces[2], emotion=None)])
    with pytest.raises(DataError, match="no sample with an emotion"):
        gate_figures(play_gate(nobody, RolloutConfig(agents=("full",)), swaps=False)[0])


def test_tables_and_page_say_what_is_missing(faces, tmp_path):
    plays = played(faces, "Knows")
    figures, page = write_gate(tmp_path, plays)
    titles = [title for title, *_ in gate_tables(figures)]
    assert "Evidence" not in titles and "Seeds" not in titles and page is not None
    text = (tmp_path / "gate.md").read_text()
    assert text.startswith("# Gate report") and "bootstrap" in text and "None" not in text and "nan" not in text


def test_seeds_are_joined_alike_in_every_order():
    one = {"zoom_ratio": None, "regret": {"0": {"value": None, "gates": {"never": None}}}}
    two = {
        "zoom_ratio": 0.4,
        "regret": {"0": {"value": 0.5, "low": 0.4, "high": 0.6, "gates": {"never": 0.4, "size": 1.0}}},
    }
    first, second = over_seeds([one, two]), over_seeds([two, one])
    assert (
        first == second and first["zoom_ratio"] == 0.4 and first["regret"]["0"]["gates"] == {"never": 0.4, "size": 1.0}
    )
    assert over_seeds([one, one])["zoom_ratio"] is None


def test_a_policy_that_gives_no_answer_where_it_is_forced_is_told(faces):
    plays, _ = play_gate(faces, RolloutConfig(agents=("full:truth",), number=4), swaps=False)
    outcomes = tuple(replace(one, emotion=None) if one.way == "always" else one for one in plays.outcomes)
    figures = gate_figures(replace(plays, outcomes=outcomes))
    assert figures["unanswered"] == {"free": 0.0, "never": 0.0, "always": 1.0}
    assert any("without an answer (100.0% in the pass always)" in line for line in sentence(figures))
    assert not any("without an answer" in line for line in sentence(gate_figures(plays)))
