"""Work in processes: all of it is accounted for, and it ends when it is broken off."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from detector.evaluate import processes
from detector.evaluate.processes import Failed, in_processes
from tests.evaluate.pieces import double, which
from tests.processes import DEADLINE_S


def test_every_piece_comes_back_with_its_number() -> None:
    assert dict(in_processes(double, [10, 20, 30], jobs=2)) == {0: 20, 1: 40, 2: 60}
    assert dict(in_processes(double, [], jobs=2)) == {}


def test_an_error_or_a_dead_process_costs_one_piece(capfd: pytest.CaptureFixture[str]) -> None:
    found = dict(in_processes(double, [1, 3, 4, 6], jobs=1))
    assert found == {
        0: 2,
        1: Failed("ValueError: three"),
        2: Failed("its process ended with code 9"),
        3: 12,
    }
    assert "Traceback" in capfd.readouterr().err, "the operator sees where the error is"


def test_a_process_is_replaced_after_some_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PIECES_A_PROCESS", 2)
    found = dict(in_processes(which, [0] * 4, jobs=1))
    assert found[0] == found[1] != found[2] == found[3]


def test_breaking_off_ends_all_processes_at_once() -> None:
    work = in_processes(double, [1, 5, 5], jobs=2)
    assert next(work) == (0, 2)
    started_s = time.monotonic()
    work.close()
    assert time.monotonic() - started_s < DEADLINE_S, "its pieces would last much longer"
    assert multiprocessing.active_children() == []
