"""The injected groups of the verl example: their hand-made numbers, with real episodes and without verl."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import VERL_CHECKS, VERL_EXAMPLE

from actfer_env.agents.qwen.tiny import BRIEF_CHAT
from actfer_env.chat import ChatEpisode, chat_tools
from actfer_env.data import Sample
from actfer_env.errors import DataError
from actfer_env.files import write_text_atomic
from actfer_env.verl_plugin.scoring import STATE_FILE, StepScorer, write_step


@pytest.fixture(scope="module")
def injected() -> Any:
    sys.path.insert(0, str(VERL_CHECKS))
    try:
        import injected
    finally:
        sys.path.remove(str(VERL_CHECKS))
    return injected


@pytest.fixture(scope="module")
def samples(injected: Any) -> list[Sample]:
    return injected.choose()


def rows(injected: Any, samples: list[Sample]) -> tuple[list[str], list[dict[str, str]]]:
    """Play every session that does not fail; return prompts and the agent loop's fields."""
    tools, uids, fields = chat_tools("auto", BRIEF_CHAT), [], []
    for sample, (group, plan) in zip(samples, injected.GROUPS.items(), strict=True):
        for member, does in enumerate(plan):
            if does == injected.FAILS:
                continue
            episode = ChatEpisode(sample, tools, BRIEF_CHAT, member=member)
            for text in injected.script(sample, does):
                episode.step(text)
            uids.append(group)
            fields.append({"rollout": json.dumps(episode.rollout().to_dict())})
    return uids, fields


def store(injected: Any, samples: list[Sample], run: Path, before: Path) -> dict[str, Any]:
    """Score a step behind two others as verl's trainer does, four rows of padding at its end; return its record."""
    scorer = StepScorer()
    uids, fields = rows(injected, samples)
    for _ in range(2):
        scorer.score(uids, fields, [False] * len(uids))
    scorer.save(before)
    state = json.loads((before / STATE_FILE).read_text())
    padding = [False] * len(uids) + [True] * injected.FAILED
    copies = [uids[0]] * injected.FAILED, [fields[0]] * injected.FAILED
    _, rollouts, scores = scorer.score(uids + copies[0], fields + copies[1], padding)
    scorer.save(run / "global_step_3")
    record = {"state": state, "total": scores.total.tolist(), "advantage": scores.advantage.tolist(),
              "rows_padding": injected.FAILED}  # fmt: skip
    write_step(run / "rollouts", 3, rollouts, record)
    return record


def test_the_hand_made_numbers_are_the_librarys(injected: Any, samples: list[Sample], tmp_path: Path) -> None:
    store(injected, samples, tmp_path / "run", tmp_path / "before")
    injected.check(tmp_path / "run", 3, tmp_path / "before" / STATE_FILE)


def test_one_face_is_not_found_and_the_others_are(samples: list[Sample], injected: Any) -> None:
    tools = chat_tools("auto", BRIEF_CHAT)
    lost = [tools.alignment(sample) is None for sample in samples]
    assert lost == [group == "no face found" for group in injected.GROUPS]
    assert len({sample.emotion for sample in samples}) == len(injected.GROUPS)


@pytest.mark.parametrize(
    ("field", "message"), [("total", "total of 'all zoomed'"), ("advantage", "advantage of"), ("state", "begin")]
)
def test_a_difference_is_found(
    field: str, message: str, injected: Any, samples: list[Sample], tmp_path: Path
) -> None:  # fmt: skip
    record = store(injected, samples, tmp_path / "run", tmp_path / "before")
    record[field] = {} if field == "state" else [value + 0.01 * (i == 4) for i, value in enumerate(record[field])]
    write_text_atomic(tmp_path / "run" / "rollouts" / "step_000003.json", json.dumps(record))
    with pytest.raises(DataError, match=message):
        injected.check(tmp_path / "run", 3, tmp_path / "before" / STATE_FILE)


def test_injected_rows_name_a_loop_with_the_settings_of_the_others(injected: Any, tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    import yaml

    loops = {one.pop("name"): one for one in yaml.safe_load((VERL_EXAMPLE / "agent_loop_cpu.yaml").read_text())}
    targets = {name: one.pop("_target_") for name, one in loops.items()}
    assert targets[injected.LOOP] == "injected_loop.InjectedAgentLoop" and len(targets) == 2
    assert loops["actfer_agent"] == loops[injected.LOOP]
    injected.write_data(tmp_path / "rows")
    rows = pq.read_table(tmp_path / "rows" / "part-00000.parquet").to_pylist()
    assert [row["agent_name"] for row in rows] == [injected.LOOP] * len(injected.GROUPS)
    assert [row["extra_info"]["index"] for row in rows] == list(range(len(injected.GROUPS)))
