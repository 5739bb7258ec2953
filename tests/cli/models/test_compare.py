"""Architectures compared as a user asks for it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.cli.models.making import CONFIG, PNG, SMALL_TRAINING, START_MS, write_ticks
from tests.integration.commands import refusal, trained_here
from tests.processes import detector, write_config


def write_wave(path: Path, *, label: bool, ticks: int = 3000) -> Path:
    random = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", "value", *(["label"] if label else [])])
        for n in range(ticks):
            odd = n % 500 > 480
            value = 4.0 if odd and label else float(np.sin(n / 3) + random.normal(0, 0.05))
            writer.writerow([START_MS + 10 * n, value, *([int(odd)] if label else [])])
    return path


@pytest.mark.training
def test_variants_are_compared_under_one_budget(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "config.yaml",
        CONFIG | {"training": SMALL_TRAINING, "model": {"units": [4]}},
    )
    train = write_wave(tmp_path / "train.csv", label=False)
    test = write_wave(tmp_path / "test.csv", label=True, ticks=1500)
    arguments = ("--config", config, "--data", train, "--test", test, "--plot", "c.png")
    variants = ("--variants", "dense", "prediction:horizon=2:units=6,3")
    done = trained_here("compare", *arguments, *variants, "--seeds", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["variant"] for row in rows] == list(variants[1:])
    assert rows[0]["parameters"] != rows[1]["parameters"]
    for row in rows:
        assert row["epochs"] == [1, 1]
        assert len(set(row["held_out_error"])) == 2, "each seed trains its own network"
        assert all(0 < v <= 1 for v in row["vus_pr"])
        assert all(0 <= v <= 1 for v in row["event_f1"])
        assert all(v > 0 for v in row["windows_per_s"] + row["training_s"])
    assert (tmp_path / "c.png").read_bytes().startswith(PNG)
    done = trained_here("compare", *arguments[:4], "--variants", "dense", cwd=tmp_path)
    head, _, row = done.stdout.splitlines()
    assert head.startswith("| variant | parameters |")
    assert row.startswith("| dense |")
    assert row.endswith("| - | - |"), "nothing was measured on test files"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "c.png", "config.yaml", "test.csv", "train.csv",
    ]  # fmt: skip


def test_test_files_without_labels_are_refused_before_any_training(
    tmp_path: Path, config: Path
) -> None:
    plain = write_ticks(tmp_path / "plain.csv", label=False)
    arguments = ("--config", config, "--data", plain, "--test", plain, "--variants", "last_step")
    line = refusal(detector("compare", *arguments, cwd=tmp_path), 65)
    assert "plain.csv" in line
    assert "no column 'label'" in line


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("0", "test.csv: no tick is labelled as anomalous (label above 0)"),
        ("1", "test.csv: every tick is labelled as anomalous (label above 0)"),
        ("", "test.csv: row 1 has no label"),
    ],
)
def test_test_files_whose_labels_say_nothing_are_refused_before_any_training(
    tmp_path: Path, config: Path, data: Path, label: str, words: str
) -> None:
    test = tmp_path / "test.csv"
    test.write_text(f"series,timestamp,value,label\na,1,0.5,{label}\n")
    arguments = ("--config", config, "--data", data, "--test", test, "--variants", "last_step")
    assert words in refusal(detector("compare", *arguments, cwd=tmp_path), 65)


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("transformer", ["model.kind", "reconstruction, sequence", "transformer"]),
        ("sequence:unist=4", ["model.unist", "did you mean 'units'"]),
        ("sequence:horizon=4", ["model.horizon", "prediction or composite"]),
    ],
)
def test_a_variant_that_cannot_be_is_refused_as_in_the_configuration(
    config: Path, data: Path, variant: str, words: Sequence[str]
) -> None:
    arguments = ("--config", config, "--data", data, "--variants", "reconstruction", variant)
    line = refusal(detector("compare", *arguments, cwd=config.parent), 78)
    assert all(word in line for word in words), line
