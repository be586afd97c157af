"""Workers that are killed, fail, talk or run another program: nothing is lost, and nothing half-written is read."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import faulty, forked
from helpers.commandline import ROOT, drafts
from helpers.faulty import Job, order, victims
from helpers.stored import damaged, manifests

from lis.context import Context
from lis.distributed import Local, Ray
from lis.distributed.identity import Identity
from lis.distributed.local import Processes
from lis.distributed.ray import Actors, own_signals
from lis.distributed.schedule import Failed
from lis.linking.pairs import train_pairs
from lis.stopping import Stop, Stopped
from lis.store import disk_fault

pytestmark = pytest.mark.slow

LIMIT, QUIET = 120, 0.3
"""Seconds after which work is taken to hang, and those without a draft after which it is taken to be done."""


@pytest.fixture(
    scope="module", params=["forked", *(pytest.param(name, marks=pytest.mark.full) for name in ("spawned", "ray"))]
)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a store, and of what is ordered to go wrong; its name says what its workers are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        if request.param == "forked":
            patch.setattr("lis.distributed.local.subprocess", forked.STARTER)
        yield tmp_path_factory.mktemp(request.param, numbered=False)


@pytest.fixture(scope="module")
def ctx(root: Path) -> Iterator[Context]:
    """A run with two workers, which serve all tests; none is left behind."""
    engine = Ray(workers=2) if root.name == "ray" else Local(["cpu", "cpu"])
    if root.name == "ray":  # whose processes end with the thread that has started them
        engine._pool = engine.open()
    yield replace(faulty.context(root), engine=engine)
    engine.close()
    assert not workers_of(os.getpid())


@pytest.fixture
def numbers() -> Callable[[int], range]:
    """So many that no other test has made."""
    return lambda size: range(start := next(_HUNDREDS), start + size)


_HUNDREDS = count(0, 100)


def workers_of(run: int) -> list[psutil.Process]:
    """The workers that a process has started, zombies too, and what else its engine has."""
    return [child for child in psutil.Process(run).children() if serves(child, run)]


def serves(process: psutil.Process, run: int) -> bool:
    """Whether a process is a zombie, a worker of a run, or one of Ray's."""
    command = process.cmdline()
    names = ("lis.distributed", "raylet", "gcs_server")
    return not command or command == psutil.Process(run).cmdline() or any(name in " ".join(command) for name in names)


def within(limit: float, function: Callable[[], Any]) -> Any:
    """What a function gives, or its error; the test fails where it hangs."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(function())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    assert result, f"not done after {limit} s"
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def is_whole(root: Path) -> bool:
    """Whether a store holds nothing but intact artifacts, once the workers have made what they have in hand.

    Between two items a worker has no draft either: they are done when for a while there is none.
    """
    end, since = time.monotonic() + LIMIT, time.monotonic()
    while time.monotonic() < min(end, since + QUIET):
        time.sleep(0.02)
        if list(drafts(root / "store")):
            since = time.monotonic()
    assert not damaged(root / "store")
    assert not list(drafts(root / "store")) and not (root / "store" / "set-aside").exists()
    return True


@pytest.mark.parametrize(("fault", "reason"), [("SIGKILL", "signal 9"), ("SIGTERM", "exit code 143")])
def test_a_worker_that_is_ended_is_replaced_and_its_shards_are_made_again(
    fault: str, reason: str, ctx: Context, root: Path, numbers: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    """With SIGTERM it finishes what it has in hand."""
    order(root, fault)
    wanted, before = numbers(12), manifests(root / "store")
    artifact = within(LIMIT, lambda: faulty.total(Job(ctx, root), wanted))
    assert artifact.json("sum")["sum"] == sum(wanted) and len(victims(root)) == 1
    reason = "its process has ended" if root.name == "ray" else reason
    assert caplog.text.count(f"is lost ({reason}); its shards are made again") == 1
    after = manifests(root / "store")
    assert before.items() <= after.items() and len(after) == len(before) + len(wanted) + 1
    assert is_whole(root)
    makers = {faulty.SHARDS.shard(Job(ctx, root), faulty.Block(n)).json("whole")["pid"] for n in wanted}
    if root.name != "ray":  # which ends an actor at once
        assert bool(victims(root) & makers) == (fault == "SIGTERM")
        assert len(workers_of(os.getpid())) == 2


def test_a_full_disk_of_one_worker_leaves_its_shards_to_the_other(
    ctx: Context, root: Path, numbers: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    order(root, "full disk")
    wanted = numbers(6)
    assert within(LIMIT, lambda: faulty.total(Job(ctx, root), wanted)).json("sum")["sum"] == sum(wanted)
    assert "failed at a shard that cpu (worker" in caplog.text and "No space left on device" in caplog.text
    assert victims(root) and is_whole(root)


def test_a_full_disk_of_all_workers_is_told_with_the_remedy_and_the_run_goes_on_afterwards(
    ctx: Context, root: Path, numbers: Callable
) -> None:
    order(root, "full disk", victims=2)
    wanted = numbers(6)
    with pytest.raises(OSError, match="No space left") as error:
        within(LIMIT, lambda: faulty.total(Job(ctx, root), wanted))
    line = disk_fault(error.value, root / "store") or ""
    assert "no space left to write to" in line and "the same command goes on" in line and is_whole(root)
    order(root, "")
    assert within(LIMIT, lambda: faulty.total(Job(ctx, root), wanted)).json("sum")["sum"] == sum(wanted)


def test_nan_of_one_worker_is_named_with_its_device_and_made_by_another(
    ctx: Context, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order(root, "nan")
    pairs = within(LIMIT, lambda: train_pairs(ctx))
    assert victims(root) and pairs.tensors("pairs")["r"].isfinite().all()
    assert "failed at a shard that cpu (worker" in caplog.text and "not finite" in caplog.text
    assert "look at that device" in caplog.text and is_whole(root)


def test_nan_of_all_workers_is_the_users_error(ctx: Context, root: Path) -> None:
    order(root, "nan", victims=2)
    other = replace(ctx, config=replace(ctx.config, seed=1))
    with pytest.raises(ValueError, match=r"of the classifier of sample \d+ of .* is not finite: expected"):
        within(LIMIT, lambda: train_pairs(other))
    assert is_whole(root)


def test_a_worker_that_talks_while_it_is_sent_much_made_both_wait_for_ever(
    ctx: Context, root: Path, numbers: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    order(root, "talk", victims=2)
    wanted = numbers(8)
    artifact = within(LIMIT, lambda: faulty.total(Job(ctx, root), wanted, bytes(3_000_000)))
    assert artifact.json("sum")["sum"] == sum(wanted)
    assert root.name == "ray" or caplog.text.count(faulty.NOISE) >= 50 * 2


def test_a_worker_with_another_version_is_refused_by_name() -> None:
    pool, (ours, theirs) = Processes(["cpu"]), Pipe()
    pool._workers = [type("Process", (), {"connection": ours})()]  # pyright: ignore[reportAttributeAccessIssue]
    theirs.send(("ready", Identity("0.0.1", "01234567", "node7")))
    with pytest.raises(ValueError, match=r"the worker on node7 runs lis 0\.0\.1 \(sources 01234567\), this process on"):
        pool.wait(10)


def test_a_ray_that_was_started_for_too_many_workers_was_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, left = pytest.importorskip("ray"), []
    monkeypatch.setattr("lis.distributed.ray.join", lambda address: True)
    monkeypatch.setattr("lis.distributed.ray.leave", lambda: left.append(1))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(
        ValueError, match=r"engine\.workers=3 with engine\.gpus_per_worker=0\.5: the cluster has 0 GPUs"
    ):
        Ray(workers=3, gpus_per_worker=0.5).open()
    assert left == [1]


def end_as_ray_does() -> None:
    """Ray's handler of SIGTERM, and the signal."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
    signal.raise_signal(signal.SIGTERM)


def test_a_signal_while_ray_starts_is_that_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended the run with 15 where 143 was promised."""
    stop = Stop()
    monkeypatch.setattr("lis.distributed.ray.stop", stop)
    with stop.listen(), pytest.raises(Stopped, match="SIGTERM"), own_signals():
        end_as_ray_does()


def test_what_an_actor_raised_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's words about it are a traceback with the colours of a terminal."""
    ray = pytest.importorskip("ray")
    cause = OSError(errno.ENOSPC, "No space left on device", "/store/x")
    wrapped = ray.exceptions.RayTaskError("attempt", "a traceback", cause)
    pool = Actors(1, 0.0, 1.0, started=False)
    pool._pending = {"ref": (0, 0, 7)}
    monkeypatch.setattr(ray, "get", lambda ref: (_ for _ in ()).throw(wrapped))
    failed = pool._read("ref")
    assert isinstance(failed, Failed) and failed.error is cause and failed.number == 7
    assert "a traceback" in cause.__notes__[0]
