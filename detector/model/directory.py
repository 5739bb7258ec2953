"""The model directory: manifest, checksums, ONNX graphs, scaling, calibration. No pickle.

    manifest.json    what the model is, and the sha256 of every other file
    scorer.onnx      feature windows -> normalised errors, and what was expected
    encoder.onnx     feature sequences of any length -> one vector each (recurrent kinds)
    model.keras      the trained network over scaled windows
    encoder.keras    its encoder over scaled sequences of any length (recurrent kinds)
    classifier.onnx  feature windows -> probabilities of kinds of faults (`detector classify train`)
    calibration.npy  scores of held-out normal windows, sorted, float32
    own_scales.npz   where each series of several lies, and how far it moves (core/own_scales.py)
    rehearsal.npz    those windows in order, to say how many alerts a day to expect
    evidence.json    what turns the views of a window into its score (core/scores/evidence.py)

The manifest's calibration.error_scale is a list, a number a feature; of a composite network, which
has two errors, a list under each of `reconstruction` and `prediction`. model_version names all that
decides about an alert: features, graphs and calibration.
"""

from __future__ import annotations

import hashlib
import io
import json
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from detector.core import levels, tails
from detector.core.blocks import BLOCK
from detector.core.classifying import FaultClassifier
from detector.core.encoding import Encoder
from detector.core.features import FeatureSet
from detector.core.levels import Levels
from detector.core.own_scales import OwnScales
from detector.core.scaling import Scaling
from detector.core.scorer import GraphScorer
from detector.core.scores import SCORES, EvidenceScore, MeanScore, Score
from detector.core.scores.evidence import Calibrated
from detector.core.tails import Tails
from detector.core.thresholds.calibration import Calibration, Tail
from detector.engines import DEFAULT, open_graph
from detector.errors import ArtifactError, ConfigError
from detector.model import own_scales, rehearsal_file
from detector.model.family import Architecture
from detector.model.replacing import previous, replace_directory

#: 2: of models with own_scales.npz, which an earlier program would not look at.
SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
#: Of what decides about an alert, beside the features and the tail.
_DECIDING = (
    "scorer.onnx",
    "calibration.npy",
    "evidence.json",
    "classifier.onnx",
    own_scales.FILE,
)
#: A directory may be replaced while it is read: then it is read again.
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Artifact:
    """A loaded, verified model. path: of its directory; files: what its manifest lists; scales: in
    which it sees its series, None: as they are."""

    path: Path
    version: str
    features: FeatureSet
    length: int
    calibration: Calibration
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]
    scales: OwnScales | None = None

    @property
    def score(self) -> str:
        """For which score it is calibrated. Raises ArtifactError for one this program does not
        know."""
        name = _score(self.manifest)
        if name not in SCORES:
            raise ArtifactError(
                f"{self.path}/{MANIFEST}: the score {name!r} is none of {', '.join(SCORES)}; "
                "use a newer program or train again"
            )
        return name

    @property
    def architecture(self) -> Architecture:
        """Raises ArtifactError for a kind this program does not know."""
        return Architecture.from_manifest(self.manifest)

    def open_score(
        self,
        *,
        threads: int,
        engine: str = DEFAULT,
        stride: int = 1,
        adaptive: bool = True,
        cold_windows: int = 0,
        incident_windows: int = BLOCK * tails.PATIENCE,
    ) -> Score:
        """The score it is calibrated for, with nothing remembered yet. stride: ticks from one
        window to the next; adaptive: evidence is adjusted to the tail of each series; cold_windows:
        of a series never seen, they cannot alert; incident_windows: so long an incident lasts until
        it is learned from, in whole blocks."""
        scorer = self.open_scorer(threads=threads, engine=engine)
        features = len(self.features.names)
        if self.score == "mean":
            return MeanScore(scorer, features=features)
        calibrated = self.calibrated()
        with self._runnable("scorer.onnx"):
            seen = scorer.look(np.zeros((1, self.length, features), np.float32)).views.shape[1]
            if seen != len(calibrated.views):
                raise ValueError(f"{seen} views, evidence.json has {len(calibrated.views)}")
        of_levels = levels.pace(length=self.length, stride=stride)
        of_tails = tails.pace(length=self.length, stride=stride)
        return EvidenceScore(
            scorer,
            calibrated,
            features=features,
            levels=Levels(calibrated.levels, calibrated.spreads, of_levels),
            tails=Tails(of_tails, patience=tails.blocks_of(incident_windows)),
            adaptive=adaptive,
            cold_windows=cold_windows,
        )

    def calibrated(self) -> Calibrated:
        """What turns views into evidence, of a model whose score it is."""
        with self._runnable("evidence.json"):
            found = Calibrated.from_json(json.loads(self.files["evidence.json"]))
            views = tuple(self.manifest["calibration"]["views"])
            if found.views != views:
                raise ValueError(f"calibrates {', '.join(found.views)}, not {', '.join(views)}")
        return found

    def open_scorer(self, *, threads: int, engine: str = DEFAULT) -> GraphScorer:
        """The graph `scorer`, ready to run."""
        with self._runnable("scorer.onnx"):
            graph = open_graph(self.files["scorer.onnx"], threads=threads, engine=engine)
            scorer = GraphScorer(graph, Scaling.from_json(self.manifest["scaling"]))
        if (scorer.length, scorer.features) != (self.length, len(self.features.names)):
            raise ArtifactError(
                f"{self.path}/scorer.onnx: takes windows of {scorer.length} x {scorer.features}, "
                f"the manifest says {self.length} x {len(self.features.names)}"
            )
        with self._runnable("scorer.onnx"):
            ordinary = np.tile(np.asarray(self.manifest["scaling"]["center"]), (1, self.length, 1))
            errors = scorer.errors(ordinary.astype(np.float32))
        if not np.isfinite(errors).all():
            raise ArtifactError(
                f"{self.path}/scorer.onnx: the error of an ordinary window is not finite; train "
                "again, with a lower training.learning_rate or model.activation: tanh"
            )
        return scorer

    def open_encoder(self, *, threads: int) -> Encoder:
        """The graph `encoder`, ready to run."""
        if "encoder.onnx" not in self.files:
            kind = self.manifest["model"]["kind"]
            raise ArtifactError(f"{self.path}: a model of kind {kind} has no encoder")
        with self._runnable("encoder.onnx"):
            return Encoder(open_graph(self.files["encoder.onnx"], threads=threads))

    def open_classifier(self, *, threads: int) -> FaultClassifier | None:
        """The graph `classifier`, ready to run; None where the model has none."""
        if "classifier.onnx" not in self.files:
            return None
        with self._runnable("classifier.onnx", "detector classify train makes a new one"):
            found = FaultClassifier(
                open_graph(self.files["classifier.onnx"], threads=threads),
                self.manifest["classifier"]["classes"],
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
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - an engine raises a dozen classes of its own
            raise ArtifactError(f"{self.path}/{name}: cannot be run: {error}; {remedy}") from None


def complete(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The whole manifest of these files: with their checksums, and a version if it has none."""
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    schema = SCHEMA_VERSION if own_scales.FILE in files else 1
    named = {"schema_version": schema, "model_version": "", **manifest, "files": checksums}
    named["model_version"] = named["model_version"] or _version(named)
    return named


def _score(manifest: Mapping[str, Any]) -> str:
    name: str = manifest["calibration"].get("score", "mean")  # earlier models name none
    return name


def _version(manifest: Mapping[str, Any]) -> str:
    deciding = {
        "features": [f["expression"] for f in manifest["features"]],
        "tail": manifest["calibration"]["tail"],
        "score": _score(manifest),
        "files": {name: manifest["files"].get(name) for name in _DECIDING},
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def save_artifact(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """Write a model directory, whole and durable; one that is there already is replaced in one
    step, a link is followed. Returns its version. Raises ArtifactError."""
    require_writable(path)
    whole = complete(manifest, files)
    text = json.dumps(whole, indent=2) + "\n"
    try:
        replace_directory(path.resolve(), {**files, MANIFEST: text.encode()})
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {error.strerror}") from None
    return str(whole["model_version"])


def require_writable(path: Path) -> None:
    """Refuse a place where no model directory can be written, or something that is none would be
    replaced; asked before training too."""
    try:
        place = path.resolve()
        parent = (
            place.parent
        )  # of a directory that is there too: it is exchanged with its successor
        while not parent.exists():
            parent = parent.parent
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
        raise ArtifactError(f"{path}: cannot be written: {error}") from None
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ArtifactError(f"{path}: cannot be written: {parent} is no directory to write to")
    if os.path.ismount(place):
        raise ArtifactError(
            f"{path}: is a mount point, which cannot be replaced as a whole; name a directory in it"
        )
    if path.exists() and (
        not path.is_dir() or (any(path.iterdir()) and not (path / MANIFEST).exists())
    ):
        raise ArtifactError(f"{path}: is there and is no model directory; not replaced")


def load_artifact(path: Path) -> Artifact:
    """Read and verify a model directory. Raises ArtifactError saying what is wrong."""
    for _ in range(_ATTEMPTS - 1):
        before = _identity(path)
        try:
            return _read(path)
        except ArtifactError:
            if _identity(path) == before:
                raise
    return _read(path)


def _identity(path: Path) -> tuple[int, int] | None:
    """Another one once the directory has been replaced: a number alone is given out again."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read(path: Path) -> Artifact:
    place = path
    if not path.is_dir():
        place = previous(path.resolve())  # a crash while it was being replaced
        if not place.is_dir():
            raise ArtifactError(f"{path}: no model directory there; `detector train` makes one")
    try:
        manifest = json.loads((place / MANIFEST).read_text())
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
        files = {name: _verified(place, name, sha) for name, sha in manifest["files"].items()}
        return artifact_of(path, manifest, files)
    except (KeyError, TypeError, ValueError, AttributeError, EOFError, ConfigError) as error:
        raise ArtifactError(f"{path}/{MANIFEST}: is incomplete ({error!r}); train again") from None


def artifact_of(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Artifact:
    """A model in memory; path is what messages call it. Raises KeyError, TypeError, ValueError and
    the like where the manifest is incomplete."""
    _require_model(manifest["model"])
    scores = np.load(io.BytesIO(files["calibration.npy"]), allow_pickle=False)
    rehearsal = files.get("rehearsal.npz")
    return Artifact(
        path=path,
        version=manifest["model_version"],
        features=FeatureSet.parse({f["name"]: f["expression"] for f in manifest["features"]}),
        length=int(manifest["window"]["length"]),
        calibration=Calibration(
            scores,
            Tail.from_json(manifest["calibration"]["tail"]),
            None if rehearsal is None else rehearsal_file.from_bytes(rehearsal),
        ),
        manifest=manifest,
        files={"scorer.onnx": files["scorer.onnx"], **files},
        scales=None
        if own_scales.FILE not in files
        else own_scales.from_bytes(files[own_scales.FILE], features=len(manifest["features"])),
    )


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


def _listed(features: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name}: {expression}" for name, expression in sorted(features)) or "none"


def require_fit(
    artifact: Artifact, features: Mapping[str, str] | str, length: int | Literal["auto"]
) -> None:
    """Refuse a model trained for other features or another window than the configuration's."""
    if length not in ("auto", artifact.length):
        raise ArtifactError(
            f"{artifact.path}: trained for windows of {artifact.length} ticks, "
            f"window.length_ticks is {length}"
        )
    trained = dict(zip(artifact.features.names, artifact.features.expressions, strict=True))
    if not isinstance(features, str) and dict(features) != trained:
        ours, theirs = set(features.items()), set(trained.items())
        raise ArtifactError(
            f"{artifact.path}: trained on other features; only in the configuration: "
            f"{_listed(ours - theirs)}, only in the model: {_listed(theirs - ours)}"
        )
    if not isinstance(features, str) and list(features) != list(trained):
        raise ArtifactError(
            f"{artifact.path}: trained on features in the order {list(trained)}, "
            f"the configuration has {list(features)}"
        )
