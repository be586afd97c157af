"""Which worker makes which item: in order, with back-pressure, and again where a worker is lost or fails."""

from __future__ import annotations

import logging
import signal
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lis.distributed import schedule
from lis.distributed.schedule import AHEAD, MOST_LOST, WINDOW, Busy, Event, Failed, Lost, Made, Pooled
from lis.stopping import Stop, Stopped


class Squares:
    """A task whose results lie in a dictionary, as if in a store."""

    def __init__(self) -> None:
        self.store: dict[int, int] = {}
        self.made: list[int] = []

    def find(self, item: int) -> int | None:
        """What is made."""
        return self.store.get(item)

    def attempt(self, item: int) -> int | None:
        """A square."""
        self.made.append(item)
        self.store[item] = item * item
        return item * item


Answer = Callable[[int, int], Event | None]
"""What happens to (worker, number) in place of its being made; None: it is made."""


class FakePool:
    """Workers that make their oldest item whenever the pool is waited for, the last worker first."""

    def __init__(self, workers: int = 2, answer: Answer = lambda worker, number: None) -> None:
        self.names = [f"device {number}" for number in range(workers)]
        self.answer, self.round, self.closed = answer, 0, False
        self.ready = set(range(workers))
        self.hands: list[deque[tuple[int, int, Any]]] = [deque() for _ in self.names]
        self.tasks: list[Any] = []
        self.submitted: list[tuple[int, int]] = []
        self.most = 0

    def begin(self, task: Any) -> int:
        """From now on."""
        self.tasks.append(task)
        self.round = len(self.tasks)
        return self.round

    def submit(self, worker: int, number: int, item: Any) -> None:
        """Behind the others."""
        self.submitted.append((worker, number))
        self.hands[worker].append((self.round, number, item))
        self.most = max(self.most, len([each for each in self.hands[worker] if each[0] == self.round]))

    def wait(self, seconds: float) -> Sequence[Event]:
        """One event of each worker that has something; those of earlier rounds are dropped."""
        made = [self._make(worker) for worker in reversed(range(len(self.hands))) if self.hands[worker]]
        return [event for event in made if event is not None]

    def close(self) -> None:
        """Noted."""
        self.closed = True

    def _make(self, worker: int) -> Event | None:
        of, number, item = self.hands[worker].popleft()
        event = self.answer(worker, number) if of == self.round else None
        if isinstance(event, Lost):
            self.hands[worker].clear()
        if event is None:
            self.tasks[of - 1].attempt(item)
        return (event or Made(worker, number)) if of == self.round else None


class Engine(Pooled):
    """On a pool that is there."""

    def __init__(self, pool: FakePool) -> None:
        super().__init__()
        self.pool, self.opened = pool, 0

    def open(self) -> FakePool:
        """That pool."""
        self.opened += 1
        return self.pool


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another job makes is asked for again at once."""
    monkeypatch.setattr(schedule, "POLL", 0.0)


def once(event: Event) -> Answer:
    """This event, the first time that its worker is to make its item; a lost worker has whatever it has."""
    left = [event]

    def answer(worker: int, number: int) -> Event | None:
        met = left and worker == left[0].worker and getattr(left[0], "number", number) == number
        return left.pop() if met else None

    return answer


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_and_each_is_made_once(workers: int) -> None:
    pool, squares = FakePool(workers), Squares()
    assert list(Engine(pool).map(squares, range(50))) == [n * n for n in range(50)]
    assert Counter(squares.made) == Counter(range(50)) and {worker for worker, _ in pool.submitted} == set(
        range(workers)
    )


def test_no_worker_is_started_for_what_is_there() -> None:
    engine, squares = Engine(FakePool()), Squares()
    squares.store = {n: n * n for n in range(5)}
    assert list(engine.map(squares, range(5))) == [0, 1, 4, 9, 16] and engine.opened == 0
    assert list(engine.map(squares, range(7))) == [0, 1, 4, 9, 16, 25, 36] and sorted(squares.made) == [5, 6]


def test_workers_are_started_once_and_ended_when_the_engine_is_closed() -> None:
    engine, squares = Engine(FakePool()), Squares()
    for end in (3, 6):
        list(engine.map(squares, range(end)))
    assert engine.opened == 1 and not engine.pool.closed
    engine.close()
    engine.close()
    assert engine.pool.closed


def test_a_worker_has_at_most_two_items_and_the_first_missing_one_bounds_all_others() -> None:
    """Number 0 is made by another job for long: meanwhile what is made ahead of it is bounded."""
    turns = iter(range(10**6))
    pool, squares = FakePool(2), Squares()
    pool.answer = lambda worker, number: Busy(worker, 0) if number == 0 and next(turns) < 200 else None
    results = Engine(pool).map(squares, range(1000))
    assert next(results) == 0 and pool.most == AHEAD
    assert max(squares.made) < WINDOW * 2 and len(squares.made) == WINDOW * 2
    assert next(results) == 1


def test_nothing_is_made_that_is_not_asked_for() -> None:
    pool, squares = FakePool(2), Squares()
    results = Engine(pool).map(squares, range(1000))
    assert squares.made == [] and next(results) == 0
    assert len(squares.made) <= AHEAD * 2


def test_what_another_job_is_making_comes_back() -> None:
    squares, busy = Squares(), Counter({3: 2, 7: 1})

    def answer(worker: int, number: int) -> Event | None:
        busy[number] -= 1
        return Busy(worker, number) if busy[number] >= 0 else None

    assert list(Engine(FakePool(2, answer)).map(squares, range(10))) == [n * n for n in range(10)]
    assert Counter(squares.made) == Counter(range(10))


def test_items_of_a_lost_worker_are_made_again(caplog: pytest.LogCaptureFixture) -> None:
    pool, squares = FakePool(2, once(Lost(1, "signal 9"))), Squares()
    assert list(Engine(pool).map(squares, range(8))) == [n * n for n in range(8)]
    assert Counter(squares.made) == Counter(range(8)), "an item was lost or made twice"
    assert Counter(number for _, number in pool.submitted).most_common(2)[1][1] == 2, "both that it had are given again"
    assert "device 1 is lost (signal 9)" in caplog.text


def test_workers_lost_one_after_the_other_are_an_error_with_the_remedy() -> None:
    pool = FakePool(2, lambda worker, number: Lost(worker, "signal 9"))
    with pytest.raises(ValueError, match=rf"{MOST_LOST * 2} workers were lost .*signal 9.*batch_size"):
        list(Engine(pool).map(Squares(), range(8)))


def test_losses_are_counted_from_the_last_item_that_was_made() -> None:
    """A machine whose processes are ended by and by, as one does that is lent, is no error."""
    turns = iter(range(10**6))
    pool = FakePool(2, lambda worker, number: Lost(worker, "gone") if next(turns) % 3 else None)
    assert list(Engine(pool).map(Squares(), range(30))) == [n * n for n in range(30)]


def test_what_one_worker_fails_at_another_makes_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    pool, squares = FakePool(2, once(Failed(1, 1, ValueError("not finite")))), Squares()
    assert list(Engine(pool).map(squares, range(6))) == [n * n for n in range(6)]
    assert Counter(squares.made) == Counter(range(6))
    (warning,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.startswith("device 1 failed at a shard that device 0 has made: not finite")


@pytest.mark.parametrize(("workers", "first"), [(1, "by device 0"), (2, "by device 1"), (3, "by device 1")])
def test_what_two_workers_fail_at_is_the_error_of_the_first(workers: int, first: str) -> None:
    pool = FakePool(
        workers, lambda worker, number: Failed(worker, 1, OSError(f"by device {worker}")) if number == 1 else None
    )
    results = Engine(pool).map(Squares(), range(6))
    with pytest.raises(OSError, match=first):
        list(results)
    assert len({worker for worker, number in pool.submitted if number == 1}) == min(workers, 2)


def test_an_item_that_a_worker_has_failed_at_is_not_given_to_it_again_when_the_other_is_lost() -> None:
    events: list[Event] = [Failed(1, 1, ValueError("bad")), Lost(0, "signal 9")]

    def answer(worker: int, number: int) -> Event | None:
        return events.pop(0) if number == 1 and events else None

    pool = FakePool(2, answer)
    assert list(Engine(pool).map(Squares(), range(4))) == [0, 1, 4, 9]
    assert [worker for worker, number in pool.submitted if number == 1] == [1, 0, 0]


def test_a_worker_that_is_not_ready_is_given_nothing_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As an actor for which a cluster has no device."""
    monkeypatch.setattr(schedule, "SLOW", -1.0)
    pool = FakePool(2)
    pool.ready = {1}
    assert list(Engine(pool).map(Squares(), range(40))) == [n * n for n in range(40)]
    assert {worker for worker, _ in pool.submitted} == {1}
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning.startswith("device 0: not ready after") and "device 1" not in warning


def test_what_the_only_worker_fails_at_waits_for_no_other_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "SLOW", -1.0)
    pool = FakePool(2, lambda worker, number: Failed(worker, number, ValueError("not finite")))
    pool.ready = {0}
    with pytest.raises(ValueError, match="not finite"):
        list(Engine(pool).map(Squares(), range(4)))


def test_what_the_first_worker_fails_at_is_made_by_one_that_is_ready_later() -> None:
    class Late(FakePool):
        """Only the first is ready at the beginning."""

        def wait(self, seconds: float) -> Sequence[Event]:
            """The other is, once a failure was told."""
            events = super().wait(seconds)
            self.ready |= {1} if not events else set()
            return events

    pool, squares = Late(2, once(Failed(0, 0, ValueError("not finite")))), Squares()
    pool.ready = {0}
    assert list(Engine(pool).map(squares, range(6))) == [n * n for n in range(6)]
    assert [worker for worker, number in pool.submitted if number == 0] == [0, 1]


def test_workers_become_ready_while_they_are_waited_for() -> None:
    class Slow(FakePool):
        """Both are ready once they were waited for."""

        def wait(self, seconds: float) -> Sequence[Event]:
            """As the others."""
            self.ready = {0, 1}
            return super().wait(seconds)

    pool = Slow(2)
    pool.ready = set()
    assert list(Engine(pool).map(Squares(), range(6))) == [n * n for n in range(6)]


def test_two_threads_at_once_are_refused_and_one_after_the_other_are_not() -> None:
    engine = Engine(FakePool(2))
    with ThreadPoolExecutor(1) as other:
        results = engine.map(Squares(), range(50))
        assert next(results) == 0
        with pytest.raises(ValueError, match="used by two threads at once: expected one engine"):
            other.submit(lambda: next(engine.map(Squares(), range(3)))).result()
        assert list(results) == [n * n for n in range(1, 50)]
        assert other.submit(lambda: list(engine.map(Squares(), range(3)))).result() == [0, 1, 4]
        assert list(engine.map(Squares(), range(3))) == [0, 1, 4]


class Unseen(Squares):
    """Results are seen late, as on a network file system, or never."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def find(self, item: int) -> int | None:
        """Nothing, so many times."""
        self.looks -= item in self.store
        return super().find(item) if self.looks < 0 else None


def test_a_result_that_is_seen_late_is_asked_for_again() -> None:
    assert list(Engine(FakePool()).map(Unseen(5), range(4))) == [0, 1, 4, 9]


def test_a_result_that_is_never_seen_is_an_error_about_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "UNSEEN", 0.0)
    with pytest.raises(ValueError, match=r"device \d has made a shard that is not in the store here.*\(store=…\)"):
        list(Engine(FakePool()).map(Unseen(10**6), range(4)))


def test_what_was_in_hand_when_an_iteration_ended_early_disturbs_no_later_one() -> None:
    engine, first, second = Engine(FakePool(3)), Squares(), Squares()
    results = engine.map(first, range(100))
    assert next(results) == 0
    results.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert any(engine.pool.hands), "nothing was in hand"
    assert list(engine.map(second, range(100, 120))) == [n * n for n in range(100, 120)]
    assert Counter(second.made) == Counter(range(100, 120))


def test_an_iteration_goes_on_after_another_one_on_the_same_workers() -> None:
    """As where a stage asks for another one's result between two of its shards."""
    engine, outer, inner = Engine(FakePool(2)), Squares(), Squares()
    results = engine.map(outer, range(20))
    assert [next(results), next(results)] == [0, 1]
    assert list(engine.map(inner, range(100, 110))) == [n * n for n in range(100, 110)]
    assert list(results) == [n * n for n in range(2, 20)] and set(outer.made) == set(range(20))


def test_a_signal_stops_between_two_events(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Stop()
    monkeypatch.setattr(schedule, "stop", fresh)
    results = Engine(FakePool()).map(Squares(), range(100))
    assert next(results) == 0
    fresh.signal = signal.SIGTERM
    with pytest.raises(Stopped):
        list(results)


def test_a_worker_that_the_signal_has_ended_as_well_is_not_called_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As `scancel` sends it to all processes of a job."""
    fresh = Stop()
    monkeypatch.setattr(schedule, "stop", fresh)

    def answer(worker: int, number: int) -> Event:
        fresh.signal = signal.SIGTERM
        return Lost(worker, "exit code 143")

    with pytest.raises(Stopped):
        list(Engine(FakePool(2, answer)).map(Squares(), range(8)))
    assert "lost" not in caplog.text
