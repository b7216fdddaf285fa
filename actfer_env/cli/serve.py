"""The commands mcp and openenv: the tools and episodes for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actfer_env.cli.options import ChatOption, SplitOption, chat_fields, find_dataset
from actfer_env.cli.output import complain
from actfer_env.errors import DataError

if TYPE_CHECKING:
    from actfer_env.data import Dataset
    from actfer_env.integrations.served import FaceService

Roots = Annotated[
    list[Path] | None,
    typer.Option("--root", help="Folder whose pictures may be read, and no others; may be given again."),
]
DatasetRoot = Annotated[Path | None, typer.Option(help="Folder or file of --dataset, for those that need one.")]
Detector = Annotated[str, typer.Option(help="mtcnn, insightface:FOLDER, yunet:FILE, or one that you registered.")]
Out = Annotated[Path | None, typer.Option(help="Folder that keeps each finished episode.")]
Calls = Annotated[int, typer.Option(min=1, help="Calls that are taken in a minute.")]


def mcp(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    root: Roots = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set whose samples may be played by id besides, such as synthetic.")
    ] = None,
    split: SplitOption = None,
    dataset_root: DatasetRoot = None,
    detector: Detector = "auto",
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP instead of standard input and output.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen on, with --http.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on, with --http.")] = 8000,
    out: Out = None,
    chat: ChatOption = [],  # noqa: B006
    calls: Calls = 6000,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes that may be open at a time.")] = 1000,
) -> None:
    """Serve detect_align, zoom_in and whole episodes to clients of the Model Context Protocol; pictures are results.

    Only files below the roots are read, no link is followed, and no network is used.
    """
    from actfer_env.integrations.mcp import serve

    service = _service(root, _samples(dataset, split, dataset_root), detector, out, chat, calls, episodes)
    if http:
        _say_where(host, port, "/mcp")
    serve(service, http, host, port)


def openenv(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    dataset: Annotated[
        str | None, typer.Option(help="Data set whose samples are the tasks, such as synthetic.")
    ] = None,
    split: SplitOption = None,
    dataset_root: DatasetRoot = None,
    root: Roots = None,
    detector: Detector = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    web: Annotated[bool, typer.Option("--web", help="Serve a page at /web on which an episode can be played.")] = False,
    out: Out = None,
    chat: ChatOption = [],  # noqa: B006
    calls: Calls = 6000,
    episodes: Annotated[int, typer.Option(min=1, help="Sessions that may be open at a time.")] = 1000,
) -> None:
    """Serve episodes to the clients of OpenEnv, each in a session of its own; rewards come with the last step.

    Only files below the roots are read, no link is followed, and no network is used.
    """
    service = _service(root, _samples(dataset, split, dataset_root), detector, out, chat, calls, episodes)
    from actfer_env.integrations.openenv import serve  # seconds, by what OpenEnv itself imports

    _say_where(host, port, "/web" * web)
    serve(service, host, port, web)


def _samples(dataset: str | None, split: str | None, root: Path | None) -> Dataset | None:
    if dataset is None and (split is not None or root is not None):
        raise DataError("--split and --dataset-root go with --dataset")
    return None if dataset is None else find_dataset(dataset, split, root=root)


def _service(
    root: list[Path] | None, samples: Dataset | None, detector: str, out: Path | None, chat: list[str], calls: int,
    episodes: int,
) -> FaceService:  # fmt: skip
    from actfer_env.chat import ChatConfig
    from actfer_env.integrations.served import FaceService, ServiceConfig

    talk, config = ChatConfig(**chat_fields(chat, ())), ServiceConfig(calls_per_minute=calls, max_episodes=episodes)
    service = FaceService(root or (), detector, config, samples, chat=talk, out=out)
    if service.unlabelled:
        complain(f"pictures have no labels here, so that their episodes score 0 for the task: {service.unlabelled}")
    return service


def _say_where(host: str, port: int, path: str = "") -> None:
    from actfer_env.integrations.network import LOCAL

    complain(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}{path}")
    if host not in LOCAL:
        complain(f"everybody who reaches {host} can see the pictures below the roots: there is no password")
