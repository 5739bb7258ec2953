"""The commands: arguments in, text or JSON out. No logic; each imports what it needs, so that
`run`, `score`, `alerts` and `publish` never load TensorFlow and start quickly."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"]:  # nothing is under way before the daemon takes its signals itself
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
    return _run(given)


def _run(arguments: Sequence[str]) -> int:
    import contextlib
    import logging

    from detector.errors import DetectorError

    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except DetectorError as error:
        print(f"detector: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `detector alerts | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception:  # the outermost loop: say it, and end with the code for our own bugs
        logging.getLogger("detector").exception("internal error")
        return 70
    return code


def _parser() -> argparse.ArgumentParser:
    from pathlib import Path

    from detector import __version__
    from detector.cli import (
        benchmarks,
        changing,
        daemon,
        evaluation,
        maintenance,
        models,
        pictures,
        topics,
        training,
        trials,
    )
    from detector.cli.terminal import Parser

    parser = Parser(prog="detector", description="Streaming anomaly detector.")
    parser.add_argument("--version", action="version", version=f"detector {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, function: Any, text: str, *, config: bool = True) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        if config:
            command.add_argument(
                "--config", type=Path, metavar="FILE", help="config.yaml; default: all defaults"
            )
        return command

    for group in (
        trials,
        topics,
        maintenance,
        training,
        models,
        evaluation,
        pictures,
        benchmarks,
        daemon,
        changing,
    ):
        group.add_commands(add)
    return parser
