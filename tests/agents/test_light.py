"""The light policy and its trainer: exact on hand-made numbers, the same pictures as the tools', exact resume."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'actfer-env[torch]'")

from actfer_env import facs, make_group_vec  # noqa: E402
from actfer_env.agents.light.ablate import ablate, to_markdown, write_tables  # noqa: E402
from actfer_env.agents.light.claims import CLAIMS, Interval, claims_table, paired, verdict  # noqa: E402
from actfer_env.agents.light.evaluate import ZOOM_MODES, _regions, hold_out, zoomed_regions  # noqa: E402
from actfer_env.agents.light.policy import (  # noqa: E402
    ANSWER,
    AUS,
    DETECT,
    Decisions,
    LightPolicy,
    Memory,
    Outputs,
    PolicyConfig,
    detail,
    divergence,
    entropy,
    log_prob,
)  # fmt: skip
from actfer_env.agents.light.rollouts import play_groups  # noqa: E402
from actfer_env.agents.light.session import PRESETS, SessionConfig, known_features, run, split_data  # noqa: E402
from actfer_env.agents.light.trainer import Trainer, TrainerConfig, clipped, weights_hash  # noqa: E402
from actfer_env.agents.light.warmstart import WarmStartConfig, _script  # noqa: E402
from actfer_env.data import load_dataset  # noqa: E402
from actfer_env.data.views import ViewConfig, ViewTools  # noqa: E402
from actfer_env.errors import DataError  # noqa: E402
from actfer_env.rewards import UCGRPO, UCGRPOConfig  # noqa: E402
from actfer_env.rollout import Rollout, ToolCall  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = PolicyConfig(channels=4, picture=8, region=4, hidden=16)
CONFIG = replace(PRESETS["smoke"], train=96, val=48, test=0, policy=SMALL,
                 trainer=TrainerConfig(steps=4, groups=6, group_size=4, save_every=1))  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    for split, n in (("train", CONFIG.train), ("val", CONFIG.val)):
        split_data(split, n, CONFIG, folder, lambda text: None, workers=1)
    return folder


def trainer(cache: Path, folder: Path | None = None, variant: str = "full", seed: int = 0, r: float = 0.1,
            **changes: Any) -> Trainer:  # fmt: skip
    config = replace(CONFIG, variant=variant, trainer=replace(CONFIG.trainer, **changes))
    train = split_data("train", config.train, config, cache, lambda text: None, workers=1)
    torch.manual_seed(seed)
    venv = train.groups(config.trainer.groups, config.trainer.group_size, replace(config.rewards(), r=r))
    return Trainer(LightPolicy(SMALL), venv, config.trainer, seed, folder)


def outputs(tool: list[float], emotion: list[float], aus: list[float]) -> Outputs:
    pad = [0.0] * (AUS - len(aus))
    return Outputs(torch.tensor([tool]), torch.tensor([emotion]), torch.tensor([aus + pad]))


def test_log_probabilities_count_answers_only_where_one_is_given() -> None:
    out = outputs([0.0, 0.0, -math.inf, -math.inf, -math.inf, 0.0], [0.0] * 8, [])
    none = torch.zeros(1, AUS, dtype=torch.bool)
    zoom = log_prob(out, torch.tensor([1]), torch.tensor([3]), none)
    answer = log_prob(out, torch.tensor([ANSWER]), torch.tensor([3]), none)
    assert zoom.item() == pytest.approx(-math.log(3), abs=1e-6)
    assert answer.item() == pytest.approx(-math.log(3) - math.log(8) - AUS * math.log(2), abs=1e-5)


def test_cloned_moves_have_the_shares_of_whole_scripts() -> None:
    config = WarmStartConfig(cropped=0.6, zoomed=0.25)
    shown, move, weight = _script(100_000, config, np.random.default_rng(0))
    answers, seen = weight * (move == ANSWER), shown.sum(1)
    share = [(answers[seen == k].sum() / weight[seen == k].sum()).item() for k in range(5)]
    # of scripts that zoom, 1, 2, 3, 4 crops have the chances 1/7, 1/7, 1/7, 4/7
    assert share == pytest.approx([0.75, 1 / 7, 1 / 6, 1 / 5, 1.0], abs=0.02)
    assert (seen > 0).float().mean() > 0.45  # crops are read more often than scripts show them


def test_entropy_and_divergence_on_hand_made_numbers() -> None:
    even = outputs([0.0, 0.0, -math.inf, -math.inf, -math.inf, -math.inf], [0.0] * 8, [])
    skewed = outputs([math.log(3.0), 0.0, *[-math.inf] * 4], [0.0] * 8, [])
    assert entropy(even).item() == pytest.approx(math.log(2), abs=1e-6)
    assert divergence(even, even, torch.tensor([ANSWER])).item() == pytest.approx(0, abs=1e-6)
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert divergence(skewed, even, torch.tensor([0])).item() == pytest.approx(expected, abs=1e-6)


def test_the_clipped_surrogate_on_hand_made_numbers() -> None:
    ratio, advantage = torch.tensor([1.5, 1.5, 0.5, 0.5]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert clipped(ratio, advantage, 0.2).item() == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8) / 4)


def test_prepared_pictures_are_those_of_the_tools(cache: Path) -> None:
    config = ViewConfig()
    dataset = load_dataset("synthetic", split="train", n=CONFIG.train)
    views = split_data("train", CONFIG.train, CONFIG, cache, lambda text: None).views
    rng = np.random.default_rng(0)
    venvs = [make_group_vec("ActFER-MultiDiscrete-v0", 3, 2, dataset=dataset, **extra)
             for extra in ({}, {"tools": ViewTools(dataset, views, config)})]  # fmt: skip
    seen = [venv.reset(seed=4)[0] for venv in venvs]
    for _ in range(12):
        for key in seen[0]:
            np.testing.assert_array_equal(seen[0][key], seen[1][key])
        actions = rng.integers(0, [6, 8, *[2] * AUS], (6, 2 + AUS))
        legal = [np.flatnonzero(mask[:6]) for mask in seen[0]["action_mask"]]
        actions[:, 0] = [rng.choice(moves) if len(moves) else 0 for moves in legal]
        seen = [venv.step(actions)[0] for venv in venvs]
    assert venvs[1].tools.detections == 0


def test_features_that_are_added_bit_by_bit_equal_those_encoded_at_once(cache: Path) -> None:
    one = trainer(cache)
    batch = play_groups(one.venv, one.policy, torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = one.policy(batch.memory, batch.decisions)
    found = log_prob(out, batch.tool, batch.emotion, batch.aus)
    torch.testing.assert_close(found, batch.old, atol=1e-4, rtol=1e-4)


def test_features_kept_of_a_whole_split_are_those_of_the_pictures_that_episodes_show(cache: Path) -> None:
    one, held = trainer(cache), split_data("train", CONFIG.train, CONFIG, cache, lambda text: None)
    known = known_features(one.policy, held, cache)
    made = list(cache.glob("features-*"))
    again = known_features(one.policy, held, cache)
    assert made and list(cache.glob("features-*")) == made
    assert all(torch.equal(a, b) for a, b in zip(known, again, strict=True))
    batch = play_groups(one.venv, one.policy, torch.Generator().manual_seed(1), known=known)
    assert batch.memory is None
    other = trainer(cache)
    seen = play_groups(other.venv, other.policy, torch.Generator().manual_seed(1))
    said = [[(r.sample_id, r.predicted_emotion, r.predicted_aus, [c.arguments for c in r.tool_calls]) for r in rollouts]
            for rollouts in (batch.rollouts, seen.rollouts)]  # fmt: skip
    assert said[0] == said[1]
    torch.testing.assert_close(batch.old, seen.old, atol=1e-4, rtol=1e-4)


def test_features_cannot_be_kept_where_the_encoders_learn(cache: Path) -> None:
    one = trainer(cache)
    known = known_features(one.policy, split_data("train", CONFIG.train, CONFIG, cache, lambda text: None), cache)
    with pytest.raises(ValueError, match="freeze_vision=True"):
        Trainer(one.policy, one.venv, TrainerConfig(freeze_vision=False), known=known)


def test_advantages_are_those_of_the_scorer(cache: Path) -> None:
    one = trainer(cache)
    batch = play_groups(one.venv, one.policy, torch.Generator().manual_seed(1))
    scores = UCGRPO(one.venv.scorer.config).score(batch.rollouts)
    wanted = {(r.group_id, r.member): a for r, a in zip(batch.rollouts, scores.advantage, strict=True)}
    assert len(batch.tool) == sum(rollout.turns for rollout in batch.rollouts)
    assert batch.advantage[batch.tool == ANSWER].sort().values.tolist() == pytest.approx(
        sorted(wanted[r.group_id, r.member] for r in batch.rollouts if not r.truncated), abs=1e-5
    )


def test_the_gate_sees_pixels_and_the_state_only(cache: Path) -> None:
    names = set(Memory.__dataclass_fields__) | set(Decisions.__dataclass_fields__)
    assert not names & {"quality", "good", "emotion", "aus", "label", "sample_id"}


def test_resuming_equals_never_stopping(cache: Path, tmp_path: Path) -> None:
    whole = trainer(cache, tmp_path / "whole")
    whole.train()
    first = trainer(cache, tmp_path / "torn", steps=2)
    first.train()
    second = trainer(cache, tmp_path / "torn")
    assert second.resume() and second.done == 2
    second.train()
    assert weights_hash(second.policy) == weights_hash(whole.policy)
    assert second.log == whole.log
    assert second.venv.scorer.state_dict() == whole.venv.scorer.state_dict()
    assert (tmp_path / "torn" / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()


def test_annealed_rates_fall_to_zero_and_fix_the_number_of_steps(cache: Path, tmp_path: Path) -> None:
    one = trainer(cache, tmp_path, anneal=True, steps=2, rate=1e-4, gate_factor=5.0)
    rates = []
    for _ in range(2):
        one.step()
        rates.append([group["lr"] for group in one.optimizer.param_groups])
    assert rates == [pytest.approx([1e-4, 5e-4]), pytest.approx([5e-5, 2.5e-4])]
    one.save()
    assert trainer(cache, tmp_path, anneal=True, steps=2, rate=1e-4, gate_factor=5.0).resume()
    with pytest.raises(DataError, match=r"trainer\.steps is 3"):
        trainer(cache, tmp_path, anneal=True, steps=3).resume()


def test_another_configuration_is_not_resumed(cache: Path, tmp_path: Path) -> None:
    trainer(cache, tmp_path, steps=1).train()
    with pytest.raises(DataError, match=r"reward\.use_ema is False"):
        trainer(cache, tmp_path, variant="no_ema").resume()
    (tmp_path / "checkpoint.pt").write_bytes(b"broken")
    with pytest.raises(DataError, match="no checkpoint"):
        trainer(cache, tmp_path).resume()


def test_the_ema_moves_once_a_step_and_stays_bounded(cache: Path) -> None:
    one = trainer(cache)
    for step in range(3):
        row = one.step()
        assert one.venv.scorer.commits == step + 1
        assert all(abs(row[f"ema_{name}"]) <= 1.2 for name in facs.EMOTIONS)
    assert one.log[0]["ema_fear"] == 0.0, "the row of a step holds the EMA before it"


@pytest.mark.parametrize(
    ("zooms", "told"), [("never", "no rollout zoomed"), ("always", "every rollout zoomed"), ("by chance", None)]
)
def test_a_policy_that_never_or_always_zooms_is_warned_of_once(
    cache: Path, tmp_path: Path, zooms: str, told: str | None
) -> None:
    one = trainer(cache, tmp_path, steps=2, rate=0.0)
    with torch.no_grad():
        bias = one.policy.gate[-1].bias
        bias[DETECT] = 1e3  # looks first, whatever comes then
        bias[1:ANSWER] += {"never": -1e3, "always": 1e2, "by chance": 0.0}[zooms]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        one.train()
    lines = [str(line.message) for line in caught if "zoomed:" in str(line.message)]
    assert len(lines) == (told is not None)
    assert all(line.startswith(f"step 1: {told}") for line in lines)
    for row in one.log:
        assert row["zoom_found"] == {"never": 0.0, "always": 1.0}.get(zooms, pytest.approx(0.5, abs=0.49))
        assert 0 <= row["flat_groups"] <= 1 and 0 <= row["wrong_groups"] <= 1
    assert {"zoom_found", "flat_groups", "wrong_groups"} < set(
        (tmp_path / "log.csv").read_text().split("\n")[0].split(",")
    )


def test_checkpoints_of_version_1_are_read_and_newer_ones_refused(cache: Path, tmp_path: Path) -> None:
    whole = trainer(cache, tmp_path, steps=1)
    whole.train()
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path)
    assert state.pop("version") == 2
    state["log"] = [{key: value for key, value in row.items() if key != "zoom_found"} for row in state["log"]]
    torch.save(state, path)
    other = trainer(cache, tmp_path, steps=2)
    assert other.resume()
    other.train()
    head, first, second = (tmp_path / "log.csv").read_text().splitlines()
    assert head.split(",")[-1] == "zoom_found" and first.endswith(",") and not second.endswith(",")
    torch.save({**state, "version": 3}, path)
    with pytest.raises(DataError, match="is of version 3, this package reads up to 2: update") as caught:
        trainer(cache, tmp_path, steps=2).resume()
    assert "\n" not in str(caught.value)


def test_forced_modes_zoom_never_and_always(cache: Path) -> None:
    val = split_data("val", CONFIG.val, CONFIG, cache, lambda text: None)
    policy = LightPolicy(SMALL).eval()
    played = hold_out(policy, val.groups(16, len(ZOOM_MODES), UCGRPOConfig()), CONFIG.val, UCGRPOConfig())
    for mode, wanted in (("never", 0.0), ("once", 1.0), ("always", 1.0)):
        held = played[mode]  # type: ignore[index]
        faces = [rollout for rollout in held.rollouts if rollout.detection == "ok"]
        assert np.mean([rollout.zoomed for rollout in faces]) == wanted
        assert all(set(zoomed_regions(rollout)) <= set(facs.REGIONS) for rollout in faces)
        if mode == "always":
            assert all(sorted(zoomed_regions(rollout)) == sorted(facs.REGIONS) for rollout in faces)
        assert [r.sample_id for r in held.rollouts] == [val.dataset[i].id for i in range(CONFIG.val)]


def test_a_budget_of_two_zooms_makes_the_policy_choose(cache: Path) -> None:
    val = split_data("val", CONFIG.val, CONFIG, cache, lambda text: None)
    envs = val.groups(16, len(ZOOM_MODES), UCGRPOConfig(), max_zooms=2)
    played = hold_out(LightPolicy(SMALL).eval(), envs, CONFIG.val, UCGRPOConfig())
    counts = {len(zoomed_regions(one)) for one in played["always"].rollouts if one.detection == "ok"}
    assert counts == {2}


def test_regions_are_matched_against_what_chance_gives() -> None:
    def looked(*regions: str, aus: frozenset[int]) -> Rollout:
        calls = tuple(ToolCall("zoom_in", {"regions": [name]}) for name in regions)
        return Rollout("s", "g", "happiness", aus, "happiness", aus, calls, "ok")

    brows, mouth = frozenset({1}), frozenset({12})  # AU1 shows in one region, and so does AU12
    found = _regions([looked("forehead-eyebrow", "nose", aus=brows), looked("forehead-eyebrow", aus=mouth)])
    chance = [np.mean([name in facs.AU_REGIONS[au] for name in facs.REGIONS]) for au in (1, 12)]
    assert found["first_match"] == 0.5
    assert found["first_gain"] == pytest.approx(0.5 - np.mean(chance))
    assert found["region_match"] == pytest.approx(1 / 3)
    assert found["region_chance"] == pytest.approx((2 * chance[0] + chance[1]) / 3)


def test_ppo_of_sb3_is_measured_like_the_light_policy(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    from actfer_env.agents.light.sb3_baseline import run_sb3

    config = replace(CONFIG, test=0)
    result = run_sb3(config, 1024, tmp_path / "sb3", cache, lambda text: None)
    assert 0 <= result["figures"]["accuracy"] <= 1 and "task_never" not in result["figures"]
    made = (tmp_path / "sb3" / "result.json").stat().st_mtime_ns
    run_sb3(config, 1024, tmp_path / "sb3", cache)
    assert (tmp_path / "sb3" / "result.json").stat().st_mtime_ns == made, "a finished run is not made again"
    with pytest.raises(DataError, match="steps is 2048"):
        run_sb3(config, 2048, tmp_path / "sb3", cache)


def test_detail_of_a_flat_picture_and_of_a_sharp_one_by_hand() -> None:
    flat = torch.full((1, 64, 64, 3), 90, dtype=torch.uint8)
    assert detail(flat).unique().item() == pytest.approx((math.log(1e-3) + 4) / 0.7, abs=1e-4)
    board = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    board[:, ::2, ::2] = board[:, 1::2, 1::2] = 255  # every pixel is 0.5 away from its 2 x 2 mean
    fine, coarse = detail(board).view(2, 8, 8)
    assert fine.unique().item() == pytest.approx((math.log(0.5 + 1e-3) + 4) / 0.7, abs=1e-4)
    assert coarse.unique().item() == pytest.approx((math.log(1e-3) + 4) / 0.7, abs=1e-4)


def test_encoders_stay_as_the_warm_start_left_them_unless_told_otherwise(cache: Path) -> None:
    for frozen in (True, False):
        one = trainer(cache, freeze_vision=frozen, epochs=1)
        before = weights(one.policy.encoders())
        one.step()
        assert (weights(one.policy.encoders()) == before) is frozen
        assert weights(one.policy.gate) != weights(one.reference.gate)


def weights(module: torch.nn.Module) -> list[Any]:
    return [parameter.detach().tolist() for parameter in module.parameters()]


@pytest.mark.parametrize("name", ["facial_r1", "tag", "hdpo", "autotool"])
def test_other_systems_rewards_train_and_resume_too(cache: Path, tmp_path: Path, name: str) -> None:
    config = replace(CONFIG, variant=name, trainer=replace(CONFIG.trainer, steps=2))
    found = run(config, tmp_path, cache, lambda text: None, 1)
    assert 0 <= found["figures"]["accuracy"] <= 1
    (tmp_path / "result.json").unlink()
    assert run(config, tmp_path, cache, lambda text: None, 1)["weights"] == found["weights"]
    (tmp_path / "result.json").unlink()
    with pytest.raises(DataError, match="variant is full"):
        run(replace(config, variant="full"), tmp_path, cache, lambda text: None, 1)


def test_figures_reach_tensorboard_once_each(cache: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    run(replace(CONFIG, trainer=replace(CONFIG.trainer, steps=3)), tmp_path, cache, lambda text: None, 1)
    log = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    assert [event.step for event in log.Scalars("train/task")] == [0, 1, 2]
    assert {"policy/zoom", "policy/kl", "ema/fear", "collapse/flat_groups"} <= set(log.Tags()["scalars"])


def test_intervals_over_seeds_by_hand() -> None:
    found = Interval.of([1.0, 2.0, 3.0])
    assert (found.mean, found.error) == (2.0, pytest.approx(1 / math.sqrt(3)))
    assert found.high - found.mean == pytest.approx(4.30265 / math.sqrt(3), abs=1e-5)
    assert paired([{"figures": {"x": 1.0}}], [{"figures": {"x": 0.25}}], "x") == [0.75]
    assert to_markdown([{"a": "1"}, {"b": "2"}]).splitlines()[2:] == ["| 1 |  |", "|  | 2 |"]


def test_a_verdict_needs_an_interval_on_one_side_of_zero() -> None:
    sure, unsure = Interval.of([0.02, 0.03, 0.025]), Interval.of([0.02, -0.03, 0.025])
    assert (verdict(0.1, sure), verdict(-0.1, sure), verdict(0.1, unsure)) == ("agrees", "disagrees", "undecided")
    assert verdict(0.1, Interval.of([0.3])) == "undecided"
    runs = {name: [{"figures": {"zoom": value, "accuracy": 0.5}} for value in values]
            for name, values in (("full", (0.5, 0.52)), ("zoom_biased", (1.0, 1.0)))}  # fmt: skip
    rows = claims_table(runs)
    assert [(row["paper"], row["verdict"]) for row in rows] == [("+0.020", "undecided"), ("-0.225", "agrees")]
    assert {claim.metric for claim in CLAIMS} == {"accuracy", "macro_f1", "au_f1", "zoom"}


def test_an_ablation_writes_tables_and_does_not_repeat_itself(cache: Path, tmp_path: Path) -> None:
    said: list[str] = []
    base = replace(CONFIG, trainer=replace(CONFIG.trainer, steps=2))
    results = ablate(base, tmp_path, cache, variants=("full", "task_only", "warm_start"), seeds=2, workers=1,
                     say=said.append)  # fmt: skip
    assert {name: len(runs) for name, runs in results.items()} == {"full": 2, "task_only": 2, "warm_start": 2}
    assert (tmp_path / "full-0" / "examples" / "report.html").exists()
    text = (tmp_path / "ablation.md").read_text()
    assert "| task_only | 2 |" in text and (tmp_path / "curves.png").stat().st_size > 5_000

    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-[01]/*") if path.is_file()}

    before = written()
    ablate(base, tmp_path, cache, variants=("full", "task_only"), seeds=2, workers=1, say=said.append)
    assert len(before) >= 6 and written() == before, "no run is made again"
    write_tables({"full": results["full"]}, tmp_path)
    alone = (tmp_path / "ablation.md").read_text()
    assert "|  |" not in alone and "claims" not in alone, "one variant alone is compared with none"
    with pytest.raises(DataError, match="unknown variant 'best'"):
        ablate(base, tmp_path, cache, variants=("best",))


@pytest.mark.slow
def test_zoom_biased_zooms_always_and_the_gate_leaves_lost_groups_alone(cache: Path) -> None:
    plain = {"group_size": 8, "steps": 60, "rate": 1e-3, "kl": 0.0, "entropy": 0.0}
    for seed in range(2):  # the zoom's reward far above what answers earn, so that chance cannot lead elsewhere
        biased = trainer(cache, variant="zoom_biased", seed=seed, r=1.0, **plain)
        biased.train()
        assert zoom_share(trainer(cache, seed=seed)) < 0.9 < zoom_share(biased) - 0.05
    shaped = UCGRPOConfig.variant("zoom_biased")
    gated = replace(shaped, outcome_gate=True)
    lost = [replace(r, predicted_emotion=None, predicted_aus=None) for r in one_group(cache)]
    assert np.abs(UCGRPO(gated).score(lost).advantage).max() == 0
    assert np.abs(UCGRPO(shaped).score(lost).advantage).max() > 0.5


def zoom_share(one: Trainer) -> float:
    """Of the rollouts whose face was found, in ten plays."""
    draws = torch.Generator().manual_seed(5)
    plays = [play_groups(one.venv, one.policy, draws) for _ in range(10)]
    found = [rollout for batch in plays for rollout in batch.rollouts if rollout.detection == "ok"]
    return float(np.mean([rollout.zoomed for rollout in found]))


def one_group(cache: Path) -> list[Any]:
    """A group with both sides, zoomed and not, of the first plays of an untaught policy that has one."""
    one = trainer(cache)
    for seed in range(50):
        batch = play_groups(one.venv, one.policy, torch.Generator().manual_seed(seed))
        sides = {(r.group_id, r.zoomed) for r in batch.rollouts if r.detection == "ok"}
        mixed = [group for group, zoomed in sorted(sides) if zoomed and (group, False) in sides]
        if mixed:
            return [rollout for rollout in batch.rollouts if rollout.group_id == mixed[0]]
    raise AssertionError("no group with both sides in 50 plays")


SCRIPT = """
import sys; from pathlib import Path; from dataclasses import replace
from actfer_env.agents.light.session import PRESETS, run
from actfer_env.agents.light.policy import PolicyConfig
from actfer_env.agents.light.trainer import TrainerConfig
config = replace(PRESETS["smoke"], train=96, val=48, test=0, policy=PolicyConfig(4, 8, 4, 16),
                 trainer=TrainerConfig(steps=40, groups=6, group_size=4, save_every=2))
print(run(config, Path(sys.argv[1]), Path(sys.argv[2]), lambda text: print(text, flush=True), 1)["weights"])
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(cache: Path, tmp_path: Path) -> None:
    def start(folder: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / folder), str(cache)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    whole = start("whole").communicate()[0].splitlines()[-1]
    rng = np.random.default_rng(0)
    for _ in range(3):
        process = start("torn")
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step") and rng.random() < 0.15:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start("torn").communicate()[0].splitlines()[-1] == whole


def test_presets_are_sessions() -> None:
    assert set(PRESETS) == {"smoke", "quick", "paper", "long"}
    assert all(isinstance(preset, SessionConfig) for preset in PRESETS.values())
    assert run.__doc__ is not None
