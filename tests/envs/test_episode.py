"""The state machine: what is legal, what is a violation, and what a rollout keeps."""

import json

import pytest
from helpers import PortraitDetector, portrait_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from actfer_env import facs
from actfer_env.episode import Episode, EpisodeConfig, State
from actfer_env.errors import DataError
from actfer_env.rollout import VIOLATIONS, Rollout, ToolCall, read_rollouts, write_rollouts
from actfer_env.tools import Face, FaceTools
from actfer_env.tools.schema import from_unit, to_unit, tool_schemas

TOOLS = FaceTools(PortraitDetector())
BLIND = FaceTools(PortraitDetector([]))


def start(tools=TOOLS, sample=None, **config):
    return Episode(sample or portrait_sample(), tools, EpisodeConfig(**config))


def aligned(**config):
    episode = start(**config)
    episode.detect_align()
    return episode


def test_the_full_trajectory():
    episode = start()
    assert episode.legal_tools() == ("detect_align", "answer")
    found = episode.detect_align()
    assert found.legal and found.alignment.faces == 1 and episode.state is State.ALIGNED
    assert episode.legal_regions() == facs.REGIONS
    (crop,) = episode.zoom_in("mouth-chin").crops
    assert crop.region == "mouth-chin" and episode.legal_regions() == facs.REGIONS[:3]
    assert episode.answer("happy", ["AU6", 12]).done
    rollout = episode.rollout()
    assert (rollout.predicted_emotion, rollout.predicted_aus) == ("happiness", {6, 12})
    assert rollout.zoomed and rollout.detection == "ok" and rollout.turns == 3 and not rollout.truncated
    assert rollout.tool_calls[1].boxes == (crop.box,)
    assert rollout.violations == () and rollout.correct


def test_the_message_names_the_face_that_was_aligned():
    one = PortraitDetector().faces[0]
    small = Face((0.0, 0.0, 20.0, 20.0), one.landmarks / 10, 0.9)
    for choice, word in (("largest", "face 1 of 2"), (1, "face 2 of 2")):
        result = start(FaceTools(PortraitDetector([small, one]), face=choice)).detect_align()
        assert word in result.message
    assert "Aligned one face." in start().detect_align().message


def test_answering_without_looking_is_legal_and_noted():
    episode = start()
    episode.answer("fear")
    rollout = episode.rollout()
    assert rollout.detection == "not_called" and not rollout.zoomed and rollout.correct is False


def test_no_face_leaves_only_the_answer():
    episode = start(BLIND)
    assert episode.detect_align().alignment is None and episode.state is State.NO_FACE
    assert episode.legal_tools() == ("answer",)
    assert episode.zoom_in("nose").violation == "illegal_order"
    episode.answer("happiness")
    assert episode.rollout().detection == "failed"


def test_a_prealigned_sample_starts_aligned_with_the_templates_regions():
    episode = start(sample=portrait_sample(prealigned=True))
    assert episode.state is State.ALIGNED and episode.alignment.prealigned
    assert episode.detect_align().violation == "illegal_order"
    assert episode.zoom_in("nose").legal
    episode.answer("happiness")
    assert episode.rollout().detection == "prealigned"


@pytest.mark.parametrize(
    ("make", "act", "violation", "message"),
    [
        (start, lambda e: e.zoom_in("nose"), "illegal_order", "detect_align was not called"),
        (aligned, lambda e: e.detect_align(), "repeated_call", "called already"),
        (aligned, lambda e: (e.zoom_in("nose"), e.zoom_in("nose"))[1], "repeated_call", "magnified already"),
        (aligned, lambda e: e.zoom_in(["nose", "nose"]), "repeated_call", "magnified already"),
        (aligned, lambda e: (e.zoom_in("nose"), e.zoom_in(boxes=[e.alignment.regions["nose"]]))[1], "repeated_call",
         "magnified already"),
        (lambda: aligned(max_zooms=1), lambda e: (e.zoom_in("nose"), e.zoom_in("eyes"))[1], "over_budget", "1 zooms"),
        (lambda: aligned(max_zooms=1), lambda e: e.zoom_in(["nose", "eyes"]), "over_budget", "1 are left"),
        (aligned, lambda e: e.zoom_in("ear"), "bad_arguments", "unknown region 'ear'"),
        (aligned, lambda e: e.zoom_in(boxes=[[0.1, 0.2, 0.3]]), "bad_arguments", "four numbers"),
        (aligned, lambda e: e.zoom_in(boxes=[[0.5, 0.5, 0.1, 0.9]]), "bad_arguments", "inverted"),
        (aligned, lambda e: e.zoom_in(boxes=[[float("nan"), 0, 1, 1]]), "bad_arguments", "finite"),
        (aligned, lambda e: e.zoom_in(boxes=[[0.5, 0.5, 1.5, 0.9]]), "bad_arguments", "outside"),
        (aligned, lambda e: e.zoom_in(), "bad_arguments", "needs regions"),
        (aligned, lambda e: e.call("zoom_in", {"bbox": [0, 0, 1, 1]}), "bad_arguments", "regions, boxes, image"),
        (start, lambda e: e.call("detect_align", {"x": 1}), "bad_arguments", "arguments: none"),
        (start, lambda e: e.call("detect_align", [1]), "bad_arguments", "arguments: none"),
        (start, lambda e: e.call("rotate", {}), "unknown_tool", "no tool 'rotate'"),
        (start, lambda e: e.answer("glee"), "bad_arguments", "unknown emotion 'glee'"),
        (start, lambda e: e.answer("fear", ["AU99"]), "bad_arguments", "unknown Action Unit"),
        (start, lambda e: e.violate("parse_error", "no JSON"), "parse_error", "no JSON"),
    ],
)  # fmt: skip
def test_each_violation_costs_a_turn_changes_nothing_and_says_what_is_legal(make, act, violation, message):
    episode = make()
    before = None
    result = act(episode)
    before = (episode.state, len(episode.crops))
    assert result.violation == violation and not result.legal
    assert message in result.message and "Legal now: " in result.message
    assert episode.calls[-1].violation == violation and episode.turn == len(episode.calls)
    assert before == (episode.state, len(episode.crops)) and episode.predicted_emotion is None


def test_every_violation_has_a_case_above():
    marks = test_each_violation_costs_a_turn_changes_nothing_and_says_what_is_legal.pytestmark
    assert {case[2] for case in marks[0].args[1]} == set(VIOLATIONS)


def test_turns_used_up_without_an_answer():
    episode = start(max_turns=2)
    episode.detect_align()
    assert episode.zoom_in("nose").done
    rollout = episode.rollout()
    assert rollout.truncated and rollout.predicted_emotion is None and rollout.turns == 2
    with pytest.raises(RuntimeError, match="over"):
        episode.answer("fear")


def test_a_rollout_needs_a_finished_episode():
    with pytest.raises(RuntimeError, match="not over"):
        start().rollout()


def test_targets_and_answers_are_restricted_to_the_au_set_and_what_was_dropped_is_noted():
    episode = start(au_set=facs.DISFA_AUS, sample=portrait_sample(aus=frozenset({6, 12, 43})))
    episode.answer("happiness", [12, 14])
    rollout = episode.rollout()
    assert rollout.aus == {6, 12} and rollout.predicted_aus == {12}
    assert rollout.meta["dropped_aus"] == ["AU43"] and rollout.meta["dropped_predicted_aus"] == ["AU14"]


@pytest.mark.parametrize("config", [{"max_turns": 0}, {"max_zooms": -1}, {"au_set": (3,)}])
def test_impossible_budgets_are_refused(config):
    with pytest.raises(ValueError, match=r"max_(turns|zooms)|unknown Action Unit"):
        EpisodeConfig(**config)


def test_detection_and_decoding_happen_once_for_all_episodes_of_a_sample():
    detector, sample, loads = PortraitDetector(), portrait_sample(), []
    counted = portrait_sample(source=lambda: loads.append(1) or sample.load())
    tools = FaceTools(detector)
    for _ in range(8):
        episode = start(tools, counted)
        episode.detect_align()
        episode.zoom_in("nose")
    assert detector.calls == tools.detections == len(loads) == 1


# --- random episodes -------------------------------------------------------------------------------------------------

VALUES = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=6)
NAMES = st.lists(st.sampled_from(facs.REGIONS), max_size=3)
CALLS = st.one_of(
    st.just(("detect_align", {})),
    st.tuples(st.just("zoom_in"), st.fixed_dictionaries({"regions": NAMES})),
    st.tuples(st.just("zoom_in"), st.fixed_dictionaries({"boxes": VALUES})),
    st.tuples(st.just("zoom_in"), st.dictionaries(st.sampled_from(["regions", "boxes", "image", "x"]), VALUES)),
    st.tuples(st.text(max_size=8), VALUES),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(CALLS, max_size=8), st.sampled_from([TOOLS, BLIND]), st.sampled_from(facs.EMOTIONS))
def test_any_sequence_of_calls_ends_within_budget_and_round_trips(calls, tools, emotion):
    episode = start(tools)
    for name, arguments in calls:
        if episode.done:
            break
        legal, state = episode.legal_tools(), episode.state
        result = episode.call(name, arguments)
        assert not result.legal or name in legal
        assert result.legal or episode.done or episode.state is state
    if not episode.done:
        episode.answer(emotion, [12])
    rollout = episode.rollout(texts=["a"], meta={"k": [1]})
    assert rollout.turns <= 6 and len(episode.crops) <= 4
    assert Rollout.from_dict(json.loads(json.dumps(rollout.to_dict(), allow_nan=False))) == rollout


# --- records ---------------------------------------------------------------------------------------------------------


def record(**changes):
    fields = {"sample_id": "s", "group_id": "g", "emotion": "fear", "aus": frozenset({1}), "predicted_emotion": None,
              "predicted_aus": None, "tool_calls": (), "detection": "ok"}  # fmt: skip
    return Rollout(**{**fields, **changes})


def test_rollouts_round_trip_through_a_file(tmp_path):
    call = ToolCall("zoom_in", {"regions": ["nose"]}, None, 1, ((0.1, 0.2, 0.3, 1 / 3),), {"crops": []}, 1.5)
    rollouts = [record(), record(aus=None, tool_calls=(call,), texts=("ü\u2028</x>",), seed=3, meta={"a": 1})]
    write_rollouts(tmp_path / "r.jsonl", rollouts)
    assert read_rollouts(tmp_path / "r.jsonl") == rollouts
    first = json.loads((tmp_path / "r.jsonl").read_text().split("\n")[0])
    assert first["schema"] == 1 and first["aus"] == ["AU1"]


def test_elapsed_time_is_left_out_of_equality():
    assert ToolCall("a", elapsed_ms=1.0) == ToolCall("a", elapsed_ms=2.0)


@pytest.mark.parametrize("line", ["{", "[1]", "{}", '{"schema": 2}', '{"schema": 1, "sample_id": "x"}'])
def test_a_broken_line_is_named_by_number(tmp_path, line):
    write_rollouts(tmp_path / "r.jsonl", [record()])
    with (tmp_path / "r.jsonl").open("a") as handle:
        handle.write(line + "\n")
    with pytest.raises(DataError, match="line 2"):
        read_rollouts(tmp_path / "r.jsonl")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.jsonl"
    write_rollouts(path, [record()])
    with pytest.raises(ValueError, match=r"JSON compliant|Out of range"):
        write_rollouts(path, [record(meta={"bad": float("nan")})])
    assert read_rollouts(path) == [record()] and list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="cannot write"):
        write_rollouts(path / "below-a-file" / "r.jsonl", [])


# --- schemas ---------------------------------------------------------------------------------------------------------


def example(schema):
    """The smallest value that a schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "array":
        return [example(schema["items"]) for _ in range(schema["minItems"])]
    return schema.get("minimum", 0)


@pytest.mark.parametrize("coordinates", ["relative_1000", "pixels", "unit"])
def test_every_tool_takes_what_its_schema_allows_and_refuses_what_it_forbids(coordinates):
    for tool in tool_schemas(coordinates):
        function = tool["function"]
        parameters = function["parameters"]
        for name, schema in parameters["properties"].items():
            arguments = {name: example(schema)}
            if name == "boxes":
                arguments = {"boxes": [to_unit((100, 200, 700, 800) if coordinates != "unit" else (0.1, 0.2, 0.7, 0.8),
                                               coordinates, (1000, 1000))]}  # fmt: skip
            if name == "image":
                arguments["regions"] = ["nose"]
            assert aligned().call(function["name"], arguments).legal
        assert aligned().call(function["name"], {"forbidden": 1}).violation
    zoom = tool_schemas(coordinates)[1]["function"]["parameters"]["properties"]
    assert zoom["regions"]["items"]["enum"] == list(facs.REGIONS)
    for forbidden in ({"regions": ["ear"]}, {"regions": []}, {"boxes": [[1, 2, 3]]},
                      {"image": "crop", "regions": ["nose"]}, {"regions": [*facs.REGIONS, "nose"]}):  # fmt: skip
        assert aligned().call("zoom_in", forbidden).violation


def test_coordinates_on_the_wire():
    assert to_unit((100, 200, 500, 1000), "relative_1000", (640, 480)) == (0.1, 0.2, 0.5, 1.0)
    assert to_unit((64, 48, 320, 480), "pixels", (640, 480)) == (0.1, 0.1, 0.5, 1.0)
    assert from_unit((0.1, 0.1, 0.5, 1.0), "pixels", (640, 480)) == (64, 48, 320, 480)
    assert from_unit((0.1, 0.2, 0.5, 1.0), "relative_1000", (640, 480)) == (100, 200, 500, 1000)
