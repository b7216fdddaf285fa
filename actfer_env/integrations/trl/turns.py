"""Turns that TRL samples, read by the project's own parser; and the tokens that no turn may hold."""

from __future__ import annotations

from typing import Any

from actfer_env.agents.qwen.conversation import TokenCodec
from actfer_env.chat import ChatConfig, parse_turn
from actfer_env.errors import LabelError
from actfer_env.facs import parse_emotion
from actfer_env.integrations.trl.environment import NUMBER, TURN
from actfer_env.packages import needs


def read_turns(processing_class: Any, chat: ChatConfig | None = None) -> Any:
    """Let the project's parser read the turns that TRL samples; call it before `GRPOTrainer` is made.

    A turn that answers with a known emotion ends the rollout. Any other is played as a whole, whatever it holds, and
    answered, so that a malformed call costs a turn instead of the episode.

    Args:
        processing_class: Processor or tokenizer; it is changed.
        chat: Formats of the conversation.

    Returns:
        The same object.

    Raises:
        DataError: TRL is missing.
    """
    with needs("trl"):
        from trl.chat_template_utils import add_response_schema
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    chosen = chat or ChatConfig()

    def parse(ids: Any, **_: Any) -> dict[str, Any]:
        kept = [int(token) for token in ids if int(token) != tokenizer.eos_token_id]
        text = str(tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        message: dict[str, Any] = {"role": "assistant", "content": text}
        parsed = parse_turn(text, chosen)
        if parsed.problem is None and not parsed.calls and parsed.answer is not None and _known(parsed.answer.emotion):
            return message
        calls = [
            {"type": "function", "function": {"name": "detect_align", "arguments": {TURN: text, NUMBER: number}}}
            for number in range(max(len(parsed.calls), 1))
        ]
        return {**message, "tool_calls": calls}

    try:
        add_response_schema(processing_class)
    except ValueError:  # a template that TRL does not know, such as the tiny model's
        tokenizer.response_template = {}
    tokenizer.parse_response = parse
    return processing_class


def forbidden_tokens(processing_class: Any) -> list[int]:
    """Return the special tokens that no turn may hold, for ``generation_kwargs={"suppress_tokens": ...}``.

    One sampled picture placeholder breaks the count of features, and TRL's forward pass stops.

    Args:
        processing_class: A processor with a tokenizer and an image processor.
    """
    return list(TokenCodec(processing_class.tokenizer, processing_class.image_processor).forbidden)


def _known(emotion: str) -> bool:
    try:
        parse_emotion(emotion)
    except LabelError:
        return False
    return True
