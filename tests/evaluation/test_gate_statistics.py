"""Statistics of the gate report: worked by hand, and properties that hold for any outcomes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from actfer_env.evaluation.gate.statistics import (
    estimate,
    estimate_mean,
    gain_and_harm,
    oracle,
    qini,
    rank_correlation,
    regret,
    threshold_gate,
    uplift_curve,
)
from actfer_env.evaluation.gate.where import carrying, helping, hits, share_of_hits

BITS = st.integers(1, 12).flatmap(lambda n: arrays(np.float64, (4, n), elements=st.sampled_from([0.0, 1.0])))


def test_regret_is_the_share_of_the_room_above_the_better_fixed_gate_that_is_missed():
    assert regret(policy=0.60, never=0.50, always=0.55, best=0.65) == pytest.approx(0.5)
    assert regret(policy=0.50, never=0.50, always=0.55, best=0.65) == pytest.approx(1.5)  # worse than always
    assert regret(policy=0.65, never=0.50, always=0.55, best=0.65) == 0
    assert np.isnan(regret(policy=0.5, never=0.5, always=0.5, best=0.5))  # nothing to gain


def test_an_oracle_chooses_on_one_half_of_the_repeats_and_is_scored_on_the_other():
    # Even repeats say "never", odd ones say "always"; each choice is scored where it is wrong.
    never, always = np.array([[1.0, 0, 1, 0]]), np.array([[0.0, 1, 0, 1]])
    assert oracle(never, always).tolist() == [0.0]
    assert np.maximum(never.mean(1), always.mean(1)).tolist() == [0.5]  # what looking at all repeats would claim
    # Where both halves agree it gets the better one; ties count half each; one repeat is scored by itself.
    assert oracle(np.array([[1.0, 1, 0, 1]]), np.array([[0.0, 0, 0, 0]])).tolist() == [0.75]
    assert oracle(np.array([[1.0, 0]]), np.array([[1.0, 0]])).tolist() == [0.5]
    assert oracle(np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]])).tolist() == [1.0, 1.0]


def test_an_uplift_curve_adds_up_what_the_first_ones_gain_and_ties_come_together():
    rates, gains = uplift_curve(np.array([0.9, 0.1, 0.8, 0.2]), np.array([1.0, -1, 0, 0]))
    assert rates.tolist() == [0, 0.25, 0.5, 0.75, 1] and gains.tolist() == [0, 0.25, 0.25, 0.25, 0]
    rates, gains = uplift_curve(np.array([1.0, 0, 1, 0]), np.array([1.0, -1, 0, 0]))
    assert rates.tolist() == [0, 0.5, 1] and gains.tolist() == [0, 0.25, 0]


def test_qini_is_1_for_the_best_order_0_for_none_and_minus_1_for_its_reverse():
    uplift = np.array([1.0, 0, 0, -1])
    # Areas by hand: trapezoids of 0, .25, .25, .25, 0 are .1875, the chord is 0.
    assert qini(np.array([0.9, 0.8, 0.2, 0.1]), uplift) == pytest.approx(1)
    assert qini(np.array([0.1, 0.2, 0.8, 0.9]), uplift) == pytest.approx(-1)
    assert qini(np.full(4, 0.5), uplift) == pytest.approx(0)
    assert qini(np.array([1.0, 1, 0, 0]), uplift) == pytest.approx(0.125 / 0.1875)
    assert np.isnan(qini(np.array([1.0, 0]), np.array([1.0, 1])))


def test_gain_and_harm_are_mass_times_policy_times_quality():
    without = np.array([0, 0, 0, 1, 1, 1], bool)
    free, called = np.array([1, 1, 0, 0, 1, 0], bool), np.array([1, 0, 1, 1, 1, 0], bool)
    found = gain_and_harm(without, free, called)
    assert {name: one["value"] for name, one in found.items()} == pytest.approx(dict.fromkeys(found, 1 / 6))
    assert found["call_gain"] == pytest.approx({"value": 1 / 6, "mass": 0.5, "policy": 2 / 3, "quality": 0.5})
    assert found["schema_harm"] == pytest.approx({"value": 1 / 6, "mass": 0.5, "policy": 1 / 3, "quality": 1.0})


def test_a_rank_correlation_is_spearmans():
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([10.0, 20, 400])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 1, 0, 0])) == pytest.approx(-2 / 5**0.5)
    assert np.isnan(rank_correlation(np.array([1.0, 1]), np.array([0.0, 1])))


def test_a_threshold_is_scored_on_the_samples_that_did_not_choose_it():
    half = np.array([True, False] * 4)
    signal = np.array([1.0, 1, 2, 2, 8, 8, 9, 9])
    never, always = np.where(signal > 5, 0.0, 1), np.where(signal > 5, 1.0, 0)
    assert threshold_gate(signal, never, always, half).tolist() == [1.0] * 8
    # The two halves disagree, so that each threshold is wrong on the other half.
    odd = np.where(half, always, never), np.where(half, never, always)
    assert threshold_gate(signal, *odd, half).tolist() == [0.0] * 8


def test_looks_are_counted_against_those_at_random():
    assert carrying([12]) == {"mouth-chin"} and carrying([]) is None and carrying(None) is None
    assert helping(np.array([0.0, 1, 1, 0]), 0.0) == {"eye-periorbital", "nose"}
    assert helping(np.ones(4), 0.0) is None and helping(np.array([1.0, 0, 0, 0]), 1.0) is None
    targets = [frozenset({"nose"}), frozenset({"nose", "mouth-chin"}), None]
    counts = hits([("nose", "mouth-chin"), ("mouth-chin",), ("nose",)], targets)
    assert counts.tolist() == [[1, 0.5, 2], [1, 0.5, 1], [0, 0, 0]]
    found = share_of_hits(counts)
    assert (found["looks"], found["share"], found["chance"]) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found["gain"]["value"] == pytest.approx(1 / 3)
    assert share_of_hits(np.zeros((2, 3)))["share"] is None


def test_intervals_hold_the_value_and_are_missing_where_there_is_none():
    values = np.arange(50.0)
    for found in (estimate_mean(values), estimate(lambda rows: float(values[rows].mean()), 50)):
        assert found.value == 24.5 and found.low < 24.5 < found.high and 6 < found.high - found.low < 10
    assert estimate(lambda rows: float("nan"), 5).to_dict() == {"value": None, "low": None, "high": None}
    assert estimate_mean(np.zeros(0)).value is None


@given(BITS, st.floats(0, 0.3))
def test_properties_of_any_outcomes(outcomes, cost):
    never, always = outcomes[:2, :, None]
    free, called = outcomes[2:, :] > 0.5
    paid, n = always - cost, outcomes.shape[1]
    best = oracle(never, paid)
    worth = [float(one.mean()) for one in (never, paid, best)]
    assert worth[2] >= max(worth[:2]) - 1e-9
    if worth[2] - max(worth[:2]) > 1e-9:
        assert regret(worth[2], *worth) == pytest.approx(0)
        assert regret(max(worth[:2]), *worth) == pytest.approx(1)
    found = gain_and_harm(never[:, 0] > 0.5, free, called)
    for one in found.values():
        assert one["value"] == pytest.approx(one["mass"] * one["policy"] * one["quality"])
    change = found["call_gain"]["value"] + found["schema_gain"]["value"]
    change -= found["call_harm"]["value"] + found["schema_harm"]["value"]
    assert change == pytest.approx(free.mean() - never.mean())
    gap = (always - never)[:, 0]
    area = qini(np.arange(n, dtype=float), gap)
    assert np.isnan(area) or -1 - 1e-9 <= area <= 1 + 1e-9
    assert np.isin(threshold_gate(np.arange(n, dtype=float), never[:, 0], paid[:, 0], np.arange(n) % 2 == 0),
                   [0, 1, -cost, 1 - cost]).all()  # fmt: skip
