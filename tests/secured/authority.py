"""Certificates for the tests, made when they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True, slots=True)
class Files:
    """In PEM. both: the key, then the certificate, as the broker reads them."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates for names; cafile: what those who trust it need."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._ca = trustme.CA()
        self.cafile = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.cafile)

    def issue(
        self, name: str, *, host: str = "localhost", expired: bool = False, password: str = ""
    ) -> Files:
        """password: of the key."""
        now = datetime.now(UTC)
        leaf = self._ca.issue_cert(
            host,
            common_name=name,
            not_before=now - timedelta(days=2),
            not_after=now + timedelta(days=-1 if expired else 1),
        )
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        locked = (
            serialization.BestAvailableEncryption(password.encode())
            if password
            else serialization.NoEncryption()
        )
        written = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
        )
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        of = self._directory / f"{name}-{len(list(self._directory.iterdir()))}"
        files = Files(
            *(of.with_name(f"{of.name}-{kind}.pem") for kind in ("certificate", "key", "both"))
        )
        files.certificate.write_bytes(chain)
        files.key.write_bytes(written)
        files.both.write_bytes(written + chain)
        return files
