"""Which options of a configuration that was read again may change while the detector runs."""

from __future__ import annotations

from typing import Any

import msgspec

from detector.config import Config, plain

#: Sections that may, options that may, and those of the sections that may not.
_SECTIONS = ("threshold", "alerts", "silence", "mutes")
_OPTIONS = ("log.level", "model.shadow")
_NEVER = ("alerts.topic", "alerts.source")
#: Decides about the next training alone.
_OF_TRAINING = ("training", "model")


def changed(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """The names of the options that differ: those that are taken over, and those that need a
    restart."""
    one, other = _flat(plain(old)), _flat(plain(new))
    differ = sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))
    relevant = [n for n in differ if n in _OPTIONS or n.split(".")[0] not in _OF_TRAINING]
    taken = [n for n in relevant if _may(n)]
    return taken, [n for n in relevant if n not in taken]


def merged(old: Config, new: Config) -> Config:
    """The old one with what may change of the new one."""
    replace = msgspec.structs.replace
    return replace(
        old,
        threshold=new.threshold,
        alerts=replace(new.alerts, topic=old.alerts.topic, source=old.alerts.source),
        silence=new.silence,
        mutes=new.mutes,
        log=replace(old.log, level=new.log.level),
        model=replace(old.model, shadow=new.model.shadow),
    )


def _may(name: str) -> bool:
    return name in _OPTIONS or (name.split(".")[0] in _SECTIONS and name not in _NEVER)


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and name != "features":
            found |= _flat(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found
