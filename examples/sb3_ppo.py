"""Train Stable-Baselines3's PPO on drawn faces, and keep it: python sb3_ppo.py 100000 ppo.zip"""

import sys

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

from actfer_env.data import load_dataset
from actfer_env.wrappers.sb3 import POLICY, make_sb3_vec

torch.set_num_threads(1)
SIZES = {"image_size": 36, "face_size": 64, "crop_size": 48}
steps, groups = (int(sys.argv[1]), 32) if len(sys.argv) > 1 else (128, 8)
faces = load_dataset("synthetic", split="train", n=800)  # these stay in the cache
envs = make_sb3_vec("ActFER-MultiDiscrete-v0", groups, dataset=faces, **SIZES)
model = PPO("MultiInputPolicy", envs, n_steps=16, batch_size=128, n_epochs=4, policy_kwargs=POLICY, seed=0)
model.learn(steps)
if len(sys.argv) > 2:
    model.save(sys.argv[2])  # actfer eval synthetic --split test --agent sb3:ppo.zip

test = make_sb3_vec("ActFER-MultiDiscrete-v0", groups, split="test", **SIZES)
mean, std = evaluate_policy(model, test, n_eval_episodes=200 if steps > 128 else 16, deterministic=False)
print(f"mean reward on the test split: {mean:.3f} (standard deviation {std:.3f})")
