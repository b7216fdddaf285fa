"""Query groups in worker processes: the same bytes, errors as they are, and nothing left behind."""

import multiprocessing
import os
import pickle
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

import actfer_env
from actfer_env.agents import RandomAgent
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.errors import ImageError, WorkerError
from actfer_env.tools import FaceTools, ZoomConfig

DETECT, HAPPY = 0, 6


def make(env_id, num_workers, mode="NextStep", dataset=None, **kwargs):
    faces = dataset or load_dataset("synthetic", n=6)
    return actfer_env.make_group_vec(
        env_id, 4, 2, dataset=faces, num_workers=num_workers, autoreset_mode=mode, max_turns=4, **kwargs
    )


def children():
    """The environments' own workers: joblib, which other tests use, keeps some for later."""
    return [process for process in multiprocessing.active_children() if not process.name.startswith("Loky")]


def played(envs, steps):
    """Everything that a run returns, apart from the wall-clock times in its rollouts."""
    obs, info = envs.reset(seed=5)
    agent, log = RandomAgent(envs.single_action_space, 0, masked=False), [(obs, info)]
    for step in range(steps):
        obs, *ends, info = envs.step(agent.act(obs, info))
        log.append((obs, ends, info))
        if step % 5 == 4:
            envs.commit()
    return log, envs.state_dict()


def plain(value):
    """Arrays of objects as lists, since their bytes are addresses."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return [plain(item) for item in value] if isinstance(value, np.ndarray) and value.dtype == object else value


@pytest.mark.parametrize(
    ("env_id", "mode"), [("ActFER-MultiDiscrete-v0", "NextStep"), ("ActFER-v0", "SameStep")]
)  # fmt: skip
def test_workers_give_the_same_bytes(env_id, mode):
    runs = []
    for num_workers in (0, 3):
        envs = make(env_id, num_workers, mode)
        runs.append(plain(played(envs, 30)))
        envs.close()
    (log, state), (other, other_state) = runs
    assert state == other_state and state["scorer"]["commits"] > 1
    for one, two in zip(log, other, strict=True):
        assert data_equivalence(one, two, exact=True)
    assert not children()


def test_errors_in_a_worker_arrive_as_themselves_and_a_reset_goes_on(tmp_path):
    good = load_dataset("portrait")[0]
    faces = Dataset("faces", [good, Sample(id="lost", source=str(tmp_path / "gone.jpg"), emotion="fear")])
    envs = make("ActFER-Discrete-v0", 2, dataset=faces)
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        envs.reset(seed=0, options={"samples": [0, 0, 0, 1]})
    with pytest.raises(RuntimeError, match="call reset"):
        envs.step(np.full(8, DETECT))
    envs.reset(seed=0, options={"samples": [0, 0, 0, 0]})
    obs, *_ = envs.step(np.full(8, DETECT))
    assert (obs["state"] == 1).all()
    envs.close()


def test_a_killed_worker_is_named_and_nothing_stays():
    memory = Path("/dev/shm")
    before = set(memory.iterdir()) if memory.exists() else set()
    envs = make("ActFER-Discrete-v0", 2)
    envs.reset(seed=0)
    second = sorted(children(), key=lambda process: process.pid)[1]
    os.kill(second.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"worker process 1 \(groups 2 to 3\) was killed by SIGKILL") as caught:
        for _ in range(2):
            envs.step(np.full(8, DETECT))
    assert "\n" not in str(caught.value)
    assert not children()
    assert not (set(memory.iterdir()) if memory.exists() else set()) - before
    with pytest.raises(WorkerError, match="make a new environment"):
        envs.reset(seed=0)
    envs.close()


def test_what_cannot_travel_is_named():
    lock = threading.Lock()
    faces = Dataset("faces", [Sample(id="a", source=lambda: lock and np.zeros((64, 64, 3), np.uint8), emotion="fear")])
    with pytest.raises(ValueError, match=r"cannot be sent to worker processes .*lock.*; use num_workers=0"):
        make("ActFER-Discrete-v0", 1, dataset=faces)


def test_an_error_while_starting_arrives_as_itself():
    with pytest.raises(actfer_env.DetectorError, match="psychic"):
        envs = make("ActFER-Discrete-v0", 1, detector="psychic")
        envs.reset(seed=0)
        envs.step(np.full(8, DETECT))


def test_tools_travel_without_their_cache():
    tools = FaceTools("simulated", zoom=ZoomConfig(size=48, stretch=True), face=1)
    sample = load_dataset("synthetic", n=1)[0]
    tools.overview(sample, 36)
    copy = pickle.loads(pickle.dumps(tools))
    assert (copy.zoom, copy.choice, copy.detections) == (tools.zoom, 1, 0)
    assert (copy.overview(sample, 36) == tools.overview(sample, 36)).all()
    assert len(pickle.dumps(tools)) < 2000
