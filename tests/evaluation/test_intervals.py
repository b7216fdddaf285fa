"""Means with intervals: golden numbers by hand, and scipy's own as a check."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from actfer_env.evaluation.intervals import PLUS_MINUS, Interval, bootstrap, plus_minus, t_quantile

VALUES = arrays.arrays(float, st.integers(2, 40), elements=st.floats(-1e3, 1e3, allow_subnormal=False))


@pytest.mark.parametrize(
    ("n", "t"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262), (11, 2.228), (12, 2.201), (31, 2.042), (121, 1.980)]
)
def test_quantiles_are_those_of_the_printed_tables(n, t):
    assert t_quantile(n - 1) == pytest.approx(t, abs=5e-4)


def test_an_interval_by_hand():
    found = Interval.of([1.0, 2.0, 3.0])
    assert (found.mean, found.n, found.error) == (2.0, 3, pytest.approx(1 / math.sqrt(3)))
    assert found.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-5)
    assert found.low == pytest.approx(4 - found.high)
    assert Interval.of([1.0, math.nan, 3.0]) == Interval.of([1.0, 3.0])


def test_eleven_values_have_a_wider_interval_than_the_normal_one():
    found = Interval.of(range(11))
    assert found.error == pytest.approx(1.0) and found.high - found.mean == pytest.approx(2.228, abs=5e-4)


def test_one_value_and_none_have_no_interval():
    assert str(Interval.of([0.5])) == "0.500" and Interval.of([0.5]).high == math.inf
    assert math.isnan(Interval.of([]).mean) and Interval.of([]).n == 0
    assert str(Interval.of([math.nan])) == "–"


def test_tables_show_either_spread_and_say_which():
    found = Interval.of([0.01, 0.02, 0.03])
    assert str(found) == "0.020 ± 0.025"
    assert found.text(1, spread="error", scale=100, sign=True) == "+2.0 ± 0.6"
    assert found.text(1, scale=100) == "2.0 ± 2.5"
    assert plus_minus(-0.5, 0.25, 2, sign=True) == "-0.50 ± 0.25" and plus_minus(1, None, 0) == "1"
    assert "95 %" in PLUS_MINUS["interval"] and "standard error" in PLUS_MINUS["error"]


@given(VALUES)
def test_intervals_agree_with_scipy(values):
    found = Interval.of(values)
    error = stats.sem(values)
    low, high = (
        stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=error) if error else [values.mean()] * 2
    )
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert found.error == pytest.approx(error, abs=1e-12)


@given(VALUES, st.floats(0.1, 10), st.floats(-100, 100))
def test_an_interval_moves_and_grows_with_its_values(values, factor, shift):
    plain, moved = Interval.of(values), Interval.of(factor * values + shift)
    assert moved.low == pytest.approx(factor * plain.low + shift, abs=1e-6)
    assert moved.high == pytest.approx(factor * plain.high + shift, abs=1e-6)


def test_bootstrap_and_student_agree_on_many_values():
    values = np.random.default_rng(1).normal(2.0, 3.0, 2_000)
    low, high = bootstrap(values, 4_000, seed=2)
    found = Interval.of(values)
    assert low == pytest.approx(found.low, abs=0.02) and high == pytest.approx(found.high, abs=0.02)
    assert bootstrap(values, 100, seed=2) == bootstrap(values, 100, seed=2) != bootstrap(values, 100, seed=3)


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(3).exponential(1.0, 200)
    other = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4_000, random_state=4)
    low, high = bootstrap(values, 4_000, seed=5)
    assert low == pytest.approx(other.confidence_interval.low, abs=0.02)
    assert high == pytest.approx(other.confidence_interval.high, abs=0.02)
