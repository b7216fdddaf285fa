"""The task for inspect-ai: real runs with a scripted model, and their logs read back."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import numpy as np
import pytest
from integrations.served_faces import LOOKS
from integrations.test_doors import ANSWER, FACES, SAMPLE, TEXTS, digest, of_chat
from PIL import Image

pytest.importorskip("inspect_ai", reason="needs pip install 'actfer-env[inspect]'")
from inspect_ai import eval as run
from inspect_ai.log import read_eval_log
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentImage,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.tool import ToolCall

from actfer_env.errors import DataError
from actfer_env.integrations.inspect import actfer, rollouts_of
from actfer_env.rewards import UCGRPO

NUMBER = [one.id for one in FACES].index(SAMPLE.id)


def call(name, arguments, **more):
    return ToolCall(id=f"{name}-1", function=name, arguments=arguments, **more)


def said(text="", *calls):
    message = ChatMessageAssistant(content=text, tool_calls=list(calls) or None, source="generate")
    usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it would fetch a tokenizer to count
    return ModelOutput(model="mockllm", choices=[ChatCompletionChoice(message=message)], usage=usage)


def native():
    return [*(said("", call(name, given)) for name, given in LOOKS), said(ANSWER)]


def played(folder, outputs, **settings):
    """Run the task on one sample with what the model says; return the log as it was read back from its file."""
    model = get_model("mockllm/model", custom_outputs=outputs, memoize=False)
    task = actfer(n=len(FACES), detector="auto")
    (log,) = run(task, model=model, log_dir=str(folder), display="none", sample_id=SAMPLE.id, max_samples=1, **settings)
    assert log.status == "success", log.error
    return read_eval_log(log.location, resolve_attachments=True)


def pictures(sample):
    found = []
    for message in sample.messages:
        parts = message.content if isinstance(message.content, list) else []
        for part in parts:
            if isinstance(part, ContentImage):
                content = base64.b64decode(part.image.partition(",")[2])
                found.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    return found


def test_one_digest_through_this_door(tmp_path):
    log = played(tmp_path, native())
    (sample,), (rollout,) = log.samples, rollouts_of(log)
    score = sample.scores["actfer_scorer"]
    assert digest(rollout, pictures(sample), score.metadata["terms"]) == digest(*of_chat())
    assert score.value["reward"] == score.metadata["terms"]["total"] and score.answer == "happiness"
    assert set(log.results.scores[0].metrics) == {"mean", "stderr"} and len(log.results.scores) == 5
    assert [event.function for event in sample.events if event.event == "tool"] == [name for name, _ in LOOKS]
    assert rollouts_of(log.location) == [rollout]


def test_calls_in_the_text_are_played_too(tmp_path):
    log = played(tmp_path, [said(text) for text in TEXTS])
    (sample,), (rollout,) = log.samples, rollouts_of(log)
    assert digest(rollout, pictures(sample), sample.scores["actfer_scorer"].metadata["terms"]) == digest(*of_chat())


def test_what_cannot_be_played_costs_a_turn_and_is_answered(tmp_path):
    log = played(
        tmp_path,
        [
            said("", call("zoom_in", {"regions": ["nose"]})), said("", call("no_such_tool", {})),
            said("", call("zoom_in", {"regions": 3})), said("", call("detect_align", {}, parse_error="not JSON: {")),
            said("I do not know."), said(ANSWER),
        ],
    )  # fmt: skip
    (sample,), (rollout,) = log.samples, rollouts_of(log)
    assert len(rollout.violations) == 5 and rollout.correct is not None and not rollout.truncated
    assert rollout.violations[:2] == ("illegal_order", "unknown_tool")
    told = [message for message in sample.messages if message.role == "tool"]
    assert len(told) == 4 and all('"error": ' in message.text and message.error is None for message in told)
    assert sample.scores["actfer_scorer"].value["violations"] == 5.0


def test_turns_that_are_used_up_end_the_episode(tmp_path):
    (rollout,) = rollouts_of(played(tmp_path, [said("hm")] * 20))
    assert rollout.truncated and rollout.turns == 6 and rollout.predicted_emotion is None


def test_a_limit_of_inspect_ends_the_episode(tmp_path):
    log = played(tmp_path, [said("hm")] * 20, message_limit=5)
    (rollout,) = rollouts_of(log)
    assert rollout.meta["outcome"] == "out_of_budget" and rollout.predicted_emotion is None
    assert log.samples[0].limit.type == "message" and log.samples[0].scores["actfer_scorer"].value["accuracy"] == 0


def test_epochs_are_the_members_of_a_group(tmp_path):
    zoomed, plain = native(), [said("", call(*LOOKS[0])), said('<answer>{"emotion": "anger", "aus": []}</answer>')]
    rollouts = rollouts_of(played(tmp_path, [*zoomed, *plain], epochs=2))
    assert [(one.group_id, one.member) for one in rollouts] == [(SAMPLE.id, 0), (SAMPLE.id, 1)]
    scores = UCGRPO().score(rollouts)  # the contrast that single scores do not see
    assert scores.advantage[0] != 0 and scores.advantage[0] == pytest.approx(-scores.advantage[1])


def test_a_log_of_something_else_is_named(tmp_path):
    from inspect_ai import Task
    from inspect_ai.dataset import Sample

    model = get_model("mockllm/model", custom_outputs=[said("x")], memoize=False)
    (log,) = run(Task([Sample(input="x")]), model=model, log_dir=str(tmp_path), display="none")
    with pytest.raises(DataError, match="no finished episode"):
        rollouts_of(log)


BY_NAME = """
from inspect_ai import eval as run
from inspect_ai.model import ModelOutput, ModelUsage, get_model
said = ModelOutput.from_content("mockllm", '<answer>{"emotion": "happiness", "aus": []}</answer>')
said.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
model = get_model("mockllm/model", custom_outputs=[said, said])
(log,) = run("actfer_env/actfer", model=model, task_args={"n": 2}, log_dir=".", display="none")
print(log.status, log.eval.task, log.eval.dataset.samples)
"""


def test_inspect_finds_the_task_by_its_name(tmp_path):
    """As any user does: from a folder that is not the project's."""
    done = subprocess.run([sys.executable, "-c", BY_NAME], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split()[-3:] == ["success", "actfer_env/actfer", "2"], done.stdout + done.stderr
    (file,) = tmp_path.glob("*.eval")
    assert [one.predicted_emotion for one in rollouts_of(file)] == ["happiness"] * 2
