"""The contrast stays unbiased: no session is lost for the pictures that it saw, at the smallest limit that is taken."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from actfer_env import facs
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.chat.turns import answer_text, call_text
from actfer_env.data import load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.rewards import UCGRPO
from actfer_env.rollout import Rollout
from actfer_env.verl_plugin import launch

CHAT = ChatConfig(image_side=64, face_side=64, crop_side=64)
DETECT = call_text("detect_align")


def played(zooms: int, most: int, answer: str, member: int, greedy: bool = False) -> tuple[Rollout, int]:
    """Play one member of a group; return its rollout, and the most pictures that its engine was shown at once.

    A greedy member goes on asking for pictures when none are left: again the face, all regions, and free boxes.
    """
    sample, tools = load_dataset("synthetic", split="train", n=1)[0], chat_tools("simulated", CHAT)
    episode = ChatEpisode(sample, tools, CHAT, EpisodeConfig(max_turns=40, max_zooms=most), group_id="g", member=member)
    boxes = [[100 * x, 100 * y, 100 * x + 300, 100 * y + 300] for x, y in product((0, 3, 6), repeat=2)]
    looks = [call_text("zoom_in", boxes=[box]) for box in boxes[:zooms]]
    if greedy:
        again = [call_text("zoom_in", regions=list(facs.REGIONS)), call_text("zoom_in", boxes=boxes), *looks, DETECT]
        looks += [DETECT, *again, call_text("zoom_in", image="original", boxes=[[0, 0, 500, 500]])]
    shown = 0
    for text in [DETECT, *looks]:
        shown = max(shown, len(episode.images))
        episode.step(text)
    shown = max(shown, len(episode.images))  # the turn in which it answers
    episode.step(answer_text(answer, []))
    return episode.rollout(), shown


def group(most: int) -> list[tuple[Rollout, int]]:
    """A group in which looking closer pays: those that zoom are right, with one crop or as many as they may."""
    right = str(load_dataset("synthetic", split="train", n=1)[0].emotion)
    wrong = next(one for one in facs.EMOTIONS if one != right)
    members = [(0, wrong, False), (0, wrong, False), (1, right, False), (most, right, False), (most, right, True)]
    return [played(zooms, most, answer, member, greedy) for member, (zooms, answer, greedy) in enumerate(members)]


def settings(limit: int, most: int, tmp_path: Any) -> dict[str, Any]:
    loop = tmp_path / "loop.yaml"
    loop.write_text(f"- {{name: actfer_agent, detector: auto, episode: {{max_zooms: {most}}}}}\n")
    rollout = {"name": "vllm", "agent": {"agent_loop_config_path": str(loop)},
               "engine_kwargs": {"vllm": {"limit_mm_per_prompt": {"image": limit, "video": 0}}}}  # fmt: skip
    return {"trainer": {"device": "cpu"}, "actor_rollout_ref": {"rollout": rollout}}


@pytest.mark.parametrize("most", [1, 2, 4, 7])
def test_every_member_survives_the_smallest_limit_and_a_smaller_one_is_refused(
    most: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: object() if name == "vllm" else None)
    members, limit = group(most), launch.FIXED_PICTURES + most
    everybody = [rollout for rollout, _ in members]
    kept = [rollout for rollout, shown in members if shown <= limit]
    assert kept == everybody and max(shown for _, shown in members) == limit
    assert list(launch.machine_problems(settings(limit, most, tmp_path))) == []
    (line,) = launch.machine_problems(settings(limit - 1, most, tmp_path))
    assert line.startswith(f"vllm may see {limit - 1} pictures of a conversation, and one that zooms has {limit}: set ")
    # What the refusal saves from: only members that zoom are lost, and the contrast with them.
    rest = [rollout for rollout, shown in members if shown <= limit - 1]
    assert {rollout.zoomed for rollout in everybody if rollout not in rest} == {True}
    few = [rollout for rollout, shown in members if shown <= launch.FIXED_PICTURES]
    assert not any(rollout.zoomed for rollout in few) and len(few) == 2
    assert (UCGRPO().score(everybody).delta["g"] or 0) > 0 and UCGRPO().score(few).delta["g"] is None
