"""Workers on the devices of one or more machines, as actors of Ray."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from lis.context import Context
from lis.distributed.identity import Identity, identity
from lis.distributed.schedule import PATIENCE, Busy, Event, Failed, Lost, Made, Pooled
from lis.distributed.serving import Worker, cores, opening_of
from lis.distributed.transport import packed
from lis.memory import keep_freed_memory
from lis.stopping import stop

log = logging.getLogger(__name__)


class Ray(Pooled):
    """One actor per device of a cluster; Ray only moves the work, results go through the store.

    Args:
        address: of the cluster, `auto` for the one that this machine is part of; None: this machine alone.
        workers: how many; None: as many as there are GPUs for, or cores where there is no GPU.
        gpus_per_worker: GPUs of each, also a part of one; None: 1, or 0 where the cluster has no GPU.

    Raises:
        ValueError: Ray is not installed.
    """

    def __init__(
        self, address: str | None = None, workers: int | None = None, gpus_per_worker: float | None = None
    ) -> None:
        super().__init__()
        if find_spec("ray") is None:
            raise ValueError("engine=ray: Ray is not installed; pip install 'lis[ray]', or use engine=local")
        self.address, self.workers, self.gpus_per_worker = address, workers, gpus_per_worker

    def open(self) -> Actors:
        """The workers; Ray is started or joined now.

        Raises:
            ValueError: the cluster cannot be joined, or has too little.
        """
        started = join(self.address)
        try:
            return Actors(*self._share(), started)
        except ValueError:
            if started:
                leave()
            raise

    def _share(self) -> tuple[int, float, float]:
        """Workers, GPUs and cores of each.

        Raises:
            ValueError: the cluster has too little.
        """
        import ray

        has = ray.cluster_resources()
        gpus, cpus = has.get("GPU", 0.0), has.get("CPU", 0.0)
        each = self.gpus_per_worker if self.gpus_per_worker is not None else float(gpus > 0)
        room = gpus * int(1 / each + 1e-9) if 0 < each < 1 else gpus / each if each else math.inf
        count = self.workers or int(cpus if math.isinf(room) else room)
        if count < 1 or count > room:
            raise ValueError(
                f"engine.workers={count} with engine.gpus_per_worker={each:g}: the cluster has {gpus:g} GPUs and "
                f"{cpus:g} cores; expected as many workers as fit"
            )
        return count, each, min(1.0, cpus / count)


def join(address: str | None) -> bool:
    """Join a cluster, or start one on this machine; True where it was started here.

    Raises:
        ValueError: there is no cluster at that address.
    """
    import ray

    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    alone = {"address": "local", "include_dashboard": False, "num_cpus": cores()}
    options: dict[str, Any] = {"address": address} if address else alone
    with own_signals():
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, namespace="lis")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"engine.address={address}: no Ray cluster can be joined there ({error}); expected one that was begun "
                "with `ray start`, or engine.address=null for this machine alone"
            ) from error
    return True


def leave() -> None:
    """End what `join` has started."""
    import ray

    with own_signals():
        ray.shutdown()


@contextmanager
def own_signals() -> Iterator[None]:
    """Keeps the handlers of this process, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    asked: signal.Signals | None = None
    try:
        yield
    except SystemExit as ended:
        if ended.code not in before:
            raise
        asked = signal.Signals(ended.code)  # as Ray's handler ends a process
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked is not None:
        signal.raise_signal(asked)
        stop.check()
        raise SystemExit(asked.value)  # nobody listens but Ray


Record = tuple[str, int, str]
"""Logger, level and message."""


class Records(logging.Handler):
    """Keeps warnings until the next answer."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: list[Record] = []

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        self._records.append((record.name, record.levelno, record.getMessage()))

    def taken(self) -> list[Record]:
        """Those that were not taken yet."""
        records, self._records = self._records, []
        return records


class Actor:
    """A `Worker` as Ray makes it, on the GPU that it is given or on the CPU."""

    def __init__(self, path: list[str], opening: bytes) -> None:
        sys.path += [each for each in path if each not in sys.path]
        keep_freed_memory()
        self._records = Records()
        logging.getLogger().addHandler(self._records)
        self._worker = Worker(opening)

    def program(self) -> Identity:
        """Of its process."""
        return self._worker.identity

    def attempt(self, key: int, task: bytes, item: bytes) -> tuple[bool, list[Record]]:
        """As `Worker.attempt`, with what was logged meanwhile; the task is the one of this number."""
        if self._worker.key != key:
            self._worker.begin(task, key)
        return self._worker.attempt(item), self._records.taken()


class Actors:
    """A pool of actors (`lis.distributed.schedule.Pool`).

    Args:
        count: of actors.
        gpus: of each.
        cpus: of each.
        started: whether Ray was started here, and is to end with the pool.
    """

    def __init__(self, count: int, gpus: float, cpus: float, started: bool) -> None:
        self.names = [f"{'cuda' if gpus else 'cpu'} (worker {number} of {count})" for number in range(1, count + 1)]
        self._options = {"num_gpus": gpus, "num_cpus": cpus, "max_restarts": 0}
        self._started = started
        self._actors: list[Any] = []
        self._ctx: Context | None = None
        self._task: Any = None
        self.round, self.ready = 0, set[int]()
        self._pending: dict[Any, tuple[int, int, int]] = {}
        """Round, worker and number of what is asked of the actors; number −1: whether it is ready."""

    def begin(self, task: Any) -> None:
        """Have every actor take its items from this task from now on; the first time, make them."""
        import ray

        self._ctx, self.round = task.ctx, self.round + 1
        self._task = ray.put(packed(task, task.ctx))
        if not self._actors:
            log.info("%d workers start on Ray", len(self.names))
            self._actors = [None] * len(self.names)
            for number in range(len(self.names)):
                self._start(number)

    def submit(self, worker: int, number: int, item: Any) -> None:
        """Have an actor make an item."""
        assert self._ctx is not None
        ref = self._actors[worker].attempt.remote(self.round, self._task, packed(item, self._ctx))
        self._pending[ref] = (self.round, worker, number)

    def wait(self, seconds: float) -> Sequence[Event]:
        """What has happened since."""
        import ray

        refs = list(self._pending)
        ready, _ = ray.wait(refs, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return [event for ref in ready if (event := self._read(ref)) is not None]

    def close(self) -> None:
        """End the actors, and Ray where it was started here."""
        import ray

        in_hand = [ref for ref, (_, _, number) in self._pending.items() if number >= 0]
        if in_hand:
            ray.wait(in_hand, num_returns=len(in_hand), timeout=PATIENCE)
        for actor in filter(None, self._actors):  # None where it could not be made
            ray.kill(actor)
        self._actors, self._pending, self.ready = [], {}, set()
        if self._started:
            leave()

    def _start(self, number: int) -> None:
        import ray

        assert self._ctx is not None
        machines = sum(node["Alive"] for node in ray.nodes())
        device = "cuda" if self._options["num_gpus"] else "cpu"
        opening = opening_of(self._ctx, device, math.ceil(len(self.names) / machines))
        actor = ray.remote(Actor).options(**self._options).remote(sys.path, opening)
        self._actors[number] = actor
        self._pending[actor.program.remote()] = (self.round, number, -1)

    def _read(self, ref: Any) -> Event | None:
        """What an actor has answered.

        Raises:
            ValueError: it cannot build its models, or runs another program.
        """
        import ray
        from ray.exceptions import RayActorError, RayError, RayTaskError

        if ref not in self._pending:  # of a worker that was lost a moment ago
            return None
        of, worker, number = self._pending.pop(ref)
        try:
            answer: Any = ray.get(ref)
        except RayActorError as error:
            if (cause := _refusal(error)) is not None:
                raise ValueError(f"the worker on {self.names[worker]} cannot begin: {cause}") from error
            return self._lost(worker, "its process has ended")
        except RayTaskError as error:
            return Failed(worker, number, _cause(error)) if of == self.round else None
        except RayError as error:  # as where its machine is lost, or has no memory
            return self._lost(worker, str(error).partition("\n")[0])
        if number < 0:
            identity().require_same(answer)
            self.ready.add(worker)
            return None
        is_made, records = answer
        for name, level, message in records:
            logging.getLogger(name).log(level, "%s: %s", self.names[worker], message)
        return (Made if is_made else Busy)(worker, number) if of == self.round else None

    def _lost(self, worker: int, reason: str) -> Lost:
        self.ready.discard(worker)
        self._pending = {ref: told for ref, told in self._pending.items() if told[1] != worker}
        self._start(worker)
        return Lost(worker, reason)


def _cause(error: Any) -> BaseException:
    """What an actor has raised, with Ray's words about it as a note; these where that cannot be sent."""
    cause = error.cause
    if not isinstance(cause, Exception):
        return error
    cause.add_note(f"in a worker:\n{error}")
    return cause


def _refusal(error: BaseException) -> str | None:
    """What an actor's constructor has raised; None where the actor was lost otherwise."""
    cause = getattr(error, "__cause__", None)
    text = str(cause or error)
    return text if "in its __init__" in text or "creation task" in text else None
