"""Who a worker is: one of a kind in its group.

A second worker with the same transactional id would fence the first half a minute later, in the
middle of its work. The members of a group say who they are by their client id, so it is seen at the
start: before a worker joins, and once more when it has, as two may start at once (then both may
end, and whoever is started again first stays). A member may also be dead and in the group until its
session ends: a process of this machine that is gone is told apart at once, any other one is waited
for.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from detector.errors import FencedError
from detector.transport.kafka.client import KafkaSettings, connect

_LOGGER = logging.getLogger("detector.kafka")
_ASK_EVERY_S = 0.5
_PIDS = re.compile(r"(?:[0-9a-f]{32}-[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Process:
    """A process somewhere. pids: what its number is of: a namespace of a machine since it was
    started; empty: not known."""

    host: str
    pid: int
    pids: str

    @classmethod
    def ours(cls) -> Process:
        try:
            # The namespace alone is the same on every machine that has no other.
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
            pids = f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
        except OSError:  # not Linux
            pids = ""
        return cls(socket.gethostname(), os.getpid(), pids)

    def gone(self, seen_from: Process) -> bool:
        """Whether it is known to have ended: a process of the same machine can be looked for."""
        if (self.host, self.pids) != (seen_from.host, seen_from.pids) or not self.pids:
            return False
        if self.pid == seen_from.pid:
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # somebody else's
            return False
        return False


@dataclass(frozen=True, slots=True)
class Member:
    """Of a group. process: None where another program or version has made its client id."""

    transactional_id: str
    process: Process | None
    address: str
    instance: str | None

    @property
    def where(self) -> str:
        if self.process is None:
            return self.address
        return f"host {self.process.host}, process {self.process.pid} ({self.address})"


def client_id(transactional_id: str, process: Process) -> str:
    return f"{transactional_id}/{process.host}/{process.pid}/{process.pids}"


def read_member(described: dict[str, Any]) -> Member:
    """Of what a broker says of a member."""
    text, address = str(described.get("client_id")), str(described.get("client_host"))
    instance = described.get("group_instance_id")
    parts = text.rsplit("/", 3)
    process = None
    if len(parts) == 4 and parts[2].isdecimal() and _PIDS.fullmatch(parts[3]):
        process = Process(parts[1], int(parts[2]), parts[3])
        text = parts[0]
    return Member(text, process, address.lstrip("/"), instance)


def require_alone(
    settings: KafkaSettings,
    *,
    monotonic_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when no other member of the group has our transactional id. Raises FencedError if one
    is there for longer than a dead one could be."""
    deadline_s = None
    while True:
        twin = find_twin(settings)
        if twin is None:
            return
        now_s = monotonic_s()
        if deadline_s is None:
            deadline_s = now_s + settings.session_timeout_ms / 1000 + _ASK_EVERY_S
            _LOGGER.warning(
                "%s: kafka.transactional_id %r is held by a member of the group on %s; waiting up "
                "to %d s: if that one is dead, its session ends",
                settings.where,
                settings.transactional_id,
                twin.where,
                settings.session_timeout_ms // 1000,
            )
        elif now_s > deadline_s:
            raise refusal(settings, twin)
        sleep(_ASK_EVERY_S)


def find_twin(settings: KafkaSettings) -> Member | None:
    """Another member of the group with our transactional id that is not known to have ended.
    Raises BrokerError."""
    ours = Process.ours()
    return next((m for m in _members(settings) if _is_twin(m, settings, ours)), None)


def refusal(settings: KafkaSettings, twin: Member) -> FencedError:
    """What a worker with a twin ends with."""
    return FencedError(
        f"{settings.where}: a worker on {twin.where} uses kafka.transactional_id "
        f"{settings.transactional_id!r}; this one does not start. Give each worker its own, the "
        "same after a restart"
    )


def _is_twin(member: Member, settings: KafkaSettings, ours: Process) -> bool:
    if member.transactional_id != settings.transactional_id:
        return False
    if settings.group_instance_id is not None and member.instance == settings.group_instance_id:
        return False  # a static member takes its place over
    return member.process is None or not member.process.gone(ours)


def _members(settings: KafkaSettings) -> list[Member]:
    """Of the group; none where nobody may ask, or there is no group yet."""
    admin = connect(settings, KafkaAdminClient, settings.common())
    try:
        group = admin.describe_groups([settings.group])[settings.group]
    except (KafkaError, KeyError) as error:
        _LOGGER.info("%s: who is in group %s: %r", settings.where, settings.group, error)
        return []
    finally:
        admin.close()
    return [read_member(one) for one in group.get("members", ())]
