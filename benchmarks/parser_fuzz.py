"""Feed the parser mutated turns, random characters, deep nesting and long strings: no exception, and the time taken.

python benchmarks/parser_fuzz.py
"""

from __future__ import annotations

import argparse
import platform
import random
import string
import time

import numpy as np

from actfer_env.chat import ChatConfig, parse_turn

SEEDS = (
    '<think>look</think><tool_call>{"name": "detect_align", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "zoom_in", "arguments": {"regions": ["nose", "mouth-chin"]}}</tool_call>',
    '<tool_call>{"name": "zoom_in", "arguments": {"boxes": [[100, 200, 300, 400]], "image": "original"}}</tool_call>',
    '<think>the corners rise</think><answer>{"emotion": "happiness", "aus": ["AU6", "AU12"]}</answer>',
    "<think>(AU12) <bbox>[1, 2, 3, 4]</bbox></think><answer>happiness</answer>",
)
BITS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "{", "}", "[", "]", '"', "'",
        "\\", ":", ",", "NaN", "1e999", "null", "```json", "```", "\u0000", "\ud800", "é", "漢")  # fmt: skip


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--huge", type=int, default=200, help="of them, inputs of a megabyte")
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
    print(f"{platform.machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
