"""The parts of TRL's door that need no TRL: the environment, whole turns, the whole-group reward and its checks."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from helpers import DETECT, ZOOM, portraits

from actfer_env.chat import shared_tools
from actfer_env.errors import DataError
from actfer_env.integrations.trl import FaceEnv, UCGRPOReward
from actfer_env.integrations.trl.checkpoints import replay_order
from actfer_env.integrations.trl.environment import NUMBER, TURN
from actfer_env.rewards import UCGRPO, RewardError, UCGRPOConfig
from actfer_env.rollout import read_rollouts
from actfer_env.wrappers import ChatGroupVectorEnv

HAPPY = '<answer>{"emotion": "happiness", "aus": ["AU6", "AU12"]}</answer>'
FEAR = '<answer>{"emotion": "fear", "aus": []}</answer>'
BROKEN = '<tool_call>{"name": "zoom_in", "arguments": }</tool_call>'
PLANS = ([HAPPY], [DETECT, ZOOM, HAPPY], [DETECT, FEAR], [DETECT, BROKEN, FEAR])
ARGS = {
    "num_generations": 4, "per_device_train_batch_size": 4, "steps_per_generation": 1, "scale_rewards": "group",
    "process_index": 0,
}  # fmt: skip


def row(number=2):
    """A row of `actfer data verl` for a view of the portrait."""
    reference = {"dataset": {"name": "portrait", "views": 12}, "id": f"portrait-{number:02d}"}
    return {"extra_info": {"index": number, "split": "", "sample": json.dumps(reference)}}


def said(text):
    return {"role": "assistant", "content": text}


def play(plan, number=2):
    """Play a plan as TRL does behind `read_turns`; return environment and completion."""
    env = FaceEnv("mtcnn")
    env.reset(**row(number), prompt=[])
    completion = []
    for text in plan:
        completion.append(said(text))
        if text is not plan[-1]:
            completion.append({"role": "tool", "content": env.detect_align(**{TURN: text, NUMBER: 0})})
    return env, completion


def begun(*reward, **args):
    made = UCGRPOReward(*reward, **{key: args.pop(key) for key in ("returns", "out") if key in args})
    made._begin(SimpleNamespace(**{**ARGS, **args}), SimpleNamespace(training=True), None)
    return made


def test_an_episode_shows_what_a_conversation_shows():
    env = FaceEnv("mtcnn")
    first = env.reset(**row())
    assert [part["type"] for part in first] == ["image", "text"] and first[0]["image"].size == (223, 223)
    found = env.detect_align()
    assert [part["type"] for part in found] == ["image", "text"] and found[0]["image"].size == (224, 224)
    assert json.loads(env.zoom_in(["nose"])[-1]["text"])["crops"][0]["region"] == "nose"
    assert len(env.zoom_in(bbox_2d=[100, 100, 300, 300])) == 2  # as the parser mends it elsewhere
    refused = json.loads(env.zoom_in(regions=["foot"], depth=3)[-1]["text"])
    assert refused["error"] == "bad_arguments" and "Legal now" in refused["message"]
    episode = env._finish([said("x"), {"role": "tool", "content": ""}, said(HAPPY)])
    assert episode.rollout().correct and episode.rollout().violations == ("bad_arguments",)
    assert env.zoom_in(["nose"]) == [{"type": "text", "text": "the episode is over"}]
    with pytest.raises(DataError, match="names no sample"):
        env.reset(prompt=[])


def test_a_turn_of_several_calls_gets_several_replies():
    env = FaceEnv("mtcnn")
    env.reset(**row())
    both = {TURN: DETECT + ZOOM}
    one, two = (env.detect_align(**both, **{NUMBER: number}) for number in (0, 1))
    assert "Aligned" in one[-1]["text"] and "Magnified nose" in two[-1]["text"] and len(two) == 2
    broken = env.detect_align(**{TURN: BROKEN, NUMBER: 0})
    assert [part["type"] for part in broken] == ["text"] and "Legal now" in broken[0]["text"]
    assert "not played" in env.detect_align(**{TURN: BROKEN, NUMBER: 1})[0]["text"]


def test_scores_and_advantages_are_those_of_the_chat_groups(tmp_path):
    config = UCGRPOConfig(ema_min_count=1)
    reward, logged = begun(config, out=tmp_path), {}
    envs = ChatGroupVectorEnv(None, 1, 4, dataset=portraits(), tools=shared_tools("mtcnn"), reward=config)
    for step in range(2):  # in the second the EMA has moved
        played = [play(plan) for plan in PLANS]
        state = SimpleNamespace(global_step=step)
        totals = reward([one[1] for one in played], environments=[one[0] for one in played],
                        log_metric=logged.__setitem__, trainer_state=state)  # fmt: skip
        envs.reset(options={"samples": ["portrait-02"]})
        for turn in range(3):
            _, rewards, *_, info = envs.step([plan[turn] if turn < len(plan) else "" for plan in PLANS])
        rollouts, scores = reward.last
        assert totals == rewards.tolist() and scores.advantage.tolist() == info["advantage"].tolist()
        assert [one.tool_calls for one in rollouts] == [one.tool_calls for one in info["rollout"]]
        assert [one.texts for one in rollouts] == [one.texts for one in info["rollout"]]
        assert scores.readings()["lambda"] == info["lambda"].tolist()
        reward.commit()
        envs.commit()
        assert reward.scorer.state_dict() == envs.scorer.state_dict()
    assert reward.scorer.counts["happiness"] == 2
    assert logged["ucgrpo/zoom"] == 0.25 and logged["ucgrpo/violations/parse_error"] == 0.25
    assert logged["ucgrpo/spread"] == pytest.approx(max(totals) - min(totals))
    assert {"ucgrpo/delta", "ucgrpo/ema/happiness", "ucgrpo/flat_groups", "ucgrpo/wrong_groups"} <= set(logged)
    (first, second) = sorted(tmp_path.glob("*.jsonl"))
    assert [one.member for one in read_rollouts(first)] == [0, 1, 2, 3] and read_rollouts(second)[0].step == 1


def test_evaluation_moves_nothing():
    reward, model = UCGRPOReward(), SimpleNamespace(training=False)
    reward._begin(SimpleNamespace(**ARGS), model, None)
    played = [play(plan) for plan in PLANS]
    reward([one[1] for one in played], environments=[one[0] for one in played])
    reward.commit()
    assert reward.scorer.commits == 0


def test_evaluation_has_groups_of_its_own_size_also_before_training():
    reward = UCGRPOReward()
    model = SimpleNamespace(training=False)
    reward._meet(SimpleNamespace(**{**ARGS, "num_generations": 4, "num_generations_eval": 1}), model)
    two = [play([HAPPY]), play([HAPPY])]
    assert len(reward([one[1] for one in two], environments=[one[0] for one in two])) == 2
    assert [one.group_id[-1] for one in reward.last[0]] == ["0", "1"]


def test_what_was_cut_off_ends_the_episode():
    env, completion = play([DETECT, ZOOM])
    episode = env._finish(completion)  # the zoom was asked for at the end, and no answer came
    assert episode.rollout().truncated and episode.rollout().meta["outcome"] == "too_long"
    env, completion = play([DETECT, ""])
    assert env._finish(completion[:2]).rollout().turns == 1


def test_a_state_goes_on_where_it_was():
    one, two = begun(), UCGRPOReward()
    played = [play(plan) for plan in PLANS]
    one([each[1] for each in played], environments=[each[0] for each in played])
    one.commit()
    saved = json.loads(json.dumps(one.state_dict()))
    two._begin(SimpleNamespace(**ARGS), None, saved)
    assert two.scorer.state_dict() == one.scorer.state_dict() and two.scorer.ema["happiness"] != 0
    with pytest.raises(DataError, match="dense_au"):
        UCGRPOReward("emotion_only").load_state_dict(saved)


def test_a_resumed_run_meets_the_samples_in_the_order_of_one_that_never_stopped():
    torch = pytest.importorskip("torch", reason="needs torch")

    class Shuffled:
        """Draws an order each time, as TRL's sampler does."""

        def __init__(self):
            self.generator = torch.Generator().manual_seed(0)

        def __iter__(self):
            yield from torch.randperm(8, generator=self.generator).tolist()

        def __len__(self):
            return 8

    never_stopped, resumed = Shuffled(), Shuffled()
    orders = [list(never_stopped) for _ in range(3)]
    loader = torch.utils.data.DataLoader(range(8), batch_size=1, sampler=resumed)
    replay_order(loader, steps=9, accumulated=2)  # four updates an epoch: two epochs, and one update of the third
    assert list(resumed) == orders[2] != orders[0]
    replay_order(torch.utils.data.DataLoader(range(8)), steps=9, accumulated=2)  # has one order, and no generator
    replay_order(None, steps=9, accumulated=2)


def test_other_rewards_and_their_own_advantages():
    played = [play(plan) for plan in PLANS]
    reward = begun("hdpo", returns="advantage", scale_rewards="none")
    values = reward([one[1] for one in played], environments=[one[0] for one in played])
    assert values == reward.last[1].advantage.tolist() and sum(values) == pytest.approx(0)
    assert isinstance(UCGRPOReward().scorer, UCGRPO)


def test_wrong_settings_are_named_in_one_line():
    env, completion = play([HAPPY])
    with pytest.raises(RewardError, match=r"pass reward\.callback\(\)"):
        UCGRPOReward()([completion], environments=[env])
    with pytest.raises(RewardError, match="no multiple of num_generations 4: a process would see parts of groups"):
        begun(per_device_train_batch_size=6)
    assert begun(per_device_train_batch_size=1, steps_per_generation=4).group_size == 4
    with pytest.raises(RewardError, match="needs scale_rewards='none'"):
        begun(returns="advantage")
    with pytest.raises(RewardError, match="needs multi_objective_aggregation='sum_then_normalize'"):
        begun(returns="advantage", scale_rewards="none", multi_objective_aggregation="normalize_then_sum")
    with pytest.raises(RewardError, match="HDPO's advantages"):
        UCGRPOReward("hdpo")
    with pytest.raises(RewardError, match="unknown returns 'x'"):
        UCGRPOReward(returns="x")
    with pytest.raises(RewardError, match="unknown"):
        UCGRPOReward("best")
    reward = begun()
    with pytest.raises(RewardError, match="environment_factory=FaceEnv"):
        reward([completion] * 4, environments=None)
    with pytest.raises(RewardError, match="1 completions make no whole groups of 4"):
        reward([completion], environments=[env])
    others = [play([HAPPY], number) for number in (2, 2, 2, 3)]
    with pytest.raises(RewardError, match="a group holds samples 'portrait-02' and 'portrait-03'"):
        reward([one[1] for one in others], environments=[one[0] for one in others])
