"""A load that waits for nobody, and what a subscriber sees of it.

Each tick has a time at which it is meant to be sent, at a steady rate from one start, and a delay
is counted from there: a publisher, a broker or a daemon that stalls makes every tick of the stall
late, whenever it was really sent. Counted from the sending, a stall would hide the very ticks that
it delayed (coordinated omission: Gil Tene, "How NOT to Measure Latency").

Publisher and subscriber are processes of their own. All messages are there before the first is
sent, and an alert is found by the number that its tick's time holds. Both read CLOCK_MONOTONIC,
which is one for all processes.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from detector.bench.load import tick_messages
from detector.config import Config
from detector.core.alerts import ANOMALIES, State
from detector.core.cloudevents import decode_alert
from detector.core.records import Message
from detector.core.ticks import Float64
from detector.transport.configured import make_broker

#: The publisher looks at the clock so often: what is due by then is sent together.
_STEP_S = 0.002
#: A series has forgotten a spike after its window and the windows that resolve the alert.
_SPIKES_APART = 51
_SPIKES_PER_S = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """ticks, numbered from first on, at rate a second; at most spikes_per_s of them spikes."""

    first: int
    ticks: int
    rate: float
    spikes_per_s: float = _SPIKES_PER_S

    @property
    def every(self) -> int:
        """Ticks from one spike to the next: odd, so that each series has its turn."""
        return max(_SPIKES_APART, int(self.rate / self.spikes_per_s)) | 1

    def spikes(self) -> frozenset[int]:
        """The numbers of the ticks that should alert."""
        start = -(-self.first // self.every) * self.every
        return frozenset(range(start, self.first + self.ticks, self.every))

    def intended_s(self, numbers: Sequence[int]) -> Float64:
        """When these ticks are meant to be sent, in seconds after the first."""
        return (np.asarray(numbers, np.float64) - self.first) / self.rate

    def due(self, after_s: float) -> int:
        """How many are to have been sent so long after the start, the one of that moment too."""
        return min(self.ticks, max(0, int(after_s * self.rate) + 1))


@dataclass(frozen=True, slots=True)
class Sent:
    """start_s: the time the first tick was meant for; late_ms: by how much each send ended after
    the time of its first tick; cpu_s: of sending alone."""

    start_s: float
    took_s: float
    cpu_s: float
    late_ms: Float64


@dataclass(frozen=True, slots=True)
class Seen:
    """(number of the tick, when its alert was seen); cpu_s: of looking, decoding included."""

    alerts: list[tuple[int, float]]
    cpu_s: float


def delays_ms(plan: Plan, sent: Sent, seen: Seen) -> Float64:
    """From the time a tick was meant to be sent to the sight of its alert."""
    numbers, at_s = zip(*seen.alerts, strict=True) if seen.alerts else ((), ())
    intended_s = sent.start_s + plan.intended_s(numbers)
    delays: Float64 = (np.asarray(at_s, np.float64) - intended_s) * 1e3
    return delays


def send(
    plan: Plan,
    messages: Sequence[Message],
    publish: Callable[[Sequence[Message]], None],
    *,
    monotonic_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[float, list[float]]:
    """Publish every message when it is due, or as soon after as publishing allows; the start, and
    how late each publish ended."""
    start_s, done, late_ms = monotonic_s(), 0, []
    while done < plan.ticks:
        now_s = monotonic_s() - start_s
        due = plan.due(now_s)
        if due > done:
            publish(messages[done:due])
            late_ms.append((monotonic_s() - start_s - done / plan.rate) * 1e3)
            done = due
        next_s = max(done / plan.rate, now_s + _STEP_S) - (monotonic_s() - start_s)
        if done < plan.ticks and next_s > 0:
            sleep(next_s)
    return start_s, late_ms


def publisher(config: Config, plan: Plan, pipe: Connection) -> None:
    """A process: sends a Sent when all is written. Begins when it is told to."""
    messages = tick_messages(config, plan.first, plan.ticks, spikes=plan.spikes(), each=True)
    out = make_broker(config).publisher()
    try:
        out.publish(config.input.topic, [])
        gc.freeze()  # what is there stays: no collection goes through all messages
        pipe.send("ready")
        pipe.recv()
        cpu_s = time.process_time()
        start_s, late_ms = send(plan, messages, lambda part: out.publish(config.input.topic, part))
        out.flush()
        took_s = time.monotonic() - start_s
        pipe.send(Sent(start_s, took_s, time.process_time() - cpu_s, np.array(late_ms)))
    finally:
        out.close()


def subscriber(config: Config, expected: frozenset[int], pipe: Connection) -> None:
    """A process: sends a Seen when every expected alert has come, or it is told to."""
    reader = make_broker(config).reader(config.alerts.topic, from_beginning=False)
    missing = set(expected)
    alerts: list[tuple[int, float]] = []
    try:
        pipe.send("ready")
        cpu_s = time.process_time()
        while missing and not pipe.poll():
            records = reader.poll(timeout_s=0.1)
            at_s = time.monotonic()
            for record in records:
                alert = decode_alert(record.value or b"").alert
                number = round(alert.time_ns / 1e6)  # a tick's time is its number, in milliseconds
                opened = alert.state is State.OPENED and alert.kind in ANOMALIES
                if opened and number in missing:
                    missing.remove(number)
                    alerts.append((number, at_s))
        pipe.send(Seen(alerts, time.process_time() - cpu_s))
    finally:
        reader.close()
