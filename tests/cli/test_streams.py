"""The command line where output, signals, home, libraries or packages are not as usual."""

import os
import pwd
import signal
import subprocess
import sys
import time

import pytest

from actfer_env.doctor import detector_table
from actfer_env.evaluation import read_run
from actfer_env.packages import explain

HIDDEN = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')"
NO_LIBRARY = 'raise ImportError("{}: cannot open shared object file: No such file or directory")'
NO_HOME = "import pwd\ndef nobody(one): raise KeyError(one)\npwd.getpwuid = pwd.getpwnam = nobody\n"


def actfer(*arguments, redirect="", **env):
    """Run the command line in a shell."""
    command = " ".join([sys.executable, "-m", "actfer_env", *map(str, arguments), redirect])
    surroundings = {**os.environ, **env}
    return subprocess.run(["bash", "-c", command], capture_output=True, env=surroundings, check=False)


def hide(folder, **modules):
    """Put modules before the installed ones, each with this text."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return {"PYTHONPATH": str(folder)}


def one_line(done):
    lines = done.stderr.decode().splitlines()
    return len(lines) == 1 and lines[0].startswith("actfer: ") and done.returncode == 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_table_is_printed_in_any_encoding(tmp_path, encoding):
    done = actfer("rollout", "synthetic", "-n", 2, "--agent", "degraded:neutral", "--out", tmp_path / "o",
                  PYTHONIOENCODING=encoding)  # fmt: skip
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    assert "mean reward" in done.stdout.decode(encoding) and len(read_run(tmp_path / "o").rollouts) == 2


def test_a_locale_without_utf8_gives_plain_tables():
    done = actfer("envs", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", COLUMNS="40")
    assert done.returncode == 0 and done.stdout.isascii() and b"..." in done.stdout


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "| true"])
def test_where_nobody_reads_the_work_is_saved_and_ends_well(tmp_path, redirect):
    done = actfer("rollout", "synthetic", "-n", 1, "--out", tmp_path / "o", redirect=f"{redirect}; exit $PIPESTATUS")
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert len(read_run(tmp_path / "o").rollouts) == 1 and (tmp_path / "o" / "report.html").exists()
    assert (b"cannot write to standard output" in done.stderr) == (redirect == ">/dev/full")


@pytest.mark.parametrize("arguments", ["data list", "--version", "--help"])
def test_a_result_that_could_not_be_printed_is_an_error_and_one_that_was_not_wanted_is_none(arguments):
    assert one_line(actfer(arguments, redirect=">/dev/full"))
    done = actfer(arguments, redirect="| true; exit $PIPESTATUS")
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_was_played(tmp_path, number):
    out = tmp_path / "o"
    script = "import signal, sys, actfer_env.cli as c, actfer_env.evaluation.play as r\n" \
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n" \
        "play = r.play_episode\n" \
        "def told(*a, **k):\n    print('.', flush=True); return play(*a, **k)\n" \
        "r.play_episode = told\nc.main()"  # fmt: skip
    command = [sys.executable, "-c", script, "rollout", "synthetic", "-n", "5000", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for _ in range(4):  # what is played, and a dot before each of three episodes
            process.stdout.readline()
        process.send_signal(number)
        if number != signal.SIGINT:
            time.sleep(0.1)
            process.send_signal(number)  # a closed terminal is told of more than once
        try:
            _, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 128 + number and b"interrupted" in errors and b"Traceback" not in errors
    assert len(read_run(out).rollouts) >= 2 and (out / "report.html").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_second_signal_while_the_interpreter_ends_changes_nothing(number):
    script = "import os, sys, actfer_env.cli as c\n" \
        f"def end(kill=os.kill, own=os.getpid()):\n    kill(own, {int(number)})\n" \
        "sys.last_of_all = type('Last', (), {'__del__': lambda self, end=end: end()})()\n" \
        "c.run(end)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 128 + number and done.stderr == b"actfer: interrupted\n"


def test_nohup_is_obeyed():
    code = "import signal, actfer_env.cli as c; c.run(lambda: print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN))"
    done = subprocess.run(["nohup", sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True"


def test_without_a_home_everything_but_named_packs_works(tmp_path, monkeypatch):
    env = {**hide(tmp_path, sitecustomize=NO_HOME), "HOME": ""}
    done = subprocess.run(
        ["env", "-u", "HOME", sys.executable, "-m", "actfer_env", "doctor"], capture_output=True, text=True,
        env={**os.environ, **env}, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "set HOME" in " ".join(done.stdout.replace("│", " ").split()), done.stderr
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    assert detector_table().row_count >= 7
    done = subprocess.run(
        ["env", "-u", "HOME", sys.executable, "-m", "actfer_env", "rollout", "portrait", "-n", "1", "--detector",
         "cached:~/x", "--out", str(tmp_path / "o")], capture_output=True, env={**os.environ, **env}, check=False,
    )  # fmt: skip
    assert one_line(done) and b"no home folder" in done.stderr and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "module", "cure"),
    [
        ("eval synthetic -n 1 --model x", "torch", "torch is missing: pip install 'actfer-env[vlm]'"),
        ("train --preset smoke", "torch", "torch is missing: pip install 'actfer-env[torch]'"),
        ("ablate --preset smoke", "matplotlib", "matplotlib is missing: pip install 'actfer-env[torch]'"),
        ("ablate --preset smoke --variants full,sb3_ppo", "stable_baselines3",
         "stable-baselines3 is missing: pip install 'actfer-env[sb3]'"),
        ("data verl synthetic -n 1", "pyarrow", "pyarrow is missing: pip install 'actfer-env[verl]'"),
        ("eval synthetic -n 1 --model x --endpoint http://localhost:9/v1", "openai", "pip install 'actfer-env[api]'"),
    ],
)  # fmt: skip
def test_a_missing_package_is_one_line_before_any_work(tmp_path, arguments, module, cure):
    if arguments.startswith("ablate"):
        pytest.importorskip("torch")
    out = tmp_path / "o"
    place = f"--cache {tmp_path / 'cache'}" if arguments.startswith(("train", "ablate")) else ""
    done = actfer(arguments, "--out", out, place, **hide(tmp_path, **{module: HIDDEN.format(module)}))
    assert one_line(done) and cure in done.stderr.decode(), done.stderr
    assert not out.exists() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("library", ["libGL.so.1", "libgthread-2.0.so.0"])
@pytest.mark.parametrize("arguments", ["rollout synthetic -n 1", "inspect x.png", "data gallery", "envs"])
def test_a_missing_system_library_is_one_line_with_the_cure(tmp_path, library, arguments):
    if library != "libGL.so.1" and not arguments.startswith("rollout"):
        pytest.skip("one command will do")
    done = actfer(arguments, **hide(tmp_path, cv2=NO_LIBRARY.format(library)))
    assert one_line(done) and library in done.stderr.decode() and b"apt-get install lib" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py" and path.name != "__pycache__"] == []


def test_doctor_tells_of_a_missing_system_library(tmp_path):
    done = actfer("doctor", **hide(tmp_path, cv2=NO_LIBRARY.format("libGL.so.1")))
    assert done.returncode == 0 and b"libgl1" in done.stdout and b"Detectors" in done.stdout, done.stderr


def test_imports_that_fail_are_explained():
    assert explain(ImportError("libgomp.so.1: cannot open shared object file")).startswith("the system library libgomp")
    assert explain(ModuleNotFoundError("x", name="cv2")) == "opencv-python is missing: pip install 'actfer-env'"
    assert explain(ModuleNotFoundError("x", name="left.pad")) == "left is missing: pip install 'left'"
    assert "cannot start (bad\\n)".replace("\\n", "") in explain(ImportError("bad\n", name="torch._C"))
    assert explain(ImportError("two\nlines")) == "two lines"


@pytest.mark.parametrize("arguments", ["data list", "envs", "doctor", "--help", "rollout --help"])
def test_stripped_docstrings_and_asserts_change_no_command(arguments):
    done = actfer(arguments, PYTHONOPTIMIZE="2")
    assert done.returncode == 0 and not done.stderr and done.stdout


def test_stripped_code_plays_the_same(tmp_path):
    for level in ("0", "2"):
        assert actfer("rollout", "synthetic", "-n", 2, "--out", tmp_path / level, PYTHONOPTIMIZE=level).returncode == 0
    assert read_run(tmp_path / "0").rollouts == read_run(tmp_path / "2").rollouts


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "TkAgg"])
def test_curves_are_drawn_whatever_the_backend(tmp_path, backend):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    code = "import sys, pathlib, actfer_env.agents.light.ablate as a; a.plot_curves({}, pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        capture_output=True,
        env={**os.environ, "MPLBACKEND": backend},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_figures_of_tensorboard_end_alone_where_the_disk_is_full(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    from actfer_env.agents.light.board import TensorBoardLog

    board = TensorBoardLog(tmp_path)

    class Full:
        def add_scalar(self, *arguments):
            raise OSError(28, "No space left on device")

        close = add_scalar

    board._writer = Full()
    with pytest.warns(RuntimeWarning, match="No space left"):
        board.write({"step": 0.0, "task": 1.0})
    board.write({"step": 1.0, "task": 1.0})
    board.close()
