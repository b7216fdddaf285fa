"""The template writer: thoughts from Action Units, in the paper's modes, that say only what a policy can know."""

from __future__ import annotations

import random
import re

import pytest

pytest.importorskip("pydantic", reason="needs pydantic: pip install 'actfer-env[data]'")

from actfer_env import facs
from actfer_env.chat import ChatConfig, parse_turn
from actfer_env.curate import wording
from actfer_env.curate.options import CurateOptions
from actfer_env.curate.quality import thought_faults
from actfer_env.curate.template import Budget, Case, plan, turn_count, write_turns
from actfer_env.rewards.thoughts import thought_of

STRICT = ChatConfig(parsing="strict")
MODES = (("full", ("mouth-chin", "nose")), ("full", ("forehead-eyebrow",)), ("simplified", ()), ("degraded", ()))
UNITS = frozenset({12, 4})
NAMED = re.compile(r"\(AU(\d+)\)")


def cases() -> list[Case]:
    return [
        Case(emotion, facs.prototype_aus(emotion, facs.AU_NAMES), mode, regions, prealigned, both)  # type: ignore[arg-type]
        for emotion in facs.EMOTIONS for mode, regions in MODES
        for prealigned in (False, True) for both in (False, True)
        if not (prealigned and mode == "degraded")
    ]  # fmt: skip


@pytest.mark.parametrize("length", ["full", "short"])
@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.emotion}-{case.mode}-{len(case.regions)}")
def test_every_turn_has_a_thought_and_the_documented_form(case: Case, length: str) -> None:
    turns = write_turns(case, STRICT, length, random.Random(1))
    assert len(turns) == turn_count(case)
    parsed = [parse_turn(turn, STRICT) for turn in turns]
    assert all(one.problem is None and not one.notes and one.thinking for one in parsed)
    names = [call.name for one in parsed for call in one.calls]
    assert names == ["detect_align"] * (not case.prealigned) + ["zoom_in"] * len(case.regions)
    answer = parsed[-1].answer
    assert answer is not None and answer.emotion == case.emotion and facs.parse_aus(answer.aus) == case.units
    # The answer's thought names each unit once; before it no thought names any, since nothing was inspected yet.
    last, before = thought_of(turns[-1]), " ".join(map(thought_of, turns[:-1]))
    assert sorted(map(int, NAMED.findall(last))) == sorted(case.units) and not re.search(r"AU\d", before)
    headed = "Local Analysis" in last if case.mode == "full" else "Local Analysis" not in last
    assert (headed or length == "short") and ("Global Analysis" in last or "Local Analysis" in last)
    assert case.emotion in last.lower()
    assert list(thought_faults([thought_of(turn) for turn in turns], CurateOptions())) == []


def test_wording_varies_and_a_seed_fixes_it() -> None:
    case = Case("happiness", frozenset({6, 12}), "full", ("mouth-chin",))
    texts = ["".join(write_turns(case, STRICT, "full", random.Random(seed))) for seed in range(60)]
    assert len(set(texts)) > 50
    assert texts[3] == "".join(write_turns(case, STRICT, "full", random.Random(3)))


def test_strength_side_and_region_are_told_where_they_are_known() -> None:
    case = Case(
        "contempt", frozenset({12, 14}), "full", ("mouth-chin",), sides={14: "left"}, intensities={12: 2, 14: 5}
    )
    last = write_turns(case, STRICT, "full", random.Random(0))[-1]
    assert ", if slightly (AU12)" in last and "on the left of the picture, and very much so (AU14)" in last
    assert "In the crop of the mouth," in last


def test_units_outside_the_crops_are_told_of_globally() -> None:
    case = Case("fear", frozenset({1, 20}), "full", ("mouth-chin",))
    last = write_turns(case, STRICT, "full", random.Random(0))[-1]
    whole, local = last.split("Local Analysis")
    assert "(AU1)" in whole and "(AU20)" in local


@pytest.mark.parametrize(("preset", "boxes"), [("facial_r1", 0), ("tag", 3), ("ferbench", 0)])
def test_presets_without_tools_get_one_turn(preset: str, boxes: int) -> None:
    chat = ChatConfig(preset=preset, parsing="strict")
    grounds = {unit: (unit, 10, unit + 30, 50) for unit in (1, 2, 5, 26)} if boxes else {}
    case = Case("surprise", frozenset({1, 2, 5, 26}), "passive", boxes=grounds)
    (turn,) = write_turns(case, chat, "full", random.Random(2))
    parsed = parse_turn(turn, chat)
    assert parsed.problem is None and parsed.answer is not None and parsed.answer.emotion == "surprise"
    assert turn.count("<bbox>") == boxes == len(parsed.boxes)


def test_the_plan_follows_detection_and_the_budget() -> None:
    def planned(
        found: bool = True, aligned: bool = False, turns: int = 6, zooms: int = 4, share: float = 1
    ) -> set[str]:
        budget = Budget(share, 2, zooms, turns)
        return {plan(UNITS, found, aligned, True, random.Random(seed), budget)[0] for seed in range(9)}

    assert planned() == {"full"} and planned(share=0.0) == {"simplified"}
    assert planned(share=0.5) == {"full", "simplified"}
    assert planned(found=False) == {"degraded"}
    assert planned(zooms=0) == planned(turns=2) == {"simplified"} and planned(turns=2, aligned=True) == {"full"}
    regions = {plan(UNITS, True, False, True, random.Random(seed), Budget(1, 2, 4, 6))[1] for seed in range(30)}
    assert {region for one in regions for region in one} == {"forehead-eyebrow", "mouth-chin"}


def test_every_unit_has_words() -> None:
    assert all(wording.unit_phrases(unit) for unit in facs.AU_NAMES)
    assert all(len(wording.UNIT_PHRASES[unit]) >= 2 for unit in facs.FACIAL_R1_AUS)
