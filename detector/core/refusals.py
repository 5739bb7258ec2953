"""What the rules of the stream refuse of a batch, and why, in words."""

from __future__ import annotations

import numpy as np

from detector.core.stream import Arrivals, StreamPolicy
from detector.core.ticks import Outcome, Reject, TickBatch


def rejects(
    batch: TickBatch, arrivals: Arrivals, policy: StreamPolicy, *, late_is_rejected: bool
) -> list[Reject]:
    """Those of a batch, in order; without what the restored state holds already."""
    refused = dict(arrivals.refused)
    if late_is_rejected:
        refused |= dict.fromkeys(np.flatnonzero(arrivals.outcome == Outcome.LATE).tolist(), "late")
    return [
        Reject(
            int(batch.partition[row]),
            int(batch.offset[row]),
            int(batch.index[row]),
            reason,
            _why(reason, policy),
        )
        for row, reason in refused.items()
        if arrivals.held is None or not arrivals.held[row]
    ]


def _why(reason: str, policy: StreamPolicy) -> str:
    if reason == "series_limit":
        return f"more than limits.max_series = {policy.max_series} series"
    if reason == "far_future":
        return (
            f"more than input.max_future_s = {policy.max_future_s:g} past the broker's "
            "timestamp of its record"
        )
    if reason == "late":
        return "older than the newest tick of its series"
    return "a field, or a feature made of it, is not finite"
