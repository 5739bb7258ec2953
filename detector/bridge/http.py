"""One request to a target over HTTP, and what its answer means."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError

from detector.bridge.verdicts import TAKEN, Attempt, Verdict
from detector.errors import ConfigError

#: 4xx that say nothing of the event but of the way there: credentials, address, method, time, rate.
_NOT_OF_THE_EVENT = {
    401: "check its credentials",
    403: "check its credentials",
    404: "check its address",
    405: "check its address",
    407: "a proxy wants credentials",
    408: "",
    421: "check its address",
    425: "",
    429: "",
}
_SHOWN_BYTES = 200


def tls(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """Verifies whom it talks to. Raises ConfigError naming the file."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"bridge.ca_file: {ca_file}: {_reason(error)}") from None
    if cert_file is not None:
        try:
            # A key with a passphrase would make OpenSSL ask for it at the terminal.
            context.load_cert_chain(cert_file, key_file, password=_no_passphrase)
        except (OSError, ssl.SSLError, ValueError) as error:
            files = cert_file if key_file is None else f"{cert_file}, {key_file}"
            raise ConfigError(f"bridge.cert_file: {files}: {_reason(error)}") from None
    return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; give one without")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class HttpTarget:
    """POSTs to one URL, which is never shown whole: it may be a secret. headers: asked for with
    each request, so that a secret in a file may be exchanged."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        context: ssl.SSLContext,
        headers: Callable[[], Mapping[str, str]],
    ) -> None:
        self._url, self._timeout_s, self._headers = url, timeout_s, headers
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            retries=False,
            timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s),
            ssl_context=context,
        )

    def post(self, body: bytes, headers: Mapping[str, str]) -> Attempt:
        """Never raises: what is wrong is in the attempt."""
        try:
            answer = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers={"User-Agent": "detector", **headers, **self._headers()},
                redirect=False,
                preload_content=False,
            )
        except ConfigError as error:  # a file of a secret that is gone
            return Attempt(Verdict.FAILED, str(error))
        except (HTTPError, LocationValueError, OSError, ValueError) as error:
            return Attempt(Verdict.FAILED, _trouble(error, self._timeout_s))
        try:
            return _judge(answer)
        finally:
            # Whoever sends his answer byte by byte is not waited for.
            if answer.length_remaining == 0:
                answer.release_conn()
            else:
                answer.close()

    def close(self) -> None:
        self._pool.clear()


def _judge(answer: urllib3.BaseHTTPResponse) -> Attempt:
    status = answer.status
    if 200 <= status < 300:
        with contextlib.suppress(HTTPError, OSError, ValueError):
            answer.read1(_SHOWN_BYTES)
        return TAKEN
    said = f"answers {status}{_beginning(answer)}"
    if 300 <= status < 400:
        return Attempt(
            Verdict.FAILED,
            f"answers {status}, a redirection{_to(answer)}, which is not followed: name the place "
            "itself",
        )
    if 400 <= status < 500 and status not in _NOT_OF_THE_EVENT:
        return Attempt(Verdict.REFUSED, said)
    hint = _NOT_OF_THE_EVENT.get(status, "")
    return Attempt(Verdict.FAILED, f"{said}; {hint}" if hint else said, _asked_wait(answer))


def _to(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        host = urlsplit(answer.headers.get("Location", "")).hostname
    except ValueError:
        return ""
    return f" to {host!r:.100}" if host else ""


def _beginning(answer: urllib3.BaseHTTPResponse) -> str:
    with contextlib.suppress(HTTPError, OSError, ValueError):
        text = answer.read1(_SHOWN_BYTES).decode(errors="replace")
        plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return f" ({plain})" if plain else ""
    return ""


def _asked_wait(answer: urllib3.BaseHTTPResponse) -> float | None:
    """Retry-After in seconds; a date is not read."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _trouble(error: Exception, timeout_s: float) -> str:
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return f"does not answer within {timeout_s:g} s"
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name cannot be resolved"
    cause: BaseException = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    if isinstance(cause, TimeoutError):
        return f"cannot be connected to within {timeout_s:g} s"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {cause.reason or type(cause).__name__}"
    if isinstance(cause, OSError):
        return cause.strerror or type(cause).__name__
    return type(error).__name__
