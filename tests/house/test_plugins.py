"""Detectors, data sets and agents of others: in workers, in child processes, on the command line, as entry points."""

import copy
import os
import pickle
import sys
import threading
import warnings
from functools import partial

import gymnasium as gym
import helpers
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv

import actfer_env
from actfer_env import plugins
from actfer_env.agents import ScriptedAgent, make_agent, register_agent, registered_agents
from actfer_env.agents.registry import AGENTS
from actfer_env.data import Dataset, Sample, load_dataset, register_dataset, registered_datasets
from actfer_env.data.precompute import PrecomputeConfig, precompute
from actfer_env.data.registry import DATASETS
from actfer_env.errors import DataError, DetectorError, PluginError, WorkerError
from actfer_env.tools import make_detector, register_detector
from actfer_env.tools.detectors import registered_detectors
from actfer_env.tools.detectors.base import DETECTORS
from actfer_env.verl_plugin.rows import reference, sample_of

FACES = load_dataset("synthetic", n=4)
DETECT = np.array([0])


@pytest.fixture(autouse=True)
def clean_registries(monkeypatch):
    for registry in (DETECTORS, DATASETS, AGENTS):
        for name in ("_known", "_plugged", "_broken"):
            monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


def blind():
    """A detector of a class that stands in no module."""

    class Blind:
        name = "blind"

        def detect(self, image):
            return []

    return Blind


def states(envs):
    """What two members see of the face after a call of detect_align: 2 is NO_FACE."""
    envs.reset(seed=0)
    obs, *_ = envs.step(np.zeros(envs.num_envs, int))
    envs.close()
    return obs["state"].tolist()


# --- copies ------------------------------------------------------------------------------------------------------


def test_a_copy_that_is_refused_leaves_the_workers_alone():
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 1, num_workers=1, dataset=FACES)
    envs.reset(seed=0)
    wrapped = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    for refused in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(WorkerError, match="cannot be copied or pickled: make another one") as caught:
            refused(envs)
        assert "\n" not in str(caught.value)
        obs, *_ = envs.step(DETECT)
    with pytest.raises(WorkerError):
        copy.deepcopy(wrapped)
    assert obs["state"].tolist() == [1] and obs["turns_left"].tolist() == [3]
    envs.close()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_without_workers_go_on_alike_and_apart(copied):
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 2, dataset=FACES)
    envs.reset(seed=0)
    envs.step(np.array([0, 0]))
    twin = copied(envs)
    obs, *_ = envs.step(np.array([1, 2]))
    assert twin._blocks.arrays["turns_left"].tolist() == [5, 5]
    theirs, *_ = twin.step(np.array([1, 2]))
    assert all((obs[key] == theirs[key]).all() for key in obs)
    assert (envs.step(np.array([6, 7]))[1] == twin.step(np.array([6, 7]))[1]).all()


@pytest.mark.parametrize("env_id", ["ActFER-v0", "ActFER-Chat-v0"])
def test_single_environments_are_copied_in_the_middle_of_an_episode(env_id):
    env = gym.make(env_id, dataset=FACES)
    env.reset(seed=0)
    step = "hm" if env_id == "ActFER-Chat-v0" else env.action_space.sample()
    twin = copy.deepcopy(env)
    assert env.step(step)[0]["turns_left"] == twin.step(step)[0]["turns_left"] == 5


# --- processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_a_registered_detector_works_in_workers(context):
    register_detector("blind", blind())
    envs = actfer_env.make_group_vec(
        "ActFER-Discrete-v0", 2, 1, num_workers=1, dataset=FACES, detector="blind", context=context
    )
    assert states(envs) == [2, 2]


def test_a_detector_that_replaces_a_built_in_one_does_so_in_workers():
    register_detector("simulated", blind(), replace=True)
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 1, num_workers=1, dataset=FACES, detector="simulated")
    assert states(envs) == [2]


def test_a_detector_and_pictures_that_stand_in_no_module_are_sent():
    picture = np.zeros((64, 64, 3), np.uint8)
    faces = Dataset("mine", [Sample(id="a", source=lambda: picture, emotion="fear")])
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 1, num_workers=1, dataset=faces, detector=blind()())
    assert states(envs) == [2]


def test_a_registered_data_set_is_known_in_workers():
    register_dataset("mine", lambda root=None: [FACES[1]])
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 1, num_workers=1, dataset="mine")
    assert envs.reset(seed=0)[1]["sample_id"].tolist() == [FACES[1].id]
    envs.close()


@pytest.mark.parametrize("context", [None, "forkserver"])
def test_registered_names_in_gymnasiums_async_vector_environment(context):
    register_detector("blind", blind())
    register_dataset("mine", lambda root=None: [FACES[0]])
    names = {"detector": "blind", "dataset": "mine"}
    envs = gym.make_vec(
        "ActFER-Discrete-v0", 2, vectorization_mode="async", vector_kwargs={"context": context}, **names
    )
    assert states(envs) == [2, 2]


def test_registered_names_in_an_async_vector_environment_of_ones_own():
    register_detector("blind", blind())
    make = [lambda: gym.make("ActFER-Discrete-v0", dataset=FACES, detector="blind")]
    assert states(AsyncVectorEnv(make, context="spawn")) == [2]


@pytest.mark.slow
def test_registered_names_in_stable_baselines3s_processes():
    vec = pytest.importorskip("stable_baselines3.common.vec_env")
    register_detector("blind", blind())
    make = partial(gym.make, "ActFER-Discrete-v0", dataset=FACES, detector="blind", disable_env_checker=True)
    envs = vec.SubprocVecEnv([make], start_method="spawn")
    envs.reset()
    obs, *_ = envs.step(DETECT)
    envs.close()
    assert obs["state"].tolist() == [2]


def test_registered_names_in_the_workers_of_precompute(tmp_path):
    register_detector("blind", blind())
    register_dataset("mine", lambda root=None: list(FACES))
    done = precompute(load_dataset("mine"), tmp_path / "one", PrecomputeConfig("blind", shard_size=2, workers=2))
    assert (done.detected, done.faceless, done.failures) == (4, 4, [])
    # The same workers, kept by joblib, learn of a name that was registered anew.
    register_detector("blind", make_detector("simulated").__class__, replace=True)
    done = precompute(load_dataset("mine"), tmp_path / "two", PrecomputeConfig("blind", shard_size=2, workers=2))
    assert done.detected == 4 and done.faceless < 4


def test_a_data_set_that_is_registered_anew_is_loaded_anew():
    register_dataset("mine", lambda root=None: [FACES[0]])
    assert sample_of(reference(FACES[0], load_dataset("mine"))).id == FACES[0].id
    register_dataset("mine", lambda root=None: [FACES[1]], replace=True)
    assert sample_of(reference(FACES[1], load_dataset("mine"))).id == FACES[1].id


def test_what_cannot_be_sent_hinders_only_who_asks_for_it():
    lock = threading.Lock()
    register_detector("locked", lambda: lock)
    make = partial(actfer_env.make_group_vec, "ActFER-Discrete-v0", 1, 1, num_workers=1, dataset=FACES)
    assert states(make())[0] in (1, 2)
    envs = make(detector="locked")
    envs.reset(seed=0)
    with pytest.raises(DetectorError, match="'locked' was registered in another process and cannot be sent") as caught:
        envs.step(DETECT)
    assert "ACFTER_IMPORT" not in str(caught.value) and "ACTFER_IMPORT" in str(caught.value)
    assert "\n" not in str(caught.value)
    envs.close()


# --- modules -----------------------------------------------------------------------------------------------------

MODULE = """
from actfer_env.agents import ScriptedAgent, register_agent
from actfer_env.data import load_dataset, register_dataset
from actfer_env.tools import register_detector

class Blind:
    name = "blind"
    def detect(self, image):
        return []

def two(root=None):
    '''Two drawn faces.'''
    return list(load_dataset("synthetic", n=2))

def sad(argument, space, *, dataset, seed, au_set):
    return ScriptedAgent(space, emotion="sadness", au_set=au_set)

register_detector("blind", Blind)
register_dataset("two", two)
register_agent("sad", sad)
"""


def actfer(*arguments, cwd, **env):
    done = helpers.actfer(*arguments, cwd=cwd, **env)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def working_folder(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def test_import_makes_names_known_to_commands_and_their_workers(working_folder):
    done = actfer("--import", "mine", "rollout", "two", "--detector", "blind", "--agent", "sad", cwd=working_folder)
    assert done.returncode == 0, done.stderr
    text = (working_folder / "actfer-out" / "rollouts.jsonl").read_text()
    assert text.count('"detection": "failed"') == 2 and text.count('"predicted_emotion": "sadness"') == 2
    asked = ("data", "precompute", "two", "--detector", "blind", "--workers", 2, "--shard-size", 1)
    done = actfer(*asked, cwd=working_folder, ACTFER_IMPORT="mine")
    assert done.returncode == 0 and "2 without a face" in done.stdout


def test_names_that_nobody_imported_are_one_line_with_the_cure():
    for ask in (make_detector, load_dataset, lambda name: make_agent(name, None, dataset=FACES)):
        with pytest.raises((DetectorError, DataError), match=r"unknown .* 'nothing': use one of .*--import MODULE"):
            ask("nothing")


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("", "nowhere", "module 'nowhere' cannot be imported: there is none of that name"),
        ("import nowhere_else", "mine", "module 'mine' cannot be imported: ModuleNotFoundError: No module named"),
        ("raise ValueError('first\\nsecond')", "mine", "module 'mine' cannot be imported: ValueError: first second"),
        ("import sys; sys.exit(3)", "mine", "module 'mine' cannot be imported: SystemExit: 3"),
        ("def broken(:", "mine", "module 'mine' cannot be imported: SyntaxError"),
        ("", "mine.py", "'mine.py' is no module's name"),
        ("", "sub/mine", "'sub/mine' is no module's name"),
        ("", "mine.inner", "module 'mine.inner' cannot be imported"),
    ],
)  # fmt: skip
def test_a_wrong_module_is_one_line(tmp_path, monkeypatch, source, name, words):
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(PluginError) as caught:
        plugins.request(name)
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)
    assert plugins.VARIABLE not in os.environ
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def test_a_wrong_module_on_the_command_line(tmp_path):
    for env, arguments in (({}, ("--import", "nowhere")), ({"ACTFER_IMPORT": "nowhere"}, ())):
        done = actfer(*arguments, "data", "list", cwd=tmp_path, **env)
        assert done.returncode == 1 and not done.stdout
        assert done.stderr.startswith("actfer: module 'nowhere' cannot be imported") and done.stderr.count("\n") == 1


def test_several_modules_and_one_that_asks_for_names_itself(tmp_path, monkeypatch):
    (tmp_path / "one_of_two.py").write_text("from actfer_env.tools import make_detector\nmake_detector('simulated')\n")
    (tmp_path / "two_of_two.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, "one_of_two")
    plugins.request("two_of_two")
    plugins.request("two_of_two")
    assert os.environ[plugins.VARIABLE] == "one_of_two,two_of_two"
    assert make_detector("blind").name == "blind" and "one_of_two" in sys.modules
    for name in ("one_of_two", "two_of_two"):
        monkeypatch.delitem(sys.modules, name)


# --- entry points ------------------------------------------------------------------------------------------------

PLUGIN = """
from actfer_env.agents import ScriptedAgent
from actfer_env.data import load_dataset

class Blind:
    name = "blind"
    def __init__(self, argument=""):
        self.argument = argument
    def detect(self, image):
        return []

def two(root=None):
    '''Two drawn faces.'''
    return list(load_dataset("synthetic", n=2))

def sad(argument, space, *, dataset, seed, au_set):
    return ScriptedAgent(space, emotion="sadness", au_set=au_set)
"""
POINTS = """
[actfer_env.detectors]
plugged = a_plugin:Blind
broken = a_plugin:Missing
mtcnn = a_plugin:Blind
[actfer_env.datasets]
plugged-two = a_plugin:two
[actfer_env.agents]
plugged-sad = a_plugin:sad
"""


@pytest.fixture
def installed(tmp_path):
    """A folder with an installed distribution."""
    about = tmp_path / "site" / "a_plugin-1.2.dist-info"
    about.mkdir(parents=True)
    (tmp_path / "site" / "a_plugin.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(POINTS)
    yield str(tmp_path / "site")
    sys.modules.pop("a_plugin", None)


def test_plug_ins_are_found_by_name_without_loading_the_others(installed):
    sys.path.insert(0, installed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_detector("simulated")
        assert "a_plugin" not in sys.modules
        assert make_detector("plugged").name == "blind" and make_detector("plugged:x").argument == "x"
        assert len(load_dataset("plugged-two")) == 2 and "plugged-two" in registered_datasets()
        assert isinstance(make_agent("plugged-sad", gym.spaces.Discrete(13), dataset=FACES), ScriptedAgent)
        assert {"plugged-sad", "full"} <= set(registered_agents())
        assert make_detector("mtcnn").name == "mtcnn"  # ours


def test_a_broken_plug_in_is_one_warning_and_an_error_for_who_asks_for_it(installed):
    sys.path.insert(0, installed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert "plugged" in set(registered_detectors()) and "broken" not in set(registered_detectors())
    (warning,) = caught
    assert "'broken' of the distribution a-plugin 1.2 cannot be used" in str(warning.message)
    assert "\n" not in str(warning.message)
    with pytest.raises(DetectorError, match=r"distribution a-plugin 1\.2 cannot be used.*Missing"):
        make_detector("broken")


def test_plug_ins_on_the_command_line_and_in_workers(installed, tmp_path):
    done = actfer("doctor", cwd=tmp_path, PYTHONPATH=installed)
    assert done.returncode == 0 and "plugged" in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "broken" in line]
    assert line.startswith("actfer: ") and "a-plugin 1.2" in line
    assert "plugged-two" in actfer("data", "list", cwd=tmp_path, PYTHONPATH=installed).stdout
    asked = ("rollout", "plugged-two", "--detector", "plugged", "--agent", "plugged-sad", "--out", "out")
    done = actfer(*asked, cwd=tmp_path, PYTHONPATH=installed)
    assert done.returncode == 0 and (tmp_path / "out" / "rollouts.jsonl").read_text().count('"failed"') == 2


def test_a_plug_in_may_be_a_module_that_registers_its_name(installed, monkeypatch):
    from pathlib import Path

    Path(installed, "a_plugin.py").write_text(MODULE)
    points = "[actfer_env.detectors]\nblind = a_plugin\nother = a_plugin\n"
    Path(installed, "a_plugin-1.2.dist-info", "entry_points.txt").write_text(points)
    sys.path.insert(0, installed)
    assert make_detector("blind").name == "blind"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DetectorError, match="registers no such name"):
            make_detector("other")


def test_registering_names():
    register_agent("mine", lambda *args, **kwargs: None)
    for register, kind in (
        (register_detector, DetectorError),
        (register_dataset, DataError),
        (register_agent, DataError),
    ):
        with pytest.raises(kind, match="colon"):
            register("a:b", blind())
    with pytest.raises(DataError, match="'mine' is registered already: pass replace=True"):
        register_agent("mine", lambda *args, **kwargs: None)
