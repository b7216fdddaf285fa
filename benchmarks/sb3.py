"""Does SB3's PPO learn? Train it for some minutes, then compare it with the random policy on the test split.

OMP_NUM_THREADS=1 python benchmarks/sb3.py --minutes 10
"""

import argparse
import os
import platform
import time
import warnings
from importlib import metadata

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from actfer_env.data import load_dataset
from actfer_env.wrappers.sb3 import POLICY, CollapseCallback, make_sb3_vec

ENV_ID = "ActFER-MultiDiscrete-v0"
SIZES = {"image_size": 36, "face_size": 64, "crop_size": 48}


class Clock(BaseCallback):
    """Ends the training after some seconds, and prints the mean reward on the way."""

    def __init__(self, seconds):
        super().__init__()
        self.end, self.every, self.next = time.monotonic() + seconds, seconds / 10, time.monotonic()

    def _on_step(self):
        now = time.monotonic()
        if now >= self.next and self.model.ep_info_buffer:
            mean = np.mean([one["r"] for one in self.model.ep_info_buffer])
            print(f"  {self.num_timesteps:8,} steps   mean reward of the last 100 episodes {mean:+.3f}", flush=True)
            self.next = now + self.every
        return now < self.end


class RandomPolicy:
    """Draws uniformly from the action space, legal or not."""

    def __init__(self, space):
        self.space = space
        self.space.seed(0)

    def predict(self, obs, **_):
        return np.stack([self.space.sample() for _ in range(len(obs["state"]))]), None


def rewards(policy, episodes, seed=1):
    envs = make_sb3_vec(ENV_ID, 20, split="test", **SIZES)
    envs.seed(seed)
    values, _ = evaluate_policy(policy, envs, episodes, deterministic=False, return_episode_rewards=True)
    envs.close()
    return np.array(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--episodes", type=int, default=500, help="of the test split, for either policy")
    parser.add_argument("--samples", type=int, default=800, help="of the training split")
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("error")
    warnings.filterwarnings("default", "after .* steps", RuntimeWarning)  # of a collapse: said, but no reason to stop
    torch.set_num_threads(1)
    names = ("actfer-env", "stable-baselines3", "torch", "gymnasium")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    print(f"{platform.machine()}, {os.cpu_count()} cores (one used), Python {platform.python_version()}, {versions}")
    faces = load_dataset("synthetic", split="train", n=args.samples)  # few enough to stay in the cache
    envs = make_sb3_vec(ENV_ID, args.envs, dataset=faces, **SIZES)
    model = PPO("MultiInputPolicy", envs, n_steps=16, batch_size=256, n_epochs=4, learning_rate=1e-3, ent_coef=0.005,
                policy_kwargs=POLICY, seed=args.seed)  # fmt: skip
    start = time.monotonic()
    model.learn(10**9, callback=[Clock(60 * args.minutes), CollapseCallback()])
    print(f"trained for {time.monotonic() - start:.0f} s, {model.num_timesteps:,} environment steps")
    learned, random = rewards(model, args.episodes), rewards(RandomPolicy(envs.action_space), args.episodes)
    error = np.sqrt(learned.var(ddof=1) / len(learned) + random.var(ddof=1) / len(random))
    print(f"mean reward on the test split: PPO {learned.mean():+.3f}, random {random.mean():+.3f}")
    gain = learned.mean() - random.mean()
    print(f"difference {gain:+.3f}, its standard error {error:.3f}, ratio {gain / error:.1f}")


if __name__ == "__main__":
    main()
