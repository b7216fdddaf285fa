"""The gate report of trained policies and of conversations."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from endpoint_server import Server
from helpers import actfer

from actfer_env import facs
from actfer_env.data import load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation import EvalConfig, read_run, write_run
from actfer_env.evaluation.gate.figures import gate_figures
from actfer_env.evaluation.gate.outcomes import SWAPS
from actfer_env.evaluation.gate.play import play_gate
from actfer_env.evaluation.play import config_for

FACES = load_dataset("synthetic", split="test", n=6)


def test_a_light_policy_made_blind_is_exposed(tmp_path, one_thread):
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'actfer-env[torch]'")
    from actfer_env.agents.light.agent import PolicyRecord, write_policy
    from actfer_env.agents.light.policy import LightPolicy, PolicyConfig
    from actfer_env.agents.light.trainer import weights_hash

    torch.manual_seed(0)
    config = PolicyConfig(channels=4, picture=8, region=4, hidden=16)
    policy = LightPolicy(config)
    with torch.no_grad():
        policy.read[0].weight[:, 16:32] = 0  # what reads the crops
    write_policy(tmp_path / "blind", policy, PolicyRecord(asdict(config), weights_hash(policy), max_zooms=2))
    plays, free = play_gate(FACES, config_for((f"light:{tmp_path / 'blind'}",)))
    table = plays.table()
    assert len(free) == len(FACES) and table.says_chance
    assert not table.zoomed("never").any() and table.zoomed("always")[table.face].all()
    assert {len(one) for one, face in zip(table.looks("all"), table.face, strict=True) if face} == {2}  # its budget
    assert ((table.chance[table.face] > 0) & (table.chance[table.face] < 1)).all()
    found = gate_figures(plays)["evidence"]
    assert found["looks"] is False and all(found[swap]["moved"]["value"] == 0 for swap in SWAPS)


@pytest.mark.parametrize("name", ["PPO", "DQN"])
def test_models_of_sb3_are_forced_though_they_read_no_mask(name, tmp_path, one_thread):
    sb3 = pytest.importorskip("stable_baselines3", reason="needs SB3: pip install 'actfer-env[sb3]'")
    from actfer_env.wrappers.sb3 import POLICY, make_sb3_vec

    env_id = "ActFER-Discrete-v0" if name == "DQN" else "ActFER-MultiDiscrete-v0"
    sizes = {"image_size": 36, "face_size": 36, "crop_size": 36}
    envs = make_sb3_vec(env_id, 1, 1, dataset=FACES, **sizes)
    options = {"buffer_size": 8} if name == "DQN" else {}
    model = getattr(sb3, name)("MultiInputPolicy", envs, policy_kwargs=POLICY, seed=0, device="cpu", **options)
    model.save(tmp_path / "model")
    plays, _ = play_gate(FACES, config_for((f"sb3:{tmp_path / 'model.zip'}",)), swaps=False)
    table = plays.table()
    assert not table.zoomed("never").any() and table.zoomed("always")[table.face].all()
    assert ((table.chance >= 0) & (table.chance <= 1)).all()
    for region in facs.REGIONS:
        assert all(
            one == (region,) for one, face in zip(table.looks(f"only {region}"), table.face, strict=True) if face
        )
    assert "" not in table.answers("never")[table.face]  # forced, and still an answer of its own
    assert gate_figures(plays)["n"] == len(FACES)


def test_a_conversation_is_played_with_the_tool_hidden_forced_and_free_and_goes_on(tmp_path):
    pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")
    from actfer_env.agents.endpoint import EndpointConfig, OpenAIChatAgent
    from actfer_env.chat import ChatConfig
    from actfer_env.evaluation.gate.conversations import evaluate_gate

    config = EvalConfig(ChatConfig(schemas_in_prompt=True), number=2)
    with Server() as server:
        agent = OpenAIChatAgent(EndpointConfig(server.url, "tiny", retries=0, concurrency=1))
        plays, run = evaluate_gate(agent, FACES, config, tmp_path / "out")
        asked = len(server.requests)
        write_run(tmp_path / "out", run)
        again, _ = evaluate_gate(agent, FACES, config, tmp_path / "out")
        assert len(server.requests) == asked and again.outcomes == plays.outcomes
        prompts = {request["messages"][0]["content"] for request in server.requests}
    told = sorted(("zoom_in" in str(one), "must look closer" in str(one)) for one in prompts)
    assert told == [(False, False), (True, False), (True, True)]
    table = plays.table()
    assert table.ways == ["free", "never", "always", *SWAPS] and len(read_run(tmp_path / "out").rollouts) == 2
    assert table.zoomed("free")[table.face].all() and not table.zoomed("never").any()
    figures = gate_figures(plays)
    assert figures["evidence"]["looks"] is False  # the server's script says the same whatever it is shown
    assert figures["where"]["uplift"] is None  # no region was played alone
    with pytest.raises(DataError, match="zoom"):  # another pass is another evaluation
        evaluate_gate(agent, FACES, EvalConfig(ChatConfig(schemas_in_prompt=True), config.episode, "simulated", 2),
                      tmp_path / "out" / "gate" / "never")  # fmt: skip


def test_a_dry_run_says_what_every_pass_costs(tmp_path):
    address = "http://localhost:9/v1"
    done = actfer("eval", "synthetic", "-n", "2", "--model", "m", "--endpoint", address, "--gate", "--dry-run",
                  "--price", "1000", "1000", "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "pass" in line]
    assert [line.split(":")[0] for line in lines] == [f"pass {way}" for way in ("free", "never", "always", *SWAPS)] + [
        "all passes"
    ]
    costs = [float(line.split("cost ")[1].split(";")[0]) for line in lines]
    assert sum(costs[:-1]) == pytest.approx(costs[-1], abs=0.05) and "nothing was sent" in lines[-1]
    assert not (tmp_path / "out").exists() and json.dumps(costs)
