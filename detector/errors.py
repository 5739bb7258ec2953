"""What can go wrong, named by what the operator must do; each carries its exit code.

Exit codes follow sysexits.h: 64 usage, 65 bad data or state, 69 broker unavailable, 70 internal,
75 hung (start again), 76 fenced by another worker, 77 access refused, 78 configuration.
"""

from __future__ import annotations

#: A step of the loop hung and the watchdog ended the process: the supervisor starts it again.
EXIT_HUNG = 75


class DetectorError(Exception):
    """A failure with one clear line for the operator."""

    exit_code = 70


class UsageError(DetectorError):
    """The command line asks for something that cannot be: correct the command."""

    exit_code = 64


class DataError(DetectorError):
    """The given data cannot be used: the message says what is needed."""

    exit_code = 65


class ArtifactError(DetectorError):
    """The model directory is missing, damaged or does not fit: train again or name another."""

    exit_code = 65


class BrokerError(DetectorError):
    """The broker cannot be reached, lacks a topic or refused: check it and start again."""

    exit_code = 69


class TransactionError(BrokerError):
    """Work could not be committed: reopen, go back to the committed offsets. begun: a transaction
    was under way, and its outcome is unknown; else there was none."""

    def __init__(self, message: str, *, begun: bool = True) -> None:
        super().__init__(message)
        self.begun = begun


class FencedError(BrokerError):
    """Another process works under the same identity: give each worker its own, end this one."""

    exit_code = 76


class AccessError(BrokerError):
    """The broker refuses who we are or what we want, or we do not trust it: the message names the
    user, certificate, topic, group or transactional id, and the operation."""

    exit_code = 77


class StateError(DetectorError):
    """The saved state and the committed offsets do not belong together, or it cannot be read:
    the message says how to go on or to start over."""

    exit_code = 65


class ConfigError(DetectorError):
    """The configuration is wrong: the message names the key."""

    exit_code = 78
