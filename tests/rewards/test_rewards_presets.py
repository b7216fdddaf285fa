"""The Facial-R1 and TAG rewards against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from helpers import answered, aus, right, wrong

from actfer_env.errors import DataError
from actfer_env.rewards import FacialR1Reward, RewardError, TAGReward

GOOD = "<think>Cheeks raised (AU6).</think>\n<answer>happiness</answer>"
LEFT = [0, 0, 10, 10]
HALF = [5, 0, 15, 10]  # shares 50 of 150 with LEFT: IoU 1/3
FAR = [100, 100, 110, 110]


def close(value: float) -> object:
    return pytest.approx(value, abs=1e-12)


def boxes(evidence: object, target: object, **changes: object) -> object:
    return right(meta={"evidence_boxes": evidence, "au_boxes": target}, **changes)


# --- Facial-R1 ----------------------------------------------------------------------------------------------


def test_facial_r1_adds_f1_accuracy_and_format():
    scores = FacialR1Reward().score([right(aus=aus(12), predicted_aus=aus(6, 12), texts=(GOOD,))])
    assert scores.terms(0) == {
        "task": close(2 / 3 + 1),
        "structure": 1.0,
        "utility": 0.0,
        "quality": 0.0,
        "total": close(2 / 3 + 1 + 1),
    }


def test_facial_r1_keeps_the_whole_f1_of_a_wrong_emotion():
    scores = FacialR1Reward().score([wrong(aus=aus(12), predicted_aus=aus(6, 12), texts=(GOOD,))])
    assert scores.total[0] == close(2 / 3 + 0 + 1)


def test_facial_r1_without_targets_or_answer():
    reward = FacialR1Reward()
    assert reward.score([right(aus=None)]).total[0] == 2.0
    assert reward.score([right(emotion=None, aus=aus(), predicted_aus=aus())]).total[0] == 2.0
    assert reward.score([answered(None, aus=aus())]).total[0] == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "happiness",
        "<answer>happiness</answer><think>late</think>",
        f"{GOOD} and more",
        f"{GOOD}{GOOD}",
        "<think>a</think> then <answer>happiness</answer>",
        "<think>a<answer>happiness</answer>",
    ],
)
def test_malformed_texts_lose_the_format_reward(text):
    group = [right(texts=(text,))]
    assert FacialR1Reward().score(group).structure[0] == 0.0
    assert TAGReward().score(group).structure[0] == 0.0


@pytest.mark.parametrize("label", ["bliss", "", "joyful rage", "neutral", "{"])
def test_facial_r1_pays_the_format_whatever_the_label(label):
    # a label that is no emotion ends the episode without answer; the units of the reasoning still count
    text = f"<think>Cheeks raised (AU6).</think><answer>{label}</answer>"
    rollout = answered(None, aus=aus(6, 12), texts=(text,), meta={"reasoning_aus": ["AU6"], "chat": []})
    scores = FacialR1Reward().score([rollout])
    assert {name: values[0] for name, values in scores.parts.items()} == {
        "accuracy": 0.0, "au": close(2 / 3), "format": 1.0,
    }  # fmt: skip
    assert TAGReward().score([rollout]).structure[0] == 0.0  # TAG asks for a valid label


def test_what_the_parser_could_not_read_is_not_well_formed():
    found = [right(texts=(GOOD,), meta={"chat": entries}) for entries in ([], [{"turn": 0, "problem": "too_long"}])]
    assert FacialR1Reward().score(found).structure.tolist() == [1.0, 0.0]


def test_a_tag_inside_the_thought_is_no_tag():
    text = "<think>I might write <answer> later</think><answer>happiness</answer>"
    assert FacialR1Reward().score([right(texts=(text,))]).structure[0] == 1.0


# --- TAG ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "target", "expected"),
    [
        ([LEFT], {"AU12": LEFT}, 1.0),
        ([HALF], {"AU12": LEFT}, 1 / 3),
        ([LEFT, HALF], {"AU6": LEFT, "AU12": FAR}, (1 + 1 / 3) / 2),
        ([HALF, FAR, LEFT], {"AU12": LEFT}, 1.0),  # best 1 of 3
        ([HALF], {"AU6": LEFT, "AU12": HALF}, 1.0),  # the closest target counts
        ([HALF], {"AU6": [LEFT, FAR]}, 1 / 3),
        ([LEFT, "nonsense"], {"AU6": LEFT, "AU12": FAR}, (1 + 0) / 2),
        ([[10, 0, 0, 10]], {"AU6": LEFT}, 0.0),
        ([[0, 0, math.inf, 10]], {"AU6": LEFT}, 0.0),
        ([], {"AU6": LEFT}, 0.0),
        (None, {"AU6": LEFT}, 0.0),
    ],
)
def test_tag_averages_the_best_ious(evidence, target, expected):
    scores = TAGReward().score([boxes(evidence, target)])
    assert scores.parts["au"][0] == close(expected)
    assert scores.task[0] == close(1 + expected)


@pytest.mark.parametrize("target", [None, {}, {"AU12": []}])
def test_tag_skips_samples_without_active_au_boxes(target):
    scores = TAGReward().score([boxes([LEFT], target)])
    assert math.isnan(scores.parts["au"][0])
    assert scores.total[0] == close(1 + 0.1)


@pytest.mark.parametrize("target", [{"AU12": [0, 0, 1]}, {"AU12": None}, {"AU12": [3, 3, 1, 1]}, [LEFT]])
def test_malformed_target_boxes_are_refused_by_name(target):
    with pytest.raises(DataError, match=r"sample 's0', group 'g0': au_boxes"):
        TAGReward().score([boxes([LEFT], target)])


def test_tag_format_allows_three_boxes_inside_the_thought():
    box = "<bbox>[0, 0, 10, 10]</bbox>"

    def bonus(thought: str, answer: str = "happiness", **changes: object) -> float:
        texts = (f"<think>{thought}</think><answer>{answer}</answer>",)
        return float(TAGReward().score([right(texts=texts, **changes)]).structure[0])

    assert bonus(box * 3) == 0.1
    assert bonus(box * 4) == 0.0
    assert bonus("none", answer=box) == 0.0
    assert bonus("none", predicted_emotion="contempt") == 0.0
    assert bonus("<bbox>[0, 0, 10]</bbox>") == 0.0
    assert TAGReward().score([boxes([LEFT] * 4, None)]).structure[0] == 0.0


# --- both ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reward", [FacialR1Reward(), TAGReward()])
def test_presets_answer_to_the_same_calls_as_uc_grpo(reward):
    group = [right(), wrong()]
    scores = reward.score(group)
    assert scores.advantage.tolist() == [close(value) for value in two_advantages(*scores.total)]
    reward.commit(scores)
    reward.commit(scores)
    reward.load_state_dict(reward.state_dict())
    assert "answer: emotion right: 1" in reward.explain(group, scores, 0)
    assert "AU: no AU target, left out" in reward.explain(group, scores, 1)
    with pytest.raises(RewardError, match="keeps no state"):
        reward.load_state_dict({"ema": {}})
    with pytest.raises(DataError, match="unknown predicted emotion"):
        reward.score([answered("joy")])


def two_advantages(high: float, low: float) -> tuple[float, float]:
    # two values d apart: deviations +-d/2, std with ddof 1 is d / sqrt(2)
    size = (high - low) / 2 / ((high - low) / math.sqrt(2) + 1e-6)
    return size, -size


@pytest.mark.parametrize("fields", [{"format_bonus": -1.0}, {"max_boxes": 2.5}])
def test_tag_checks_its_fields(fields):
    with pytest.raises(RewardError, match=next(iter(fields))):
        TAGReward(**fields)


@pytest.mark.parametrize("fields", [{"std_ddof": 3}, {"std_eps": 0.0}])
def test_presets_check_their_fields(fields):
    with pytest.raises(RewardError, match=r"^std_"):
        FacialR1Reward(**fields)
