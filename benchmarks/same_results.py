"""Do two checkouts give the same rollouts, rewards, pictures and weights, bit for bit?

python -m benchmarks.same_results OLD NEW                 # two folders, each a checkout
python -m benchmarks.same_results OLD NEW --photos FOLDER --steps 20

Each checkout runs in processes of its own, with this interpreter's packages; neither need be installed. Compared are
drawn faces by preset, episodes on photographs (the embedded one, or --photos), chat episodes over odd replies, group
environments, and a light training with its warm start. Exit code 1 where a digest differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

REPLIES = (
    "<think>First.</think><tool_call>{\"name\": \"detect_align\", \"arguments\": {}}</tool_call>",
    "<tool_call>{\"name\": \"zoom_in\", \"arguments\": {\"regions\": [\"nose\", \"eye-periorbital\"]}}</tool_call>",
    "<tool_call>{\"name\": \"zoom_in\", \"arguments\": {\"bbox_2d\": [100, 200, 600, 700]}}</tool_call>",
    "<tool_call>not json</tool_call>",
    "<think>I might write <answer> later</think>",
    "<think>t</think><answer>{\"aus\": [\"AU6\", \"AU12\"], \"emotion\": \"happiness\"}</answer>",
    "<answer>AU4, AU15: sadness</answer>",
    "happiness",
    "",
)  # fmt: skip


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it, arrays by their bytes."""
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def played(rollout: Any) -> dict[str, Any]:
    """Return what an episode did, without what a later version may add."""
    calls = [[c.name, c.arguments, c.violation, c.turn, c.boxes] for c in rollout.tool_calls]
    keys = ("sample_id", "group_id", "emotion", "aus", "predicted_emotion", "predicted_aus", "detection", "truncated",
            "turns", "texts", "member", "zoomed")  # fmt: skip
    return {"calls": plain(calls), **{key: plain(getattr(rollout, key)) for key in keys}}


def drawn() -> Iterator[Any]:
    from actfer_env.data import load_dataset

    for preset in ("easy", "standard", "hard", "mixed", "subtle"):
        data = load_dataset("synthetic", preset=preset)
        for sample in (data[index] for index in range(6)):
            yield [preset, sample.id, sample.emotion, plain(sample.aus), plain(np.asarray(sample.image))]


def scored(rollouts: list[Any]) -> Any:
    from actfer_env.rewards import UCGRPO

    scores = UCGRPO().score(rollouts)
    keys = ("task", "structure", "utility", "quality", "total", "advantage")
    return {**{key: plain(getattr(scores, key)) for key in keys}, "delta": plain(scores.delta)}


def photographs(folder: str | None) -> Iterator[Any]:
    import gymnasium as gym

    from actfer_env.agents import make_agent
    from actfer_env.data import load_dataset

    data = load_dataset("photos", root=folder) if folder else load_dataset("portrait")
    env = gym.make("ActFER-MultiDiscrete-v0", detector="mtcnn", dataset=data, disable_env_checker=True)
    agents = [make_agent(spec, env.action_space, dataset=data) for spec in ("full", "simplified", "blind", "random")]
    rollouts = []
    for index in range(min(12, len(data))):
        for member, agent in enumerate(agents):
            agent.reset(1)
            obs, info = env.reset(seed=index, options={"sample": index, "group": str(index), "member": member})
            while "rollout" not in info:
                obs, reward, _, _, info = env.step(agent.act(obs, info))
                yield [plain(obs), float(reward)]
            rollouts.append(info["rollout"])
            yield [played(rollouts[-1]), plain(info["reward_terms"])]
    yield scored(rollouts)


def chat() -> Iterator[Any]:
    from actfer_env.chat import CHAT_PRESETS, ChatConfig, ChatEpisode, chat_tools
    from actfer_env.data import load_dataset

    data = load_dataset("synthetic")
    rng = np.random.default_rng(0)
    for preset in CHAT_PRESETS:
        rollouts, config = [], ChatConfig(preset=preset)
        tools = chat_tools("simulated", config)
        for index in range(12):
            chat = ChatEpisode(data[index // 3], tools, config, group_id=str(index // 3), member=index % 3)
            done = False
            while not done:
                step = chat.step(REPLIES[int(rng.integers(len(REPLIES)))])
                done = step.done
            yield [chat.messages, [plain(image) for image in chat.images]]
            rollouts.append(chat.rollout())
            yield played(rollouts[-1])
        yield scored(rollouts)


def groups() -> Iterator[Any]:
    import actfer_env

    for name in ("ActFER-v0", "ActFER-Discrete-v0", "ActFER-MultiDiscrete-v0"):
        venv = actfer_env.make_group_vec(name, num_groups=3, group_size=4, dataset="synthetic", detector="simulated")
        venv.action_space.seed(0)
        obs, info = venv.reset(seed=0)
        for _ in range(60):
            obs, reward, over, cut, info = venv.step(venv.action_space.sample())
            kept = {key: info[key] for key in ("active", "advantage", "action_mask") if key in info}
            yield [plain(obs), plain(reward), plain(over), plain(cut), plain(kept)]
        venv.close()


def light(steps: int) -> Iterator[Any]:
    from dataclasses import replace

    from actfer_env.agents.light import session

    preset = session.PRESETS["smoke"]
    config = replace(preset, trainer=replace(preset.trainer, steps=steps))
    with tempfile.TemporaryDirectory() as name:
        result = session.run(config, Path(name, "run"), Path(name, "cache"), lambda text: None, 1)
        yield {key: plain(value) for key, value in result.items() if key not in ("seconds", "versions", "config")}


PARTS = {"drawn faces": drawn, "photographs": photographs, "chat": chat, "groups": groups, "light training": light}


def digest(part: str, args: argparse.Namespace) -> None:
    """Print the digest of one part, in the checkout that the interpreter sees."""
    extra = {"photographs": (args.photos,), "light training": (args.steps,)}.get(part, ())
    total, count = hashlib.sha256(), 0
    for record in PARTS[part](*extra):
        line = json.dumps(record, sort_keys=True, default=str)
        total.update(line.encode())
        count += 1
        if args.dump:
            print(line, file=sys.stderr)
    print(json.dumps([count, total.hexdigest()[:16]]))


def run(checkout: Path, part: str, args: argparse.Namespace) -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as name:
        package = Path(name, "actfer_env")
        package.mkdir()
        for item in (checkout / "actfer_env").iterdir():
            if item.name != "__pycache__":
                (package / item.name).symlink_to(item.resolve())
        for folder in ("agents", "wrappers"):
            (package / folder).symlink_to((checkout / folder).resolve())
        command = [sys.executable, str(Path(__file__).resolve()), "--part", part, "--steps", str(args.steps)]
        command += ["--photos", args.photos] if args.photos else []
        command += ["--dump"] if args.dump else []
        environment = {**os.environ, "PYTHONPATH": name, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        with Path(f"{args.dump}-{checkout.name}-{part.replace(' ', '-')}.txt" if args.dump else os.devnull).open(
            "w"
        ) as log:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=log if args.dump else None,
                cwd=name,
                env=environment,
                check=True,
            )
        count, text = json.loads(done.stdout.splitlines()[-1])
        return count, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path)
    parser.add_argument("--photos", help="folder of photographs for the episodes; default: the embedded picture")
    parser.add_argument("--steps", type=int, default=20, help="updates of the light training")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone; may be given again")
    parser.add_argument(
        "--dump", nargs="?", const="dump", help="prefix of files with every record, to find a difference"
    )
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        digest(args.part, args)
        return
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    differ = 0
    for part in args.only or PARTS:
        found = [run(checkout, part, args) for checkout in args.checkouts]
        same = len(set(found)) == 1
        differ += not same
        print(f"{part}: {found[0][0]} records, {' | '.join(text for _, text in found)}: {'same' if same else 'DIFFER'}",
              flush=True)  # fmt: skip
    sys.exit(int(differ > 0))


if __name__ == "__main__":
    main()
