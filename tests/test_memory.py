"""How many rows at once: growth while it pays, halves when memory runs out, every row exactly once."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from resource import RLIMIT_AS
from typing import Any

import psutil
import pytest
import torch
from helpers.fakes import FakeGenerator
from helpers.stylegan_xl_fixtures import generator as small_generator
from torch import Tensor

from lis import costs, memory
from lis.classifiers.partnet import PartNet
from lis.costs import batches, tuned_batches
from lis.generators.partworld.generator import PartWorld
from lis.generators.stylegan_xl import StyleGANXL, imagenet256
from lis.memory import Batches, out_of_memory


class Device:
    """Squares rows; takes a time that depends on how many they are, and has room for some.

    Args:
        per_row: seconds per row of a batch of n rows.
        room: rows that fit.
    """

    def __init__(self, per_row: Callable[[int], float] = lambda n: 1.0, room: float = math.inf) -> None:
        self.per_row, self.room = per_row, room
        self.sizes: list[int] = []
        self.now = 0.0

    def perf_counter(self) -> float:
        """A clock that only this device moves."""
        return self.now

    def __call__(self, rows: Tensor) -> Tensor:
        self.sizes.append(len(rows))
        if len(rows) > self.room:
            raise RuntimeError("CUDA out of memory.")
        self.now += self.per_row(len(rows)) * len(rows)
        return rows**2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device], Device]:
    def use(device: Device) -> Device:
        monkeypatch.setattr(memory, "time", device)
        return device

    return use


def mapped(own: Batches, device: Device, n: int) -> list[int]:
    """Maps n rows, checks the results, and gives the sizes of the batches."""
    rows = torch.arange(n)
    assert torch.equal(torch.cat(list(own.map(device, rows))), rows**2)
    return device.sizes


def test_a_given_size_stays() -> None:
    assert mapped(Batches(4), Device(), 10) == [4, 4, 2]


def test_batches_grow_while_a_row_takes_less_time(clock: Any) -> None:
    """Two batches of each size are timed; the last size that gained is kept."""
    device = clock(Device(lambda n: 1 / min(n, 16)))
    assert mapped(own := Batches(4, grows=True), device, 120) == [4, 4, 8, 8, 16, 16, 32, 32]
    device.sizes.clear()
    assert mapped(own, device, 33) == [16, 16, 1]  # and for what comes next


def test_a_slow_first_batch_is_not_counted(clock: Any) -> None:
    """Whatever is compiled or loaded on the first call."""
    device = Device()
    device.per_row = lambda n: 99.0 if len(device.sizes) == 1 else 1.0
    assert mapped(own := Batches(4, grows=True), clock(device), 24) == [4, 4, 8, 8]
    assert own.size == 4


def test_a_short_last_batch_is_not_judged(clock: Any) -> None:
    device = clock(Device(lambda n: 1 / n))
    own = Batches(4, grows=True)
    assert mapped(own, device, 7) == [4, 3]
    assert mapped(own, device, 4)[2:] == [4] and own.size == 8


def test_growth_ends_where_memory_ends(clock: Any) -> None:
    device = clock(Device(lambda n: 1 / n, room=9))
    assert mapped(own := Batches(4, grows=True), device, 60) == [4, 4, 8, 8, 16, 8, 8, 8, 8, 4]
    assert own.size == 8


@pytest.mark.parametrize(("size", "n", "expected"), [(16, 5, [5, 2, 2, 1]), (7, 4, [4, 2, 1, 1, 1, 1])])
def test_batches_are_halved(size: int, n: int, expected: list[int]) -> None:
    """From what was tried, down to one."""
    room = 2 if size == 16 else 1
    found = mapped(Batches(size), Device(room=room), n)
    assert found == expected


def test_no_room_for_one_row() -> None:
    with pytest.raises(ValueError, match=r"single image \(CUDA out of memory\.\): expected room for one"):
        list(Batches(4).map(Device(room=0), torch.arange(3)))


def test_the_error_does_not_keep_the_memory() -> None:
    """What the failed batch had made is gone when the next one starts."""
    alive: list[Any] = []

    class Held:
        def __del__(self) -> None:
            alive.remove(None)

    def hungry(rows: Tensor) -> Tensor:
        assert not alive
        held = Held()
        alive.append(None)
        if len(rows) > 1:
            raise MemoryError(held)
        return rows

    assert torch.cat(list(Batches(4).map(hungry, torch.arange(6)))).tolist() == list(range(6))


def test_which_errors_say_that_memory_ran_out() -> None:
    told = [MemoryError(), torch.cuda.OutOfMemoryError("any"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling")]
    assert all(out_of_memory(error) for error in told)
    assert not any(out_of_memory(error) for error in (RuntimeError("shapes differ"), ValueError("out of range")))


class Painter(FakeGenerator):
    """Its map of 64 channels takes 1 MiB at 64 px."""

    def __init__(self, side: int = 64) -> None:
        super().__init__()
        self.side = side

    def synthesize(self, w: Tensor, features: Any = False) -> Any:
        image = super().synthesize(w)
        return (image, {"only": torch.zeros(len(w), 64, self.side, self.side)}) if features else image


class Everywhere:
    """Finds the first part in every pixel."""

    layers = ("only",)

    def __call__(self, maps: dict[str, Tensor]) -> Tensor:
        return torch.ones_like(maps["only"][:, 0], dtype=torch.int64)


CPU = torch.device("cpu")


def tuned(size: int | None, most: int, side: int, device: torch.device = CPU) -> Batches:
    return tuned_batches(Painter(side), device, size, most, None, Everywhere())


@pytest.mark.parametrize(
    ("side", "most", "expected"), [(64, 100, 32), (64, 10, 10), (16, 100, 100), (512, 100, 1), (2048, 100, 1)]
)
def test_a_processor_takes_what_suits_its_caches(side: int, most: int, expected: int) -> None:
    assert tuned(None, most, side).size == expected


def test_a_size_that_is_given_is_taken_where_there_is_room(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    own = tuned(5, 100, 64)
    assert own.size == 5 and not own._grows and "5 images at once" in caplog.text
    monkeypatch.setattr(memory, "free", lambda _: 9 * 2**20)  # of which half is taken, for maps of 1 MiB each
    assert tuned(500, 100, 64).size == 4


def test_simulated_a_gpu_begins_with_32_and_never_grows_beyond_its_memory(
    clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free", lambda _: 200 * 2**20)
    painter, masks = Painter(), Everywhere()
    shapes = costs.generator_cost(painter, CPU, masks.layers).shapes
    monkeypatch.setattr(costs, "finder_cost", lambda *_: 0)  # would ask for zeros on the device
    own = tuned_batches(painter, torch.device("cuda"), None, 7, None, masks)
    assert shapes == {"only": (64, 64, 64)}
    assert own.size == costs.FIRST_ON_GPU and own._grows and own.most == 99
    assert mapped(own, clock(Device(lambda n: 1 / n)), 300) == [32, 32, 64, 64, 64, 44]


def test_what_a_batch_takes_is_counted_while_it_lives() -> None:
    weight = torch.ones(1000, 1000)
    with costs.Meter() as meter:
        first = torch.ones(1000) @ weight
        second = first + 1
        del first
        third = second[:10] + weight[0, :10].relu_()
    assert third.shape == (10,)
    assert meter.peak == 2 * 4000 and meter.now == 4000 + 40


def test_what_a_model_takes_is_measured_once() -> None:
    class Counting(Painter):
        calls = 0

        def synthesize(self, w: Tensor, features: Any = False) -> Any:
            self.calls += 1
            return super().synthesize(w, features)

    painter = Counting()
    peaks = {costs.generator_cost(painter, CPU, ("only",)).peak for _ in range(3)}
    assert painter.calls == 1 and peaks.pop() > 2**20
    assert costs.generator_cost(painter, CPU).peak < 2**20 and painter.calls == 2


def test_a_gradient_costs_more_than_an_answer() -> None:
    classifier = PartNet()
    plain, gradient = (costs.classifier_cost(classifier, 64, CPU, wanted) for wanted in (False, True))
    assert 64 * 64 * 3 * 4 < plain < gradient / 2


def test_a_large_batch_is_cut_to_what_there_is_room_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`batch_size=100` went whole into the generator, and died on a card that has room for fifty."""
    caplog.set_level("INFO")
    costs._say.cache_clear()
    generator: Any = StyleGANXL(imagenet256())
    monkeypatch.setattr(memory, "free", lambda _: 79 * memory.GIB)
    monkeypatch.setitem(memory.MOST, "cuda", 79 * memory.GIB)
    own = batches(generator, torch.device("cuda"), 100)
    assert own.size == 30 and "30 images at once, not 100" in caplog.text
    assert batches(generator, torch.device("cuda"), 8).size == 8
    with_maps = batches(generator, torch.device("cuda"), 100, layers=generator.layer_names)
    assert with_maps.size == 19


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of control groups, and a file of those that this process is in; without limits yet."""
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("4:cpu:/\n0::/slurm/job_7/step_0\n")
    return tmp_path / "groups"


def test_simulated_the_limit_of_any_control_group_around_the_process_counts(groups: Path) -> None:
    before = memory.free(CPU)
    write(groups / "slurm/job_7/step_0", memory__max="max\n", memory__current="5\n", memory__stat="")
    assert memory.free(CPU) > before / 2
    write(groups / "slurm/job_7", memory__max=str(2**20), memory__current=str(2**19), memory__stat="anon 5\n")
    assert memory.free(CPU) == 2**19 and memory.budget(CPU) == 2**18
    write(groups / "slurm/job_7", memory__current=str(2**30))
    assert memory.free(CPU) == 0


def test_simulated_copies_of_files_do_not_count_as_used(groups: Path) -> None:
    """A container that has read a large checkpoint has its memory full of it, and can have it back at any moment."""
    stat = f"anon 5\ninactive_file {2**19}\nactive_file 3\n"
    write(groups, memory__max=str(2**20), memory__current=str(2**20), memory__stat=stat)
    assert memory.free(CPU) == 2**19


def test_simulated_control_groups_of_version_1(groups: Path) -> None:
    (groups.parent / "own").write_text("9:memory:/docker/abc\n8:cpu:/\n")
    files = {"memory__limit_in_bytes": str(2**20), "memory__usage_in_bytes": str(2**19), "memory__stat": ""}
    write(groups / "memory", **files)  # a container sees its own as the root
    assert memory.free(CPU) == 2**19


def test_limits_of_the_process_count_as_memory(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = psutil.Process().memory_info().vms
    limits = {RLIMIT_AS: (used + 2**24, -1)}
    monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: limits.get(kind, (-1, -1)))
    assert memory.free(CPU) <= 2**24


def test_a_model_that_cannot_say_when_it_ends_is_measured_all_the_same() -> None:
    class Slotted:
        __slots__ = ()
        layers = ("only",)

        def __call__(self, maps: dict[str, Tensor]) -> Tensor:
            return maps["only"][:, 0].long()

    assert costs.finder_cost(Slotted(), {"only": (64, 8, 8)}, CPU) == 8 * 8 * 8


def test_tensors_without_storage_are_passed_over() -> None:
    with costs.Meter() as meter:
        sparse = torch.eye(10).to_sparse()
        dense = sparse @ torch.ones(10, 2)
    assert dense.shape == (10, 2) and meter.peak >= 400


def test_what_is_kept_of_an_image_does_not_keep_what_it_was_made_from() -> None:
    weight = torch.ones(1000)
    gone = weakref.ref(weight.untyped_storage())
    with costs.Meter() as meter:
        result = weight * 2
    del weight
    assert gone() is None and meter.peak == 4000 and len(result) == 1000


def test_a_generator_whose_members_mean_something_else_is_measured() -> None:
    class Namesake(Painter):
        def cost(self) -> float:
            """Of its electricity."""
            return 0.1

        def layer_names(self) -> list[str]:
            return ["only"]

    namesake: Any = Namesake()
    assert costs.generator_cost(namesake, CPU, True).shapes == {"only": (64, 64, 64)}
    assert costs.layer_names(namesake, CPU) == ("only",)


def test_what_is_planned_is_what_is_taken() -> None:
    """Of ten images made and read, and of ten with all their maps."""
    generator, classifier = PartWorld(["pug"]), PartNet()
    w = generator.mean_w[:1].repeat(10, 1)
    for maps in (False, True):
        planned = 10 * costs.image_bytes(generator, CPU, classifier, layers=maps)
        with torch.inference_mode(), costs.Meter() as meter:
            made = generator.synthesize(w, features=True) if maps else (generator.synthesize(w), {})
            classifier.head(classifier.features(made[0]))
        assert planned / 2 < meter.peak <= planned


def test_the_log_says_once_that_there_is_no_room(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(memory, "free", lambda _: 2**20)
    painter = Painter()
    for _ in range(5):
        batches(painter, CPU, 1234, layers=True)
    assert caplog.text.count("images at once, not 1234") == 1


def test_the_generator_makes_no_more_at_once_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated GPU: sizes of the parts that a batch is cut into, and halves where memory runs out all the same."""
    network = small_generator("t_stem16_c10").synthesis
    ws = torch.randn(9, 1 + len(network.spec.layers), network.spec.input.affine.in_features)
    expected, whole = network(ws), network._run
    sizes: list[int] = []

    def run(some: Tensor, *rest: Any, **named: Any) -> Any:
        sizes.append(len(some))
        if len(some) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return whole(some, *rest, **named)

    monkeypatch.setattr(network, "_run", run)
    monkeypatch.setattr(network, "_at_once", lambda *_: Batches(4))
    torch.testing.assert_close(network(ws), expected, rtol=1e-5, atol=1e-5)
    assert sizes == [4, 2, 2, 2, 2, 1]
