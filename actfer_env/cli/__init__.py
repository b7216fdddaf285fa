"""The command line `actfer`: one module a group of commands. Heavy modules are imported inside the commands, so that
--help answers at once."""

from __future__ import annotations

import signal
import sys

import typer

from actfer_env.cli import data, evaluate, info, play, train
from actfer_env.cli.output import complain
from actfer_env.errors import ActFERError

app = typer.Typer(
    name="actfer",
    help="Agentic facial expression recognition: detect, align, zoom in, answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (play.demo, play.rollout, play.report):
    app.command()(command)
app.command(name="eval")(evaluate.evaluate_)
for other in (train.train, train.ablate, play.inspect, info.envs, info.doctor):
    app.command()(other)

data_app = typer.Typer(help="Data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
data_app.command("list")(data.data_list)
data_app.command()(data.gallery)
data_app.command("verl")(data.data_verl)
data_app.command("precompute")(data.data_precompute)


def main() -> None:
    """Run the command line; every error that a user can cause ends as one line on stderr and a non-zero code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is finished is kept, as after Ctrl-C
    try:
        code = app(standalone_mode=False)
    except ActFERError as error:
        complain(str(error))
        code = 1
    except KeyboardInterrupt:
        complain("interrupted")
        code = 130
    except Exception as error:  # usage errors of typer's own click, whose class has no public name
        if not hasattr(error, "format_message"):
            raise
        if error.format_message():  # without a command, the help was printed already
            complain(f"{error.format_message()} Try 'actfer --help'.")
        code = 2
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
