"""The page of reference gate reports is what its files say."""

from __future__ import annotations

import importlib.util
import sys

from helpers import ROOT

_spec = importlib.util.spec_from_file_location("gate_results", ROOT / "benchmarks" / "gate.py")
assert _spec is not None and _spec.loader is not None
gate = importlib.util.module_from_spec(_spec)
sys.path.append(str(ROOT))  # for its neighbours, and no longer: a process that starts here would find the bare package
try:
    _spec.loader.exec_module(gate)
finally:
    sys.path.remove(str(ROOT))


def test_the_page_is_built_from_the_files() -> None:
    assert gate.PAGE.read_text(encoding="utf-8") == gate.page()


def test_every_result_says_what_made_it() -> None:
    found = gate.read_results()
    assert found
    for one in found:
        assert one["command"] and one["version"]["actfer-env"] and one["machine"]
        assert len(one["samples"]) == one["seeds"] == len(one["metrics"]["stability"]["zoom_ratios"])
