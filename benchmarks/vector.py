"""Environment steps per second of query groups, beside gymnasium's vector environments over the same single one.

    python benchmarks/vector.py                    # 1, 8, 64 and 256 environments, and the tool work of a group
    python benchmarks/vector.py --envs 256 --no-async
    python benchmarks/vector.py --prepared         # a prepared folder beside fresh and kept faces, from the first step
    python benchmarks/vector.py --soak 2000000     # memory and rate over many steps

All sides play `ActFER-MultiDiscrete-v0` at its default observation sizes, on drawn faces that are in the cache, with
the same random legal actions; only `step` is timed, by the clock and in CPU time of this process, which other work on
the machine disturbs less. CPU time says nothing of sides that have processes of their own. The floor is what no
implementation can leave out: the calls of the tools that our side made, their pictures written into the batch, and the
copy of the batch that is handed out. With everything in the cache a call is no more than a look-up; "drawing" draws
each aligned face and crop anew.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import gymnasium as gym
import numpy as np
from machine import describe, peak, resident

import actfer_env
from actfer_env.data import load_dataset, prepare_dataset
from actfer_env.envs.observations import BufferPool
from actfer_env.tools import CacheConfig, FaceTools, ZoomConfig

ENV_ID = "ActFER-MultiDiscrete-v0"
HEAD = 6  # entries of the mask for tool or region


class Clock:
    """Wall and CPU time since it was made."""

    def __init__(self):
        self.start = self.now()

    @staticmethod
    def now():
        return np.array([time.perf_counter(), time.process_time()])

    def spent(self):
        """Return the seconds by the clock, and those of CPU time, float (2,)."""
        return self.now() - self.start


class Side:
    """One vector environment, its policy, and the wall and CPU seconds that each of its turns took."""

    def __init__(self, envs):
        self.envs, self.rng, self.times = envs, np.random.default_rng(0), []
        self.obs, _ = envs.reset(seed=0)
        self.nvec = envs.single_action_space.nvec

    def actions(self):
        chosen = self.rng.integers(0, self.nvec, (self.envs.num_envs, len(self.nvec)))
        legal = self.obs["action_mask"][:, :HEAD]
        chosen[:, 0] = (legal * self.rng.uniform(0.5, 1.0, legal.shape)).argmax(1)
        return chosen

    def play(self, steps):
        spent = np.zeros(2)
        for _ in range(steps):
            actions = self.actions()
            clock = Clock()
            self.obs, *_ = self.envs.step(actions)
            spent += clock.spent()
        return spent

    def turn(self, steps):
        self.times.append(self.play(steps) / steps)


class Spy:
    """Tools that note which calls come, in turns that `cut` ends."""

    def __init__(self, tools):
        self.tools, self.turns, self.calls = tools, [], []
        self.zoom, self.image = tools.zoom, tools.image

    def cut(self):
        self.turns, self.calls = [*self.turns, self.calls], []

    def overview(self, *given):
        self.calls.append(("image", self.tools.overview, given))
        return self.tools.overview(*given)

    def alignment(self, *given):
        self.calls.append((None, self.tools.alignment, given))
        return self.tools.alignment(*given)

    def face(self, *given):
        self.calls.append(("face", self.tools.face, given))
        return self.tools.face(*given)

    def crop(self, *given):
        self.calls.append(("crop_0", self.tools.crop, given))
        return self.tools.crop(*given)


class Floor:
    """The bare tool work and copies of a recorded run."""

    def __init__(self, tools, dataset, n, size, steps):
        spy = Spy(tools)
        side = Side(actfer_env.make_group_vec(ENV_ID, n // size, size, dataset=dataset, tools=spy))
        layout = side.envs._template.layout
        side.play(20)
        spy.cut()
        for _ in range(steps):
            side.play(1)
            spy.cut()
        self.turns, self.times = spy.turns[1:], []
        self.arrays, self.copier, self.n, self.size = layout.arrays(n), BufferPool(layout, n), n, size

    def turn(self, steps):
        clock, held = Clock(), None
        for calls in (self.turns * steps)[:steps]:
            for row, (key, call, given) in enumerate(calls):
                picture = call(*given)
                if key:
                    rows = self.size if key == "image" else 1  # a group shows its picture in every member's row
                    place = row % (self.n // rows) * rows
                    self.arrays[key][place : place + rows] = getattr(picture, "image", picture)
            held = self.copier.copy(self.arrays)
        del held
        self.times.append(clock.spent() / steps)


def compare(n, args, dataset, tools):
    shared = {"dataset": dataset, "tools": tools}
    sides = {
        "query groups of 1": Side(actfer_env.make_group_vec(ENV_ID, n, 1, **shared)),
        "  their floor": Floor(tools, dataset, n, 1, args.steps),
        "SyncVectorEnv": Side(gym.make_vec(ENV_ID, n, vectorization_mode="sync", **shared)),
    }
    drawing = FaceTools(zoom=tools.zoom, cache=CacheConfig(drawn_bytes=1))
    sides["groups of 1, drawing"] = Side(actfer_env.make_group_vec(ENV_ID, n, 1, dataset=dataset, tools=drawing))
    sides["  their floor, drawing"] = Floor(drawing, dataset, n, 1, args.steps)
    if n >= 8:
        sides["query groups of 8"] = Side(actfer_env.make_group_vec(ENV_ID, n // 8, 8, **shared))
        sides["  their floor, of 8"] = Floor(tools, dataset, n, 8, args.steps)
        workers = actfer_env.make_group_vec(ENV_ID, n, 1, num_workers=2, dataset=dataset)
        sides["groups of 1, 2 workers"] = Side(workers)
    if args.run_async:
        sides["AsyncVectorEnv"] = Side(gym.make_vec(ENV_ID, n, vectorization_mode="async", **shared))
    steps = max(args.steps, 2000 // n)
    for side in sides.values():
        side.turn(max(4 * len(dataset) // n, 5))
        side.times.clear()
    for _ in range(args.rounds):
        for side in sides.values():
            side.turn(steps)
    report(n, {name: np.array(side.times) / n for name, side in sides.items()})
    for side in sides.values():
        if isinstance(side, Side):
            side.envs.close()


def report(n, times):
    """Print the medians of the turns; `times` has float (turns, 2) for each side, wall and CPU seconds a step."""
    seconds = {name: np.median(turns, axis=0) for name, turns in times.items()}
    print(f"\n{f'{n} environments':26} steps/s   us a step   us of CPU   rate over groups of 1")
    ours = seconds["query groups of 1"]
    for name, (wall, cpu) in seconds.items():
        alone = not name.endswith(("AsyncVectorEnv", "workers"))  # the work of other processes is not counted
        told = f"{1e6 * cpu:9.1f}" if alone else f"{'-':>9}"
        print(f"  {name:24}{1 / wall:9,.0f}   {1e6 * wall:9.1f}   {told}   {ours[0] / wall:6.2f}")
    theirs = min(wall for name, (wall, _) in seconds.items() if name.endswith("VectorEnv"))
    print(f"  groups of 1 over the better of gymnasium's: {theirs / ours[0]:.2f}")
    turns = times["SyncVectorEnv"][:, 1] / times["query groups of 1"][:, 1]
    print(f"  groups of 1 over SyncVectorEnv, CPU time, turn by turn: median {np.median(turns):.2f}, "
          f"{turns.min():.2f} to {turns.max():.2f}")  # fmt: skip
    for name in [name for name in seconds if name.startswith("  ")]:
        side = {"": "query groups of 1", ", of 8": "query groups of 8"}.get(name[13:], f"groups of 1{name[13:]}")
        print(f"  {side} over {name.strip()}, CPU time: {seconds[side][1] / seconds[name][1]:.2f}", flush=True)


def group_work(dataset, samples=40):
    """Print the tool work, from an empty cache, of a group of 8 that zooms everywhere and of one such rollout."""
    spent = {1: [], 8: []}
    for index in range(min(samples, len(dataset))):
        for size, times in spent.items():
            tools = Timed(FaceTools(zoom=ZoomConfig(size=48, stretch=True)))
            dataset[index].load()  # drawing the picture is no tool's work
            envs = actfer_env.make_group_vec(ENV_ID, 1, size, dataset=dataset, tools=tools)
            envs.reset(seed=0, options={"samples": [index]})
            for head in (0, 1, 2, 3, 4, 5):
                actions = np.zeros((size, len(envs.single_action_space.nvec)), int)
                actions[:, 0] = head
                envs.step(actions)
            times.append(tools.spent)
    one, eight = median(spent[1]), median(spent[8])
    print(f"\ntool work of a rollout {1e3 * one:.2f} ms, of a group of 8 {1e3 * eight:.2f} ms: {eight / one:.2f} times")


class Timed:
    """Tools that add up the seconds spent in them."""

    def __init__(self, tools):
        self.tools, self.spent = tools, 0.0
        self.zoom, self.image = tools.zoom, tools.image

    def __getattr__(self, name):
        call = getattr(self.tools, name)

        def timed(*given):
            start = time.perf_counter()
            try:
                return call(*given)
            finally:
                self.spent += time.perf_counter() - start

        return timed


def from_the_first_step(n, steps, dataset):
    """Return the rates, by the clock and in CPU time, of n environments over faces that they have not seen, with their
    making."""
    clock, count = Clock(), max(1, steps // n)
    side = Side(actfer_env.make_group_vec(ENV_ID, n, 1, dataset=dataset))
    side.play(count)
    rates = n * count / clock.spent()
    side.envs.close()
    return rates


def kept_rate(n, steps, dataset):
    """Return the rates over faces that are all in the cache."""
    side = Side(actfer_env.make_group_vec(ENV_ID, n, 1, dataset=dataset))
    side.play(max(20, 12 * len(dataset) // n))
    clock, count = Clock(), steps // n
    side.play(count)
    return n * count / clock.spent()


def prepared(args):
    """Compare a prepared folder with drawing on demand and with kept faces, from the first step on."""
    dataset, steps = load_dataset("synthetic", n=args.samples), 10_000
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        prepare_dataset(dataset, Path(folder) / "faces")
        print(f"\nprepared: {args.samples} faces in {time.perf_counter() - start:.1f} s")
        name, both = f"prepared:{folder}/faces", (1, 256)
        fresh = load_dataset("synthetic", seed=1)
        rates = {
            "fresh faces": [from_the_first_step(n, count, fresh) for n, count in ((1, 64), (256, 512))],
            "prepared": [from_the_first_step(n, steps, name) for n in both],
            "kept faces": [kept_rate(n, steps, dataset) for n in both],
        }
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            pairs = {n: pool.starmap(from_the_first_step, [(n, steps, name)] * 2) for n in both}
        for place in range(2):
            rates[f"prepared, process {place + 1} of 2"] = [pairs[n][place] for n in both]
        print(f"{'steps/s from the first step':28} {'1 environment':>22} {'256 environments':>22}")
        for what, cells in rates.items():
            print(f"  {what:26} " + " ".join(f"{wall:10,.0f} ({cpu:8,.0f})" for wall, cpu in cells))
        over = [rates["prepared"][place][1] / rates["kept faces"][place][1] for place in range(2)]
        print(
            f"  prepared over kept, CPU time: {over[0]:.2f} and {over[1]:.2f}; in parentheses steps/s of CPU time",
            flush=True,
        )


def soak(args, dataset, tools):
    """Play many steps of query groups of 8, and print rate and memory ten times on the way."""
    side = Side(actfer_env.make_group_vec(ENV_ID, 32, 8, dataset=dataset, tools=tools))
    side.play(200)
    side.envs.commit()
    part = args.soak // 10 // side.envs.num_envs
    print(f"\nsoak: {10 * part * side.envs.num_envs:,} environment steps")
    for _ in range(10):
        spent = 0.0
        for _ in range(part // 16):
            spent += side.play(16)[0]
            side.envs.commit()
        rate = part // 16 * 16 * side.envs.num_envs / spent
        print(f"  {rate:9,.0f} steps/s   {resident():7.1f} MiB resident   {peak():7.1f} MiB at most")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="vector steps in a turn, at the least")
    parser.add_argument("--samples", type=int, default=64, help="drawn faces, all in the cache")
    parser.add_argument("--prepared", action="store_true", help="measure a prepared folder from the first step instead")
    parser.add_argument("--no-async", dest="run_async", action="store_false")
    parser.add_argument("--soak", type=int, default=0, metavar="STEPS", help="play that many steps instead")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print(describe("actfer-env", "gymnasium", "numpy", "opencv-python"))
    dataset, tools = load_dataset("synthetic", n=args.samples), FaceTools(zoom=ZoomConfig(size=48, stretch=True))
    if args.prepared:
        prepared(args)
        return
    if args.soak:
        soak(args, dataset, tools)
        return
    for n in args.envs:
        compare(n, args, dataset, tools)
    group_work(load_dataset("synthetic", n=args.samples, seed=1))


if __name__ == "__main__":
    main()
