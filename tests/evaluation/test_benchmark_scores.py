"""Figures of benchmarks: equal to scikit-learn's, worked out by hand, and those that were published."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actfer_env import facs
from actfer_env.data.loaders.ferbench import FERBENCH_SETS
from actfer_env.evaluation.benchmarks.published import DISFA_ROWS, FERBENCH_ROWS, TAG_ROWS, averaged_over
from actfer_env.evaluation.metrics import summarize
from actfer_env.rollout import Rollout

metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra tables")
pytest.importorskip("rouge_score", reason="needs the extra tables")

from actfer_env.evaluation.benchmarks.scores import (  # noqa: E402
    UNKNOWN,
    ferbench_label,
    ferbench_scores,
    label_scores,
    rouge_l,
    unit_scores,
)

RAFDB, FERPLUS = FERBENCH_SETS["rafdb"].labels, FERBENCH_SETS["ferplus"].labels
EMOTION = st.sampled_from(facs.EMOTIONS)
UNITS = st.frozensets(st.sampled_from(facs.AU_SETS["disfa12"]))
LABELLED = st.lists(st.tuples(EMOTION, st.none() | EMOTION), min_size=1, max_size=40)
CODED = st.lists(st.tuples(UNITS, st.none() | UNITS), min_size=1, max_size=30)


def rollout(target, answer, units=None, answered_units=None):
    return Rollout("s", f"{np.random.default_rng().integers(2**60)}", target, units, answer, answered_units, (), "ok")


@settings(max_examples=40)
@given(LABELLED, st.sampled_from([facs.EMOTIONS, facs.EMOTIONS[:7]]))
def test_emotion_figures_equal_scikit_learns_with_absent_classes_and_no_answers(pairs, labels):
    pairs = [pair for pair in pairs if pair[0] in labels] or [(labels[0], None)]
    targets, answers = [one for one, _ in pairs], [two for _, two in pairs]
    found = label_scores(targets, answers, labels)
    text = [str(two) for two in answers]
    present = sorted(set(targets))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(targets, text))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(targets, text, labels=present, average="macro"))
    assert sum(sum(row) for row in found.confusion.values()) == found.items == len(pairs)
    assert all(len(row) == len(labels) + 2 for row in found.confusion.values())
    # The summary of a run, which needs no scikit-learn, says the same.
    summary = summarize([rollout(one, two) for one, two in pairs])
    assert summary.accuracy == pytest.approx(found.accuracy) and summary.macro_f1 == pytest.approx(found.macro_f1)
    assert summary.emotion_f1 == pytest.approx(found.f1)


@settings(max_examples=40)
@given(CODED, st.sampled_from(["disfa", "disfa7", "disfa12", "6,12", "6"]))
def test_unit_figures_equal_scikit_learns_with_empty_sets_and_no_answers(pairs, name):
    units = facs.parse_au_set(name)
    found = unit_scores([one for one, _ in pairs], [two for _, two in pairs], units)
    each = []
    for unit in units:
        target, answer = [unit in one for one, _ in pairs], [unit in (two or ()) for _, two in pairs]
        value = found.f1[facs.format_au(unit)]
        if any(target) or any(answer):
            each.append(metrics.f1_score(target, answer, zero_division=0.0))
            assert value == pytest.approx(each[-1])
        else:
            assert value is None
    assert found.mean_f1 == (pytest.approx(np.mean(each)) if each else None)
    summary = summarize([rollout("fear", None if two is None else "fear", one, two) for one, two in pairs],
                        au_set=units)  # fmt: skip
    assert summary.au_macro_f1 == (None if found.mean_f1 is None else pytest.approx(found.mean_f1))
    assert summary.au_instance_f1 == pytest.approx(found.image_f1)


@settings(max_examples=25)
@given(LABELLED)
def test_ferbenchs_macro_f1_is_scikit_learns_over_all_labels_that_occur(pairs):
    targets, answers = [one for one, _ in pairs], [two or UNKNOWN for _, two in pairs]
    found = ferbench_scores(targets, answers)
    assert found.macro_f1 == pytest.approx(metrics.f1_score(targets, answers, average="macro", zero_division=0.0))
    assert found.averaged == len({*targets, *answers}) and found.unknown == answers.count(UNKNOWN)


@pytest.mark.parametrize(
    ("response", "labels", "part", "read"),
    [
        ("<answer>fear</answer>", RAFDB, "rafdb", "fear"),
        ("<answer> It is Fear. </answer>", RAFDB, "rafdb", "fear"),
        # Two labels in the answer: the first of the set's list, not of the text.
        ("<answer>happiness, not surprise</answer>", RAFDB, "rafdb", "surprise"),
        # "happy" is no label of RAF-DB: the reasoning is searched, and has "surprise" in it.
        ("<think>no surprise here</think><answer>happy</answer>", RAFDB, "rafdb", "surprise"),
        ("<answer>happy</answer>", RAFDB, "rafdb", "happiness"),  # by the synonym
        ("<answer>happiness</answer>", FERPLUS, "ferplus", "happy"),
        ("<answer>unhappy</answer>", FERPLUS, "ferplus", "happy"),  # "happy" stands in it
        ("<think>a mad look</think>", RAFDB, "rafdb", UNKNOWN),  # "mad" counts in two sets alone
        ("<think>a mad look</think>", FERBENCH_SETS["sfew"].labels, "sfew", "angry"),
        ("I cannot tell", RAFDB, "rafdb", UNKNOWN),
        ("", RAFDB, "rafdb", UNKNOWN),
        ("<answer>\nfear\n</answer>", RAFDB, "rafdb", "fear"),
        ("<answer>scorn</answer>", RAFDB, "rafdb", UNKNOWN),  # RAF-DB has no contempt
    ],
)
def test_labels_are_read_as_ferbench_reads_them(response, labels, part, read):
    assert ferbench_label(response, labels, part) == read


def test_the_two_rules_differ_by_hand():
    # Four items of RAF-DB, strictly: happiness (right), no answer, fear (wrong), and one that could not be run.
    targets = ["happiness", "fear", "sadness", "sadness"]
    strict = label_scores(targets, ["happiness", None, "fear", None], RAFDB)
    assert strict.accuracy == pytest.approx(1 / 4)
    # happiness 1; fear: no hit, 1 target, 1 answer, 0; sadness: no answer, 0. Mean over the three that are targets.
    assert strict.f1 == {"fear": 0.0, "happiness": 1.0, "sadness": 0.0} and strict.macro_f1 == pytest.approx(1 / 3)
    assert strict.confusion["sadness"] == (0, 1, 0, 0, 0, 0, 0, 1, 0)  # one as fear, one without an answer
    # FERBench leaves the last one out, reads "happiness" in "happy face", and finds nothing in the second.
    responses = ["<answer>happy face</answer>", "I cannot say", "<answer>fear</answer>"]
    read = [ferbench_label(one, RAFDB, "rafdb") for one in responses]
    assert read == ["happiness", UNKNOWN, "fear"]
    found = ferbench_scores(targets[:3], read)
    assert found.accuracy == pytest.approx(1 / 3) and found.averaged == 4
    # happiness 1; fear 0, sadness 0, and "unknown", a class of its own, 0: a mean over four.
    assert found.macro_f1 == pytest.approx(1 / 4)


def test_a_policy_that_always_names_two_units_has_what_the_empty_frames_leave_it():
    # Ten frames, six of them empty, four with AU12 and AU25: precision 4/10, recall 1, F1 8/14.
    targets = [frozenset({12, 25})] * 4 + [frozenset()] * 6
    found = unit_scores(targets, [frozenset({12, 25})] * 10, facs.DISFA_AUS)
    assert found.mean_f1 == pytest.approx(8 / 14) and found.f1["AU12"] == pytest.approx(0.571, abs=1e-3)
    assert found.image_f1 == pytest.approx(4 / 10) and found.f1["AU1"] is None
    assert unit_scores([], [], facs.DISFA_AUS).mean_f1 is None


def test_published_rows_follow_from_their_emotions_over_eight_or_nine_classes():
    over = {row.name: averaged_over(row.values) for row in FERBENCH_ROWS}
    nine = {"InternVL3-8B", "Gemini-2.5-Flash", "Gemini-2.5-Pro"}
    assert {name for name, count in over.items() if count == 9} == nine
    assert {name for name, count in over.items() if count is None} == {"Qwen2.5-VL-7B"}
    assert all(any("over 9" in note for note in row.notes) for row in FERBENCH_ROWS if row.name in nine)
    flash = next(row for row in FERBENCH_ROWS if row.name == "Gemini-2.5-Flash")
    assert sum(flash.values[one] for one in facs.EMOTIONS) / 8 == pytest.approx(51.15, abs=0.01)
    assert any("51.15" in note for note in flash.notes)


def test_published_means_follow_from_their_columns_or_say_that_they_do_not():
    for row in DISFA_ROWS:
        units = [value for name, value in row.values.items() if name != "mean F1"]
        assert np.mean(units) == pytest.approx(row.values["mean F1"], abs=0.06)
        assert (len(units) == 7) == any("seven" in note for note in row.notes)
    for row in TAG_ROWS:
        *sets, average = row.values.values()
        assert np.mean(sets) == pytest.approx(average, abs=0.011) or any("average" in note for note in row.notes)


def test_descriptions_are_compared_by_rouge_l():
    # Longest common subsequence "brows ... down": 2 of 3 reference words, 2 of 2 words: F = 2*(2/3)*1/(5/3) = 0.8.
    assert rouge_l(["brows pulled down"], ["Brows down!"]) == pytest.approx(0.8)
    assert rouge_l(["brows pulled down", "lips part"], ["Brows down!", ""]) == pytest.approx(0.4)
    assert rouge_l([], []) is None
