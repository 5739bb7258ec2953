"""A Dockerfile, read: stages, steps, and what each stage's image is told.

Knows the part of the format that the project's own file uses, and refuses the rest. Must not know
how a step is run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

#: What Debian's image starts with.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Told:
    """What an image says of how it is run."""

    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()
    stop_signal: str = "SIGTERM"
    exposed: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """A shell command, with the settings that hold there."""

    command: str
    told: Told


@dataclass(frozen=True, slots=True)
class Copy:
    """stage: where from; None: the build context."""

    sources: tuple[str, ...]
    target: str
    stage: str | None


@dataclass(frozen=True, slots=True)
class Workdir:
    path: str


Step = Run | Copy | Workdir


@dataclass(slots=True)
class Stage:
    """base: another stage or an image."""

    name: str
    base: str
    steps: list[Step] = field(default_factory=list)
    told: Told = field(default_factory=Told)


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, the rest), comments gone and continued lines joined."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.split("\n"))]


def stages(text: str) -> list[Stage]:
    """In order; the last one is the image. ValueError where the file uses what is not known."""
    found: list[Stage] = []
    for word, rest in instructions(text):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            known = {stage.name: stage.told for stage in found}
            found.append(Stage(name or "image", base, told=known.get(base, Told())))
        elif word in _STEPS or word in _SETTINGS:
            _take(found[-1], word, rest)
        else:
            raise ValueError(f"{word} is not known here")
    return found


_STEPS = {"RUN", "COPY", "WORKDIR"}
_SETTINGS = {
    "ENV", "USER", "ENTRYPOINT", "CMD", "HEALTHCHECK", "STOPSIGNAL", "EXPOSE", "VOLUME", "LABEL",
}  # fmt: skip


def _take(stage: Stage, word: str, rest: str) -> None:
    told = stage.told
    if word == "RUN":
        stage.steps.append(Run(rest, told))
    elif word == "COPY":
        stage.steps.append(_copy(rest))
    elif word == "WORKDIR":
        stage.steps.append(Workdir(rest))
        stage.told = replace(told, workdir=rest)
    else:
        stage.told = _setting(told, word, rest)


def _setting(told: Told, word: str, rest: str) -> Told:
    match word:
        case "ENV":
            pairs = {k: _with(v, told.environment) for k, v in _pairs(rest).items()}
            return replace(told, environment=told.environment | pairs)
        case "LABEL":
            return replace(told, labels=told.labels | _pairs(rest))
        case "USER":
            return replace(told, user=rest)
        case "ENTRYPOINT":
            return replace(told, entrypoint=tuple(json.loads(rest)))
        case "CMD":
            return replace(told, command=tuple(json.loads(rest)))
        case "HEALTHCHECK":
            command = json.loads(rest[rest.index("[") :])
            return replace(told, healthcheck=tuple(command))
        case "STOPSIGNAL":
            return replace(told, stop_signal=rest)
        case "EXPOSE":
            return replace(told, exposed=(*told.exposed, rest))
    return replace(told, volumes=(*told.volumes, rest))


def _copy(rest: str) -> Copy:
    words, stage = rest.split(), None
    if words[0].startswith("--from="):
        stage = words.pop(0).removeprefix("--from=")
    if any(word.startswith("--") for word in words):
        raise ValueError(f"COPY {rest}: this option is not known here")
    return Copy(tuple(words[:-1]), words[-1], stage)


def _pairs(rest: str) -> dict[str, str]:
    found = re.findall(r'([\w.]+)=("[^"]*"|\S+)', rest)
    return {name: value.strip('"') for name, value in found}


def _with(value: str, environment: dict[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda match: environment.get(match[1], ""), value)


def context_files(top: Path, ignore: str) -> list[Path]:
    """The files that .dockerignore lets through, relative to the top."""
    rules = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    return sorted(
        path.relative_to(top)
        for name in sorted(_tops(rules, top))
        for path in ([top / name] if (top / name).is_file() else (top / name).rglob("*"))
        if path.is_file() and not _ignored(path.relative_to(top).as_posix(), rules)
    )


def _tops(rules: list[str], top: Path) -> set[str]:
    """Nothing but these can be let through, where all is ignored first."""
    if rules[:1] != ["*"]:
        return {path.name for path in top.iterdir()}
    return {rule[1:].split("/")[0] for rule in rules if rule.startswith("!")}


def _ignored(path: str, rules: list[str]) -> bool:
    """The last rule that matches the path, or a folder that it is in, decides."""
    within = [path, *(p.as_posix() for p in PurePosixPath(path).parents if p.name)]
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        if any(_matches(part, pattern) for part in within):
            ignored = not rule.startswith("!")
    return ignored


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(PurePosixPath(path).name, pattern[3:])
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)
