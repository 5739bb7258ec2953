"""The benchmarks as a user runs them, tiny: that they end, and what they tell. No speed is asked
for: the machine may be busy."""

from __future__ import annotations

import json
import pstats
from pathlib import Path
from typing import Any

import pytest

from detector.bench import profiling
from detector.cli.main import main
from detector.config import parse_config
from detector.engines.native import instruction_sets
from detector.service.metrics import STAGES
from tests.integration.commands import refusal, succeeded
from tests.processes import detector

ENGINES = {f"native ({one})" for one in instruction_sets()} | {"onnxruntime"}


def measured(tmp_path: Path, *arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        succeeded(detector("bench", *arguments, "--json", cwd=tmp_path))
    )
    assert found["matrix_product_gflops"] > 0
    return found


def test_scoring_measures_the_reference_model_on_every_engine(tmp_path: Path) -> None:
    found = measured(tmp_path, "scoring", "--rounds", "1")
    assert found["engines"].keys() == ENGINES
    own = found["engines"][found["engine"]]
    assert found["windows_per_s"] == own["windows_per_s"] > 0
    for figures in found["engines"].values():
        assert figures["one_window_ms_p99"] >= figures["one_window_ms_p50"] > 0
        assert figures["network_windows_per_s"] > 0
        assert figures["two_threads_windows_per_s"] > 0
    assert found["ratio_to_network"] == own["ratio_to_network"]


def test_stac_measures_its_shape_on_every_engine(tmp_path: Path) -> None:
    found = measured(tmp_path, "stac", "--rounds", "1")
    assert found["engines"].keys() == ENGINES
    assert (found["window"], found["units"]) == ("50 x 100", [100, 100])


def test_latency_tells_delays_at_each_rate_and_what_each_process_took(tmp_path: Path) -> None:
    found = measured(tmp_path, "latency", "--rates", "200", "400", "--seconds", "2")["open_loop"]
    assert found.keys() == {"200", "400"}
    for rate, figures in found.items():
        spikes = int(rate) * 2 / 51
        assert abs(figures["alerts"] + figures["alerts_missing"] - spikes) <= 1
        delays = [figures[f"tick_to_alert_ms_{q}"] for q in ("p50", "p99", "p99.9", "max")]
        assert delays == sorted(delays)
        assert delays[0] > 0
        assert all(figures[f"{who}_cpu_us_per_tick"] > 0 for who in ("daemon", "publisher"))


def test_stages_tells_where_a_tick_costs_what(tmp_path: Path) -> None:
    found = measured(tmp_path, "stages", "--ticks", "5000")["cpu_us_per_tick"]
    assert found.keys() == {"model", "next to nothing"}
    for cost in found.values():
        assert cost["process"] > cost["of process: scoring"] > 0
        parts = sum(cost[stage] for stage in STAGES) + cost["rest"] + cost["other_threads"]
        assert cost["total"] == pytest.approx(parts, abs=0.1)
    scoring = [found[name]["of process: scoring"] for name in ("model", "next to nothing")]
    assert scoring[0] > scoring[1]


def test_page_tells_what_viewers_cost_and_how_soon_it_answers(tmp_path: Path) -> None:
    tiny = ("--series", "200", "--rates", "200", "--seconds", "2", "--rounds", "1")
    found = measured(tmp_path, "page", *tiny)
    assert found["viewers"].keys() == {"none", "3"}
    assert found["viewers"]["none"]["events"] == 0
    assert found["viewers"]["3"]["events"] >= 3  # each was told of something
    for figures in found["answers"].values():
        assert figures["metrics_ms_p99"] >= figures["metrics_ms_p50"] > 0
        assert figures["first_view_requests"] > 10  # the page, its files and what it asks
    assert found["cpu_with_viewers_to_without"] > 0


def test_shadow_is_measured_beside_the_model_in_use(tmp_path: Path) -> None:
    found = measured(tmp_path, "shadow", "--ticks", "4000", "--rounds", "1")
    alone, both = found["cpu_us_per_tick_alone"], found["cpu_us_per_tick_with_shadow"]
    assert min(alone, both, found["scoring_us_per_window"]) > 0
    assert found["shadow_us_per_tick"] == pytest.approx(both - alone, abs=0.01)


def test_profile_writes_a_flame_graph_and_without_py_spy_what_pstats_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = parse_config({}), tmp_path / "flame.svg"
    if profiling._py_spy() is not None:
        found = profiling.profile(config, None, 20_000, out)
        assert found["profile"] == str(out)
        assert "<svg" in out.read_text()
    monkeypatch.setattr(profiling, "_py_spy", lambda: None)
    found = profiling.profile(config, None, 20_000, out)
    assert found["profile"] == str(tmp_path / "flame.pstats")
    called = {name for _, _, name in pstats.Stats(found["profile"]).stats}  # type: ignore[attr-defined]  # it has them
    assert {"_round", "decode"} <= called
    assert "pip install py-spy" in found["by"]


def test_a_run_is_compared_with_an_earlier_one_of_the_same_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fixed(rounds: int, *, peers: bool) -> dict[str, Any]:
        return {"matrix_product_gflops": 10.0, "windows_per_s": 100 * rounds, "engines": {}}

    monkeypatch.setattr("detector.bench.stac.stac", fixed)
    monkeypatch.setattr("detector.bench.machine.matrix_product_median", lambda: 10.0)
    for variable in ("OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(variable, "1")
    baseline = tmp_path / "baseline.json"
    assert main(["bench", "stac", "--rounds", "1", "--json"]) == 0
    baseline.write_text(capsys.readouterr().out)
    for again in range(2):  # what holds a comparison is a baseline too
        given = ["bench", "stac", "--rounds", "3", "--against", str(baseline)]
        assert main([*given, "--json"]) == 0
        compared = capsys.readouterr().out
        assert json.loads(compared)["against"]["windows_per_s"] == {
            "baseline": 300 if again else 100,
            "now": 300,
            "ratio": 1 if again else 3,
            "normalised": 1 if again else 3,
        }
        assert main(given) == 0
        figure, *numbers = capsys.readouterr().out.splitlines()[-1].split()
        assert figure == "windows_per_s"
        assert [float(n) for n in numbers] == ([300, 300, 1, 1] if again else [100, 300, 3, 3])
        baseline.write_text(compared)
    assert main(["bench", "startup", "--against", str(baseline)]) == 65
    assert "is no output of `detector bench startup --json`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["page", "--rates", "1", "2"], 64, "bench page: one rate"),
        (["startup", "--peers"], 64, "--peers is for bench scoring and stac"),
        (["stac", "--model", "m"], 64, "leave out --model"),
        (["scoring", "--against", "absent.json"], 65, "absent.json: No such file"),
        (["workers"], 64, "shares a topic of Kafka"),
        (["profile", "--out", "a.png"], 64, "--out must end in .svg, .json, .txt"),
        (["profile", "--out", "absent/a.svg"], 64, "there is no folder absent"),
        (["latency", "--rates", "0"], 64, "--rates and --seconds must be above 0"),
        (["scoring", "--rounds", "0"], 64, "must be at least 1"),
    ],
)
def test_what_a_benchmark_does_not_know_is_refused(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    assert says in refusal(detector("bench", *arguments, cwd=tmp_path), code)
