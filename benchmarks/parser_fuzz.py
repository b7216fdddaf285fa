"""Feed the parser mutated turns, random characters, deep nesting and long strings: no exception, and the time taken.

A part of the inputs is played through whole episodes, too, as text and as native calls; and texts at the default limit
of a turn that are written to be slow are timed one by one.

python benchmarks/parser_fuzz.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
import string
import time
from typing import Any

import numpy as np

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools, parse_turn
from actfer_env.data import load_dataset

SEEDS = (
    '<think>look</think><tool_call>{"name": "detect_align", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "zoom_in", "arguments": {"regions": ["nose", "mouth-chin"]}}</tool_call>',
    '<tool_call>{"name": "zoom_in", "arguments": {"boxes": [[100, 200, 300, 400]], "image": "original"}}</tool_call>',
    '<think>the corners rise</think><answer>{"emotion": "happiness", "aus": ["AU6", "AU12"]}</answer>',
    "<think>(AU12) <bbox>[1, 2, 3, 4]</bbox></think><answer>happiness</answer>",
)
BITS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "{", "}", "[", "]", '"', "'",
        "\\", ":", ",", "NaN", "1e999", "null", "```json", "```", "\u0000", "\ud800", "é", "漢", "<function=zoom_in>",
        "<parameter=regions>", "</parameter>", "</function>", "[TOOL_CALLS]", "<|python_tag|>")  # fmt: skip


def mutated(rng: random.Random) -> str:
    """Cut, double, swap or insert pieces of a valid turn."""
    text = rng.choice(SEEDS)
    for _ in range(rng.randint(1, 8)):
        i, j = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        kind = rng.randint(0, 4)
        if kind == 0:
            text = text[:i] + text[j:]
        elif kind == 1:
            text = text[:j] + text[i:j] + text[j:]
        elif kind == 2:
            text = text[:i] + rng.choice(BITS) + text[i:]
        elif kind == 3:
            text = text[:i] + chr(rng.randint(0, 0x10FFFF)) + text[i:]
        else:
            text = text[:i] + rng.choice(SEEDS) + text[i:]
    return text


def noise(rng: random.Random) -> str:
    """Random characters and tags."""
    return "".join(rng.choice((*BITS, *string.printable)) for _ in range(rng.randint(0, 400)))


def huge(rng: random.Random) -> str:
    """Deep nesting, or a string of a megabyte."""
    unit = rng.choice(
        ("[", '{"a":', "(", "<think>", "<tool_call>", "a", " ", '"', "</answer><answer>", "9", "\\", "<bbox>[")
    )
    return rng.choice(("", "<tool_call>", "<answer>", "<think>")) + unit * (2**20 // len(unit))


def native(rng: random.Random) -> list[Any]:
    """Native calls of a server that has gone wrong in one place or another."""
    arguments = rng.choice((mutated(rng), '{"regions": ["nose"]}', "{" * 40, None, 3, [], {"boxes": [[0, 0, 1, 1]]}))
    function = {"name": rng.choice(("zoom_in", "detect_align", noise(rng), None, 5)), "arguments": arguments}
    return [rng.choice((None, "x", {}, {"id": 1}, {"id": "c", "function": rng.choice((function, "x", None))}))]


def play(rng: random.Random, count: int) -> int:
    """Play mutated turns through episodes; return how many turns that took."""
    samples, tools, turns = load_dataset("synthetic", split="test", n=4), chat_tools(), 0
    episode = ChatEpisode(samples[0], tools)
    while turns < count:
        if episode.done:
            json.dumps(episode.rollout().to_dict(), allow_nan=False)
            mode = rng.choice(("strict", "lenient"))
            episode = ChatEpisode(samples[turns % 4], tools, ChatConfig(parsing=mode))  # type: ignore[arg-type]
        episode.step(mutated(rng) if rng.random() < 0.8 else noise(rng), native(rng) if rng.random() < 0.3 else None)
        turns += 1
    return turns


def slowest(size: int) -> tuple[float, str]:
    """Return the longest time, in seconds, and the unit of text behind it, among texts made of one repeated unit."""
    units = [*BITS, *string.printable, "<think>a</think>", "</answer><answer>", "<bbox> [", "(AU1", "AU1 ", "1,", "[1,"]
    heads = ("", "<tool_call>", "<tool_call>```{", '<tool_call>{"a": ', '<tool_call>{"a": "', "<answer>a", "<think>(")
    tails = ("", "x", "</tool_call>", "x</tool_call>", "x</answer>")
    timed = []
    for head, unit, tail in itertools.product(heads, units, tails):
        start = time.perf_counter()
        parse_turn(head + unit * ((size - 40) // len(unit)) + tail)
        timed.append((time.perf_counter() - start, f"{head!r} + {unit!r} * n + {tail!r}"))
    return max(timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--huge", type=int, default=200, help="of them, inputs of a megabyte")
    parser.add_argument("--turns", type=int, default=20_000, help="further inputs, played through episodes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    configs = [ChatConfig(preset=preset, parsing=mode, max_characters=2**22)  # type: ignore[arg-type]
               for preset in ("actfer", "facial_r1", "tag") for mode in ("strict", "lenient")]  # fmt: skip
    times, longest = [], 0.0
    for number in range(args.inputs):
        big = number < args.huge
        text = huge(rng) if big else mutated(rng) if rng.random() < 0.8 else noise(rng)
        start = time.perf_counter()
        parse_turn(text, configs[number % len(configs)])
        took = time.perf_counter() - start
        longest = max(longest, took) if big else longest
        times += [] if big else [took]
    low, high = np.percentile(times, [50, 99.9]) * 1e6
    print(f"{args.inputs} inputs, no exception; median {low:.0f} µs, 99.9th percentile {high:.0f} µs; "
          f"longest of {args.huge} inputs of a megabyte {longest * 1e3:.0f} ms")  # fmt: skip
    print(f"{play(rng, args.turns)} turns of episodes, three in ten of them with native calls: no exception")
    limit = ChatConfig().max_characters
    worst, text = slowest(limit)
    print(f"slowest text of {limit} characters: {worst * 1e3:.0f} ms, {text}")
    print(f"{platform.machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
