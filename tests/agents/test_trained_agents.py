"""Trained policies as agents: the same actions through every door, exports that agree, and folders that do not fit."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'actfer-env[torch]'")

from actfer_env import cli, make_group_vec  # noqa: E402
from actfer_env.agents import Agent, LightAgent, make_agent  # noqa: E402
from actfer_env.agents.light import session  # noqa: E402
from actfer_env.agents.light.agent import CONFIG, WEIGHTS  # noqa: E402
from actfer_env.agents.light.evaluate import hold_out  # noqa: E402
from actfer_env.agents.light.policy import PolicyConfig  # noqa: E402
from actfer_env.agents.light.trainer import TrainerConfig  # noqa: E402
from actfer_env.data import load_dataset  # noqa: E402
from actfer_env.errors import ActFERError, AgentError, DataError  # noqa: E402
from actfer_env.evaluation import read_run  # noqa: E402
from actfer_env.evaluation.play import RolloutConfig, config_for, play  # noqa: E402
from actfer_env.rewards import UCGRPOConfig  # noqa: E402
from actfer_env.testing import check_agent  # noqa: E402

SMALL = replace(
    session.PRESETS["smoke"], train=48, val=24, test=0, policy=PolicyConfig(channels=4, picture=8, region=4, hidden=16),
    trainer=TrainerConfig(steps=2, groups=6, group_size=4, save_every=1),
)  # fmt: skip
FACES = load_dataset("synthetic-mixed", split="val", n=SMALL.val)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished training, and that of its cache."""
    place = tmp_path_factory.mktemp("trained")
    session.run(SMALL, place / "run", place / "cache", lambda text: None, workers=1)
    return place / "run", place / "cache"


@pytest.fixture(scope="module")
def folder(trained):
    """A trained folder whose gate zooms now and then: the smoke run's own never does."""
    agent = LightAgent.load(trained[0])
    with torch.no_grad():
        agent.policy.gate[2].bias += torch.tensor([2.0, 1.0, 0.5, 0.2, 0.8, -0.4])
        agent.policy.gate[2].weight *= 4
    agent.record = replace(agent.record, weights=session.weights_hash(agent.policy))
    agent.save_pretrained(trained[0].parent / "zooming")
    return trained[0].parent / "zooming"


def said(rollouts):
    """What a rollout did, without times."""
    return [
        (r.sample_id, r.predicted_emotion, r.predicted_aus, [(c.name, c.arguments) for c in r.tool_calls])
        for r in rollouts
    ]


def test_the_same_policy_plays_the_same_through_every_door(trained, folder):
    agent = LightAgent.load(folder)
    held = session.split_data("val", SMALL.val, SMALL, trained[1], lambda text: None, 1)
    trainers = hold_out(agent.policy, held.groups(6, 4, UCGRPOConfig()), SMALL.val, UCGRPOConfig())["free"].rollouts
    assert {len(r.tool_calls) for r in trainers} > {1} and any(r.zoomed for r in trainers)

    spec = f"light:{folder}"
    rollout = play(FACES, config_for((spec,))).rollouts
    assert said(rollout) == said(trainers)

    env = gym.make("ActFER-Quality-v0", dataset=FACES, **agent.env_arguments)
    singles = []
    for index in range(len(FACES)):
        obs, info = env.reset(options={"sample": index})
        while "rollout" not in info:
            obs, _, _, _, info = env.step(agent.act(obs, info))
        singles.append(info["rollout"])
    assert said(singles) == said(trainers)

    venv, found = make_group_vec("ActFER-MultiDiscrete-v0", 6, 2, dataset=FACES, **agent.env_arguments), {}
    agent.check(venv)
    for start in range(0, len(FACES), 6):
        obs, info = venv.reset(options={"samples": list(range(start, start + 6))})
        while len(found) < start + 6:
            obs, _, _, _, info = venv.step(agent.act(obs, info))
            found |= {r.sample_id: r for r in info.get("rollout", ()) if r is not None}
    assert said(found[FACES[i].id] for i in range(len(FACES))) == said(trainers)


def test_a_policy_acts_the_same_in_a_fresh_process(folder):
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES)
    agent, actions = LightAgent.load(folder), []
    obs, info = env.reset(options={"sample": 3})
    while "rollout" not in info:
        actions.append(agent.act(obs, info).tolist())
        obs, _, _, _, info = env.step(np.array(actions[-1]))
    code = (
        "import sys, json, gymnasium as gym, actfer_env, torch; torch.set_num_threads(1)\n"
        "from actfer_env.agents import make_agent\n"
        "data = actfer_env.data.load_dataset('synthetic-mixed', split='val', n=24)\n"
        "env, actions = gym.make('ActFER-MultiDiscrete-v0', dataset=data), []\n"
        "agent = make_agent('light:' + sys.argv[1], env.action_space, dataset=data)\n"
        "obs, info = env.reset(options={'sample': 3})\n"
        "while 'rollout' not in info:\n"
        "    actions.append(agent.act(obs, info).tolist()); obs, _, _, _, info = env.step(agent.act(obs, info))\n"
        "print(json.dumps(actions))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, cwd="/"
    )
    assert json.loads(done.stdout) == actions and len(actions) > 1


@pytest.mark.parametrize("env_id", ["ActFER-v0", "ActFER-MultiDiscrete-v0", "ActFER-Discrete-v0"])
def test_a_light_agent_keeps_the_contract_in_every_action_format(folder, env_id):
    env = gym.make(env_id, dataset=FACES)
    agent = make_agent(f"light:{folder}", env.action_space, dataset=FACES)
    assert isinstance(agent, Agent)
    check_agent(agent, env, episodes=3)
    runs = [play(FACES, RolloutConfig(env_id=one, agents=(f"light:{folder}",), number=6)).rollouts
            for one in (env_id, "ActFER-MultiDiscrete-v0")]  # fmt: skip
    moves = [[(r.predicted_emotion, [c.name for c in r.tool_calls], r.violations) for r in run] for run in runs]
    assert moves[0] == moves[1] and not any(r.violations for r in runs[0])


def test_draws_follow_the_seed(folder):
    obs, info = make_group_vec("ActFER-MultiDiscrete-v0", 8, 1, dataset=FACES).reset(seed=0)
    draws = [[LightAgent.load(folder, sample=True, seed=seed).act(obs, info).tolist() for _ in range(2)]
             for seed in (0, 0, 1)]  # fmt: skip
    assert draws[0] == draws[1] != draws[2]
    members = play(FACES, config_for((f"light:{folder}:sample",), group_size=6, number=2)).rollouts
    assert len({str(one) for one in said(members[:6])}) > 1


def test_draws_go_on_from_a_stored_state(folder):
    obs, info = make_group_vec("ActFER-MultiDiscrete-v0", 8, 1, dataset=FACES).reset(seed=0)
    agent, other = (LightAgent.load(folder, sample=True, seed=seed) for seed in (0, 1))
    agent.act(obs, info)
    other.set_random_state(json.loads(json.dumps(agent.random_state())))
    for _ in range(2):
        assert agent.act(obs, info).tolist() == other.act(obs, info).tolist()
    assert LightAgent.load(folder).random_state() == {} and agent.identity == LightAgent.load(folder).identity


def observations(agent, count=12):
    """Batches of observations at the beginning, after detection, and after zooms."""
    venv = make_group_vec("ActFER-MultiDiscrete-v0", count, 1, dataset=FACES)
    obs, _ = venv.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(5):
        yield obs
        actions = np.zeros((count, len(venv.single_action_space.nvec)), np.int64)
        legal = [np.flatnonzero(mask[:6]) for mask in obs["action_mask"]]
        actions[:, 0] = [rng.choice([m for m in moves if m != 5] or [5]) if len(moves) else 0 for moves in legal]
        obs, *_ = venv.step(actions)


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_exports_agree_with_the_policy(folder, tmp_path, format):
    agent = LightAgent.load(folder)
    path = agent.export(tmp_path / f"policy.{format}", format)
    names = ("image", "face", "crops", "crop_boxes", "crop_mask", "region_boxes", "state", "turns_left", "legal")
    if format == "onnx":
        runtime = pytest.importorskip("onnxruntime")
        loaded = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        config = json.loads(loaded.get_modelmeta().custom_metadata_map["config"])

        def infer(inputs):
            return loaded.run(["tool", "emotion", "aus"], inputs)
    else:
        extra = {"config.json": ""}
        module = torch.jit.load(str(path), _extra_files=extra)
        config = json.loads(extra["config.json"])

        def infer(inputs):
            return [out.numpy() for out in module(*(torch.tensor(inputs[name]) for name in names))]

    assert config["emotions"][0] == "neutral" and config == json.loads((folder / CONFIG).read_text())
    seen = set()
    for obs in observations(agent):
        batch = agent._inputs(dict(obs), agent._codec(dict(obs)))
        with torch.no_grad():
            out = agent.policy(*batch)
        for count in (12, 1):  # any number of rows
            inputs = {name: values[:count] for name, values in agent.inputs(obs).items()}
            for found, wanted in zip(infer(inputs), (out.tool, out.emotion, out.aus), strict=True):
                np.testing.assert_allclose(found, wanted.numpy()[:count], atol=1e-4, rtol=0)
        seen |= set(obs["crop_mask"].sum(1).tolist())
    assert seen >= {0, 1, 2, 3}


def test_an_export_of_an_unknown_format_and_one_without_onnx(folder, tmp_path, monkeypatch):
    agent = LightAgent.load(folder)
    with pytest.raises(DataError, match="unknown format 'tflite': use one of onnx, torchscript"):
        agent.export(tmp_path / "policy", "tflite")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DataError, match=r"actfer-env\[export\]"):
        agent.export(tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_saved_again_with_its_model_card(trained, tmp_path):
    agent = LightAgent.from_pretrained(trained[0])
    agent.save_pretrained(tmp_path / "copy")
    again = LightAgent.from_pretrained(tmp_path / "copy")
    assert again.record == agent.record
    assert {p.name for p in (tmp_path / "copy").iterdir()} == {CONFIG, WEIGHTS, "README.md"}
    card = (tmp_path / "copy" / "README.md").read_text()
    result = json.loads((trained[0] / "result.json").read_text())
    for text in ("dataset: synthetic-mixed", "Intended use", "Limits", "contempt", "AU12", "measured on: val",
                 f"| accuracy | {result['figures']['accuracy']:.3f} |"):  # fmt: skip
        assert text in card, text


def test_a_finished_run_of_an_older_version_gets_its_policy(trained, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(trained[0], old)
    for name in (CONFIG, WEIGHTS, "README.md"):
        (old / name).unlink()
    with pytest.raises(DataError, match="has not ended: run its 'actfer train' command again"):
        LightAgent.load(old)
    session.run(SMALL, old, trained[1], lambda text: None, workers=1)
    assert LightAgent.load(old).record == LightAgent.load(trained[0]).record


def edit(**changes):
    def change(place):
        config = json.loads((place / CONFIG).read_text())
        (place / CONFIG).write_text(json.dumps({**config, **changes}))

    return change


def truncate(name, share=0.5):
    def change(place):
        content = (place / name).read_bytes()
        (place / name).write_bytes(content[: int(len(content) * share)])

    return change


SIZES = {"channels": 8, "picture": 8, "region": 4, "hidden": 16, "dropout": 0.2}
BROKEN = {
    "other sizes": (edit(policy=SIZES), "policy.pt does not hold the weights that .*config.json describes"),
    "unknown size": (edit(policy={"depth": 3}), "config.json is broken .*depth.*copy the whole folder"),
    "size out of range": (edit(policy={**SIZES, "hidden": 0}), "config.json is broken .*hidden must be"),
    "newer version": (edit(version=99), "config.json is of version 99, this package reads 1: use the release"),
    "other labels": (edit(emotions=["joy"]), "emotions is .*the policy in"),
    "other AUs": (edit(au_set=[6, 12]), "config.json is broken .*au_set must be core"),
    "odd side": (edit(face_size="big"), "config.json is broken .*face_size 'big' must be a whole number"),
    "another's config": (edit(format="qwen"), "config.json is not that of a light policy"),
    "truncated config": (truncate(CONFIG), "config.json is broken"),
    "list as config": (lambda place: (place / CONFIG).write_text("[1]"), "config.json is broken"),
    "truncated weights": (truncate(WEIGHTS), "policy.pt is broken .*copy the whole folder again, or train again"),
    "empty weights": (truncate(WEIGHTS, 0), "policy.pt is broken"),
    "no weights": (lambda place: (place / WEIGHTS).unlink(), "policy.pt is missing: copy the whole folder"),
    "no config": (lambda place: (place / CONFIG).unlink(), "holds no trained policy .*: give the"),
    "other weights": (lambda place: torch.save({"a": torch.ones(1)}, place / WEIGHTS), "does not hold the weights"),
    "no state dict": (lambda place: torch.save(torch.ones(1), place / WEIGHTS), "does not hold the weights"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_folder_that_is_broken_is_one_line(folder, tmp_path, fault):
    change, message = BROKEN[fault]
    shutil.copytree(folder, tmp_path / "bad")
    change(tmp_path / "bad")
    with pytest.raises(DataError, match=message) as caught:
        LightAgent.load(tmp_path / "bad")
    assert "\n" not in str(caught.value) and str(tmp_path / "bad") in str(caught.value)


def test_other_weights_of_the_same_sizes_are_noticed(folder, trained, tmp_path):
    shutil.copytree(folder, tmp_path / "bad")
    shutil.copy(trained[0] / WEIGHTS, tmp_path / "bad" / WEIGHTS)
    with pytest.raises(DataError, match="does not hold the weights"):
        LightAgent.load(tmp_path / "bad")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 64}, "image_size is 64 .the policy in .* has 96"),
        ({"face_size": 48, "crop_size": 36}, "crop_size is 36 .* face_size is 48"),
        ({"max_zooms": 2}, "max_zooms is 2 .* has 4"),
        ({"max_turns": 9}, "max_turns is 9 .* has 6"),
        ({"au_set": "disfa"}, "au_set is"),
    ],
)
def test_an_environment_that_does_not_fit_is_one_line(folder, changes, message):
    agent = LightAgent.load(folder)
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES, **changes)
    with pytest.raises(DataError, match=message) as caught:
        agent.check(env)
    assert "\n" not in str(caught.value)
    if "max_turns" not in changes:  # what the observation tells is noticed without check, too
        with pytest.raises(DataError, match=message if "au_set" not in changes else "au_set='core'"):
            agent.act(*env.reset(options={"sample": 0}))


def test_the_detector_of_the_training_is_checked(folder):
    agent = LightAgent.load(folder)
    assert "detector" not in agent.env_arguments
    agent.record = replace(agent.record, detector="mtcnn")
    with pytest.raises(DataError, match=r"detector is simulated .* has mtcnn"):
        agent.check(gym.make("ActFER-v0", dataset=FACES, detector="simulated"))
    agent.check(gym.make("ActFER-v0", dataset=FACES))  # "auto" is left to the data


def test_spaces_and_observations_that_are_not_of_these_environments(folder):
    with pytest.raises(DataError, match=r"cannot act in Discrete\(3\): play it in ActFER-v0"):
        make_agent(f"light:{folder}", gym.spaces.Discrete(3), dataset=FACES)
    with pytest.raises(DataError, match="lacks face, "):
        LightAgent.load(folder).act({"state": np.zeros(2), "image": np.zeros((2, 96, 96, 3))}, {})
    with pytest.raises(DataError, match="lacks state"):
        LightAgent.load(folder).act(np.zeros(4), {})
    with pytest.raises(DataError, match="needs its folder or file"):
        make_agent("light", gym.spaces.Discrete(3), dataset=FACES)


def actfer(*arguments):
    """Run a command in this process, where torch is loaded."""
    return cli.app([str(one) for one in arguments], standalone_mode=False)


def test_commands_play_a_trained_policy(folder, tmp_path, capsys):
    actfer("rollout", "portrait", "-n", 2, "--agent", f"light:{folder}", "--out", tmp_path / "rollout")
    run = read_run(tmp_path / "rollout")
    assert all(r.looked and r.predicted_emotion for r in run.rollouts) and not run.mismatches()
    assert run.settings["agent"] == f"light:{folder}"
    assert "script" not in capsys.readouterr().out
    actfer("eval", "synthetic-mixed", "-n", 3, "--agent", f"light:{folder}", "--out", tmp_path / "eval")
    assert json.loads((tmp_path / "eval" / "summary.json").read_text())["n"] == 3
    assert (tmp_path / "eval" / "report.html").exists()
    actfer("demo", "-n", 1, "--agent", f"light:{folder}", "--out", tmp_path / "demo")
    assert [r.looked for r in read_run(tmp_path / "demo").rollouts] == [False] * 4 + [True]
    for arguments in (("--max-zooms", 2), ("--au-set", "disfa")):
        with pytest.raises(ActFERError, match=r"(max_zooms|au_set) is"):
            actfer("rollout", "portrait", "-n", 1, "--agent", f"light:{folder}", "--out", tmp_path / "no", *arguments)
    with pytest.raises(DataError, match="give one of --model and --agent"):
        actfer("eval", "synthetic", "-n", 1)


def test_a_policy_of_fewer_zooms_brings_its_budget_along(folder, tmp_path):
    agent = LightAgent.load(folder)
    agent.record = replace(agent.record, max_zooms=2)
    agent.save_pretrained(tmp_path / "two")
    config = config_for((f"light:{tmp_path / 'two'}",), number=4)
    assert config.max_zooms == 2 and len(play(FACES, config).rollouts) == 4
    with pytest.raises(DataError, match=r"plays with max_zooms 4, light:.*two with 2: play them in runs"):
        config_for((f"light:{folder}", f"light:{tmp_path / 'two'}"))


def test_the_command_exports(folder, tmp_path):
    actfer("export-policy", folder, "--to", "torchscript", "--out", tmp_path / "policy.ts")
    assert torch.jit.load(str(tmp_path / "policy.ts"))
    with pytest.raises(DataError, match="unknown format 'csv'"):
        actfer("export-policy", folder, "--to", "csv")


MODULE = """
import numpy as np
from actfer_env.agents import RandomAgent

class Full(RandomAgent):
    looks = True
    def __init__(self, action_space, *, seed, au_set=None):
        super().__init__(action_space, seed)

class Bare:
    def reset(self, n): pass
    def act(self, obs, info): return np.array([77] * 20)

class Odd:
    pass

class Picky:
    def __init__(self, space, colour): pass
"""


def test_any_class_is_an_agent_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "agents_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES)
    agent = make_agent("agents_of_mine:Full", env.action_space, dataset=FACES, seed=4)
    check_agent(agent, env, episodes=2)
    assert len(play(FACES, config_for(("agents_of_mine:Full",), number=2)).rollouts) == 2
    for spec, message in {
        "agents_of_mine:None_": "the module has no class None_",
        "agents_of_mine:Odd": "needs methods reset.n. and act.obs, info.",
        "agents_of_mine:Picky": "cannot be made .TypeError: .*colour",
        "no_such_module:Agent": "unknown agent 'no_such_module:Agent': .*cannot be imported",
        "wizard:of oz": "unknown agent 'wizard'",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            make_agent(spec, env.action_space, dataset=FACES)
        assert "\n" not in str(caught.value)
    with pytest.raises(AgentError, match=r"Bare: .*must"):
        play(FACES, config_for(("agents_of_mine:Bare",), number=2))


def test_lightagent_is_found_without_loading_torch_early():
    code = "import sys, actfer_env.agents as a; print('torch' in sys.modules, 'LightAgent' in a.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.sep)
    assert done.stdout.split() == ["False", "True"]
