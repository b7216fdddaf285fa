"""TAG's AU reward from end to end: boxes of active Action Units, what a policy writes, and their overlap."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from actfer_env import facs
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.data.synthetic.faces import Expression, Identity, Person, Pose, Scene, render_scene
from actfer_env.errors import DataError
from actfer_env.evaluation import summarize
from actfer_env.images import save_png
from actfer_env.rewards import TAGReward
from actfer_env.rewards.grounding import iou
from actfer_env.rollout import Rollout
from actfer_env.tools import AU_AREAS, FaceTools, au_boxes
from actfer_env.tools.align import Alignment
from actfer_env.tools.au_areas import ground
from actfer_env.verl_plugin.rows import reference, sample_of
from actfer_env.verl_plugin.scoring import StepScorer, compute_score, reward_config

TAG = ChatConfig(preset="tag")
AUS = frozenset({1, 4, 6, 12, 17, 25})


def drawn(width: int, height: int, *, roll: float = 0.0, left=AUS, right=AUS, x: float = 0.5, **changes) -> Sample:
    who = Identity.sample(np.random.default_rng(3), tone=4)
    face = Expression(dict.fromkeys(left, 3.0), dict.fromkeys(right, 3.0))
    person = Person(who, face, Pose(roll=roll), x=x, y=0.5, scale=0.2 * min(width, height))
    made = render_scene(Scene(width, height, (person,)))
    sides = {"left": {facs.format_au(au): 3.0 for au in left}, "right": {facs.format_au(au): 3.0 for au in right}}
    values = {"emotion": "happiness", "aus": left | right, "meta": {"intensities": sides}} | changes
    return Sample("one", made.image, annotate=lambda: made.faces, **values)


def photo(sample: Sample) -> Sample:
    """The same picture, of which nothing but the pixels is known."""
    return replace(sample, annotate=None, landmarks=None, meta={})


def play(sample: Sample, boxes: object, label: str = "happiness", tools: FaceTools | None = None) -> Rollout:
    episode = ChatEpisode(sample, tools or chat_tools("auto", TAG), TAG)
    shown = " ".join(f"<bbox>{json.dumps(box)}</bbox>" for box in boxes)
    episode.step(f"<think>I look at {shown}.</think><answer>{label}</answer>")
    return episode.rollout()


def on_canvas(box: list[float]) -> list[float]:
    return [512 * share for share in box]


def au_reward(rollout: Rollout) -> float:
    return float(TAGReward().score([rollout]).parts["au"][0])


# --- from the picture to the reward -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(320, 320), (480, 240), (240, 400)])
def test_perfect_boxes_earn_one_whatever_the_pictures_shape(size):
    sample = drawn(*size)
    truth = au_boxes(sample, FaceTools(), sample.aus)
    rollout = play(sample, [on_canvas(box) for box in list(truth.values())[:3]])
    assert rollout.meta["au_boxes"] == truth and set(truth) == {facs.format_au(au) for au in AUS}
    assert au_reward(rollout) == pytest.approx(1.0, abs=1e-6)
    scores = TAGReward().score([rollout])
    assert scores.total[0] == pytest.approx(1 + 1 + 0.1, abs=1e-6)
    assert Rollout.from_dict(json.loads(json.dumps(rollout.to_dict()))) == rollout


def test_an_overlap_by_hand_on_a_wide_picture():
    own = {"AU12": [0.25, 0.5, 0.5, 1.0], "AU6": [0.0, 0.0, 0.25, 0.25]}
    sample = drawn(480, 240, aus={6, 12}, meta={"au_boxes": own})
    half = [128, 256, 256, 384]  # the upper half of AU12's box: IoU 1/2
    shifted = [192, 256, 320, 512]  # half a width beside it: 1/3
    assert au_reward(play(sample, [half])) == pytest.approx(1 / 2)
    assert au_reward(play(sample, [half, shifted])) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert au_reward(play(sample, [half, shifted, [400, 0, 500, 50]])) == pytest.approx(
        (1 / 2 + 1 / 3) / 2
    )  # best 2 of 3
    assert au_reward(play(sample, [])) == 0.0


@pytest.mark.parametrize("own", [[0, 0, 1, 1], {"AU12": [10, 10, 90, 90]}, {"AU12": None}, {"smile": [0, 0, 1, 1]}])
def test_boxes_that_are_none_are_refused_before_the_policy_is_asked(own):
    with pytest.raises(DataError, match=r"^sample 'one': au_boxes"):
        ChatEpisode(drawn(320, 320, meta={"au_boxes": own}), chat_tools(), TAG)


def test_samples_without_active_units_skip_the_au_reward():
    for aus in (None, frozenset()):
        rollout = play(drawn(320, 320, aus=aus), [[0, 0, 100, 100]])
        assert rollout.meta["au_boxes"] == {} and math.isnan(au_reward(rollout))
        assert TAGReward().score([rollout]).total[0] == pytest.approx(1.1)


def test_photos_without_a_face_skip_it_too():
    blank = Sample("blank", np.full((64, 96, 3), 127, np.uint8), "happiness", frozenset({12}))
    assert math.isnan(au_reward(play(blank, [[0, 0, 100, 100]])))


def test_a_wrong_label_keeps_the_au_reward():
    sample = drawn(320, 320)
    box = on_canvas(au_boxes(sample, FaceTools(), {12})["AU12"])
    for label in ("anger", "bliss"):
        scores = TAGReward().score([play(sample, [box], label)])
        assert scores.parts["au"][0] == pytest.approx(1.0, abs=1e-6) and scores.parts["accuracy"][0] == 0.0


def test_only_boxes_that_can_be_read_earn_the_format_bonus():
    sample = drawn(320, 320)
    assert TAGReward().score([play(sample, [[0, 0, 10, 10]])]).structure[0] == 0.1
    assert TAGReward().score([play(sample, [[0, 0, 10]])]).structure[0] == 0.0
    assert TAGReward().score([play(sample, [[0, 0, 10, 10]] * 4)]).structure[0] == 0.0


@pytest.mark.parametrize(
    ("size", "shown"), [((320, 320), (224, 224)), ((448, 224), (112, 224)), ((100, 200), (224, 112))]
)
def test_tag_shows_the_picture_at_224_and_keeps_its_shape(size, shown):
    episode = ChatEpisode(drawn(*size), chat_tools("auto", TAG), TAG)
    assert episode.images[0].shape == (*shown, 3)
    assert "512 x 512" in str(episode.messages)


def test_an_aligned_face_is_shown_as_the_picture_that_the_canvas_spans():
    sample = photo(replace(drawn(400, 200), prealigned=True))
    rollout = play(sample, [on_canvas([0.25, 0.25, 0.5, 0.5])])
    assert rollout.meta["evidence_boxes"] == [[0.25, 0.25, 0.5, 0.5]]
    assert ChatEpisode(sample, chat_tools(), TAG).images[0].shape == (112, 224, 3)


# --- where units lie ----------------------------------------------------------------------------------------


def test_every_unit_has_an_area():
    assert set(AU_AREAS) == set(facs.AU_NAMES) == set(facs.AU_DEFINITIONS)


def test_boxes_hold_the_features_that_the_renderer_knows():
    sample = drawn(480, 320, roll=12.0)
    points = sample.annotate()[-1].landmarks
    boxes = au_boxes(sample, FaceTools(), {1, 2, 4, 5, 6, 9, 12, 17, 25, 26, 43})
    held = {
        "AU1": ("left_inner_brow", "right_inner_brow"), "AU2": ("left_outer_brow", "right_outer_brow"),
        "AU4": ("left_inner_brow", "right_outer_brow"), "AU5": ("left_upper_lid", "right_eye"),
        "AU9": ("nose",), "AU12": ("left_mouth", "right_mouth"), "AU17": ("chin",), "AU25": ("upper_lip", "lower_lip"),
        "AU26": ("chin", "left_mouth"), "AU43": ("left_eye", "right_lower_lid"),
    }  # fmt: skip
    for unit, names in held.items():
        x1, y1, x2, y2 = boxes[unit]
        for name in names:
            x, y = (points[name][0] + 0.5) / 480, (points[name][1] + 0.5) / 320
            assert x1 <= x <= x2 and y1 <= y <= y2, (unit, name)
    assert iou(boxes["AU12"], boxes["AU1"]) == 0.0 and boxes["AU6"][1] > boxes["AU1"][1]


def test_a_unit_on_one_side_has_the_box_of_that_side():
    both = au_boxes(drawn(320, 320), FaceTools(), {12})["AU12"]
    left = au_boxes(drawn(320, 320, right=frozenset()), FaceTools(), {12})["AU12"]
    right = au_boxes(drawn(320, 320, left=frozenset()), FaceTools(), {12})["AU12"]
    assert left[2] < right[0] and left[0] == pytest.approx(both[0], abs=0.02)


def test_a_coders_left_is_the_persons_and_so_the_pictures_right():
    sample = drawn(320, 320, meta={"au_sides": {"AU12": "L"}})
    x1, _, x2, _ = au_boxes(sample, FaceTools(), {12})["AU12"]
    assert x1 > 0.5 and x2 > 0.5
    assert au_boxes(drawn(320, 320, meta={"au_sides": {"AU12": "R"}}), FaceTools(), {12})["AU12"][2] < 0.5


def test_a_tilt_turns_boxes_and_does_not_blow_them_up():
    upright, tilted = (au_boxes(drawn(320, 320, roll=roll), FaceTools(), {25})["AU25"] for roll in (0.0, 45.0))
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (upright, tilted)]
    assert 0.9 < area[1] / area[0] < 1.6


def test_what_lies_outside_the_picture_has_no_box():
    boxes = au_boxes(drawn(320, 320, x=0.0), FaceTools(), AUS)
    assert all(0 <= value <= 1 for box in boxes.values() for value in box)
    assert "AU12" in boxes and au_boxes(drawn(320, 320, x=-0.4), FaceTools(), AUS) == {}


def test_drawn_samples_know_their_landmarks_without_being_drawn():
    for sample in load_dataset("synthetic", split="test", n=3):
        points, size = sample.landmarks()
        assert size == sample.image.shape[1::-1]
        truth = sample.annotate()[-1].landmarks
        assert all(np.allclose(points[name], truth[name], atol=1e-3) for name in truth)
        quick = au_boxes(sample, FaceTools(), sample.aus)
        slow = au_boxes(replace(sample, landmarks=None), FaceTools(), sample.aus)
        assert quick.keys() == slow.keys()
        assert all(np.allclose(quick[unit], slow[unit], atol=1e-4) for unit in slow)


def test_five_points_lead_to_nearly_the_same_boxes():
    sample = drawn(400, 300, left=frozenset(), right=frozenset())
    five = sample.annotate()[-1].five().astype(float) + 0.5
    tools = FaceTools(Fixed(five))
    units = (1, 4, 6, 12, 17, 25, 26, 43)
    exact, found = au_boxes(sample, tools, units), au_boxes(photo(sample), tools, units)
    assert min(iou(exact[unit], found[unit]) for unit in exact) > 0.6


class Fixed:
    """A detector that knows one face."""

    name = "fixed"

    def __init__(self, five, dense=None):
        self.five, self.dense = five, dense

    def detect(self, image):
        from actfer_env.tools import Face

        return [Face((0.0, 0.0, 1.0, 1.0), self.five, 1.0, self.dense)]


def test_dense_points_move_the_boxes_where_there_are_any():
    sample = photo(drawn(300, 300))
    five = Alignment.of_prealigned((300, 300)).landmarks
    dense = np.tile(np.array([[150.0, 150.0]]), (106, 1))
    dense[:33] = np.linspace([90, 120], [210, 120], 33)
    dense[16] = (150, 275)  # the chin
    for group, (x, y) in (
        ((33, 43), (115, 123)),
        ((87, 97), (185, 123)),
        ((43, 52), (115, 90)),
        ((97, 106), (185, 90)),
    ):
        steps = np.linspace(-14, 14, group[1] - group[0])
        dense[slice(*group)] = np.stack([x + steps, y + 0 * steps], axis=1)
    plain, near = (au_boxes(sample, FaceTools(Fixed(five, points)), {1, 17}) for points in (None, dense))
    assert near["AU17"][3] > plain["AU17"][3]  # a longer chin
    assert near["AU1"] != plain["AU1"] and near["AU1"][1] < 90 / 300 < near["AU1"][3]


def test_boxes_of_a_manifest_travel_to_every_process(tmp_path):
    save_png(drawn(480, 240).image, tmp_path / "a.png")
    record = {
        "id": "a", "dataset": "mine", "image": "a.png", "AUs": ["AU6", "AU12"], "labels": ["happiness"],
        "meta_info": {"au_boxes": {"au_12": [0.25, 0.5, 0.5, 1.0], "AU25": [0, 0, 0.1, 0.1]}},
    }  # fmt: skip
    (tmp_path / "mine.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    dataset = load_dataset("jsonl", root=tmp_path / "mine.jsonl")
    for sample in (dataset[0], sample_of(json.dumps(reference(dataset[0], dataset)))):
        rollout = play(sample, [[128, 256, 256, 512]])
        assert rollout.meta["au_boxes"] == {"AU12": [0.25, 0.5, 0.5, 1.0]}  # AU25 is not active
        assert au_reward(rollout) == 1.0


# --- every front end ----------------------------------------------------------------------------------------


def test_the_policys_zooms_are_its_boxes_where_it_does_not_write():
    sample, tools = photo(drawn(400, 300)), FaceTools(Fixed(drawn(400, 300).annotate()[-1].five().astype(float) + 0.5))
    from actfer_env.episode import Episode

    episode = Episode(sample, tools)
    episode.detect_align()
    episode.zoom_in(["mouth-chin"])
    episode.answer("happiness")
    rollout = ground(episode.rollout(), sample, tools)
    (box,) = rollout.meta["evidence_boxes"]
    x1, _, x2, y2 = rollout.meta["au_boxes"]["AU12"]
    assert box[0] < x1 and box[2] > x2 and box[3] > y2
    assert 0 < au_reward(rollout) < 1


def test_group_environments_hand_boxes_to_a_reward_that_reads_them():
    import actfer_env

    dataset = Dataset("mine", [drawn(320, 240)])
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 2, dataset=dataset)
    for scorer, expected in ((envs.scorer, None), (TAGReward(), True)):
        envs.scorer = scorer
        obs, info = envs.reset(seed=0)
        from actfer_env.agents import ScriptedAgent

        agent = ScriptedAgent(envs.single_action_space, "full")
        while "rollout" not in info:
            obs, _, _, _, info = envs.step(agent.act(obs, info))
        rollout = info["rollout"][0]
        assert ("au_boxes" in rollout.meta) is bool(expected)
    assert len(rollout.meta["evidence_boxes"]) == 2 and 0 < au_reward(rollout) < 1
    envs.close()


def test_verl_scores_by_the_other_papers_rewards_too():
    sample = drawn(320, 320)
    box = on_canvas(au_boxes(sample, FaceTools(), {12})["AU12"])
    fields = {"rollout": json.dumps(play(sample, [box]).to_dict())}
    assert compute_score("", "", "", fields, variant="tag")["score"] == pytest.approx(2.1, abs=1e-6)
    scorer = StepScorer(reward_config({"variant": "tag", "format_bonus": 0.2}))
    _, rollouts, scores = scorer.score(["q", "q"], [fields, fields], [False, False])
    assert scores.total.tolist() == pytest.approx([2.2, 2.2], abs=1e-6)
    assert scorer.metrics(rollouts, scores)["ucgrpo/accuracy"] == 1.0


def test_the_au_iou_is_a_figure_of_a_run():
    sample = drawn(320, 320)
    box = on_canvas(au_boxes(sample, FaceTools(), {12})["AU12"])
    found = summarize([play(sample, [box]), play(sample, []), play(drawn(320, 320, aus=None), [box])])
    assert (found.au_iou, found.au_boxed) == (pytest.approx(0.5, abs=1e-6), 2)
    assert summarize([]).au_iou is None


@pytest.mark.parametrize("box", ["[nan, 1, 2, 3]", "[1e999, 1, 2, 3]", "[1, 2, 3]", "[a, 1, 2, 3]"])
def test_a_box_that_is_none_is_passed_over(box, tmp_path):
    episode = ChatEpisode(drawn(200, 200), chat_tools(), TAG)
    good = "<bbox>[100, 100, 200, 200]</bbox>"
    episode.step(f"<think>AU12 <bbox>{box}</bbox> {good}</think><answer>happy</answer>")
    made = episode.rollout()
    assert len(made.meta["evidence_boxes"]) == 1
    json.dumps(made.to_dict(), allow_nan=False)
