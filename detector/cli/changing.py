"""Commands that change the model of a running detector: promote, rollback, models."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.terminal import Add, read_config

if TYPE_CHECKING:
    from detector.model.directory import Artifact


def add_commands(add: Add) -> None:
    promote = add("promote", _promote, "Let a model take the place of the one in use")
    promote.add_argument("candidate", type=Path, metavar="CANDIDATE", help="a model directory")
    rollback = add("rollback", _rollback, "Let the model that was in use before take its place")
    for command in (promote, rollback):
        _add_link(command)
        command.add_argument("--note", default="", metavar="TEXT", help="for the history")
        command.add_argument(
            "--dry-run", action="store_true", help="say what would happen, and move nothing"
        )
        command.add_argument("--json", action="store_true")

    models = add("models", _models, "The history of a model link", config=False)
    models.add_argument("action", choices=["history"], nargs="?", default="history")
    _add_link(models)
    models.add_argument("--json", action="store_true")


def _add_link(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="LINK",
        help="the link that detectors were started with: run --model LINK",
    )


def _promote(options: argparse.Namespace) -> int:
    return _change(options, options.candidate, "promote")


def _rollback(options: argparse.Namespace) -> int:
    from detector.model.link import before_last

    return _change(options, before_last(options.model), "rollback")


def _change(options: argparse.Namespace, to: Path, action: str) -> int:
    from detector.model.directory import load_artifact
    from detector.model.link import move_link, require_link
    from detector.offline.promoting import examine

    config = read_config(options)
    require_link(options.model)
    candidate = load_artifact(to)
    found = examine(config, candidate, _current(options.model))
    moved = None
    if not options.dry_run:
        moved = move_link(options.model, candidate, action=action, note=options.note)
    if options.json:
        said = {
            "model": found.model,
            "before": found.before,
            "threshold": found.threshold,
            "goes_on": None if found.goes_on is None else dataclasses.asdict(found.goes_on),
            "moved": None if moved is None else dataclasses.asdict(moved),
        }
        print(json.dumps(said))
        return 0
    print(f"model: ok ({found.model}, threshold {found.threshold:.4f})")
    if found.fell_back:
        print(f"threshold: {found.fell_back}")
    print(f"in place of: {found.before or 'none'}; {found.words()}")
    print(f"{options.model}: " + ("not moved" if moved is None else f"now {moved.path}"))
    return 0


def _current(link: Path) -> Artifact | None:
    from detector.errors import ArtifactError
    from detector.model.directory import load_artifact

    try:
        return load_artifact(link) if link.exists() else None
    except ArtifactError:  # a damaged one is what is to be replaced
        return None


def _models(options: argparse.Namespace) -> int:
    from detector.model.link import history

    moves = history(options.model)
    if options.json:
        print(json.dumps([dataclasses.asdict(move) for move in moves]))
        return 0
    for move in moves:
        note = f"  {move.note}" if move.note else ""
        print(
            f"{move.time}  {move.who}  {move.action}  {move.before or 'none'} -> {move.model}  "
            f"{move.path}{note}"
        )
    return 0
