"""Training for real, and small: what is deployed is what Keras learned."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from detector.config import Config, parse_config
from detector.core.scaling import Scaling
from detector.core.scorer import GraphScorer
from detector.core.thresholds import choose_threshold
from detector.core.thresholds.calibration import Demand
from detector.core.ticks import Float32
from detector.data.sources import DataFile
from detector.engines import open_graph
from detector.errors import DataError
from detector.model.directory import Artifact, load_artifact
from detector.model.export import scorer_graph
from detector.model.family import Architecture
from detector.offline.train import TrainingReport, train_model

pytestmark = pytest.mark.training

LENGTH = 6
TICKS = 2700
FEATURES = {"wave": "wave", "step": "diff(wave)", "jump": "jump", "flat": "flat"}
Row = dict[str, float]


def make_config(activation: str = "tanh", *, xla: bool = False, **changes: Any) -> Config:
    tree: dict[str, Any] = {
        "features": FEATURES,
        "window": {"length_ticks": LENGTH, "max_gap_s": 1.5},
        "model": {"units": [5, 3], "activation": activation},
        "training": {
            "epochs": 2,
            "patience": 1,
            "batch_size": 64,
            "learning_rate": 0.01,
            "xla": xla,
        },
    }
    return parse_config(tree | changes)


def healthy(count: int = TICKS, *, seed: int = 0) -> list[Row]:
    """A wave, a heavy tail without a variance, and a feature that never moves."""
    random = np.random.default_rng(seed)
    return [
        {
            "timestamp": i,
            "wave": math.sin(i / 3) + 0.05 * random.normal(),
            "jump": float(random.pareto(0.7)),
            "flat": 273.15,
        }
        for i in range(count)
    ]


def write(path: Path, rows: list[Row]) -> DataFile:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataFile(path, "one")


def fit(
    config: Config, directory: Path, rows: list[Row]
) -> tuple[Artifact, TrainingReport, list[tuple[int, float, float]]]:
    seen: list[tuple[int, float, float]] = []
    read: list[int] = []
    directory.mkdir(exist_ok=True)
    report = train_model(
        config,
        [write(directory / "data.jsonl", rows)],
        directory / "model",
        progress=lambda epoch, loss, held: seen.append((epoch, loss, held)),
        read=read.append,
    )
    assert sum(read) == len(rows)
    return load_artifact(directory / "model"), report, seen


Fitted = tuple[Artifact, TrainingReport, list[tuple[int, float, float]]]


@pytest.fixture(scope="module", params=["tanh", "relu"])
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    config = make_config(request.param, xla=request.param == "relu")
    return fit(config, tmp_path_factory.mktemp(request.param), healthy())


def some_windows(artifact: Artifact, count: int = 300) -> Float32:
    """Windows near and far from what the model has seen."""
    random = np.random.default_rng(8)
    scaling = artifact.manifest["scaling"]
    shape = (count, artifact.length, len(artifact.features.names))
    spread = random.lognormal(0, 1, (count, 1, 1)) * random.normal(size=shape)
    windows: Float32 = (np.array(scaling["center"]) + np.array(scaling["scale"]) * spread).astype(
        np.float32
    )
    return windows


def test_the_deployed_graph_is_the_trained_network(fitted: Fitted) -> None:
    from detector.model.backend import keras

    artifact, report, _ = fitted
    network = keras.saving.load_model(artifact.path / "model.keras", compile=False)
    assert network.count_params() == report.parameters
    windows = some_windows(artifact)
    scaling = artifact.manifest["scaling"]
    center, scale, squash = np.array(scaling["center"]), np.array(scaling["scale"]), 4.0
    z = (squash * np.arcsinh((windows - center) / scale / squash)).astype(np.float32)
    expected = np.asarray(network(z))
    session = onnxruntime.InferenceSession(
        artifact.files["scorer.onnx"], providers=["CPUExecutionProvider"]
    )
    scaled, errors = session.run(["scaled_expectation", "errors"], {"windows": windows})
    np.testing.assert_allclose(scaled.transpose(1, 0, 2), expected, rtol=1e-5, atol=1e-5)
    by_hand = ((expected.astype(np.float64) - z) ** 2).mean(axis=1)
    by_hand /= np.array(artifact.manifest["calibration"]["error_scale"])
    np.testing.assert_allclose(errors, by_hand, rtol=1e-4, atol=1e-4)
    same = artifact.open_scorer(threads=1, engine="onnxruntime")
    np.testing.assert_array_equal(same.errors(windows), errors)
    deployed = artifact.open_scorer(threads=1)
    np.testing.assert_allclose(deployed.errors(windows), by_hand, rtol=1e-4, atol=1e-4)


def test_the_training_tells_what_it_did(fitted: Fitted) -> None:
    artifact, report, seen = fitted
    manifest = artifact.manifest
    assert [epoch for epoch, _, _ in seen] == list(range(1, report.epochs + 1))
    assert [(h["loss"], h["validation_loss"]) for h in manifest["training"]["history"]] == [
        (loss, held) for _, loss, held in seen
    ]
    assert report.validation_loss == min(held for _, _, held in seen)
    assert report.ticks == report.outcomes["accepted"] == TICKS
    assert (report.features, report.constant_features) == (tuple(FEATURES), ("flat",))
    assert report.model_version == artifact.version
    assert manifest["training"]["windows"] == report.windows
    # The first tick of the run has no difference; then each part loses length - 1. The held-out
    # windows that calibrate are those that validate too, and those across the border.
    windows = report.windows
    assert windows["fitting"] + windows["calibrating"] == TICKS - 1 - 2 * (LENGTH - 1)
    assert 200 < windows["validating"] < windows["calibrating"]


def test_the_calibration_is_of_windows_training_did_not_see(fitted: Fitted) -> None:
    artifact, report, _ = fitted
    scores = artifact.calibration.scores
    assert len(scores) == report.windows["calibrating"]
    assert (np.diff(scores) >= 0).all()
    assert np.isfinite(scores).all()
    assert artifact.calibration.tail.windows == len(scores)
    assert report.threshold == choose_threshold("pot", artifact.calibration, Demand(1e-4))
    assert (scores > report.threshold).mean() <= 0.01


def test_a_fault_scores_above_normal_windows_in_a_feature_of_each_kind(fitted: Fitted) -> None:
    artifact, _, _ = fitted
    scorer = artifact.open_scorer(threads=1)
    rows = healthy(200, seed=9)
    normal = np.array([[r["wave"], 0.0, min(r["jump"], 10.0), r["flat"]] for r in rows], np.float32)
    normal[1:, 1] = np.diff(normal[:, 0])
    window = normal[100 : 100 + LENGTH]
    quiet = scorer.errors(window[None])[0]
    for feature, shift in enumerate([50.0, 50.0, 1e6, 300.0]):
        broken = window.copy()
        broken[-1, feature] += shift
        loud = scorer.errors(broken[None])[0]
        assert loud[feature] > 10 * quiet[feature] + 1
        assert loud.mean() > 3 * quiet.mean()


@pytest.mark.parametrize("fitted", ["relu"], indirect=True)  # compiled by XLA, as by default
def test_training_is_reproducible_from_its_seed(fitted: Fitted, tmp_path: Path) -> None:
    artifact, _, seen = fitted
    again, _, seen_again = fit(make_config("relu", xla=True), tmp_path, healthy())
    assert seen_again == seen
    assert again.files["scorer.onnx"] == artifact.files["scorer.onnx"]
    assert again.version == artifact.version
    np.testing.assert_array_equal(again.calibration.scores, artifact.calibration.scores)


# -- every kind

KINDS: dict[str, dict[str, Any]] = {
    "sequence": {"kind": "sequence"},
    "last_step": {"kind": "last_step"},
    "dense": {"kind": "dense"},
    "conditioned": {"conditioned": True},
    "composite": {"kind": "composite", "horizon": 2, "prediction_weight": 0.25},
    "composite with everything": {
        "kind": "composite",
        "horizon": 3,
        "target_order": "reversed",
        "conditioned": True,
        "activation": "relu",
    },
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_any_kind_is_trained_calibrated_and_deployed(
    options: dict[str, Any], tmp_path: Path
) -> None:
    from detector.model import networks
    from detector.model.backend import keras

    # The compiler takes longer than such a training: the most complex will do, and one above.
    compiled = options == KINDS["composite with everything"]
    config = make_config(xla=compiled, model={"units": [5, 3], **options})
    artifact, report, seen = fit(config, tmp_path, healthy())
    manifest = artifact.manifest
    case = Architecture.from_manifest(manifest)
    assert {name: manifest["model"][name] for name in options} == options
    assert len(seen) == report.epochs >= 1
    assert all(math.isfinite(held) for _, _, held in seen)
    if case.conditioned:  # taught with the true ticks, it has another error when it reads its own
        assert report.held_out_error != pytest.approx(report.validation_loss, rel=1e-5)
    else:
        assert report.held_out_error == pytest.approx(report.validation_loss, rel=1e-3)
    assert manifest["training"]["held_out_error"] == report.held_out_error

    # What is deployed is what was trained, normalised by what the manifest says.
    network = keras.saving.load_model(artifact.path / "model.keras", compile=False)
    weights = networks.network_weights(network, case)
    assert report.parameters == weights.parameters() == network.count_params()
    scaling = manifest["scaling"]
    scales = Scaling(np.array(scaling["center"]), np.array(scaling["scale"]), scaling["squash"])
    each = error_scales(artifact, case)
    assert each.shape == (len(case.targets), len(FEATURES))
    assert (each > 0).all()
    if len(each) > 1:  # what follows is harder to tell than what was read
        assert (each[0] != each[1]).any()
    graph = scorer_graph(case, weights, scales, each)
    alone, deployed = (
        GraphScorer(open_graph(graph, threads=1), scales),
        artifact.open_scorer(threads=1),
    )
    some = some_windows(artifact)
    np.testing.assert_array_equal(alone.errors(some), deployed.errors(some))
    np.testing.assert_array_equal(alone.reconstruct(some), deployed.reconstruct(some))

    expected = artifact.open_scorer(threads=1).reconstruct(some_windows(artifact))
    assert expected.shape == (300, case.expected_ticks, len(FEATURES))
    # Half of the normal windows are no stranger than half of them, whatever the kind.
    assert float(np.median(artifact.calibration.scores)) == pytest.approx(math.log10(2), abs=0.05)
    views = manifest["calibration"]["views"]
    assert ("last_error" in views) == (case.last_ticks is not None)
    assert len(views) == (9 if "last_error" in views else 8)
    encoders = {"encoder.onnx", "encoder.keras"} & set(manifest["files"])
    assert len(encoders) == (2 if case.recurrent else 0)


def error_scales(artifact: Artifact, case: Architecture) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(targets, features), in the manifest a list, or of composite one by target."""
    found = artifact.manifest["calibration"]["error_scale"]
    rows = [found] if isinstance(found, list) else [found[t.name] for t in case.targets]
    assert isinstance(found, dict) == (case.kind == "composite")
    return np.array(rows)


def test_an_epoch_may_be_a_single_batch(tmp_path: Path) -> None:
    """Fewer windows than a batch are refused in the configuration."""
    training = {"epochs": 1, "batch_size": 64, "windows_per_epoch": 64, "steps_per_epoch": 1}
    _, report, _ = fit(make_config(training=training | {"xla": False}), tmp_path, healthy())
    assert report.epochs == 1


def test_two_hundred_ticks_train_and_the_model_says_what_it_can_promise(tmp_path: Path) -> None:
    small = {"features": FEATURES, "model": {"units": [4]}}
    config = parse_config(small | {"training": {"epochs": 3, "xla": False}})
    artifact, report, _ = fit(config, tmp_path, healthy(200))
    assert artifact.length == 32
    assert report.windows["calibrating"] >= 20
    assert "one stretch of time: a guess" in report.promise
    assert "a budget of 0.0001 is beyond what" in report.fell_back
    assert "after 1,024 its own windows count for as much" in report.settles
    assert 2.0 < report.threshold < 3.5, "where the budget falls back to"
    assert report.forecast is not None
    assert report.forecast.a_day > 0
    guess = parse_config(
        small | {"training": {"epochs": 1, "xla": False}, "threshold": {"fall_back": False}}
    )
    told = fit(guess, tmp_path / "guess", healthy(200))[1]
    assert told.promise.startswith("one normal window in 10,000; beyond the ")
    assert told.threshold == pytest.approx(4.0)
    assert told.fell_back == ""
    score = artifact.open_score(threads=1)
    assert set(score.states) == {"levels", "tails"}


def test_a_dense_network_wider_than_the_window_is_refused(tmp_path: Path) -> None:
    config = make_config(features="auto", model={"kind": "dense", "units": [12]})
    with pytest.raises(DataError, match=r"model\.units: .* narrower than the window's 12 numbers"):
        fit(config, tmp_path, [{"timestamp": i, "a": i % 7, "b": i % 5} for i in range(TICKS)])


# -- data that does not suffice: refused before any fit


def _drop(rows: list[Row], name: str) -> list[Row]:
    return [{k: v for k, v in row.items() if k != name} for row in rows]


def _with_gaps(rows: list[Row], every: int) -> list[Row]:
    return [row | {"timestamp": row["timestamp"] + i // every * 100} for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (lambda: healthy(40), r"too few uninterrupted ticks: .* needs about \d+ ticks"),
        (lambda: [r | {"wave": 1.0, "jump": 2.0} for r in healthy()], "every feature is constant"),
        (lambda: [r | {"wave": math.nan} for r in healthy()], "2700 of 2700 ticks cannot be used"),
        (lambda: _drop(healthy(), "jump"), "has no column 'jump'"),
        (lambda: _with_gaps(healthy(), LENGTH), r"too few uninterrupted ticks.*without a gap"),
        (lambda: healthy(1), "too few uninterrupted ticks"),
        (lambda: healthy()[::-1], "2699 of 2700 ticks are older than the one before them"),
    ],
    ids=["short", "constant", "nan", "no field", "gaps", "one tick", "backwards"],
)
def test_data_that_does_not_suffice_is_refused_with_what_is_needed(
    tmp_path: Path, rows: Callable[[], list[Row]], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        fit(make_config(), tmp_path, rows())
    assert not (tmp_path / "model").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["data.jsonl"]


def test_as_many_ticks_as_the_message_asks_for_are_accepted(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        fit(make_config(), tmp_path, healthy(60))
    needed = int(str(refused.value).split("about ")[1].split()[0])
    one_epoch = parse_config(
        {
            "features": {"wave": "wave"},
            "window": {"length_ticks": LENGTH},
            "model": {"units": [2]},
            "training": {"epochs": 1, "batch_size": 64, "xla": False},
        }
    )
    _, report, _ = fit(one_epoch, tmp_path, healthy(needed + LENGTH))
    assert report.windows["calibrating"] >= 20
    assert needed < 200


def test_a_training_ends_when_its_time_is_up_and_is_a_model_all_the_same(tmp_path: Path) -> None:
    """After the first batch: the time is looked at within an epoch too."""
    endless = {"epochs": 10_000, "patience": 10_000, "batch_size": 64, "max_seconds": 0.001}
    endless["xla"] = False
    artifact, report, seen = fit(make_config(training=endless), tmp_path, healthy())
    assert report.epochs == len(seen) == 1
    assert math.isfinite(report.validation_loss)
    scores = artifact.open_scorer(threads=1).errors(some_windows(artifact))
    assert np.isfinite(scores).all()
