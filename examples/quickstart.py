"""One episode with your own policy: detect, look at the mouth, answer."""

import gymnasium as gym

import actfer_env
from actfer_env import facs


def policy(obs: dict) -> int:
    """Follow the mask: detect first, then zoom into the mouth once, then answer."""
    mouth = 1 + facs.REGIONS.index("mouth-chin")
    if obs["action_mask"][0]:
        return 0
    if obs["action_mask"][mouth]:
        return mouth
    return 5 + facs.EMOTIONS.index("happiness")


env = gym.make("ActFER-Discrete-v0", render_mode="rgb_array")
obs, info = env.reset(seed=0)
done = False
while not done:
    obs, reward, terminated, truncated, info = env.step(policy(obs))
    done = terminated or truncated
    print(info["message"])

print(f"actfer_env {actfer_env.__version__}: reward {reward:.2f} =", info["reward_terms"])
