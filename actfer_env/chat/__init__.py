"""The chat protocol: prompts, parsing, and episodes as conversations; one definition for every language policy."""

from actfer_env.chat.config import CHAT_PRESETS, ChatConfig, ChatError, Preset
from actfer_env.chat.episode import ChatEpisode, ChatStep, chat_tools, shared_tools
from actfer_env.chat.messages import count_images, to_openai, to_transformers
from actfer_env.chat.parsing import NOTES, PROBLEMS, ParsedAnswer, ParsedCall, ParsedTurn, Problem, parse_turn
from actfer_env.chat.prompts import system_prompt, user_prompt

__all__ = [
    "CHAT_PRESETS",
    "NOTES",
    "PROBLEMS",
    "ChatConfig",
    "ChatEpisode",
    "ChatError",
    "ChatStep",
    "ParsedAnswer",
    "ParsedCall",
    "ParsedTurn",
    "Preset",
    "Problem",
    "chat_tools",
    "count_images",
    "parse_turn",
    "shared_tools",
    "system_prompt",
    "to_openai",
    "to_transformers",
    "user_prompt",
]
