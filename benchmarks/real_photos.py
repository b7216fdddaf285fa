"""Is there something to learn about when to look closer on real photos? Train light policies, report their gates.

    python -m benchmarks.real_photos --root FOLDER --out real-photos/ --seeds 5

FOLDER is the public data set facial_expressions (see `actfer data list`). Photos are detected and cropped once
(`actfer data prepare`). Each seed draws its own people for train, val and test, learns a warm start and UC-GRPO, and is
played on its test people in every pass of the gate report. What is finished is kept: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from actfer_env import facs
from actfer_env.agents.light import session
from actfer_env.agents.light.policy import PolicyConfig
from actfer_env.agents.light.samples import training_data
from actfer_env.agents.light.trainer import TrainerConfig
from actfer_env.agents.light.warmstart import WarmStartConfig
from actfer_env.data import load_dataset
from actfer_env.data.prepared import prepare_dataset
from actfer_env.evaluation.gate.outcomes import PassTable, holds_plays, joined, read_plays, write_plays
from actfer_env.evaluation.gate.page import write_gate
from actfer_env.evaluation.gate.play import WAYS, play_gate
from actfer_env.evaluation.intervals import Interval
from actfer_env.evaluation.play import config_for
from actfer_env.files import write_text_atomic
from benchmarks.gate import gate_result, rounded, write

LEAST = 10
"""Test photos below which an emotion is left out of a seed's balanced accuracy: fear and contempt have a handful."""
SIDE = 350
"""Most photos have this side; the smaller ones hold less detail."""


def config_of(photos: Path, seed: int, args: argparse.Namespace, variant: str = "full") -> session.SessionConfig:
    """Return the training of a seed; constants chosen here, after four other settings on seed 0."""
    return session.SessionConfig(
        variant=variant, dataset=f"prepared:{photos}", split="subject", split_seed=seed, seed=seed,
        rl_share=args.rl_share, balance=args.balance, train=100_000, val=2_000, test=0, threads=args.threads,
        policy=PolicyConfig(channels=args.channels, dropout=0.5),
        warm=WarmStartConfig(epochs=args.epochs, retries=0, sharp_only=False, shift=5, face_dropout=args.face_dropout,
                             image_dropout=args.image_dropout),
        trainer=TrainerConfig(steps=args.steps, groups=32, group_size=8, rate=args.rate),
    )  # fmt: skip


def one_seed(photos: Path, seed: int, args: argparse.Namespace, variant: str = "full", whole: bool = True) -> Path:
    """Train a seed and play its test people, unless that is done; return its folder.

    Without `whole` they are played in the passes free, never and always alone.
    """
    folder, cache = args.out / f"{'seed' if variant == 'full' else variant}-{seed}", args.out / "cache"
    if holds_plays(folder):
        return folder
    start, used = time.perf_counter(), time.process_time()
    config = config_of(photos, seed, args, variant)
    session.run(config, folder, cache, lambda text: print(f"{variant}, seed {seed}: {text}", flush=True), workers=1,
                watch=lambda *now: print(f"{variant}, seed {seed}: {session.line_of(*now)}", flush=True)
                if now[1] % 10 == 0 else None)  # fmt: skip
    trained = time.perf_counter() - start, time.process_time() - used
    held = training_data(config).parts["test"]
    plays, _ = play_gate(held, config_for((f"light:{folder}",)), ways=WAYS if whole else WAYS[:3], swaps=whole)
    took = {"train_wall_s": round(trained[0], 1), "train_cpu_s": round(trained[1], 1),
            "wall_s": round(time.perf_counter() - start, 1), "cpu_s": round(time.process_time() - used, 1)}  # fmt: skip
    write_text_atomic(folder / "took.json", json.dumps(took) + "\n")
    write_plays(folder, plays)
    return folder


def recalls(table: PassTable, way: str) -> dict[str, float]:
    """Return the recall of each emotion with enough test photos."""
    right = table.quality(way).mean(1)
    names = np.array([one.emotion for one in table.samples])
    return {name: float(right[names == name].mean()) for name in facs.EMOTIONS if (names == name).sum() >= LEAST}


def balanced(table: PassTable) -> dict[str, float]:
    """Return balanced accuracies: of each pass, of the better of never and always, and differences."""
    found = {way: float(np.mean(list(recalls(table, way).values()))) for way in ("free", "never", "always", "all")}
    best = np.maximum(table.quality("never"), table.quality("always")).mean(1)
    names = np.array([one.emotion for one in table.samples])
    kept = [name for name in facs.EMOTIONS if (names == name).sum() >= LEAST]
    found["oracle"] = float(np.mean([best[names == name].mean() for name in kept]))
    return found | {f"free_less_{way}": found["free"] - found[way] for way in ("never", "always")} | {
        "always_less_never": found["always"] - found["never"], "emotions": float(len(kept))}  # fmt: skip


def gains(table: PassTable) -> dict[str, dict[str, float]]:
    """Return the gain of zooming and the zoom ratio, by emotion and by picture size."""
    gap = (table.quality("always") - table.quality("never")).mean(1)
    own = (table.quality("free") - table.quality("never")).mean(1)
    zoomed = table.zoomed("free").mean(1)
    size = np.array([one.size for one in table.samples])
    names = np.array([one.emotion for one in table.samples])
    parts = {name: names == name for name in facs.EMOTIONS if (names == name).sum() >= LEAST}
    parts |= {
        f"{SIDE} pixels and more": table.face & (size >= SIDE),
        f"below {SIDE} pixels": table.face & (size < SIDE),
    }
    return {
        name: {"n": float(part.sum()), "always_less_never": float(gap[part].mean()),
               "zoomed": float(zoomed[part].mean()), "free_less_never": float(own[part].mean())}
        for name, part in parts.items() if part.any()
    }  # fmt: skip


def over_seeds(rows: list[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Return each figure's mean with the 95 % interval of Student's t over the seeds that have it."""
    found = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        one = Interval.of([row[name] for row in rows if name in row])
        ends = (one.low, one.high) if one.n > 1 else (None, None)
        found[name] = {"value": one.mean, "low": ends[0], "high": ends[1], "seeds": one.n}
    return found


def options() -> argparse.ArgumentParser:
    """Return the options of a training on photos."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--root", type=Path, required=True, help="of facial_expressions, or a folder of kept photos")
    parser.add_argument("--out", type=Path, default=Path("real-photos"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", type=int, help="one seed alone, without the report")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--face-dropout", type=float, default=0.5)
    parser.add_argument("--image-dropout", type=float, default=0.6)
    parser.add_argument("--rl-share", type=float, default=0.2)
    parser.add_argument("--balance", default="none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--results", type=Path, help="file for the figures, such as benchmarks/results/real_photos.json"
    )
    return parser


def kept_photos(args: argparse.Namespace) -> Path:
    """Return the folder of kept photos, made where the root is the data set itself."""
    if (args.root / "facts.json").exists():
        return Path(args.root)
    photos = Path(args.out, "photos")
    prepare_dataset(load_dataset("facial_expressions", args.root), photos)
    return photos


def main() -> None:
    args = argparse.ArgumentParser(
        parents=[options()], description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    photos = kept_photos(args)
    if args.only is not None:
        one_seed(photos, args.only, args)
        return
    folders = [one_seed(photos, seed, args) for seed in range(args.seeds)]
    plays = joined([read_plays(folder) for folder in folders])
    figures, page = write_gate(args.out, plays)
    tables = [plays.table(number) for number in range(len(folders))]
    each = [gains(table) for table in tables]
    parts = {
        name: over_seeds([one[name] for one in each if name in one])
        for name in dict.fromkeys(n for o in each for n in o)
    }
    took = [json.loads((folder / "took.json").read_text()) for folder in folders]
    named = ("seeds", "epochs", "steps", "rate", "channels", "face_dropout", "image_dropout", "rl_share", "balance",
               "threads")  # fmt: skip
    given = "".join(f" --{name.replace('_', '-')} {getattr(args, name)}" for name in named)
    result = gate_result(
        figures, "facial_expressions, people apart", "light policy, UC-GRPO on real photos",
        f"python -m benchmarks.real_photos --root FOLDER{given}",
        seconds={name: Interval.of([one[name] for one in took]).mean for name in took[0]},
        balanced_accuracy=over_seeds([balanced(table) for table in tables]), parts=parts,
        about="intervals: 95 %, Student's t over seeds; each seed has its own people in test",
    )  # fmt: skip
    if args.results is not None:
        print(f"result: {write(rounded(result), args.results)}")
    print(json.dumps(rounded({key: result[key] for key in ("balanced_accuracy", "parts", "seconds")}), indent=1))
    print(f"page: {page}")


if __name__ == "__main__":
    main()
