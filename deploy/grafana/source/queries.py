"""Expressions that several panels ask. %I and %R: see panels.py."""

from __future__ import annotations

from panels import Query, Steps

TIMES: Steps = (("green", None), ("yellow", 3.0), ("red", 10.0))


def share(of: str, total: str, over: str) -> str:
    return f"sum(rate({of}{{%I}}[{over}])) / clamp_min(sum(rate({total}{{%I}}[{over}])), 1e-9)"


def quantiles(histogram: str, *quantiles: str, by: str = "le") -> list[Query]:
    return [
        (
            f"histogram_quantile({q}, sum by ({by}) (rate({histogram}_bucket{{%I}}[%R])))",
            f"p{float(q) * 100:g}",
        )
        for q in quantiles
    ]


def rate(counter: str, by: str) -> Query:
    return f"sum by ({by}) (rate({counter}{{%I}}[%R]))", f"{{{{{by}}}}}"


def increase(counter: str, name: str, over: str = "5m") -> Query:
    return f"sum(increase({counter}{{%I}}[{over}]))", name


ABOVE = ("detector_windows_above_threshold_total", "detector_windows_scored_total")
OPENED_A_DAY = (
    'sum(increase(detector_alerts_total{state="opened", '
    'kind!~"silence|model_drift|new_normal", %I}[1d]))'
    " / clamp_min(sum(avg_over_time(detector_active_series{%I}[1d])), 1)"
)
EXPECTED = "max(detector_expected_normal_alerts_per_day{%I})"
DEPLOYED = 'max(detector_budget_ratio{of="deployed", %I})'
