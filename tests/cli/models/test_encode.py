"""encode, plot, compare and classify as a user runs them: a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.data.encodings import Encodings, read_encodings
from tests.artifacts import make_artifact
from tests.cli.models.making import CONFIG, LENGTH, START_MS, TICKS, encode
from tests.integration.commands import refusal, succeeded
from tests.processes import detector, write_config

# -- encode


def same(one: Encodings, other: Encodings) -> bool:
    return (one.series, one.columns()["timestamp"]) == (
        other.series, other.columns()["timestamp"],
    ) and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("vectors", "ticks", "label", "score", "anomalous")
    )  # fmt: skip


def test_every_kind_of_file_holds_the_same_vectors(config: Path, model: Path, data: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    found = encode(config, model, data, "e.npz")
    assert len(found.vectors) == sum(n - LENGTH + 1 for n in TICKS.values())
    assert set(found.series) == set(TICKS)
    assert found.label is not None
    assert found.label.sum() == sum(n // 10 for n in TICKS.values())
    assert found.score is not None
    assert found.anomalous is not None
    np.testing.assert_array_equal(found.anomalous, found.score > 1.0)
    assert 0 < found.anomalous.sum() < len(found.anomalous)
    assert np.abs(found.vectors).max() > 0.1, "vectors of zeros would prove nothing"
    for name in ("e.csv", "e.parquet"):
        assert same(encode(config, model, data, name), found), name


def test_a_file_without_a_usable_tick_is_passed_over(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    """Read beside a good one, in both ways; alone it is refused."""
    empty = tmp_path / "empty.csv"
    empty.write_text("series,timestamp,value,label\na,1,nan,0\na,2,nan,0\n")
    for options in ((), ("--sequences",)):
        alone = encode(config, model, data, "one.npz", *options)
        beside = ("--config", config, "--model", model, "--data", empty, data, "--out", "two.npz")
        succeeded(detector("encode", *beside, *options, cwd=tmp_path))
        assert same(read_encodings(tmp_path / "two.npz"), alone)
        only = ("--config", config, "--model", model, "--data", empty, "--out", "no.npz")
        assert "to encode" in refusal(detector("encode", *only, *options, cwd=tmp_path), 65)


def test_a_sequence_as_long_as_the_window_has_the_vector_of_its_window(
    config: Path, model: Path, data: Path
) -> None:
    windows = encode(config, model, data, "w.npz")
    sequences = encode(config, model, data, "s.csv", "--sequences")
    assert dict(zip(sequences.series, sequences.ticks.tolist(), strict=True)) == TICKS
    assert sequences.score is None
    assert sequences.anomalous is None
    of_window = windows.vectors[windows.series.index("c")]
    of_sequence = sequences.vectors[sequences.series.index("c")]
    np.testing.assert_allclose(of_sequence, of_window, rtol=1e-5, atol=1e-6)


def test_a_gap_begins_another_sequence(tmp_path: Path, model: Path) -> None:
    config = write_config(
        tmp_path / "config.yaml", CONFIG | {"window": {"length_ticks": LENGTH, "max_gap_s": 1}}
    )
    times = [*range(0, 50, 10), *range(5000, 5030, 10)]
    (tmp_path / "pump.csv").write_text(
        "timestamp,value\n" + "".join(f"{START_MS + ms},{ms / 1e4}\n" for ms in times)
    )
    found = encode(config, model, tmp_path / "pump.csv", "s.npz", "--sequences")
    assert (found.series, found.ticks.tolist()) == (("pump", "pump"), [5, 3])
    assert found.label is None


def test_a_model_without_an_encoder_is_refused(tmp_path: Path, config: Path, data: Path) -> None:
    make_artifact(tmp_path / "m", length=LENGTH, units=(4,), kind="dense")
    arguments = ("--config", config, "--model", "m", "--data", data, "--out", "e.csv")
    line = refusal(detector("encode", *arguments, cwd=tmp_path), 65)
    assert "kind dense has no encoder" in line


def test_data_without_a_full_window_is_refused(config: Path, model: Path, data: Path) -> None:
    arguments = ("--config", config, "--model", model, "--data", data, "--limit", "5")
    done = detector("encode", *arguments, "--out", "e.csv", cwd=config.parent)
    assert f"no full window of {LENGTH} ticks" in refusal(done, 65)


@pytest.mark.parametrize(("out", "word"), [("e.txt", ".parquet"), ("no/e.csv", "no directory")])
def test_a_file_that_could_not_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, out: str, word: str
) -> None:
    arguments = ("--model", "missing", "--data", "missing.csv", "--out", out)
    line = refusal(detector("encode", *arguments, cwd=tmp_path), 64)
    assert out in line
    assert word in line
