"""Connections that are refused, and what a refusal means for people.

The client's traps and what is done about each (kafka-python 3.0.12):
- a user or certificate that is refused is tried again until the time for the start is over, and the
  error that ends it tells of the time alone; later it is tried for ever. Its connections ask
  whether a node has refused us before they are made (maybe_raise_auth_failure): we answer;
- what went wrong between us and a broker is told to its log alone;
- where a broker answers and hangs up at once, as it does when it refuses, the answer is lost.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from typing import Any

from kafka.errors import (
    AuthorizationError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailedError,
    TransactionalIdAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from detector.errors import ConfigError
from detector.transport.kafka.security import Security

#: Asking a broker again does not mend these.
_REFUSED = (
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
    IllegalSaslStateError,
    ssl.SSLCertVerificationError,
)
_LOGGER = logging.getLogger("detector.kafka")


class Access:
    """To one cluster: makes the connections of all clients, and knows whether one was refused.
    Its methods run on the clients' threads."""

    def __init__(self, security: Security | None = None) -> None:
        self.security = Security() if security is None else security
        #: What ended a connection last, before it could be used.
        self.trouble: BaseException | None = None
        #: The same, where another attempt will not change it.
        self.refusal: BaseException | None = None

    def client(self, **options: Any) -> Any:
        """As the library makes one for itself."""
        net = NetworkSelector(**options)
        return KafkaNetClient(net, _Connections(net, self, **options), **options)

    def begin(self) -> None:
        """A client is about to be made."""
        self.trouble = self.refusal = None

    def ended(self, error: BaseException) -> bool:
        """A connection that could not be used ended so; whether it was refused."""
        self.trouble = error
        refused = any(isinstance(one, _REFUSED) or _alert(one) for one in chain(error))
        if refused:
            self.refusal = error
        return refused


class _Connections(KafkaConnectionManager):  # type: ignore[misc]  # the library is untyped
    def __init__(self, net: Any, access: Access, **options: Any) -> None:
        super().__init__(net, **options)
        self._access = access
        self._refused: dict[Any, BaseException] = {}  # by node, until the start is over

    def maybe_raise_auth_failure(self, node_id: Any) -> None:
        if node_id in self._refused:
            raise self._refused[node_id]

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        receive = transport._sock_recv

        def what_came_first() -> tuple[bytes, Exception | None]:
            data, error = receive()
            return data, None if data else error

        transport._sock_recv = what_came_first
        return transport

    def get_connection(self, node_id: Any, *arguments: Any, **options: Any) -> Any:
        known = self._conns.get(node_id)
        if known is None:
            self._ask_for_secrets()
        connection = super().get_connection(node_id, *arguments, **options)
        if connection is not known:
            connection.init_future.add_errback(lambda error: self._ended(node_id, error))
        return connection

    def _ask_for_secrets(self) -> None:
        try:
            self.config.update(self._access.security.secrets())
        except ConfigError as error:  # a file that is just being replaced: those we had may do
            if not self.bootstrapped:
                raise
            _LOGGER.warning("%s", error)

    def _ended(self, node_id: Any, error: BaseException) -> None:
        wrong = next((one for one in chain(error) if isinstance(one, ConfigError)), None)
        if (self._access.ended(error) or wrong) and not self.bootstrapped:
            self._refused[node_id] = wrong or error  # ends the start; later polls look


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what is behind it: the client tells of that as the cause, or as an argument."""
    left, seen = [error], set()
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            behind = (one.__cause__ or one.__context__, *one.args)
            left += [e for e in behind if isinstance(e, BaseException)]


def explained(error: BaseException, security: Security) -> str | None:
    """What a refused connection means and what mends it; None if none was refused."""
    for one in chain(error):
        if isinstance(one, UnsupportedSaslMechanismError | IllegalSaslStateError):
            return f"kafka.sasl_mechanism {security.mechanism} is not offered there"
        if isinstance(one, SaslAuthenticationFailedError):
            return (
                f"{security.principal} is refused by {security.mechanism}: check the user, its "
                "password or token, and that the broker knows it for this mechanism"
            )
        if isinstance(one, ssl.SSLCertVerificationError):
            return (
                f"the broker's certificate is not trusted: {one.verify_message.rstrip('.')}; check "
                "kafka.ssl_cafile, and that kafka.bootstrap_servers has a name that is in the "
                "certificate"
            )
        if alert := _alert(one):
            wanted = "the broker asks for a certificate of ours: kafka.ssl_certfile"
            return wanted if security.certfile is None and "certificate" in alert else alert
    return None


def not_permitted(
    error: BaseException, *, operation: str, group: str, transactional_id: str
) -> str | None:
    """Which permission is missing; None if that is not what is wrong. operation: what was tried
    with a topic."""
    for one in chain(error):
        if isinstance(one, GroupAuthorizationFailedError):
            return f"operation Read on group {group!r}"
        if isinstance(one, TransactionalIdAuthorizationFailedError):
            return f"operation Write on transactional id {transactional_id!r}"
        if isinstance(one, ClusterAuthorizationFailedError):
            return f"operation {operation} on the cluster"
        if isinstance(one, AuthorizationError):
            names = sorted(_names(one))
            topics = ", ".join(map(repr, names)) if names else "named above"
            return f"operation {operation} on topic {topics}"
    return None


def _alert(error: BaseException) -> str | None:
    """What a broker says of our certificate, within TLS."""
    if not isinstance(error, ssl.SSLError):
        return None
    reason = error.reason or ""
    if "ALERT" in reason and ("CERTIFICATE" in reason or reason.endswith(("_CA", "_DENIED"))):
        said = reason.partition("ALERT_")[2].lower().replace("_", " ")
        return (
            f"the broker refuses our certificate ({said}): check kafka.ssl_certfile, and who "
            "the broker lets sign it"
        )
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "no TLS is spoken there: check kafka.security_protocol and the port"
    return None


def _names(error: AuthorizationError) -> set[str]:
    """Of topics, as far as the client tells."""
    found: set[str] = set()
    for one in error.args:
        if isinstance(one, set | frozenset | list | tuple):
            found |= {str(name) for name in one}
        elif isinstance(one, str) and " " not in one:
            found.add(one)
    return found
