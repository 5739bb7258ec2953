"""What it costs a daemon to be looked at: CPU a tick without and with viewers in turn, and how soon
/metrics and the page's first view are there, at rest and under the load.

A viewer follows state and alerts and watches a series of its own. CPU is that of every thread of
the daemon, in nanoseconds of the kernel's count. On a busy machine that of all varies from minute
to minute by more than viewers cost; so what they cost is also looked at alone: in the thread that
answers (the one whose time grows while it is asked) and in the loop's stage `show`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from detector.bench.load import SERIES, bench_config, publish, tick_messages
from detector.bench.machine import FIELDS, LENGTH, Results, model_to_measure
from detector.bench.open_loop import Plan, Sent, publisher
from detector.bench.processes import cpu_s_by_thread, own_process, receive
from detector.bench.viewers import ask_ms, first_view, following
from detector.clients.daemon_process import DaemonProcess, by_label, sum_samples
from detector.config import Config, load_config
from detector.errors import UsageError
from detector.transport.configured import make_broker, prepare_topics

_VIEWERS = 3
_SCRAPES, _VIEWS = 100, 20
_SPIKES_PER_S = 1.0
_FILL_S, _DRAIN_S = 600.0, 120.0
#: Published at once, of the series that are only there.
_BATCH = 5_000
_TOTAL, _OF_VIEWERS = "cpu_us_per_tick", ("handing_over_ms_per_s", "answering_ms_per_s")


def page(
    config: Config, model: Path | None, series: int, rate: float, seconds: float, rounds: int
) -> Results:
    """series: that are there; 64 of them have the ticks. rate: ticks a second, for so many seconds
    without viewers and as many with them, rounds times over. Raises DetectorError where the daemon
    does not keep up."""
    if not rate > 0 or not seconds > 0:
        raise UsageError("--rates and --seconds must be above 0")
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = model_to_measure(model, directory)
        if artifact.features.fields != FIELDS:
            raise UsageError("bench page runs the reference model only: leave out --model")
        path = bench_config(config, directory)
        bench = load_config(path, {})
        broker = make_broker(bench)
        prepare_topics(bench, broker)
        with DaemonProcess(path, artifact.path, directory / "daemon.log") as daemon:
            daemon.wait_ready()
            first = _fill(bench, series)
            publish(bench, SERIES * 2 * LENGTH, rate=None, spikes=False, first=first)
            first += SERIES * 2 * LENGTH
            daemon.wait_accounted(first, _FILL_S)
            at_rest = _answers(daemon)
            bench_of = _Load(bench, daemon, first, rate, seconds, _answering(daemon))
            pairs = [(bench_of.measure(0), bench_of.measure(_VIEWERS)) for _ in range(rounds)]
            under_load = bench_of.answers()
    without, beside = ({k: _median(p[i][k] for p in pairs) for k in pairs[0][0]} for i in (0, 1))
    return {
        "broker": broker.describe() if config.transport == "kafka" else "embedded",
        "format": config.input.format,
        "series": series,
        "rate": rate,
        "rounds_of_seconds": [rounds, seconds],
        "answers": {"at rest": at_rest, "under the load": under_load},
        "viewers": {"none": without, str(_VIEWERS): beside},
        "cpu_with_viewers_to_without": _median(b[_TOTAL] / a[_TOTAL] for a, b in pairs),
        "viewers_of_cpu_at_rate": _median(_share(a, b, rate) for a, b in pairs),
    }


def _share(without: Mapping[str, float], beside: Mapping[str, float], rate: float) -> float:
    """What viewers cost a second, of what that many ticks do."""
    more = sum(beside[name] - without[name] for name in _OF_VIEWERS)
    return more * 1e3 / (without[_TOTAL] * rate)


def _median(values: Iterable[float]) -> float:
    return round(float(np.median(list(values))), 4)


def _fill(config: Config, series: int) -> int:
    """A tick of each; the number of the next tick."""
    out = make_broker(config).publisher()
    try:
        for first in range(0, series, _BATCH):
            some = min(_BATCH, series - first)
            out.publish(config.input.topic, tick_messages(config, first, some, series=series))
        out.flush()
    finally:
        out.close()
    return series


def _answers(daemon: DaemonProcess) -> Results:
    """/metrics and the first view, asked one after the other."""
    view = first_view(daemon.address)
    ask_ms(daemon.address, ["/metrics"])
    before = cpu_s_by_thread(daemon.pid)
    scrapes = [ask_ms(daemon.address, ["/metrics"]) for _ in range(_SCRAPES)]
    cpu_s = _grown(before, cpu_s_by_thread(daemon.pid))
    views = [ask_ms(daemon.address, view) for _ in range(_VIEWS)]
    return {
        "metrics_ms_p50": round(float(np.percentile(scrapes, 50)), 2),
        "metrics_ms_p99": round(float(np.percentile(scrapes, 99)), 2),
        "metrics_cpu_ms": round(max(cpu_s.values()) / _SCRAPES * 1e3, 2),
        "first_view_ms_p50": round(float(np.percentile(views, 50)), 1),
        "first_view_ms_max": round(max(views), 1),
        "first_view_requests": len(view),
    }


def _answering(daemon: DaemonProcess) -> int:
    """The thread that answers."""
    before = cpu_s_by_thread(daemon.pid)
    for _ in range(_SCRAPES):
        ask_ms(daemon.address, ["/metrics"])
    grown = _grown(before, cpu_s_by_thread(daemon.pid))
    return max(grown, key=lambda thread: grown[thread])


def _grown(before: dict[int, float], after: dict[int, float]) -> dict[int, float]:
    return {thread: s - before.get(thread, 0.0) for thread, s in after.items()}


class _Load:
    """Ticks at a rate, again and again."""

    def __init__(
        self,
        config: Config,
        daemon: DaemonProcess,
        first: int,
        rate: float,
        seconds: float,
        answering: int,
    ) -> None:
        self._config, self._daemon, self._first = config, daemon, first
        self._rate, self._seconds, self._answering = rate, seconds, answering

    def _plan(self) -> Plan:
        ticks = max(1, round(self._rate * self._seconds))
        plan = Plan(self._first, ticks, self._rate, _SPIKES_PER_S)
        self._first += ticks
        return plan

    def measure(self, viewers: int) -> dict[str, float]:
        """CPU µs a tick while so many look on."""
        daemon, plan = self._daemon, self._plan()
        watched = [f"series-{i:02d}" for i in range(viewers)]
        with (
            following(daemon.address, watched) as looking,
            own_process(publisher, self._config, plan) as sending,
        ):
            receive(sending, "publisher")
            ticks, show_s, before = *self._counted(), cpu_s_by_thread(daemon.pid)
            sending.send("begin")
            sent: Sent = receive(sending, "publisher", plan.ticks / plan.rate)
            after, (ticks_by_now, show_by_now_s) = cpu_s_by_thread(daemon.pid), self._counted()
        daemon.wait_accounted(self._first, _DRAIN_S)
        ticks, show_s = ticks_by_now - ticks, show_by_now_s - show_s
        grown = _grown(before, after)
        return {
            "cpu_us_per_tick": round(sum(grown.values()) / ticks * 1e6, 3),
            "handing_over_ms_per_s": round(show_s / sent.took_s * 1e3, 3),
            "answering_ms_per_s": round(grown[self._answering] / sent.took_s * 1e3, 3),
            "ticks_per_s": round(ticks / sent.took_s),
            "events": sum(one.events for one in looking),
        }

    def _counted(self) -> tuple[float, float]:
        """Ticks accounted for, and CPU seconds of the loop on handing over what is shown."""
        text = self._daemon.get("/metrics") or ""
        by_stage = by_label(text, "detector_processing_cpu_seconds_total", "stage")
        return sum_samples(text, "detector_ticks_total"), by_stage["show"]

    def answers(self) -> Results:
        """Asked while ticks come, until they have come or all is asked."""
        plan = self._plan()
        with own_process(publisher, self._config, plan) as sending:
            receive(sending, "publisher")
            sending.send("begin")
            found = _answers(self._daemon)
            receive(sending, "publisher", plan.ticks / plan.rate)
        self._daemon.wait_accounted(self._first, _DRAIN_S)
        return found
