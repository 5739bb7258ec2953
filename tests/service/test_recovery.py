"""What earlier workers left: gone on with if it fits, waited for while it may, refused else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.core.state import WATERMARK_KEY, StateCodec, series_key
from tests.core.making import pipeline_of
from tests.core.reference import Tick, batch_of
from tests.core.streams import START_NS
from tests.service.driving import FEATURES, make_policy, scorer
from tests.service.recovering import SETTLE_S, Case

# -- what fits


@pytest.mark.parametrize(("start", "position"), [("earliest", 7), ("latest", 100)])
def test_without_any_history_the_configured_end_of_the_log_is_where_it_begins(
    start: str, position: int
) -> None:
    case = Case(start=start)
    case.stand(None, first=7)
    found = case.restore_one()
    assert (found.committed, found.position) == (position, position)
    assert (found.event_ns, found.saved, found.lost) == (None, None, 0)


def test_state_and_offset_that_agree_are_gone_on_with() -> None:
    case = Case()
    case.leave(committed=60, needed_from=40, as_of={"a": 50, "b": 60})
    case.stand(60)
    found = case.restore_one()
    assert (found.committed, found.position, found.event_ns, found.lost) == (60, 40, START_NS, 0)
    assert found.saved is not None
    assert found.saved.same.series == ((0, "a"), (0, "b"))
    assert found.saved.same_as_of.tolist() == [50, 60]


def test_a_watermark_alone_is_a_history() -> None:
    """A stop before the first tick: nothing is saved but where it begins."""
    case = Case(start="earliest")
    case.leave(committed=100, event_ns=None)
    case.stand(100)
    found = case.restore_one()
    assert (found.position, found.event_ns) == (100, None)
    assert found.saved is not None
    assert len(found.saved) == 0


def test_the_state_of_another_model_gives_its_heads_and_no_windows() -> None:
    case = Case()
    other = pipeline_of(replace(make_policy(), model_version="v0"), FEATURES, scorer())
    other.process(batch_of(other, [Tick("a", START_NS, (1.0, 2.0), 0)]))
    (value,) = StateCodec(other).encode(other.snapshot(np.array([0])), np.array([60]))
    case.leave(committed=60, model="v0")
    case.worker.state[0][series_key("a")] = value
    case.stand(60)
    found = case.restore_one()
    assert found.saved is not None
    assert found.saved.same.series == ()
    assert found.saved.foreign.series == ((0, "a"),)


# -- what may still come together


def test_nothing_is_judged_before_everything_has_been_read() -> None:
    case = Case()
    case.leave(committed=60)
    case.stand(60)
    case.worker.all_read = False
    assert case.restore() == []
    case.clock.now_s += 100 * SETTLE_S
    assert case.step() == []
    assert case.partitions.restoring == [0]
    case.worker.all_read = True
    (found,) = case.step()
    assert found.position == 60


def test_a_watermark_that_becomes_visible_late_is_waited_for() -> None:
    case = Case()
    case.leave(committed=50)
    case.stand(60)
    assert case.restore() == []
    case.clock.now_s += SETTLE_S / 2
    assert case.step() == []
    case.leave(committed=60, needed_from=55)
    (found,) = case.step()
    assert (found.committed, found.position) == (60, 55)


def test_a_first_watermark_that_becomes_visible_late_is_waited_for() -> None:
    case = Case()
    case.stand(60)
    assert case.restore() == []
    case.leave(committed=60)
    (found,) = case.step()
    assert found.position == 60


def test_an_offset_that_becomes_visible_late_is_waited_for() -> None:
    case = Case()
    case.leave(committed=60)
    case.stand(50)
    assert case.restore() == []
    case.stand(60)
    (found,) = case.step()
    assert found.committed == 60


def test_an_offset_that_is_not_settled_yet_is_waited_for_however_long() -> None:
    """A transaction of the last owner is open: the broker ends it."""
    case = Case()
    case.leave(committed=60)
    case.stand(60, partition=1)
    case.leave(1, committed=60)
    assert [r.partition for r in case.restore(0, 1)] == [1]
    for _ in range(10):
        case.clock.now_s += SETTLE_S
        assert case.step() == []
    case.stand(59)  # and what it shows then has its own time to settle
    assert case.step() == []
    case.clock.now_s += SETTLE_S / 2
    assert case.step() == []
    case.stand(60)
    assert [r.partition for r in case.step()] == [0]


# -- what is refused


def test_an_offset_without_state_is_refused() -> None:
    case = Case()
    case.stand(60)
    case.assert_refused_in_the_end("ticks/0: the committed offset is 60, but state/0 says nothing")


def test_state_without_a_watermark_and_an_offset_is_refused() -> None:
    case = Case()
    case.worker.state[0] = {series_key("a"): case.record("a", 5)}
    case.stand(None)
    case.assert_refused("committed offset is not there, but state/0 says nothing")


def test_state_without_an_offset_is_refused() -> None:
    case = Case()
    case.leave(committed=60, as_of={"a": 60})
    case.stand(None)
    case.assert_refused_in_the_end("committed offset is not there, the state .* belongs to 60")


@pytest.mark.parametrize("offset", [0, 59, 61])
def test_an_offset_that_was_moved_away_from_the_state_is_refused(offset: int) -> None:
    case = Case()
    case.leave(committed=60)
    case.stand(offset)
    case.assert_refused_in_the_end(
        rf"committed offset is {offset}, the state in state/0 belongs to 60: .* --to state; "
    )


def test_with_at_least_once_the_state_says_where_to_go_on() -> None:
    case = Case(exactly_once=False)
    case.leave(committed=60, needed_from=40, as_of={"a": 70})
    case.stand(50)
    found = case.restore_one()
    assert (found.committed, found.position) == (60, 40)


@pytest.mark.parametrize("theirs", [{"group": "other"}, {"alerts": "other"}])
def test_the_state_of_another_deployment_is_refused_at_once(theirs: dict[str, Any]) -> None:
    case = Case()
    case.leave(committed=60, **theirs)
    case.stand(60)
    case.assert_refused("belongs to another deployment .*'other'")


def test_a_log_that_is_shorter_than_the_state_is_refused() -> None:
    case = Case()
    case.leave(committed=60)
    case.stand(60, end=59)
    case.assert_refused("ends at offset 59, but ticks up to 60 .* --to earliest")


def test_state_past_its_watermark_is_refused() -> None:
    case = Case()
    case.leave(committed=60, as_of={"a": 60, "b": 61})
    case.stand(60)
    case.assert_refused("holds state of offset 61, past its watermark 60")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({WATERMARK_KEY: b"{"}, "state/0: the watermark is damaged"),
        ({b"key": b"value"}, "is no key"),
        ({series_key("a"): b"\x01"}, "state of series 'a' is damaged"),
    ],
)
def test_state_that_cannot_be_read_is_refused(table: dict[bytes, bytes], says: str) -> None:
    case = Case()
    case.leave(committed=60)
    case.worker.state[0] |= table
    case.stand(60)
    case.assert_refused(says)


# -- ticks that retention has deleted


@pytest.mark.parametrize(("first", "never"), [(41, 0), (60, 0), (75, 15)])
def test_ticks_that_are_needed_and_deleted_are_an_error(first: int, never: int) -> None:
    case = Case()
    case.leave(committed=60, needed_from=40, as_of={"a": 60})
    case.stand(60, first=first)
    case.assert_refused(
        rf"begins at offset {first}, but ticks from 40 .* \({never} were never read\)"
    )


@pytest.mark.parametrize(("first", "committed", "lost"), [(41, 60, 0), (60, 60, 0), (75, 75, 15)])
def test_where_that_is_wanted_it_goes_on_without_them_and_with_empty_windows(
    first: int, committed: int, lost: int
) -> None:
    case = Case(on_lost_ticks="continue")
    case.leave(committed=60, needed_from=40, as_of={"a": 60})
    case.stand(60, first=first)
    found = case.restore_one()
    assert (found.committed, found.position, found.lost) == (committed, committed, lost)
    assert found.saved is not None
    assert found.saved.same.series == ()
    assert found.saved.foreign.series == ((0, "a"),)


def test_ticks_that_are_deleted_and_not_needed_are_no_loss() -> None:
    case = Case()
    case.leave(committed=60, needed_from=40, as_of={"a": 60})
    case.stand(60, first=40)
    found = case.restore_one()
    assert (found.position, found.lost) == (40, 0)


# -- partitions come and go meanwhile


def test_each_partition_goes_on_as_soon_as_it_can() -> None:
    case = Case()
    case.leave(0, committed=60)
    case.leave(1, committed=10)
    case.stand(60, partition=0)
    case.stand(20, partition=1)
    assert [r.partition for r in case.restore(0, 1)] == [0]
    assert case.partitions.restoring == [1]
    case.leave(1, committed=20)
    assert [r.partition for r in case.step()] == [1]
    assert all(reader.closed for reader in case.worker.readers)


def test_a_partition_that_is_lost_while_it_is_restored_is_not_restored() -> None:
    case = Case()
    for partition in (0, 1):
        case.leave(partition, committed=60)
        case.stand(60, partition=partition)
    case.worker.all_read = False
    assert case.restore(0, 1) == []
    case.lose(1)
    assert case.worker.readers[0].closed
    case.worker.all_read = True
    assert [r.partition for r in case.step()] == [0]
    assert case.worker.readers[-1].partitions == (0,)


def test_losing_a_partition_that_is_not_restored_disturbs_nobody() -> None:
    case = Case()
    case.leave(committed=60)
    case.stand(60)
    case.worker.all_read = False
    case.restore()
    case.lose(7)
    assert not case.worker.readers[0].closed


def test_a_partition_that_is_lost_and_gained_again_is_read_anew() -> None:
    case = Case()
    case.leave(committed=50)
    case.stand(60)
    assert case.restore() == []
    case.lose(0)
    case.clock.now_s += 3 * SETTLE_S
    case.leave(committed=70)
    case.stand(60)
    assert case.restore() == [], "it has its whole time again"
    case.stand(70)
    (found,) = case.step()
    assert (found.committed, len(case.worker.readers)) == (70, 2)


def test_closing_ends_what_is_under_way() -> None:
    case = Case()
    case.leave(committed=50)
    case.stand(60)
    case.restore()
    case.recovery.close()
    assert case.worker.readers[0].closed
    case.recovery.close()
