"""The model directory: manifest, checksums, ONNX graphs, scaling, calibration. No pickle.

    manifest.json    what the model is, and the sha256 of every other file
    scorer.onnx      feature windows -> normalised errors, and what was expected
    encoder.onnx     feature sequences of any length -> one vector each (recurrent kinds)
    model.keras      the trained network over scaled windows
    encoder.keras    its encoder over scaled sequences of any length (recurrent kinds)
    classifier.onnx  feature windows -> probabilities of kinds of faults (`detector classify train`)
    calibration.npy  scores of held-out normal windows, sorted, float32

The manifest's calibration.error_scale is a list, a number a feature; of a composite network, which
has two errors, a list under each of `reconstruction` and `prediction`.

A directory is written under a temporary name and renamed: it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
import json
import operator
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.core.classifying import OnnxClassifier
from detector.core.encoding import OnnxEncoder
from detector.core.features import FeatureSet
from detector.core.scoring import OnnxScorer
from detector.core.threshold import Tail
from detector.core.ticks import Float32
from detector.errors import ArtifactError, ConfigError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A loaded, verified model directory."""

    path: Path
    version: str
    features: FeatureSet
    length: int
    tail: Tail
    calibration: Float32
    scorer: bytes
    manifest: Mapping[str, Any]
    encoder: bytes | None = None
    classifier: bytes | None = None

    def open_scorer(self, *, threads: int) -> OnnxScorer:
        """An engine session over the scorer graph."""
        with self._runnable("scorer.onnx"):
            scaling = self.manifest["scaling"]
            scorer = OnnxScorer(
                self.scorer,
                threads=threads,
                center=np.asarray(scaling["center"], np.float64),
                scale=np.asarray(scaling["scale"], np.float64),
                squash=float(scaling["squash"]),
            )
        if (scorer.length, scorer.features) != (self.length, len(self.features.names)):
            raise ArtifactError(
                f"{self.path}/scorer.onnx: takes windows of {scorer.length} x {scorer.features}, "
                f"the manifest says {self.length} x {len(self.features.names)}"
            )
        return scorer

    def open_encoder(self, *, threads: int) -> OnnxEncoder:
        """An engine session over the encoder graph."""
        if self.encoder is None:
            kind = self.manifest["model"]["kind"]
            raise ArtifactError(f"{self.path}: a model of kind {kind} has no encoder")
        with self._runnable("encoder.onnx"):
            return OnnxEncoder(self.encoder, threads=threads)

    def open_classifier(self, *, threads: int) -> OnnxClassifier | None:
        """An engine session over the classifier graph, None where the model has none."""
        if self.classifier is None:
            return None
        with self._runnable("classifier.onnx", "detector classify train makes a new one"):
            found = OnnxClassifier(
                self.classifier, threads=threads, classes=self.manifest["classifier"]["classes"]
            )
        shape = (found.length, found.features, found.outputs)
        expected = (self.length, len(self.features.names), len(found.classes))
        if shape != expected:
            raise ArtifactError(
                f"{self.path}/classifier.onnx: windows, features and classes are {shape}, the "
                f"manifest says {expected}"
            )
        return found

    @contextmanager
    def _runnable(self, name: str, remedy: str = "train again") -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - ONNX Runtime raises a dozen classes of its own
            raise ArtifactError(f"{self.path}/{name}: cannot be run: {error}; {remedy}") from None


def save_artifact(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a model directory; one that is there already is replaced as a whole, a link is
    followed. Raises ArtifactError."""
    require_writable(path)
    try:
        _write(path.resolve(), manifest, files)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {error.strerror}") from None


def _write(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    whole = {"schema_version": SCHEMA_VERSION, **manifest, "files": checksums}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        draft.chmod(0o755)
        for name, content in files.items():
            (draft / name).write_bytes(content)
        (draft / MANIFEST).write_text(json.dumps(whole, indent=2) + "\n")
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
            path.rename(old / "old")
            draft.rename(path)
            shutil.rmtree(old)
        else:
            draft.rename(path)
    finally:
        if draft.exists():
            shutil.rmtree(draft)


def require_writable(path: Path) -> None:
    """Refuse a place where no model directory can be written, or something that is none would be
    replaced; asked before training too."""
    try:
        place = path.resolve()
        while not place.exists():
            place = place.parent
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
        raise ArtifactError(f"{path}: cannot be written: {error}") from None
    if not path.exists() and not (place.is_dir() and os.access(place, os.W_OK)):
        raise ArtifactError(f"{path}: cannot be written: {place} is no directory to write to")
    if path.exists() and (
        not path.is_dir() or (any(path.iterdir()) and not (path / MANIFEST).exists())
    ):
        raise ArtifactError(f"{path}: is there and is no model directory; not replaced")


def load_artifact(path: Path) -> Artifact:
    """Read and verify a model directory. Raises ArtifactError saying what is wrong."""
    if not path.is_dir():
        raise ArtifactError(f"{path}: no model directory there; `detector train` makes one")
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except OSError:
        raise ArtifactError(f"{path}: holds no {MANIFEST}; it is no model directory") from None
    except ValueError:
        raise ArtifactError(f"{path}/{MANIFEST}: is damaged (not JSON); train again") from None
    schema = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(schema, int) or not 1 <= schema <= SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: written as schema version {schema}, this program reads up to "
            f"{SCHEMA_VERSION}; use a newer program or train again"
        )
    try:
        _require_model(manifest["model"])
        contents = {name: _verified(path, name, sha) for name, sha in manifest["files"].items()}
        return Artifact(
            path=path,
            version=manifest["model_version"],
            features=FeatureSet.parse({f["name"]: f["expression"] for f in manifest["features"]}),
            length=int(manifest["window"]["length"]),
            tail=Tail.from_json(manifest["calibration"]["tail"]),
            calibration=np.load(io.BytesIO(contents["calibration.npy"]), allow_pickle=False),
            scorer=contents["scorer.onnx"],
            manifest=manifest,
            encoder=contents.get("encoder.onnx"),
            classifier=contents.get("classifier.onnx"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, EOFError, ConfigError) as error:
        raise ArtifactError(f"{path}/{MANIFEST}: is incomplete ({error!r}); train again") from None


def _require_model(section: Mapping[str, Any]) -> None:
    """What more than one command takes for granted. Raises KeyError, TypeError."""
    units = [operator.index(width) for width in section["units"]]
    whole = operator.index(section["parameters"]), operator.index(section.get("horizon", 1))
    texts = section["kind"], section["activation"]
    if not units or min(units) < 1 or min(whole) < 0 or not all(isinstance(t, str) for t in texts):
        raise TypeError("model")


def _verified(path: Path, name: str, sha: str) -> bytes:
    if os.sep in name:
        raise ArtifactError(f"{path}/{MANIFEST}: names a file outside the directory: {name}")
    try:
        content = (path / name).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}/{name}: {error.strerror}; copy the model again") from None
    if hashlib.sha256(content).hexdigest() != sha:
        raise ArtifactError(f"{path}/{name}: checksum differs; it is damaged, copy the model again")
    return content


def require_fit(artifact: Artifact, features: Mapping[str, str] | str, length: int) -> None:
    """Refuse a model trained for other features or another window than the configuration's."""
    if length != artifact.length:
        raise ArtifactError(
            f"{artifact.path}: trained for windows of {artifact.length} ticks, "
            f"window.length is {length}"
        )
    trained = dict(zip(artifact.features.names, artifact.features.expressions, strict=True))
    if not isinstance(features, str) and dict(features) != trained:
        ours, theirs = set(features.items()), set(trained.items())
        raise ArtifactError(
            f"{artifact.path}: trained on other features; only in the configuration: "
            f"{sorted(n for n, _ in ours - theirs) or 'none'}, only in the model: "
            f"{sorted(n for n, _ in theirs - ours) or 'none'}"
        )
    if not isinstance(features, str) and list(features) != list(trained):
        raise ArtifactError(
            f"{artifact.path}: trained on features in the order {list(trained)}, "
            f"the configuration has {list(features)}"
        )
