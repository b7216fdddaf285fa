"""The page of reference gate reports is what its files say."""

from __future__ import annotations

from helpers import benchmark

gate = benchmark("gate")


def test_the_page_is_built_from_the_files() -> None:
    assert gate.PAGE.read_text(encoding="utf-8") == gate.page()


def test_every_result_says_what_made_it() -> None:
    found = gate.read_results()
    assert found
    for one in found:
        assert one["command"] and one["version"]["actfer-env"] and one["machine"]
        assert len(one["samples"]) == one["seeds"] == len(one["metrics"]["stability"]["zoom_ratios"])
