"""Curation by the template: lines, filter, resumption, and disjoint sets in the proportions asked for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curate_data import SMALL, write_set
from helpers import ANSWER, DETECT, answered
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pydantic", reason="needs pydantic: pip install 'actfer-env[data]'")
pytest.importorskip("imagehash", reason="needs imagehash: pip install 'actfer-env[data]'")

from actfer_env import facs
from actfer_env.curate import journals
from actfer_env.curate.curate import Curation, curate
from actfer_env.curate.estimate import estimate
from actfer_env.curate.lines import Line, Outcome, read_lines
from actfer_env.curate.options import CurateOptions
from actfer_env.curate.quality import faults, thought_faults
from actfer_env.curate.replay import Curated
from actfer_env.curate.sampling import Pilot, largest_remainder
from actfer_env.curate.template import Case
from actfer_env.data import load_dataset
from actfer_env.data.duplicates import near_pairs
from actfer_env.errors import DataError
from actfer_env.rollout import write_rollouts

FIELDS: dict[str, Any] = {"detector": "curate-middle", "chat": SMALL, "views": "none"}


def run(data: Path, out: Path, *, pilot: tuple[Path, ...] = (), workers: int = 1, **fields: Any) -> Curation:
    options = CurateOptions.build(**{**FIELDS, **fields})
    return curate(load_dataset("jsonl", data), out, options, pilot=pilot, workers=workers)


def both(out: Path) -> tuple[list[Line], list[Line]]:
    return list(read_lines(out / "sft.jsonl")), list(read_lines(out / "rl.jsonl"))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 pictures of 40 people, the last 30 of them near-copies of the first 30; emotions in unequal shares."""
    labels = ("neutral",) * 8 + ("happiness",) * 6 + ("sadness", "surprise", "fear", "disgust", "anger", "contempt")
    return write_set(tmp_path_factory.mktemp("crowd"), 160, subjects=37, copies=30, dark=5, labels=labels)


def test_the_sets_share_no_sample_no_subject_and_no_near_duplicate(crowd: Path, tmp_path: Path) -> None:
    found = run(crowd, tmp_path / "out", rl_size=30, seed=5)
    sft, rl = both(tmp_path / "out")
    assert len(rl) == 30 and len(sft) + len(rl) + sum(found.left_out.values()) == found.kept == 160
    assert not {line.id for line in sft} & {line.id for line in rl}
    assert not {line.subject for line in sft} & {line.subject for line in rl}
    assert not {line.picture for line in sft} & {line.picture for line in rl}
    side = {int(line.hash, 16): name for name, lines in (("sft", sft), ("rl", rl)) for line in lines if line.hash}
    hashes = np.array(sorted(side), np.uint64)
    for one, other in near_pairs(hashes, 4):
        for first, second in zip(hashes[one].tolist(), hashes[other].tolist(), strict=True):
            assert side[first] == side[second]
    assert found.left_out["near a picture of the RL set"] > 0 and found.modes["degraded"] > 0


def test_without_subjects_near_copies_alone_keep_pictures_apart(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 60, copies=30, labels=("fear", "anger"))
    found = run(data, tmp_path / "out", rl_size=20)
    sft, rl = both(tmp_path / "out")
    number = {line.id: int(line.id.partition("-")[2]) for line in (*sft, *rl)}
    assert not {number[line.id] % 30 for line in sft} & {number[line.id] % 30 for line in rl}
    assert found.left_out["near a picture of the RL set"] >= 10


def test_the_histograms_are_as_asked_within_one_line(tmp_path: Path) -> None:
    labels = ("neutral",) * 5 + ("happiness",) * 3 + ("fear",) * 2 + ("contempt",) * 2
    data = write_set(tmp_path / "data", 144, labels=labels)
    run(data, tmp_path / "out", rl_histogram={"fear": 8, "contempt": 6, "happy": 2}, sft_size=60)
    sft, rl = (Counter(line.emotion for line in lines) for lines in both(tmp_path / "out"))
    assert rl == {"fear": 8, "contempt": 6, "happiness": 2}
    natural = {name: 60 * labels.count(name) / 12 for name in set(labels)}
    assert all(abs(sft[name] - share) <= 1 for name, share in natural.items()) and sum(sft.values()) == 60


def test_the_rl_set_leans_toward_what_a_pilot_gets_wrong(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 120, labels=("neutral", "neutral", "neutral", "fear"))
    rollouts = []
    for number in range(120):
        emotion = ("neutral", "neutral", "neutral", "fear")[number % 4]
        missed = emotion == "fear" and number % 8 == 3
        predicted = "anger" if missed else emotion
        rollouts.append(answered(predicted, sample_id=f"face-{number}", emotion=emotion))
    write_rollouts(tmp_path / "pilot" / "rollouts.jsonl", rollouts)
    run(data, tmp_path / "with", pilot=(tmp_path / "pilot",), rl_size=10)
    rl = both(tmp_path / "with")[1]
    counts = Counter(line.emotion for line in rl)
    # hardness of fear 0.5, of neutral 0: weights 0.55 and 0.05, natural shares removed
    assert counts == {"fear": 9, "neutral": 1}
    missed = sum(int(line.id.partition("-")[2]) % 8 == 3 for line in rl if line.emotion == "fear")
    assert missed >= 7  # of 9; half of the fear pictures were missed
    run(data, tmp_path / "without", rl_size=10)
    assert Counter(line.emotion for line in both(tmp_path / "without")[1]) == {"fear": 5, "neutral": 5}


def test_forced_trajectories_stand_under_the_prompt_that_forces_them(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 24, labels=("fear", "anger"))
    plain, told = tmp_path / "plain", tmp_path / "told"
    run(data, plain)
    run(data, told, forced_share=0.5)
    before, after = ({line.id: line for file in both(place) for line in file} for place in (plain, told))
    assert {line.zoom for line in before.values()} == {"free"}
    forced = [line for line in after.values() if line.zoom != "free"]
    assert 6 <= len(forced) <= 18
    assert {(line.mode, line.zoom) for line in forced} == {("full", "always"), ("simplified", "never")}
    for name, line in after.items():  # the trajectories are the same ones
        assert (line.turns, line.mode) == (before[name].turns, before[name].mode)
    source = Curated.open(told)
    for line, episode in source.replays():
        names = [tool["function"]["name"] for tool in episode.tools]
        assert episode.episode.config.zoom == line.zoom and ("zoom_in" in names) is (line.zoom != "never")
    assert "forced_share" not in CurateOptions.build(**FIELDS).line_facts()  # folders of older versions go on


def test_too_few_lines_are_told(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 16, labels=("fear", "anger"))
    found = run(data, tmp_path / "out", rl_histogram={"fear": 30})
    assert found.warnings == ["the RL set has fewer lines than asked for: fear 8 of 30"]
    found = run(data, tmp_path / "size", rl_size=14)  # half of each emotion's lines stay with SFT
    assert found.sets["rl"]["lines"] == 8
    assert found.warnings == [
        "the RL set has room for 8 of the 14 lines asked for: it takes at most 50% of an emotion's lines (rl_cap)"
    ]


def test_a_dry_run_counts_every_round_and_passes_over_broken_pictures(tmp_path: Path) -> None:
    data = load_dataset("jsonl", write_set(tmp_path / "data", 8, labels=("fear", "anger")))
    told = {**FIELDS, "writer": "endpoint"}
    plain = estimate(data, CurateOptions.build(**told), (1.0, 1.0))
    struck = estimate(data, CurateOptions.build(**told, strategy="eliminate"), (1.0, 1.0))
    assert struck.attempts == 7 * plain.attempts  # seven emotions may be struck, each after that many answers
    pseudo = CurateOptions.build(**told, units="pseudo")
    more = estimate(data, pseudo, (1.0, 1.0))
    Path(str(data[0].source)).write_bytes(b"no picture")
    assert sum(estimate(data, pseudo, (1.0, 1.0)).calls) < sum(more.calls)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.integers(0, 90))
def test_shares_are_whole_add_up_and_stay_within_one(weights: list[int], size: int) -> None:
    found = largest_remainder(np.array(weights), size)
    assert found.sum() == (size if sum(weights) else 0)
    if sum(weights):
        assert (abs(found - np.array(weights) / sum(weights) * size) < 1).all()
    bound = np.array([3] * len(weights))
    capped = largest_remainder(np.array(weights), size, bound)
    assert (capped <= bound).all() and capped.sum() == min(size, 3 * sum(weight > 0 for weight in weights))


def test_processes_and_resumption_give_the_same_bytes(crowd: Path, tmp_path: Path) -> None:
    run(crowd, tmp_path / "whole", shard_size=16, number=60)
    run(crowd, tmp_path / "many", shard_size=16, number=60, workers=2)
    run(crowd, tmp_path / "part", shard_size=16, number=25)
    torn = sorted((tmp_path / "part" / "lines").iterdir())[-1]
    torn.write_text(torn.read_text()[:-40])  # as a killed process leaves it
    run(crowd, tmp_path / "part", shard_size=16, number=60)
    for name in ("sft.jsonl", "rl.jsonl", "report.json", "lines/00001.jsonl"):
        texts = {(tmp_path / folder / name).read_text() for folder in ("whole", "many", "part")}
        assert len(texts) == 1, name


def test_thumbnails_outlive_every_new_mapping_of_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_MAPPED", 3)
    made = np.random.default_rng(0).integers(-127, 128, (11, journals.PIXELS), dtype=np.int8)
    outcomes = journals.Outcomes(tmp_path, 10, shard_size=4)
    for index in range(10):
        outcomes.keep(Outcome(index=index, id=f"s{index}"), None if index == 6 else made[index])
    again = journals.Outcomes(tmp_path, 11, shard_size=4)  # one sample more: the file grows
    again.keep(Outcome(index=10, id="s10"), made[10])
    made[6] = 0
    assert np.array_equal(again.thumbnails, made)
    assert np.array_equal(outcomes.thumbnails[:10], made[:10])


def test_tool_outputs_are_kept(crowd: Path, tmp_path: Path) -> None:
    run(crowd, tmp_path / "out", number=7, views="png", rl_size=1)
    names = sorted(
        sorted(path.name for path in folder.iterdir()) for folder in (tmp_path / "out" / "views").glob("*/*")
    )
    with_face = sorted(["face.png", "raw.png", "tools.json", *(f"{region}.png" for region in facs.REGIONS)])
    assert names == sorted([with_face] * 2 + [["raw.png", "tools.json"]] * 5)  # five dark pictures, without a face
    calls = json.loads(next((tmp_path / "out" / "views").glob("*/*/tools.json")).read_text())["calls"]
    assert calls[0]["name"] == "detect_align"


def test_samples_without_units_or_emotion_are_dropped_for_a_reason(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 6, labels=("fear",))
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    del rows[0]["AUs"]
    rows[1]["labels"], rows[1]["AUs"] = [], ["AU6", "AU12"]
    rows[2]["labels"], rows[2]["AUs"] = [], ["AU43"]
    (tmp_path / "data" / "3.png").write_bytes(b"no picture")
    data.write_text("\n".join(map(json.dumps, rows)))
    found = run(data, tmp_path / "out", rl_size=0)
    assert found.reasons == {"label: units": 1, "label: emotion": 1, "picture: broken": 1} and found.kept == 3
    derived = next(line for line in both(tmp_path / "out")[0] if line.id == "face-1")
    assert (derived.emotion, derived.emotion_from) == ("happiness", "units")
    run(data, tmp_path / "prototype", rl_size=0, units="prototype")
    first = both(tmp_path / "prototype")[0][0]
    assert first.id == "face-0" and first.units_from == "prototype"


def test_the_filter_counts_each_fault(crowd: Path) -> None:
    from actfer_env.chat import chat_tools

    options = CurateOptions.build(**FIELDS)
    sample = load_dataset("jsonl", crowd)[9]
    tools = chat_tools("curate-middle", options.chat_config)
    case = Case("fear", frozenset({1, 2}), "simplified")
    good = [
        f"<think>I normalise the picture first.</think>{DETECT}",
        f"<think>Global Analysis: brows up (AU1), (AU2). Fear.</think>{ANSWER}",
    ]
    assert list(faults(good, case, sample, tools, options)) == []

    def reasons(first: str = good[0], last: str = good[1]) -> list[str]:
        return [reason for reason, _ in faults([first, last], case, sample, tools, options)]

    assert reasons(last=good[1].replace('"fear"', '"anger"')) == ["quality: emotion"]
    assert reasons(last=good[1].replace('"AU2"]', '"AU4"]')) == ["quality: units"]
    assert reasons(first=good[0].split("</think>")[1]) == ["quality: no thought"]
    assert reasons(first="So: " + good[0]) == ["quality: not played"]
    assert reasons(last=good[1].replace("brows up", "as the true label says, brows up")) == ["quality: leak"]
    degraded = Case("fear", frozenset({1, 2}), "degraded")
    assert [why for why, _ in faults(good, degraded, sample, tools, options)] == ["quality: mode"]
    thoughts = ["the brows go up and " * 30, "ok, the brows are raised"]
    assert [kind for kind, _ in thought_faults(thoughts, options)] == ["repetition"]
    assert [kind for kind, _ in thought_faults(["眉が上がっている。目が大きい。口が開いている。"], options)] == [
        "script"
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"full_share": 2}, "full_share: Input should be less than or equal to 1"),
        ({"chat": {"image_sid": 3}}, "chat: ChatConfig: 'image_sid' is unknown: use one of preset"),
        ({"chat": {"preset": "x"}}, "chat: unknown preset 'x'"),
        ({"rl_histogram": {"joyy": 1}}, "unknown emotion 'joyy'"),
        ({"writers": 1}, "writers: Extra inputs are not permitted"),
    ],
)
def test_options_name_what_is_wrong_in_one_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        CurateOptions.build(**fields)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_other_files_and_other_curations_are_refused(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="holds other files"):
        run(data, tmp_path / "full")
    run(data, tmp_path / "out", rl_size=1)
    with pytest.raises(DataError, match=r"options\.seed is 4 .*has 0\)"):
        run(data, tmp_path / "out", seed=4)


def test_a_pilot_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").write_text('{"sample_id": "a"}\n')
    with pytest.raises(DataError, match=r"rollouts\.jsonl, line 1: not a rollout"):
        Pilot.read([tmp_path])
