"""Training on a data set of one's own: its splits, what is uneven or missing, and what a run is of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from actfer_env import facs

torch = pytest.importorskip("torch", reason="needs torch: pip install 'actfer-env[torch]'")

from actfer_env.agents.light.agent import LightAgent  # noqa: E402
from actfer_env.agents.light.policy import PolicyConfig  # noqa: E402
from actfer_env.agents.light.samples import apart, class_weights, repeats, training_data  # noqa: E402
from actfer_env.agents.light.session import (  # noqa: E402
    PRESETS,
    SessionConfig,
    policy_record,
    run,
    session_facts,
    split_data,
)
from actfer_env.agents.light.trainer import TrainerConfig  # noqa: E402
from actfer_env.agents.light.warmstart import WarmStartConfig  # noqa: E402
from actfer_env.cli import app  # noqa: E402
from actfer_env.cli.train import data_of  # noqa: E402
from actfer_env.data import load_dataset, prepare_dataset  # noqa: E402
from actfer_env.data.views import ViewConfig  # noqa: E402
from actfer_env.errors import DataError, SettingsError  # noqa: E402
from actfer_env.evaluation.play import config_for, play  # noqa: E402

SMALL = replace(
    PRESETS["smoke"], train=200, val=60, test=0, dataset="jsonl",
    policy=PolicyConfig(channels=4, picture=8, region=4, hidden=16), warm=WarmStartConfig(epochs=1, retries=0),
    trainer=TrainerConfig(steps=2, groups=4, group_size=3, save_every=1),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def manifest(folder: Path, emotions: str = "happiness " * 6 + "anger neutral", count: int = 64, **changes: Any) -> str:
    """Aligned faces of eight people in turn, most of them happy, as a .jsonl file; a change may be a function of i."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    names, lines = emotions.split(), []
    for i in range(count):
        coarse = np.random.default_rng(i).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((48, 48)).save(folder / f"{i}.png")
        line = {"id": f"f{i}", "image": f"{i}.png", "labels": names[i % len(names)], "prealigned": True,
                "meta_info": {"subject": f"p{i // 8}"}}  # fmt: skip
        made = {key: value(i) if callable(value) else value for key, value in changes.items()}
        lines.append({key: value for key, value in {**line, **made}.items() if value is not None})
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "list.jsonl")


def people(config: SessionConfig) -> dict[str, set[str | None]]:
    return {name: {sample.subject for sample in part} for name, part in training_data(config).parts.items()}


def test_people_are_apart_in_every_part(tmp_path: Path) -> None:
    config = replace(SMALL, root=manifest(tmp_path, count=160))
    seen = people(config)
    assert set(seen) == {"train", "rl", "val", "test"} and None not in set().union(*seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())) == 20
    assert people(replace(config, split_seed=1)) != seen == people(config)
    data = training_data(config)
    assert data.held == "test" and "by person (seed 0)" in data.facts["splitting"]


def test_samples_are_apart_where_people_are_unknown(tmp_path: Path) -> None:
    config = replace(SMALL, root=manifest(tmp_path, meta_info=None))
    parts = training_data(config).parts
    ids = [sample.id for part in parts.values() for sample in part]
    assert len(ids) == len(set(ids)) == 64
    with pytest.raises(DataError, match="does not say who all of its pictures show: use --split share"):
        training_data(replace(config, split="subject"))


def test_own_splits_are_taken_and_a_missing_val_comes_from_train(tmp_path: Path) -> None:
    root = manifest(tmp_path, split=lambda i: "test" if i >= 48 else "train")
    data = training_data(replace(SMALL, root=root))
    assert {sample.id for sample in data.parts["test"]} == {f"f{i}" for i in range(48, 64)}
    assert "val taken from train by person" in data.facts["splitting"]
    only = manifest(tmp_path / "one", split="train")
    with pytest.raises(DataError, match=r"has train, which is not enough .*--split subject"):
        training_data(replace(SMALL, root=only, split="own"))


def test_warm_start_and_uc_grpo_share_samples_only_if_asked(tmp_path: Path) -> None:
    config = replace(SMALL, root=manifest(tmp_path))
    data = training_data(replace(config, rl_share=0.0))
    assert [one.id for one in data.parts["train"]] == [one.id for one in data.parts["rl"]]
    drawn = replace(PRESETS["smoke"], train=40, val=10, test=0)
    parts = training_data(drawn).parts
    assert parts["rl"] is parts["train"]
    seen = people(replace(drawn, rl_share=0.5))
    assert seen["rl"] and seen["train"] and not seen["rl"] & seen["train"]


def test_shares_keep_keys_together() -> None:
    keys = [f"k{i // 5}" for i in range(100)]
    chosen = apart(keys, 0.3, 0)
    assert abs(chosen.sum() - 30) <= 5 and all(len(set(chosen[i : i + 5])) == 1 for i in range(0, 100, 5))
    assert not apart(keys, 0.0, 0).any() and apart(keys, 1.0, 0).all()


def test_balanced_drawing_repeats_rare_emotions_up_to_ten_times() -> None:
    emotion = np.array([1] * 40 + [6] * 8 + [0] * 2)
    whole = np.concatenate([emotion, emotion[repeats(emotion)]])
    assert np.bincount(whole, minlength=7).tolist() == [20, 40, 0, 0, 0, 0, 40]


def test_what_is_missing_is_told_in_lines(tmp_path: Path) -> None:
    notes = training_data(replace(SMALL, root=manifest(tmp_path / "a"))).notes
    assert any("the data set has no sadness and no surprise and no fear" in note for note in notes)
    assert any("emotions are drawn equally often" in note for note in notes)
    lost = manifest(tmp_path / "b", labels=lambda i: "anger" if i == 0 else "happiness")
    lacking = training_data(replace(SMALL, root=lost)).notes
    assert any(note.startswith("no anger among the samples of") for note in lacking)
    none = manifest(tmp_path / "c", labels=None, AUs=["AU12"])
    with pytest.raises(DataError, match="has no emotions: training needs"):
        training_data(replace(SMALL, root=none))
    some = manifest(tmp_path / "d", labels=lambda i: None if i % 2 else "anger", AUs=["AU4"])
    assert "32 samples without an emotion are left out" in training_data(replace(SMALL, root=some)).notes
    with pytest.raises(DataError, match="none is left for"):
        training_data(replace(SMALL, root=manifest(tmp_path / "e", count=2)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SessionConfig, Path, list[str]]:
    """A run on faces without Action Units."""
    folder, said = tmp_path_factory.mktemp("trained"), list[str]()
    config = replace(SMALL, root=manifest(folder / "data"))
    run(config, folder / "run", folder / "cache", said.append, workers=1)
    return config, folder, said


def test_a_data_set_without_action_units_trains_and_says_so_once(
    trained: tuple[SessionConfig, Path, list[str]]
) -> None:  # fmt: skip
    _, folder, said = trained
    assert sum("no Action Units are annotated" in line for line in said) == 1
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["data"]["balanced"] and result["data"]["good"] == "focus" and result["figures"]["au_f1"] is None
    assert result["data"]["samples"]["rl"] > 0 and "by person" in result["data"]["splitting"]
    agent = LightAgent.load(folder / "run")
    assert not agent.policy.aus.weight.any() and (agent.policy.aus.bias == -30).all()
    rows = (folder / "run" / "log.csv").read_text().splitlines()
    assert len(rows) == 3 and "nan" not in rows[-1]


def test_aligned_faces_count_as_found_and_results_are_json_without_nan(
    trained: tuple[SessionConfig, Path, list[str]]
) -> None:  # fmt: skip
    _, folder, _ = trained

    def no_constant(text: str) -> None:
        raise AssertionError(text)

    result = json.loads((folder / "run" / "result.json").read_text(), parse_constant=no_constant)
    assert 0 <= result["figures"]["zoom"] <= 1 and result["figures"]["zoom_fear"] is None  # there is no such face


def test_an_ablation_without_action_units_is_written_and_a_variant_runs_once(
    trained: tuple[SessionConfig, Path, list[str]]
) -> None:  # fmt: skip
    config, folder, _ = trained
    words = ["ablate", "--preset", "smoke", "--dataset", "jsonl", "--root", str(config.root), "--seeds", "1",
             "--variants", "full,au_grounded,full,emotion_only", "--workers", "1", "--out", str(folder / "table"),
             "--cache", str(folder / "cache2")]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    text = (folder / "table" / "ablation.md").read_text()
    assert done.output.count("finished full, seed 0") == 1 and "nan" not in text and "| – |" in text


@pytest.mark.parametrize("cost", [{"zoom_cost": 0.1}, {"reward": (("zoom_cost", 0.1),)}])
def test_a_cost_of_zooming_is_the_same_run_by_either_door(cost: dict[str, Any]) -> None:
    config = replace(SMALL, **cost)
    assert (config.zoom_cost, config.reward, config.rewards().zoom_cost) == (0.1, (), 0.1)
    again = replace(config, reward=(*config.reward, ("ema_gain", 16.0)))
    assert again.rewards().zoom_cost == 0.1 and again.rewards().ema_gain == 16.0
    card = policy_record(again, {"figures": {}, "weights": "", "generator": 2, "split": "test"}).training
    assert (card["zoom_cost"], card["constants"]) == (0.1, {"ema_gain": 16.0})


def test_the_same_run_is_found_and_another_data_set_is_refused(
    trained: tuple[SessionConfig, Path, list[str]]
) -> None:  # fmt: skip
    config, folder, _ = trained
    before = json.loads((folder / "run" / "result.json").read_text())
    assert run(config, folder / "run", folder / "cache", lambda text: None, workers=1) == before
    for changed in (replace(config, split_seed=3), replace(config, balance="none"), replace(config, rl_share=0.2)):
        with pytest.raises(DataError, match="choose another folder"):
            run(changed, folder / "run", folder / "cache", lambda text: None, workers=1)
    source = folder / "data" / "list.jsonl"
    text = source.read_text()
    try:
        source.write_text(text.replace('"labels": "anger"', '"labels": "sadness"'))
        with pytest.raises(DataError, match="choose another folder"):
            run(config, folder / "run", folder / "cache", lambda text: None, workers=1)
    finally:
        source.write_text(text)


def test_a_run_on_a_prepared_folder_has_the_same_weights(
    trained: tuple[SessionConfig, Path, list[str]], tmp_path: Path
) -> None:
    config, folder, _ = trained
    prepare_dataset(load_dataset("jsonl", config.root), tmp_path / "kept", ViewConfig(), workers=1)
    kept = replace(config, dataset=f"prepared:{tmp_path / 'kept'}", root=None)
    result = run(kept, tmp_path / "run", tmp_path / "cache", lambda text: None, workers=1)
    assert result["weights"] == json.loads((folder / "run" / "result.json").read_text())["weights"]
    assert not list((tmp_path / "cache").glob("views-*"))  # no second copy of the pictures
    with pytest.raises(DataError, match=r"crop_size is 32 .*48"):
        split_data("train", 0, replace(kept, views=ViewConfig(crop_size=32)), tmp_path / "cache")


def test_the_command_takes_the_sizes_of_a_prepared_folder_or_says_why_not(tmp_path: Path) -> None:
    source = load_dataset("jsonl", manifest(tmp_path / "data"))
    kept = f"prepared:{tmp_path / 'kept'}"
    prepare_dataset(source, tmp_path / "kept", ViewConfig(64, 48, 32), workers=1)

    def chosen(name: str, root: Path | None = None, sizes: str | None = None) -> SessionConfig:
        return data_of(SMALL, name, root, "auto", None, "auto", 0, "auto", None, sizes)

    config = chosen(kept)
    assert config.views.sides == chosen("prepared", tmp_path / "kept").views.sides == (64, 48, 32)
    run(config, tmp_path / "run", tmp_path / "cache", lambda text: None, workers=1)
    agent = LightAgent.load(tmp_path / "run")
    assert [agent.env_arguments[name] for name in ("image_size", "face_size", "crop_size")] == [64, 48, 32]
    assert len(play(load_dataset(kept), config_for((f"light:{tmp_path / 'run'}",), number=2)).rollouts) == 2

    # Sizes that are asked for and differ, and sizes that no light policy can take, are one line each.
    ready = ["--out", str(tmp_path / "other"), "--cache", str(tmp_path / "cache")]
    told = CliRunner().invoke(app, ["train", "--preset", "smoke", "--dataset", kept, "--sizes", "96,64,48", *ready])
    assert told.exit_code and "crop_size is 48" in str(told.exception or told.output)
    prepare_dataset(source, tmp_path / "odd", ViewConfig(64, 44, 32), workers=1)
    with pytest.raises(DataError, match=r"face_size must be a multiple of 8 .*prepare the pictures of .*odd at other"):
        chosen(f"prepared:{tmp_path / 'odd'}")


def test_class_weights_and_other_picture_sizes_are_stated_and_play(tmp_path: Path) -> None:
    emotion = np.array([0] * 40 + [1] * 10 + [2] * 2 + [-1] * 3)
    assert class_weights(emotion).tolist() == [1, 4, 10, 10, 10, 10, 10, 10]  # at most ten times the commonest
    root = manifest(tmp_path / "data")
    config = replace(SMALL, root=root, balance="weights", views=ViewConfig(64, 48, 32))
    said = list[str]()
    result = run(config, tmp_path / "run", tmp_path / "cache", said.append, workers=1)
    assert any("each weighs by the inverse of its number" in line for line in said)
    assert not result["data"]["balanced"] and set(result["data"]["weights"]) == set(facs.EMOTIONS)
    plain = run(replace(config, balance="none"), tmp_path / "plain", tmp_path / "cache", said.append, workers=1)
    assert "weights" not in plain["data"] and plain["weights"] != result["weights"]
    agent = LightAgent.load(tmp_path / "run")
    assert [agent.env_arguments[name] for name in ("image_size", "face_size", "crop_size")] == [64, 48, 32]
    assert len(play(load_dataset("jsonl", root), config_for((f"light:{tmp_path / 'run'}",), number=2)).rollouts) == 2


def test_sides_that_the_policy_cannot_halve_are_refused() -> None:
    for name, sides in (("image_size", (90, 64, 48)), ("face_size", (96, 60, 48)), ("crop_size", (96, 64, 20))):
        with pytest.raises(SettingsError, match=f"{name} must be a multiple of .* and at least"):
            replace(SMALL, views=ViewConfig(*sides))


def test_facts_of_drawn_faces_are_those_of_older_runs() -> None:
    facts = session_facts(replace(PRESETS["smoke"], train=4, val=2, test=2))
    assert set(facts["data"]) == {"train", "val", "test"}
    assert not {"root", "data_preset", "split", "split_seed", "balance", "rl_share"} & set(facts)


def test_unknown_choices_are_refused() -> None:
    for field, value in (("split", "person"), ("balance", "weight")):
        with pytest.raises(DataError, match=f"{field}='{value}' is unknown: use one of"):
            replace(SMALL, **{field: value})
    with pytest.raises(DataError, match="has splits of its own"):
        training_data(replace(PRESETS["smoke"], split="subject"))
