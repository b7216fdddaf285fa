"""The command line `actfer`: one module a group of commands. Heavy modules are imported inside the commands, so that
--help answers at once."""

from __future__ import annotations

import errno
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from actfer_env import plugins
from actfer_env._version import __version__
from actfer_env.cli import curate, data, evaluate, gate, info, inspect, output, play, results, serve, train
from actfer_env.cli.output import complain, lost_output, open_streams, say
from actfer_env.errors import ActFERError
from actfer_env.packages import explain

app = typer.Typer(
    name="actfer",
    help="Agentic facial expression recognition: detect, align, zoom in, answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # click's plain help cuts no option's name, in any width and encoding
)

PRINTING = ("inspect", "envs", "doctor", "list", "check", "compare")
"""Commands whose result is what they print, not files."""
_INTERRUPTED = 130
"""Exit code that typer makes of a KeyboardInterrupt."""
_REPEATS = 10.0
"""Seconds in which a closed terminal's further signals are taken for the first one's echo."""


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"actfer {__version__}")
        raise typer.Exit


@app.callback()
def before_any_command(
    context: typer.Context,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import", metavar="MODULE",
            help="A module that registers detectors, data sets or agents; may be given again. Before the command.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:  # fmt: skip
    """Agentic facial expression recognition: detect, align, zoom in, answer."""
    _note_result(context)
    plugins.import_requested()
    for module in modules or ():
        plugins.request(module)


def _note_result(context: typer.Context) -> None:
    output.result_is_printed = context.invoked_subcommand in PRINTING


command: Callable[..., None]
for command in (play.demo, play.rollout, play.play, play.report):
    app.command()(command)
app.command(name="export-policy")(play.export_policy)
app.command(name="eval")(evaluate.evaluate_)
app.command()(gate.gate)
app.command()(results.compare)
app.command()(results.export)
for command in (train.train, train.ablate, inspect.inspect, serve.mcp, serve.openenv, info.envs, info.doctor):
    app.command()(command)

data_app = typer.Typer(help="Data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
data_app.callback()(_note_result)
data_app.command("list")(data.data_list)
data_app.command("check")(data.data_check)
data_app.command()(data.gallery)
data_app.command("verl")(data.data_verl)
data_app.command("precompute")(data.data_precompute)
data_app.command("prepare")(data.data_prepare)
data_app.command("curate")(curate.data_curate)
data_app.command("sft")(curate.data_sft)


def main() -> None:
    """Run the command line; see `run`."""
    run(lambda: app(prog_name="actfer", standalone_mode=False))


def run(command: Callable[[], Any]) -> None:
    """Run a command and exit: the one place for its errors, its signals and its output.

    An error that a user can cause ends as one line on standard error and a non-zero code. Ctrl-C, SIGTERM and a lost
    terminal raise KeyboardInterrupt once, so that commands keep what is finished; the code is then 128 + the signal's
    number. Output that nobody reads any more (`| head`) or that cannot be written (a full disk) stops no work; the
    latter is told, and is an error where the result is what was to be printed.

    Args:
        command: Returns an exit code, or None for 0.
    """
    open_streams()
    warnings.formatwarning = _one_line
    signals = _catch_signals()
    code = _attempt(command, signals)
    if code == _INTERRUPTED:
        complain("interrupted")
    if signals and code:
        code = 128 + signals[0]
        for number in _ending_signals():  # all is saved; Python restores their defaults before it is quite at its end
            signal.signal(number, signal.SIG_IGN)
    error = lost_output()
    if error is not None:
        complain(f"cannot write to standard output: {error.strerror}")
        code = code or int(output.result_is_printed)
    sys.exit(code)


def _attempt(command: Callable[[], Any], signals: list[int]) -> int:
    try:
        return int(command() or 0)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ActFERError as error:
        complain(str(error))
    except ImportError as error:
        complain(explain(error))
    except MemoryError as error:
        complain(f"out of memory{f' ({error})' if str(error) else ''}")
    except Exception as error:
        return _other(error, bool(signals))
    return 1


def _other(error: Exception, interrupted: bool) -> int:
    """Say what went wrong, or raise what only a fault of this package explains."""
    if hasattr(error, "format_message"):  # usage errors of typer's own click, whose class has no public name
        text, context = error.format_message(), getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            say(text)
        elif text:  # older versions have printed the help already
            complain(f"{text} Try '{context.command_path if context else 'actfer'} --help'.")
        return 2
    if interrupted:  # a worker that the same signal has ended, or a library that renames the interrupt
        return _INTERRUPTED
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return 0
    if isinstance(error, OSError) and error.errno is not None:
        complain(str(error))
        return 1
    raise error


def _catch_signals() -> list[int]:
    """Let signals that end a process raise KeyboardInterrupt; return the list that they are noted in.

    A closed terminal signals more than once: only Ctrl-C, and another signal after a while, break off the saving.
    """
    noted: list[int] = []
    last = [0.0]

    def handle(number: int, frame: Any) -> None:
        now = time.monotonic()
        if not noted or number == signal.SIGINT or now - last[0] > _REPEATS:
            noted.append(number)
            last[0] = now
            raise KeyboardInterrupt

    for number in _ending_signals():
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, handle)
    return noted


def _ending_signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a warning to users without the line of code that it came from."""
    if issubclass(category, UserWarning):
        return f"actfer: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


if __name__ == "__main__":
    main()
