"""Whether the loop lives, moves and is ready; what the probes, the watchdog and the gauges show.

Looking must not end what is looked at: a broker that does not answer a question asked for a gauge
leaves the gauge as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detector.core.alerts import MODEL_DRIFT
from detector.core.pipeline import Pipeline
from detector.core.scores import Acquaintance
from detector.errors import BrokerError
from detector.service.logs import event
from detector.service.metrics import Metrics
from detector.service.partitions import Partitions
from detector.service.supervisor import Supervision, Supervisor
from detector.transport.broker import Worker

#: Records wait and none was read for this long: the loop turns but does not move.
_STALL_S = 60.0
_GAUGES_EVERY_S = 0.5
#: Goes through all series: 30 ms for 100 000 of them.
_ACQUAINTED_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """hang_timeout_s, stop_timeout_s: a round or a transaction, or the end after stop(), that takes
    longer ends the process. under_way_s, of Health: how long a transaction has been, if one is."""

    hang_timeout_s: float
    stop_timeout_s: float


class Health:
    def __init__(
        self,
        worker: Worker,
        pipeline: Pipeline,
        partitions: Partitions,
        metrics: Metrics,
        policy: HealthPolicy,
        *,
        under_way_s: Callable[[], float | None],
        wall_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        supervision: Supervision,
    ) -> None:
        self._supervisor = Supervisor(supervision)
        self._worker, self._pipeline, self._partitions = worker, pipeline, partitions
        self._metrics, self._policy = metrics, policy
        self._under_way_s = under_way_s
        self._wall_s, self._monotonic_s = wall_s, monotonic_s
        self._watched = False
        self._is_ready = False
        self._stop_asked_s: float | None = None
        self._progress_s = self._moved_s = monotonic_s()
        self._gauges_s = self._asked_s = self._acquainted_s = -1e9
        self._stuck = 0  # records that could be read, when none was for long
        #: The newest event time, nanoseconds since the epoch; None: no tick yet.
        self.newest_ns: int | None = None
        #: How well the series are known, as of some seconds ago; None: not looked yet.
        self.acquaintance: Acquaintance | None = None

    # -- what the loop tells

    def round_began(self) -> None:
        self._progress_s = now_s = self._monotonic_s()
        self._watched = True
        if self._supervisor.due(now_s):
            self._supervisor.beat(now_s, self._status())

    def unwatched(self) -> None:
        """What comes may take long, and that is right."""
        self._watched = False
        self._supervisor.lift()

    def moved(self) -> None:
        """Records were read, or work was committed."""
        self._moved_s = self._monotonic_s()

    def stop_asked(self) -> None:
        if self._stop_asked_s is None:
            self._stop_asked_s = self._monotonic_s()

    def saw(self, time_ns: int) -> None:
        """The newest event time of a batch."""
        if self.newest_ns is None or time_ns > self.newest_ns:
            self.newest_ns = time_ns

    def follow_readiness(self) -> None:
        held = self._partitions
        self._say_ready(self._worker.ready() and not held.restoring and not held.replaying)

    def draining(self) -> None:
        """The loop has heard of the stop: the last transaction comes."""
        self._supervisor.stopping()

    def stopped(self) -> None:
        self._watched = self._is_ready = False
        self._metrics.ready.set(0)
        self._supervisor.close()

    def _say_ready(self, ready: bool) -> None:
        if ready != self._is_ready:
            self._is_ready = ready
            self._metrics.ready.set(ready)
            partitions = self._partitions.started
            event("ready" if ready else "not ready", partitions=partitions)
        if ready:
            self._supervisor.ready()

    # -- what others ask

    def hung(self) -> str | None:
        """What the watchdog asks: a round, a transaction or a stop that does not end."""
        now_s = self._monotonic_s()
        asked_s = self._stop_asked_s
        if asked_s is not None and now_s - asked_s > self._policy.stop_timeout_s:
            return f"told to stop {now_s - asked_s:.0f} s ago"
        return self._silent() if self._watched else None

    def live(self) -> str | None:
        """What is wrong with the loop; None while it is well."""
        still_s = self._monotonic_s() - self._moved_s
        if self._stuck and still_s > _STALL_S and not self._partitions.restoring:
            stuck = f"{self._stuck} records wait and none was read for {still_s:.0f} s"
            return self._silent() or stuck
        return self._silent()

    def ready(self) -> str | None:
        return None if self._is_ready else "not joined, or state not restored yet"

    def _silent(self) -> str | None:
        silent_s = self._monotonic_s() - self._progress_s
        if silent_s > self._policy.hang_timeout_s:
            return f"no round completed for {silent_s:.0f} s"
        under_way_s = self._under_way_s()
        if under_way_s is not None and under_way_s > self._policy.hang_timeout_s:
            return f"a transaction was begun {under_way_s:.0f} s ago and has not ended"
        return None

    def _status(self) -> str:
        """A line for whoever asks the service manager."""
        pipeline, held = self._pipeline, self._partitions
        restoring = len(held.restoring) + len(held.replaying)
        state = "ready" if self._is_ready else "not ready"
        return (
            f"{state}: {len(held.started)} partitions"
            + (f", {restoring} restoring" if restoring else "")
            + f", {pipeline.active_series()} series, {pipeline.open_alerts()} open alerts, "
            f"{sum(p.lag or 0 for p in held)} records waiting"
        )

    # -- gauges

    def set_gauges(self) -> None:
        """Now and then."""
        now_s = self._monotonic_s()
        if now_s - self._gauges_s < _GAUGES_EVERY_S:
            return
        self._gauges_s = now_s
        metrics, pipeline = self._metrics, self._pipeline
        try:
            self._look_at_lag(now_s)
        except BrokerError as error:
            event("the broker does not say how much waits", error=str(error))
        if self.newest_ns is not None:
            metrics.last_tick.set(self.newest_ns * 1e-9)
        metrics.active_series.set(pipeline.active_series())
        metrics.warming_series.set(pipeline.warming_series())
        metrics.open_alerts.set(pipeline.open_alerts())
        metrics.mutes_in_force.set(pipeline.stream.mutes.count())
        if now_s - self._acquainted_s >= _ACQUAINTED_EVERY_S:
            self._acquainted_s = now_s
            self.acquaintance = pipeline.acquaintance()
            metrics.tell_acquaintance(self.acquaintance)
            metrics.drifted_series.set(pipeline.open_by_kind()[MODEL_DRIFT])
        metrics.progress.set(self._wall_s())

    def _look_at_lag(self, now_s: float) -> None:
        lag = self._worker.lag()
        for partition in self._partitions:
            if partition.number in lag:
                partition.lag = lag[partition.number]
                self._metrics.lag_of(self._pipeline.topic, partition.number, partition.lag)
        if not sum(lag.values()) or now_s - self._moved_s < _STALL_S / 2:
            self._stuck = 0
        elif now_s - self._asked_s > _STALL_S / 12:
            self._asked_s = now_s
            self._stuck = self._worker.readable()
