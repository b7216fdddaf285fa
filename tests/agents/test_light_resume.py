"""A training run that was stopped goes on under the same settings only, and caches hold nothing of other ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'actfer-env[torch]'")

from actfer_env.agents.light import session  # noqa: E402
from actfer_env.agents.light import trainer as trainer_module  # noqa: E402
from actfer_env.agents.light.policy import LightPolicy, PolicyConfig  # noqa: E402
from actfer_env.agents.light.trainer import Trainer, TrainerConfig  # noqa: E402
from actfer_env.data import Sample, load_dataset, register_dataset  # noqa: E402
from actfer_env.data.views import ViewConfig, ViewTools, views_name  # noqa: E402
from actfer_env.errors import DataError  # noqa: E402
from actfer_env.rewards import UCGRPOConfig  # noqa: E402
from actfer_env.tools.detectors import simulated  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = replace(
    session.PRESETS["smoke"], train=24, val=16, test=0, policy=PolicyConfig(channels=4, picture=8, region=4, hidden=16),
    trainer=TrainerConfig(steps=3, groups=4, group_size=4, save_every=1),
)  # fmt: skip
HALF = replace(BASE, trainer=replace(BASE.trainer, steps=1))


def quiet(text: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that was stopped after its first step, and its cache."""
    folder = tmp_path_factory.mktemp("light")
    session.run(HALF, folder / "run", folder / "cache", quiet, 1)
    (folder / "run" / session.RESULT).rename(folder / "result.json")
    return folder / "run", folder / "cache"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_zooms": 1}, r"^max_zooms is 1 \(the run in .* has 4\)"),
        ({"max_zooms": 2, "seed": 3}, r"^max_zooms is 2 \(.* has 4\), seed is 3 \(there 0\): choose another"),
        ({"train": 20}, "train is 20"),
        ({"val": 12}, "val is 12"),
        ({"dataset": "synthetic"}, "dataset is synthetic"),
        ({"threads": 2}, "threads is 2"),
        ({"views": ViewConfig(crop_size=32)}, "views.crop_size is 32"),
        ({"views": ViewConfig(detector="mtcnn")}, "views.detector is mtcnn"),
        ({"variant": "no_ema"}, "variant is no_ema"),
        ({"zoom_cost": 0.1}, "zoom_cost is 0.1"),
        ({"outcome_gate": True}, "outcome_gate is True"),
        ({"reward": (("ema_gain", 8.0),)}, "reward is"),
        ({"policy": replace(BASE.policy, dropout=0.5)}, "policy.dropout is 0.5"),
        ({"warm": replace(BASE.warm, rate=1e-3)}, "warm.rate is 0.001"),
        ({"trainer": replace(BASE.trainer, rate=1e-3)}, "trainer.rate is 0.001"),
        ({"trainer": replace(BASE.trainer, anneal=True)}, "trainer.anneal is True"),
    ],
)
def test_a_run_that_was_begun_with_other_options_is_not_gone_on_with(
    begun: tuple[Path, Path], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        session.run(replace(BASE, **changes), begun[0], tmp_path / "cache", quiet, 1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists(), "it is refused before any work"


def test_the_same_run_goes_on_to_the_same_weights(begun: tuple[Path, Path], tmp_path: Path) -> None:
    lines: list[str] = []
    later = replace(BASE, trainer=replace(BASE.trainer, save_every=2))
    torn = session.run(later, begun[0], begun[1], lines.append, 1)
    (begun[0] / session.RESULT).unlink()
    assert "going on from step 1" in lines
    assert session.run(BASE, tmp_path / "whole", begun[1], quiet, 1)["weights"] == torn["weights"]


def test_a_finished_run_tells_what_differs_too(begun: tuple[Path, Path], tmp_path: Path) -> None:
    kept = begun[0].parent / "result.json"
    (tmp_path / session.RESULT).write_bytes(kept.read_bytes())
    assert session.run(HALF, tmp_path, begun[1], quiet, 1)["weights"] == json.loads(kept.read_text())["weights"]
    with pytest.raises(DataError, match=r"max_zooms is 2 \(the run in .* has 4\), trainer.steps is 3 \(there 1\)"):
        session.run(replace(BASE, max_zooms=2), tmp_path, begun[1], quiet, 1)
    older = json.loads(kept.read_text())
    del older["facts"]
    (tmp_path / session.RESULT).write_text(json.dumps(older))
    assert session.run(HALF, tmp_path, begun[1], quiet, 1)["weights"] == older["weights"]
    with pytest.raises(DataError, match="max_zooms is 2"):
        session.run(replace(HALF, max_zooms=2), tmp_path, begun[1], quiet, 1)


@pytest.mark.parametrize("name", ["actfer_env", "generator", "torch"])
def test_another_version_does_not_go_on(begun: tuple[Path, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer_module.versions()
    one = session.split_data("train", BASE.train, BASE, begun[1], quiet, 1)
    venv = one.groups(BASE.trainer.groups, BASE.trainer.group_size, UCGRPOConfig())
    policy = LightPolicy(BASE.policy)
    facts = {"session": json.loads(torch.load(begun[0] / "checkpoint.pt")["facts"])["session"]}
    assert Trainer(policy, venv, BASE.trainer, 0, begun[0], facts=facts).resume()
    monkeypatch.setattr(trainer_module, "versions", lambda: {**made, name: "other"})
    with pytest.raises(DataError, match=f"versions.{name} is other"):
        Trainer(policy, venv, BASE.trainer, 0, begun[0], facts=facts).resume()


def test_a_trainer_of_its_own_compares_budgets_sizes_and_data(tmp_path: Path, begun: tuple[Path, Path]) -> None:
    def trainer(n: int = BASE.train, **changes: Any) -> Trainer:
        one = session.split_data("train", n, BASE, begun[1], quiet, 1)
        venv = one.groups(4, 4, UCGRPOConfig(), **changes)
        return Trainer(LightPolicy(BASE.policy), venv, BASE.trainer, 0, tmp_path)

    first = trainer()
    first.step()
    first.save()
    assert trainer().resume()
    with pytest.raises(DataError, match=r"max_turns is 4 \(the run in .* has 6\)"):
        trainer(max_turns=4).resume()
    with pytest.raises(DataError, match="au_set is"):
        trainer(au_set=(6, 12)).resume()
    with pytest.raises(DataError, match=r"data\.n is 16"):
        trainer(16).resume()


def test_prepared_pictures_are_named_by_all_that_changes_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def name(preset: str = "easy", **sizes: Any) -> str:
        return views_name(load_dataset("synthetic", split="train", n=4, preset=preset), ViewConfig(**sizes))

    names = {name(), name("hard"), name(crop_size=32), name(detector="simulated")}
    config = simulated.SimulatedConfig
    monkeypatch.setattr(simulated, "SimulatedConfig", lambda: config(min_eyes=50.0))
    names.add(name())
    assert len(names) == 5
    monkeypatch.undo()
    moved = load_dataset("synthetic", split="train", n=4, preset="easy", cache=str(tmp_path))
    assert views_name(moved, ViewConfig()) == name(), "where drawn pictures are kept changes nothing"


def test_a_data_set_whose_labels_were_mended_has_other_views(tmp_path: Path) -> None:
    def load(label: str, shade: int = 5) -> Any:
        picture = np.full((64, 64, 3), shade, np.uint8)
        register_dataset("small", lambda root: [Sample("a", picture, label, frozenset({6}))], replace=True)
        return views_name(load_dataset("small"), ViewConfig())

    assert len({load("fear"), load("anger"), load("fear", 6)}) == 3 and load("fear") == load("fear")


def test_views_travel_with_their_sizes() -> None:
    import pickle

    data = load_dataset("synthetic", split="train", n=1)
    tools: Any = ViewTools(data, None, ViewConfig(crop_size=64))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(tools)).zoom.size == 64


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: TrainerConfig(groups=0),
            "groups must be .* at least 1, got 0: change it in TrainerConfig",
        ),
        (lambda: TrainerConfig(save_every=0), "save_every must be a whole number of at least 1, got 0"),
        (lambda: TrainerConfig(rate=-1.0), "rate must be a number of at least 0, got -1.0"),
        (lambda: TrainerConfig(kl=float("nan")), "kl must be a number of at least 0, got nan"),
        (lambda: replace(BASE, train=0), "train must be .*, got 0: change it in SessionConfig"),
        (lambda: replace(BASE, max_zooms=5), r"max_zooms must be a whole number in \[0, 4\], got 5"),
        (lambda: replace(BASE, zoom_cost=0.1, reward=(("zoom_cost", 0.2),)), "zoom_cost is given twice, as 0.1 and as"),
    ],
)
def test_numbers_beyond_their_bounds_are_refused(build: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build()
