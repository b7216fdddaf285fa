"""Journeys through the code: the files and functions that a reader passes in one step of the work.

    python -m benchmarks.journeys                      # this checkout
    python -m benchmarks.journeys --root ../other      # another one, with the libraries installed here
    python -m benchmarks.journeys --functions          # and every function, by file

| journey | what is run |
|---|---|
| zoom turn | `ChatEpisode.step` with a zoom_in call, after detect_align |
| group reward | `UCGRPO.score` of one group of eight written rollouts, half of them zoomed |
| light step | one step of a training of the light policy by `session.run`, from one call of its callback to the next |

Counted are functions of this package alone, by `sys.setprofile`. "Functions" are different ones; "moves" are different
pairs of a caller and what it calls, the jumps that someone reads who follows every call once; "calls" are all calls.
Comprehensions, generated methods and the module level do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

FOLDER = "JOURNEYS_PACKAGE"
"""Environment variable with the folder of the package that is measured."""


@dataclass
class Journey:
    """What one run of a step has passed.

    Attributes:
        functions: file and qualified name of every function, in the order in which they were entered.
        moves: pairs of them, caller and callee.
        calls: number of calls.
    """

    functions: dict[tuple[str, str], None] = field(default_factory=dict)
    moves: set[tuple[tuple[str, str], tuple[str, str]]] = field(default_factory=set)
    calls: int = 0

    def row(self) -> dict[str, int]:
        """Return the figures of the table."""
        files = {file for file, _ in self.functions}
        return {"files": len(files), "functions": len(self.functions), "moves": len(self.moves), "calls": self.calls}


@contextmanager
def followed(journey: Journey, package: Path) -> Iterator[None]:
    """Note the calls of a package's functions while the block runs."""
    prefix, names = str(package) + os.sep, dict[CodeType, tuple[str, str] | None]()

    def name_of(code: CodeType) -> tuple[str, str] | None:
        if code not in names:
            name = getattr(code, "co_qualname", code.co_name)
            own = code.co_filename.startswith(prefix) and not name.endswith(">")
            names[code] = (code.co_filename.removeprefix(prefix), name) if own else None
        return names[code]

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or (callee := name_of(frame.f_code)) is None:
            return
        journey.calls += 1
        journey.functions[callee] = None
        above = frame.f_back
        while above is not None and name_of(above.f_code) is None:  # calls through libraries, and comprehensions
            above = above.f_back
        if above is not None and (caller := name_of(above.f_code)) is not None:
            journey.moves.add((caller, callee))

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def zoom_turn(follow: Callable[[], Any]) -> None:
    """Run one turn of a conversation that zooms."""
    from actfer_env.chat import ChatEpisode, chat_tools
    from actfer_env.data import load_dataset

    def call(name: str, **arguments: Any) -> str:
        return f"<think>I look.</think><tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"

    samples, tools = load_dataset("synthetic", split="test", n=12), chat_tools()
    sample = next(samples[i] for i in range(12) if samples[i].meta["quality"] == "good")
    episode = ChatEpisode(sample, tools)
    episode.step(call("detect_align"))
    with follow():
        episode.step(call("zoom_in", regions=["nose"]))


def group_reward(follow: Callable[[], Any]) -> None:
    """Score one group of eight rollouts with texts."""
    from actfer_env.rewards import UCGRPO
    from actfer_env.rollout import Rollout, ToolCall

    detect = ToolCall("detect_align")
    zoom = ToolCall("zoom_in", {"regions": ["nose"]}, turn=1, boxes=((0.3, 0.3, 0.7, 0.7),))
    texts = ("<think>a raw picture</think><tool_call>{}</tool_call>", "<think>it smiles</think><answer>{}</answer>")
    rollouts = [
        Rollout(
            "s", "g", "happiness", frozenset({6, 12}), "happiness" if i < 5 else "fear", frozenset({12}),
            (detect, zoom) if i % 2 else (detect,), "ok", turns=2, texts=texts, member=i,
        )
        for i in range(8)
    ]  # fmt: skip
    scorer = UCGRPO()
    with follow():
        scorer.score(rollouts)


def light_step(follow: Callable[[], Any]) -> None:
    """Train a light policy for some steps, and follow one in the middle."""
    from actfer_env.agents.light import session
    from actfer_env.agents.light.policy import PolicyConfig

    smoke = session.PRESETS["smoke"]
    trainer = replace(smoke.trainer, steps=4, save_every=100)
    config = replace(smoke, train=64, val=32, test=0, trainer=trainer,
                     policy=PolicyConfig(channels=4, picture=8, region=4, hidden=16))  # fmt: skip
    seen, running = [0], [follow()]

    def watch(*_: Any) -> None:
        seen[0] += 1
        if seen[0] == 3:
            running[0].__exit__(None, None, None)
        if seen[0] == 2:
            running[0].__enter__()

    with tempfile.TemporaryDirectory() as folder:
        session.run(config, Path(folder, "run"), Path(folder, "cache"), lambda text: None, 1, watch)


JOURNEYS: dict[str, Callable[[Callable[[], Any]], None]] = {
    "zoom turn": zoom_turn, "group reward": group_reward, "light step": light_step,
}  # fmt: skip


def measure(name: str) -> Journey:
    """Run a journey, once unseen so that nothing is loaded in it for the first time, and once followed."""
    import actfer_env

    package = Path(os.environ.get(FOLDER) or Path(actfer_env.__file__).parent)
    JOURNEYS[name](lambda: followed(Journey(), package))
    journey = Journey()
    JOURNEYS[name](lambda: followed(journey, package))
    return journey


def lay_out(root: Path, folder: Path) -> Path:
    """Link a checkout's package together as it is installed, and return where it lies."""
    package = folder / "actfer_env"
    package.mkdir()
    parts = [path for path in (root / "actfer_env").iterdir() if path.name != "__pycache__"]
    for path in [*parts, root / "agents", root / "wrappers"]:
        if path.exists():
            (package / path.name).symlink_to(path)
    return package


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("journeys", nargs="*", metavar="JOURNEY", help=f"of {', '.join(JOURNEYS)}; all if left out")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="a checkout")
    parser.add_argument("--functions", action="store_true", help="list the functions, too")
    args = parser.parse_args()
    for name in args.journeys:
        if name not in JOURNEYS:
            parser.error(f"unknown journey {name!r}: use one of {', '.join(JOURNEYS)}")
    if FOLDER not in os.environ:  # a process of its own, whose package is that of the checkout
        with tempfile.TemporaryDirectory() as folder:
            package = lay_out(args.root.resolve(), Path(folder))
            env = {**os.environ, FOLDER: str(package), "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
            raise SystemExit(subprocess.run(command, env=env, cwd=folder, check=False).returncode)
    print("| journey | files | functions | moves | calls |\n|---|---|---|---|---|")
    for name in args.journeys or JOURNEYS:
        journey = measure(name)
        print(f"| {name} | " + " | ".join(f"{value:,}" for value in journey.row().values()) + " |", flush=True)
        if args.functions:
            by_file = defaultdict(list)
            for file, function in journey.functions:
                by_file[file].append(function)
            for file, functions in by_file.items():
                print(f"    {file}: {', '.join(functions)}")


if __name__ == "__main__":
    main()
