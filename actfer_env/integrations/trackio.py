"""Played episodes as traces of trackio: conversations with their pictures, on this machine alone. Needs `[trackio]`."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from actfer_env import facs
from actfer_env.chat import ChatConfig, parse_turn, user_prompt
from actfer_env.errors import ActFERError, SettingsError
from actfer_env.evaluation.pictures import PictureConfig, Pictures
from actfer_env.evaluation.run import Run, read_run
from actfer_env.packages import needs
from actfer_env.rollout import Rollout, ToolCall

REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Variables by which trackio would send what it logs to somewhere else."""


def trace_run(folder: str | Path, project: str, name: str | None = None, most: int = 100) -> int:
    """Log the conversations of a run's folder as traces, with pictures, reward terms and verdict.

    They stay on this machine: see them with ``trackio show --project PROJECT``. Pictures are drawn as in the report;
    where a source is gone, a trace has none.

    Args:
        folder: Folder of a run, such as the --out of `actfer rollout` or `actfer eval`.
        project: trackio's project.
        name: trackio's run; default is the folder's name.
        most: Most episodes that are logged; the first.

    Returns:
        Number of traces.

    Raises:
        DataError: there is no run, or trackio is missing.
        SettingsError: trackio is set to send what it logs to somewhere else.
    """
    with needs("trackio"):
        import trackio
    for variable in REMOTE:
        if os.environ.get(variable):
            raise SettingsError(f"{variable} is set, and trackio would send the pictures there: unset it")
    run = read_run(folder)
    chosen = run.rollouts[:most]
    log = trackio.init(
        project, name or Path(folder).resolve().name, embed=False, auto_log_gpu=False, auto_log_cpu=False
    )
    try:
        for step, (rollout, shown) in enumerate(zip(chosen, _pictures(run, folder, len(chosen)), strict=True)):
            pictures = [(turn, trackio.Image(picture, caption=title)) for turn, title, picture in shown]
            metadata = {**_metadata(rollout), "reward": run.scores.terms(step)}
            log.log({"episode": trackio.Trace(_messages(rollout, pictures), metadata)}, step=step)
    finally:
        log.finish()
    return len(chosen)


def _pictures(run: Run, folder: str | Path, number: int) -> Iterator[list[tuple[int, str, Image.Image]]]:
    """Yield for each rollout the turn (0 for the question), title and pixels of its pictures."""
    pictures, drawn = Pictures(run, PictureConfig(episodes=number), folder), list[bytes]()

    def keep(content: bytes) -> str:
        drawn.append(content)
        return ""

    pictures.link = keep
    for rollout in run.rollouts[:number]:
        drawn.clear()
        found, _ = pictures.of(rollout)
        pixels = [Image.open(io.BytesIO(content)) for content in drawn]
        yield [(one.turn or 0, one.title, image) for one, image in zip(found, pixels, strict=False)]


def _messages(rollout: Rollout, pictures: Sequence[tuple[int, Any]]) -> list[dict[str, Any]]:
    """Return the conversation as OpenAI's messages, trackio's pictures among the parts of their content."""

    def seen(turn: int) -> list[Any]:
        return [picture for when, picture in pictures if when == turn]

    chat = ChatConfig(preset=rollout.meta.get("preset", "actfer"))
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [*seen(0), {"type": "text", "text": user_prompt(chat)}]}
    ]
    for text, calls in _turns(rollout, chat):
        asked = [
            {"id": f"call_{call.turn}", "type": "function",
             "function": {"name": call.name, "arguments": json.dumps(call.arguments)}} for call in calls
        ]  # fmt: skip
        messages.append({"role": "assistant", "content": text} | ({"tool_calls": asked} if asked else {}))
        for call in calls:
            told = {"error": call.violation, **call.result} if call.violation else call.result
            parts = [*seen(call.turn + 1), {"type": "text", "text": json.dumps(told)}]
            messages.append({"role": "tool", "tool_call_id": f"call_{call.turn}", "content": parts})
    return messages


def _turns(rollout: Rollout, chat: ChatConfig) -> Iterator[tuple[str, list[ToolCall]]]:
    """Yield each assistant turn with the calls that it made; a turn that could not be read counts as one call."""
    calls = list(rollout.tool_calls)
    for place, text in enumerate(rollout.texts):
        parsed = parse_turn(text, chat)
        count = 1 if parsed.problem is not None else len(parsed.calls)
        mine = calls[:count] if place < len(rollout.texts) - 1 else calls  # the last one has what is left
        calls = calls[len(mine) :]
        yield text, mine
    if rollout.texts:
        return
    for call in calls:  # policies of numbered actions write no text
        yield "", [call]
    if rollout.predicted_emotion is not None:
        units = [facs.format_au(unit) for unit in sorted(rollout.predicted_aus or ())]
        yield json.dumps({"emotion": rollout.predicted_emotion, "aus": units}), []


def _metadata(rollout: Rollout) -> dict[str, Any]:
    return {
        "sample": rollout.sample_id, "group": rollout.group_id, "member": rollout.member, "policy_step": rollout.step,
        "target": rollout.emotion, "answer": rollout.predicted_emotion, "correct": rollout.correct,
        "zoomed": rollout.zoomed, "violations": list(rollout.violations), "truncated": rollout.truncated,
    }  # fmt: skip


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} must be a whole number of at least 0")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Log a run's folder: ``python -m actfer_env.integrations.trackio FOLDER --project PROJECT``."""
    parser = argparse.ArgumentParser(description="Log the conversations of a run as traces of trackio, locally.")
    parser.add_argument("folder", help="folder of a run, such as the --out of 'actfer rollout'")
    parser.add_argument("--project", default="actfer")
    parser.add_argument("--name", help="trackio's run; default is the folder's name")
    parser.add_argument("--most", type=_count, default=100, help="most episodes that are logged")
    given = parser.parse_args(arguments)
    try:
        number = trace_run(given.folder, given.project, given.name, given.most)
    except ActFERError as error:
        sys.exit(f"error: {error}")
    print(f"{number} episodes: trackio show --project {given.project}")


if __name__ == "__main__":
    main()
