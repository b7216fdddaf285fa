"""From an assistant's text to calls and an answer; see `parse_turn`."""

from actfer_env.chat.parsing.parsed import NOTES, PROBLEMS, ParsedAnswer, ParsedCall, ParsedTurn, Problem
from actfer_env.chat.parsing.turn import parse_turn

__all__ = ["NOTES", "PROBLEMS", "ParsedAnswer", "ParsedCall", "ParsedTurn", "Problem", "parse_turn"]
