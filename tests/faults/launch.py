"""`detector` in a process that does something to itself at one precise point.

Started as a script with the arguments of `detector`; the environment says what to do:
FAULTS_POINT where, FAULTS_ACT what (kill: SIGKILL, stop: SIGSTOP, refuse: send this commit as a
member of an older generation), FAULTS_WHEN at the n-th call, or at the first after that file
exists. FAULTS_TALLY: a file for the last metrics. FAULTS_DETOUR (port:port): connect to the
second where the first is meant. FAULTS_METADATA_MS: how often to look for new partitions. Without
any of them it is `python -m detector`.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.net.inet import KafkaNetSocket
from kafka.producer.transaction_manager import EndTxnHandler
from prometheus_client.exposition import generate_latest

from detector.cli.main import main
from detector.service.loop import Loop
from detector.transport.embedded import worker as embedded
from detector.transport.kafka.committing import _Producing
from detector.transport.kafka.streams import KafkaStateReader
from detector.transport.kafka.worker import KafkaWorker
from detector.web.server import HttpServer


def arm(point: str, act: Callable[[], None], due: Callable[[], bool]) -> None:
    """See that act is called at the point, once."""

    def after(owner: Any, name: str, *, if_any: bool = False) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            if (result or not if_any) and due():
                act()
            return result

        setattr(owner, name, wrapped)

    def before(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if due():
                act()
            return original(*arguments, **options)

        setattr(owner, name, wrapped)

    def refuse() -> None:
        original: Any = KafkaProducer.send_offsets_to_transaction

        def wrapped(self: Any, offsets: Any, group: Any) -> Any:
            if due():
                group = group._replace(generation_id=max(0, group.generation_id - 1))
            return original(self, offsets, group)

        KafkaProducer.send_offsets_to_transaction = wrapped

    def soon_after() -> None:
        """A moment after the commit was asked for: it may be on its way, or be done."""
        original: Any = KafkaProducer.commit_transaction

        def wrapped(self: Any) -> Any:
            if due():
                threading.Timer(random.uniform(0.0, 0.004), act).start()
            return original(self)

        KafkaProducer.commit_transaction = wrapped

    points: dict[str, Callable[[], None]] = {
        "poll": lambda: after(KafkaWorker, "poll", if_any=True),
        "send": lambda: after(_Producing, "_send"),
        "offsets": lambda: after(KafkaProducer, "send_offsets_to_transaction"),
        "refused offsets": refuse,
        "commit": lambda: before(KafkaProducer, "commit_transaction"),
        "commit under way": soon_after,
        "commit answered": lambda: before(EndTxnHandler, "handle_response"),
        "committed": lambda: after(KafkaProducer, "commit_transaction"),
        "restore": lambda: after(KafkaStateReader, "read"),
        "restored": lambda: before(Loop, "_begin"),
        "replay": lambda: after(Loop, "_replay"),
        "embedded poll": lambda: after(embedded.EmbeddedWorker, "poll", if_any=True),
        # The worker's; publishers have it from elsewhere.
        "embedded append": lambda: after(embedded, "append"),
        "embedded commit": lambda: after(embedded.EmbeddedWorker, "commit"),
    }
    points[point]()


def condition(text: str) -> Callable[[], bool]:
    """True once: at the n-th call, or at the first after the file exists."""
    calls, done = 0, False

    def due() -> bool:
        nonlocal calls, done
        calls += 1
        if done or not (calls == int(text) if text.isdigit() else Path(text).exists()):
            return False
        done = True
        return True

    return due


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # nothing more happens here


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def leave_tally(path: Path) -> None:
    original = HttpServer.close

    def close(self: Any) -> None:
        path.write_bytes(generate_latest(self.site.registry))
        original(self)

    HttpServer.close = close  # type: ignore[method-assign]


def detour(text: str) -> None:
    meant, taken = map(int, text.split(":"))
    original: Any = KafkaNetSocket.connect_ex

    def connect_ex(self: Any, sock: Any, address: Any) -> Any:
        if address[1] == meant:
            address = (address[0], taken, *address[2:])
        return original(self, sock, address)

    KafkaNetSocket.connect_ex = connect_ex


if __name__ == "__main__":
    if "FAULTS_TALLY" in os.environ:
        leave_tally(Path(os.environ["FAULTS_TALLY"]))
    if "FAULTS_DETOUR" in os.environ:
        detour(os.environ["FAULTS_DETOUR"])
    if "FAULTS_METADATA_MS" in os.environ:
        KafkaConsumer.DEFAULT_CONFIG["metadata_max_age_ms"] = int(os.environ["FAULTS_METADATA_MS"])
    if "FAULTS_POINT" in os.environ:
        arm(
            os.environ["FAULTS_POINT"],
            {"kill": kill, "stop": stop, "refuse": lambda: None}[os.environ["FAULTS_ACT"]],
            condition(os.environ["FAULTS_WHEN"]),
        )
    sys.exit(main())
