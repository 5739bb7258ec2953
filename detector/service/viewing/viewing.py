"""What the loop does for those who look: at the end of a round it hands over what was asked for.

Where nobody asks, a round costs a comparison or two. Where somebody does: the state once in
STATE_EVERY_S, each watched series once in SERIES_EVERY_S, the names of all series once in
NAMES_EVERY_S, each alert once it is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.core.alerts import Alert
from detector.core.episodes import Episodes
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.ticks import Int64
from detector.core.track import Explanation, ScoredWindows, Track
from detector.service.viewing.recent import Recent
from detector.service.viewing.requests import MOST_WATCHED, Requests
from detector.service.viewing.shown import News, Seen, ShownAlert, ShownSeries

STATE_EVERY_S, SERIES_EVERY_S, NAMES_EVERY_S = 1.0, 0.5, 1.0
#: The series of open and lately closed alerts are followed so often, so many at a time.
_FOLLOW_EVERY_S, _FOLLOWED = 0.5, 16
#: A series that is not there is looked for again.
_UNKNOWN_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Last:
    """The last window of a series since it is watched, and the track that scored it."""

    track: Track
    windows: ScoredWindows
    at: int


class Viewing:
    """requests: written by the thread that serves viewers. What it reads: state, seen, names,
    alerts; each is replaced by the loop, never changed."""

    def __init__(
        self,
        pipeline: Pipeline,
        recent: Recent,
        state: Callable[[], dict[str, Any]],
        *,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._pipeline, self._recent, self._tell_state = pipeline, recent, state
        self.monotonic_s = monotonic_s
        self.requests = Requests()
        self.state: tuple[float, Mapping[str, Any]] | None = None
        self.seen: Mapping[str, Seen] = {}
        self.names: tuple[float, list[str]] | None = None
        self._last: dict[int, _Last] = {}  # by slot
        self._watched: dict[int, str] = {}  # by slot
        self._fresh: set[str] = set()
        self._marked_s = self._followed_s = -1e9

    @property
    def alerts(self) -> Mapping[str, ShownAlert]:
        """By id: those that are open, then those that closed, the newest first."""
        return self._recent.alerts.shown

    # -- what the loop tells

    def scored(self, result: BatchResult) -> None:
        """A batch was processed; what it found is not committed yet."""
        self._recent.scored(result)
        self._forget(one.slot for one in result.forgotten)
        if self._watched:
            self._remember(result)

    def replayed(self, result: BatchResult) -> None:
        """A batch was processed again, silently."""
        self._recent.replayed(result)
        self._forget(one.slot for one in result.forgotten)

    def recall(self, partition: int, events: Mapping[str, Sequence[Alert]]) -> None:
        """What is kept of the open alerts of a partition, by their ids, the opening first."""
        self._recent.alerts.recall(partition, events)

    def restored(self, partition: int) -> None:
        self._recent.restored(partition)

    def lost(self, partition: int, slots: Int64) -> None:
        self._recent.lost(partition, slots)
        self._forget(slots.tolist())

    def _forget(self, slots: Iterable[int]) -> None:
        """They will be those of other series."""
        for slot in slots:
            self._last.pop(slot, None)
            self._watched.pop(slot, None)

    def _remember(self, result: BatchResult) -> None:
        """References alone: what is asked of a window is worked out when it is handed over."""
        track, slots = self._pipeline.primary, np.fromiter(self._watched, np.int64)
        for part in result.windows:
            if not len(part.slot):
                continue
            # Windows are grouped by slot, ascending: the last of each series.
            at = np.searchsorted(part.slot, slots, side="right") - 1
            for i in np.flatnonzero((at >= 0) & (part.slot[at] == slots)).tolist():
                slot = int(slots[i])
                self._last[slot] = _Last(track, part, int(at[i]))
                self._fresh.add(self._watched[slot])

    # -- the end of a round

    def step(self) -> None:
        recent, asked, now_s = self._recent, self.requests, self.monotonic_s()
        if now_s - self._marked_s >= STATE_EVERY_S:
            self._marked_s = now_s
            recent.pace.mark()
        if now_s - self._followed_s >= _FOLLOW_EVERY_S:
            self._followed_s = now_s
            recent.alerts.follow(_FOLLOWED)
        recent.alerts.publish()
        news = []
        if recent.news:
            told, recent.news = recent.news, []
            news += [News("alert", one.alert_id, one) for one in told]
        if asked.watched or self.seen:
            news += self._look(asked.watched, now_s)
        # With the series where it would come soon after: a viewer is told of both at once.
        early_s = SERIES_EVERY_S / 2 if news else 0.0
        if asked.state_s > now_s and self._older(self.state, STATE_EVERY_S - early_s, now_s):
            self.state = (now_s, self._tell_state())
            news.append(News("state", "", self.state[1]))
        if asked.names_s > now_s and self._older(self.names, NAMES_EVERY_S, now_s):
            self.names = (now_s, self._pipeline.stream.series.names())
        listener = asked.listener
        if news and listener is not None:
            listener(news)

    @staticmethod
    def _older(handed: tuple[float, Any] | None, every_s: float, now_s: float) -> bool:
        return handed is None or now_s - handed[0] >= every_s

    # -- series

    def _look(self, watched: frozenset[str], now_s: float) -> list[News]:
        """At each watched series whose time has come."""
        names = sorted(watched)[:MOST_WATCHED]
        seen = {name: self.seen[name] for name in names if name in self.seen}
        due = [name for name in names if self._due(name, seen.get(name), now_s)]
        if not due and len(seen) == len(self.seen):
            return []
        if due:  # together from now on: to explain several windows costs little more than one
            soon_s = now_s + SERIES_EVERY_S / 2
            due = [name for name in names if self._due(name, seen.get(name), soon_s)]
        news = []
        table = self._pipeline.stream.series
        slots = {name: self._slot(name) for name in due}
        reasons = self._reasons([slot for slot in slots.values() if slot is not None])
        for name, slot in slots.items():
            before = seen.get(name)
            shown = None if slot is None else self._series(name, slot, reasons.get(slot))
            seen[name] = Seen(now_s, shown)
            if before is None or before.series is not None or seen[name].series is not None:
                news.append(News("series", name, seen[name].series))
        self._fresh.difference_update(due)
        self.seen = seen
        self._watched = {slot: name for name in names for slot in table.slots_named(name)}
        self._last = {s: last for s, last in self._last.items() if s in self._watched}
        return news

    def _due(self, name: str, before: Seen | None, now_s: float) -> bool:
        if before is None:
            return True
        if before.series is None:
            return now_s - before.at_s >= _UNKNOWN_EVERY_S
        # What happens to a series without a window is seen a little later.
        every_s = SERIES_EVERY_S if name in self._fresh else 2 * SERIES_EVERY_S
        return now_s - before.at_s >= every_s

    def _slot(self, name: str) -> int | None:
        """Of the one of this name that was heard last."""
        stream = self._pipeline.stream
        slots = stream.series.slots_named(name)
        if not slots:
            return None
        return slots[int(stream.silence.state.rows(np.array(slots, np.int64), "heard_ns").argmax())]

    def _reasons(self, slots: Sequence[int]) -> dict[int, Explanation]:
        """Of the last window of each; those of one batch at once."""
        track, parts = self._pipeline.primary, dict[int, list[int]]()
        for slot in slots:
            last = self._last.get(slot)
            if last is not None and last.track is track:
                parts.setdefault(id(last.windows), []).append(slot)
        found = dict[int, Explanation]()
        for some in parts.values():
            windows = self._last[some[0]].windows
            at = np.array([self._last[slot].at for slot in some], np.int64)
            why = track.explain_at(windows.windows, windows.scored, at)
            found |= dict(zip(some, why, strict=True))
        return found

    def _series(self, name: str, slot: int, why: Explanation | None) -> ShownSeries:
        stream, track = self._pipeline.stream, self._pipeline.primary
        points, last = self._recent.history.points(slot), self._last.get(slot)
        slots, heard_ns = stream.series.slots_named(name), stream.silence.state["heard_ns"]
        score, time_ns = None, None
        if why is not None and last is not None:
            score = float(last.windows.scored.score[last.at])
            time_ns = int(last.windows.time_ns[last.at])
        elif len(points.score):
            score, time_ns = float(points.score[-1]), int(points.time_s[-1]) * 10**9
        ticks, observed = track.newest(slot)
        return ShownSeries(
            series=name,
            partition=stream.series.partition(slot),
            partitions=tuple(sorted(stream.series.partition(one) for one in slots)),
            model_version=track.policy.model_version,
            features=track.features.names,
            length=track.policy.length,
            ticks=ticks,
            observed=observed if why is None else why.observed,
            expected=None if why is None else why.expected,
            contributions={} if why is None else why.contributions,
            views={} if why is None else why.views,
            score=score,
            threshold=track.policy.threshold,
            time_ns=time_ns,
            heard_ns=int(heard_ns[slot]),
            points=points,
            open_alerts=tuple(self._open_alerts(slot)),
        )

    def _open_alerts(self, slot: int) -> list[str]:
        stream = self._pipeline.stream
        opened = [stream.opened.windows, *stream.opened.habits.values()]
        found = [e.alert_id(slot) for e in opened if _is_open(e, slot)]
        if stream.silence.state["silent"][slot]:
            found.append(stream.silenced.alert_id(slot))
        shown = self.alerts
        return [one for one in found if one in shown]


def _is_open(episodes: Episodes, slot: int) -> bool:
    severity = episodes.state["severity"]
    return slot < len(severity) and bool(severity[slot])
