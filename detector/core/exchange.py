"""A model in the place of another over the same stream, between two batches.

What is known of a series goes on as far as it means the same to both: the last ticks and the
window where features and length are the same, the previous tick where the fields are, the counts of
the alert rules, the alerts that are open. What a score remembers (levels, tails) is about one
model: another begins from its own calibration, but a series that was known well enough to alert
stays so. The same model under other options keeps everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.blocks import BLOCK
from detector.core.pipeline import Pipeline
from detector.core.ticks import Int64
from detector.core.track import Track


@dataclass(frozen=True, slots=True)
class Continuity:
    """windows: whether they go on, so that nothing warms up again; previous: whether the previous
    tick does; score: whether levels and tails do. why_not: why windows do not, "" where they do."""

    windows: bool
    previous: bool
    score: bool
    why_not: str = ""

    def words(self) -> str:
        if not self.windows:
            return f"every series warms up again: {self.why_not}"
        return "windows go on" + ("" if self.score else ", levels begin from its calibration")


def continuity(old: Track, new: Track) -> Continuity:
    """What would go on if new took the place of old."""
    why, one, other = "", old.features, new.features
    if (one.names, one.expressions) != (other.names, other.expressions):
        why = "it sees other features"
    elif old.policy.length != new.policy.length:
        why = f"its windows have {new.policy.length} ticks, not {old.policy.length}"
    elif old.policy.stride != new.policy.stride:
        why = "its windows have another stride"
    same = not why and old.policy.model_version == new.policy.model_version
    return Continuity(not why, one.fields == other.fields, same, why)


def exchange(pipeline: Pipeline, new: Track, *, warm: bool = False) -> Continuity:
    """Put new in the place of the primary track of a pipeline, which is not used any more. warm:
    new has followed the stream beside it: what its score remembers is kept."""
    old, stream = pipeline.primary, pipeline.stream
    found = continuity(old, new)
    if not found.previous:
        stream.read_other_fields(len(new.features.fields))
    if found.windows:
        new.windows.state.adopt(old.windows.state)
        new.lifecycle.state.adopt(old.lifecycle.state)
        for kind, state in new.habits.states.items():
            state.adopt(old.habits.states[kind])
        if found.score:
            for about, state in new.score_states.items():
                if about in old.score_states:
                    state.adopt(old.score_states[about])
        else:
            _begin_acquainted(old, new, warm=warm)
    pipeline.primary = new
    return found


def _begin_acquainted(old: Track, new: Track, *, warm: bool) -> None:
    """Levels and tails of new, of series that old knows."""
    before, after = old.score_states.get("tails"), new.score_states.get("tails")
    if before is None or after is None:
        return
    after.reserve(len(before["windows"]))
    before.reserve(len(after["windows"]))
    # Whole blocks: levels and tails end theirs together.
    begun = np.flatnonzero(after["windows"] < BLOCK) if warm else np.arange(len(after["windows"]))
    for state in new.score_states.values():
        state.clear(begun)
    after.put(begun, {"windows": before["windows"][begun] // BLOCK * BLOCK})


def lend_windows(pipeline: Pipeline, slots: Int64) -> None:
    """To the tracks beside the primary that see the same: series that were just restored, which
    they never saw."""
    if not len(slots):
        return
    for one in pipeline.beside:
        if continuity(pipeline.primary, one.track).windows:
            own = pipeline.primary.windows.state
            one.track.windows.state.put(slots, {n: own.rows(slots, n) for n in own.names})
