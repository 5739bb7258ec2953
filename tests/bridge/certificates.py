"""Certificates of a day for the tests, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """Signs certificates for 127.0.0.1; files lie in its directory."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl: install it")
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self.ca = directory / "ca.pem"
        self._key = directory / "ca.key"
        _openssl(
            "req", "-x509", *_NEW, "-keyout", self._key, "-out", self.ca, "-subj", "/CN=tests",
            "-days", "1", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        certificate, key = (self._directory / f"{name}.{end}" for end in ("pem", "key"))
        request, extra = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extra.write_text("subjectAltName=IP:127.0.0.1\n")
        _openssl("req", *_NEW, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-days", "1",
            "-set_serial", str(abs(hash(name)) % 10**6 + 1), "-extfile", extra, "-out", certificate,
        )  # fmt: skip
        return certificate, key


_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
