"""Who we are to a broker, and whom we trust: users, tokens, certificates.

Secrets are asked for when a connection is made, so one that has changed is good for the next; they
stand in no value that is shown.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kafka.net.sasl.oauth import AbstractTokenProvider

from detector.errors import AccessError, ConfigError

#: Gives a secret. Raises ConfigError.
Source = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Security:
    """protocol and mechanism as Kafka names them; files in PEM."""

    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: Source | None = field(default=None, repr=False)
    token: Source | None = field(default=None, repr=False)
    key_password: Source | None = field(default=None, repr=False)

    def options(self) -> dict[str, Any]:
        """Of the client library, without secrets."""
        return {
            "security_protocol": self.protocol,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "ssl_cafile": self.cafile,
            "ssl_certfile": self.certfile,
            "ssl_keyfile": self.keyfile,
        }

    def secrets(self) -> dict[str, Any]:
        """Of the client library, for the next connection. Raises ConfigError."""
        found: dict[str, Any] = {"ssl_password": self._key_password}
        if self.password is not None:
            found["sasl_plain_password"] = self.password()
        if self.token is not None:
            found["sasl_oauth_token_provider"] = _Token(self.token)
        return found

    @property
    def principal(self) -> str:
        """As a person who grants permissions looks for it."""
        if self.username is not None:
            return f"user {self.username!r}"
        if self.token is not None:
            return "the bearer of our token"
        return "the client" if self.certfile is None else f"the subject of {self.certfile}"

    def check(self) -> None:
        """See that files can be read and belong together, and that our certificate is in force.
        Raises ConfigError, AccessError."""
        if self.password is not None:
            self.password()
        if not self.protocol.endswith("SSL"):
            return
        if self.cafile is not None:
            _load("ssl_cafile", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cafile=self.cafile)
        if self.certfile is not None:
            self._check_certificate(self.certfile)

    def _check_certificate(self, certfile: str) -> None:
        """Our side shows it to another that trusts it alone, as the broker will see it."""
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for one in (ours, theirs):
            self._load_chain(one, certfile)
        _load("ssl_certfile", theirs, cafile=certfile)
        theirs.verify_mode = ssl.CERT_REQUIRED
        theirs.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            _shake_hands(ours, theirs)
        except ssl.SSLCertVerificationError as error:
            raise AccessError(
                f"kafka.ssl_certfile: {certfile}: {error.verify_message}: renew it"
            ) from error

    def _load_chain(self, context: ssl.SSLContext, certfile: str) -> None:
        key = self.keyfile or certfile
        try:
            context.load_cert_chain(certfile, self.keyfile, self._key_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigError(
                    f"kafka.ssl_keyfile: {key} is not the key of {certfile}"
                ) from None
            raise ConfigError(
                f"kafka.ssl_keyfile: {certfile} and {key}: no certificate with a key in PEM that "
                "can be read; where the key has a password: kafka.ssl_password_file"
            ) from None
        except OSError as error:
            raise ConfigError(f"kafka.ssl_certfile: {certfile}, {key}: {error.strerror}") from None

    def _key_password(self) -> str:
        """Asked for a key that has one. Without an answer OpenSSL would ask at the terminal."""
        return "" if self.key_password is None else self.key_password()


class _Token(AbstractTokenProvider):  # type: ignore[misc]  # the library is untyped
    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def token(self) -> str:
        return self._source()


def _load(option: str, context: ssl.SSLContext, *, cafile: str) -> None:
    try:
        context.load_verify_locations(cafile)
    except ssl.SSLError:
        raise ConfigError(f"kafka.{option}: {cafile}: holds no certificate in PEM") from None
    except OSError as error:
        raise ConfigError(f"kafka.{option}: {cafile}: {error.strerror}") from None


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """In memory. Raises SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass
