"""The model directory: whole, verified, or refused with a message that says which."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from detector.errors import ArtifactError
from detector.model.directory import (
    MANIFEST,
    Artifact,
    complete,
    load_artifact,
    require_fit,
    require_writable,
    save_artifact,
)
from tests.artifacts import make_artifact


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "model", {"price": "price", "step": "diff(price)"}, length=4)


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    change(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest))


def replace_file(path: Path, name: str, content: bytes) -> None:
    """Another content with a checksum that fits."""
    (path / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_manifest(path, lambda m: m["files"].update({name: digest}))


def test_what_is_saved_is_loaded(artifact: Artifact) -> None:
    again = load_artifact(artifact.path)
    assert again.version == "random-0"
    assert again.length == 4
    assert again.features.names == ("price", "step")
    assert again.calibration.tail == artifact.calibration.tail
    assert again.files["scorer.onnx"] == artifact.files["scorer.onnx"]
    np.testing.assert_array_equal(again.calibration.scores, artifact.calibration.scores)
    assert set(again.manifest["files"]) == {"scorer.onnx", "encoder.onnx", "calibration.npy"}


def test_a_loaded_model_scores(artifact: Artifact) -> None:
    scorer = artifact.open_scorer(threads=1)
    errors = scorer.errors(np.zeros((3, 4, 2), np.float32))
    assert errors.shape == (3, 2)
    assert errors.dtype == np.float32


def test_a_dense_model_has_no_encoder(tmp_path: Path) -> None:
    path = make_artifact(tmp_path / "m", kind="dense").path
    assert {p.name for p in path.iterdir()} == {"scorer.onnx", "calibration.npy", "manifest.json"}


def test_a_model_of_before_there_were_kinds_scores_and_explains_as_it_did(
    artifact: Artifact, tmp_path: Path
) -> None:
    """Its manifest knows kind, units and activation; its graph scaled_reconstruction."""
    graph = onnx.load_from_string(artifact.files["scorer.onnx"])
    graph.graph.output[1].name = "scaled_reconstruction"
    for node in graph.graph.node:
        node.output[:] = [n.replace("expectation", "reconstruction") for n in node.output]
    section = artifact.manifest["model"]
    kept = {name: section[name] for name in ("kind", "units", "activation", "parameters")}
    contents = {n: (artifact.path / n).read_bytes() for n in artifact.manifest["files"]}
    save_artifact(
        tmp_path / "old",
        {**artifact.manifest, "model": kept},
        contents | {"scorer.onnx": graph.SerializeToString()},
    )
    windows = np.random.default_rng(0).normal(size=(5, 4, 2)).astype(np.float32)
    old, new = (a.open_scorer(threads=1) for a in (load_artifact(tmp_path / "old"), artifact))
    np.testing.assert_array_equal(old.errors(windows), new.errors(windows))
    np.testing.assert_array_equal(old.reconstruct(windows), new.reconstruct(windows))


def test_nothing_in_a_model_directory_needs_pickle(artifact: Artifact) -> None:
    for file in artifact.path.iterdir():
        assert file.suffix in {".json", ".onnx", ".npy", ".keras"}
    np.load(artifact.path / "calibration.npy", allow_pickle=False)


def test_saving_again_replaces_the_model_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    make_artifact(path, seed=1)
    (path / "left_over.txt").write_text("of the old model")
    assert make_artifact(path, seed=2).version == "random-2"
    assert sorted(p.name for p in path.iterdir()) == [
        "calibration.npy",
        "encoder.onnx",
        "manifest.json",
        "scorer.onnx",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["model"], "nothing temporary stays"


def test_an_empty_directory_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert make_artifact(tmp_path / "model").version == "random-0"


def test_a_directory_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.txt").write_text("42")
    with pytest.raises(ArtifactError, match="not replaced"):
        make_artifact(precious)
    assert (precious / "thesis.txt").read_text() == "42"
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_a_file_in_the_way_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("42")
    with pytest.raises(ArtifactError):
        make_artifact(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "42"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_draft_that_fails_leaves_the_old_model(tmp_path: Path) -> None:
    path = tmp_path / "model"
    manifest = make_artifact(path, seed=1).manifest
    with pytest.raises(ArtifactError, match=r"cannot be written: No such file"):
        save_artifact(path, manifest, {"no/such/place": b""})
    assert load_artifact(path).version == "random-1"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    make_artifact(tmp_path / "monday", seed=1)
    (tmp_path / "current").symlink_to("monday")
    make_artifact(tmp_path / "current", seed=2)
    assert (tmp_path / "current").is_symlink()
    assert load_artifact(tmp_path / "monday").version == "random-2"
    assert {p.name for p in tmp_path.iterdir()} == {"monday", "current"}


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("42")
    for place in ("loop", "file/model"):
        with pytest.raises(ArtifactError, match="cannot be written"):
            require_writable(tmp_path / place)


def test_a_model_whose_parent_cannot_be_written_is_refused_before_the_training(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory itself may be written to: it is exchanged as a whole."""
    parent = artifact.path.parent
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != parent)
    with pytest.raises(ArtifactError, match="is no directory to write to"):
        require_writable(artifact.path)


def test_a_mount_point_is_refused(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda place: Path(place) == artifact.path)
    with pytest.raises(ArtifactError, match="is a mount point"):
        require_writable(artifact.path)


def test_parents_are_made(tmp_path: Path) -> None:
    assert make_artifact(tmp_path / "a" / "b" / "model").version == "random-0"


def test_a_version_covers_all_that_decides_about_an_alert(artifact: Artifact) -> None:
    """Two models with other thresholds are two models; how it was trained changes nothing."""
    nameless = {k: v for k, v in artifact.manifest.items() if k != "model_version"}

    def version(manifest: dict[str, Any], **files: bytes) -> str:
        changed = {name.replace("_", "."): content for name, content in files.items()}
        return str(complete(manifest, {**artifact.files, **changed})["model_version"])

    features = [{**f, "expression": f"abs({f['expression']})"} for f in nameless["features"]]
    tail = {**nameless["calibration"]["tail"], "shape": 0.25}
    versions = [
        version(nameless),
        version(nameless | {"features": features}),
        version(nameless | {"calibration": {**nameless["calibration"], "tail": tail}}),
        version(nameless, calibration_npy=b"others"),
        version(nameless, scorer_onnx=b"another"),
        version(nameless, classifier_onnx=b"one"),
    ]
    assert len(set(versions)) == len(versions)
    assert version(nameless | {"training": {"seed": 99}}) == versions[0]
    assert version(nameless, encoder_onnx=b"another") == versions[0]


def test_a_network_that_gives_no_numbers_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    broken = make_artifact(tmp_path / "model", length=4)
    graph = onnx.load_from_string(broken.files["scorer.onnx"])
    for weights in graph.graph.initializer:
        array = onnx.numpy_helper.to_array(weights)
        if array.dtype == np.float32:
            weights.CopyFrom(onnx.numpy_helper.from_array(array * np.float32(np.nan), weights.name))
    replace_file(broken.path, "scorer.onnx", graph.SerializeToString())
    with pytest.raises(ArtifactError, match="the error of an ordinary window is not finite"):
        load_artifact(broken.path).open_scorer(threads=1)


@pytest.mark.parametrize("name", ["scorer.onnx", "encoder.onnx", "calibration.npy"])
def test_a_damaged_file_is_refused_by_name(artifact: Artifact, name: str) -> None:
    content = bytearray((artifact.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact.path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name}: checksum differs"):
        load_artifact(artifact.path)


@pytest.mark.parametrize("name", ["scorer.onnx", "encoder.onnx", "calibration.npy"])
def test_a_missing_file_is_refused_by_name(artifact: Artifact, name: str) -> None:
    (artifact.path / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: No such file"):
        load_artifact(artifact.path)


def test_no_directory_or_no_manifest_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no model directory there"):
        load_artifact(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"holds no manifest\.json"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"null", b"[]", b"7", b'"text"', b"{}"])
def test_a_damaged_manifest_is_refused(artifact: Artifact, content: bytes) -> None:
    (artifact.path / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError):
        load_artifact(artifact.path)


def test_a_score_this_program_does_not_know_is_refused(artifact: Artifact) -> None:
    assert artifact.score == "mean"  # the manifest of an earlier model names none
    edit_manifest(artifact.path, lambda m: m["calibration"].update(score="surprise"))
    with pytest.raises(ArtifactError, match="the score 'surprise' is none of evidence, mean"):
        _ = load_artifact(artifact.path).score


def test_a_newer_schema_is_refused(artifact: Artifact) -> None:
    edit_manifest(artifact.path, lambda m: m.update(schema_version=3))
    with pytest.raises(ArtifactError, match="schema version 3, this program reads up to 2"):
        load_artifact(artifact.path)


_PLACES = [
    ("model",), ("model", "kind"), ("model", "units"),
    ("schema_version",), ("model_version",), ("features",), ("window",), ("window", "length"),
    ("calibration",), ("calibration", "tail"), ("calibration", "tail", "shape"), ("files",),
    ("files", "scorer.onnx"), ("files", "calibration.npy"),
]  # fmt: skip
_STRICT_PLACES = [p for p in _PLACES if p[-1] not in {"model_version", "shape"} and p[0] != "model"]


@pytest.mark.parametrize("place", _PLACES, ids=".".join)
def test_a_manifest_that_lacks_something_is_refused(
    artifact: Artifact, place: tuple[str, ...]
) -> None:
    def remove(manifest: dict[str, Any]) -> None:
        *parents, last = place
        for parent in parents:
            manifest = manifest[parent]
        del manifest[last]

    edit_manifest(artifact.path, remove)
    with pytest.raises(ArtifactError):
        load_artifact(artifact.path)


@pytest.mark.parametrize("value", [None, [], {}, "text", 0.5], ids=repr)
@pytest.mark.parametrize("place", _STRICT_PLACES, ids=".".join)
def test_a_manifest_that_holds_nonsense_is_refused(
    artifact: Artifact, place: tuple[str, ...], value: object
) -> None:
    def replace(manifest: dict[str, Any]) -> None:
        *parents, last = place
        for parent in parents:
            manifest = manifest[parent]
        manifest[last] = value

    edit_manifest(artifact.path, replace)
    with pytest.raises(ArtifactError):
        load_artifact(artifact.path).open_scorer(threads=1)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/file"])
def test_a_manifest_cannot_reach_outside_its_directory(artifact: Artifact, name: str) -> None:
    (artifact.path.parent / "secret").write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    edit_manifest(artifact.path, lambda m: m["files"].update({name: digest}))
    with pytest.raises(ArtifactError, match="outside the directory"):
        load_artifact(artifact.path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x93NUMPY\x01\x00"])
def test_a_calibration_that_is_none_is_refused(artifact: Artifact, content: bytes) -> None:
    replace_file(artifact.path, "calibration.npy", content)
    with pytest.raises(ArtifactError):
        load_artifact(artifact.path)


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_graph_that_cannot_run_is_refused(artifact: Artifact, content: bytes) -> None:
    replace_file(artifact.path, "scorer.onnx", content)
    with pytest.raises(ArtifactError, match=r"scorer\.onnx"):
        load_artifact(artifact.path).open_scorer(threads=1)


def test_a_graph_of_another_shape_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    other = make_artifact(tmp_path / "other", length=7)
    replace_file(artifact.path, "scorer.onnx", other.files["scorer.onnx"])
    with pytest.raises(ArtifactError, match="7 x 1, the manifest says 4 x 2"):
        load_artifact(artifact.path).open_scorer(threads=1)


@pytest.mark.parametrize("key", ["center", "scale", "squash"])
def test_a_manifest_without_its_scaling_cannot_be_opened(artifact: Artifact, key: str) -> None:
    edit_manifest(artifact.path, lambda m: m["scaling"].pop(key))
    with pytest.raises(ArtifactError):
        load_artifact(artifact.path).open_scorer(threads=1)


def test_a_model_fits_the_configuration_it_was_trained_for(artifact: Artifact) -> None:
    require_fit(artifact, "auto", 4)
    require_fit(artifact, {"price": "price", "step": "diff(price)"}, 4)
    require_fit(artifact, "auto", "auto")


@pytest.mark.parametrize(
    ("features", "length", "says"),
    [
        ("auto", 5, r"windows of 4 ticks, window\.length_ticks is 5"),
        ({"price": "price"}, 4, r"only in the model: step: diff\(price\)"),
        (
            {"price": "price", "step": "log_return(price)"},
            4,
            r": log_return\(.*: diff\(",
        ),
        ({"price": "price", "step": "diff(price)", "x": "x"}, 4, "in the configuration: x: x, "),
        ({"step": "diff(price)", "price": "price"}, 4, "in the order"),
    ],
)
def test_another_configuration_is_refused(
    artifact: Artifact, features: dict[str, str] | str, length: int, says: str
) -> None:
    with pytest.raises(ArtifactError, match=says):
        require_fit(artifact, features, length)
