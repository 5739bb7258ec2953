"""Trains the small model that the examples share (`make example-model`): the simulated rhythm with
deploy/examples/simulated.yaml, with narrow layers and only the files that scoring needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import detector
from detector.config import load_config
from detector.model.directory import complete, load_artifact, save_artifact

HERE = Path(__file__).parent
CONFIG = HERE.parents[1] / "deploy" / "examples" / "simulated.yaml"


def main() -> None:
    with TemporaryDirectory() as directory:
        data = Path(directory) / "normal.csv"
        simulate = ["simulate", "--rhythm", "--seed", "3", "--ticks", "7000"]
        simulate += ["--start", "2024-01-01", "--out", str(data)]
        command = [sys.executable, "-m", "detector", *simulate]
        subprocess.run(command, check=True)
        config = load_config(CONFIG, {"DETECTOR_MODEL__UNITS": "[16, 8]"})
        detector.train(data, config=config).save(Path(directory) / "model")
        artifact = load_artifact(Path(directory) / "model")
    needed = ("scorer.onnx", "evidence.json", "calibration.npy")
    files = {name: artifact.files[name] for name in needed}
    version = save_artifact(HERE / "model", complete(artifact.manifest, files), files)
    sys.stdout.write(f"{HERE / 'model'}: {version}\n")


if __name__ == "__main__":
    main()
