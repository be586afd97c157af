"""Files of torch.save, read without executing anything: equal to what torch.load gives, and bombs that stay small."""

from __future__ import annotations

import io
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hanging import no_hang
from helpers.pickled import Made, Raw, code, forget_peak, get, kept, peak_memory, put
from safetensors.torch import save_file
from torch import Tensor, nn

from lis.classifiers.checkpoints import Checkpoint, ip_irm_names, read_file
from lis.files import MAX_HEADER, load_safetensors
from lis.pickles.torch_files import read_torch

BASE = torch.arange(100.0).view(10, 10)


def trained() -> dict[str, Any]:
    """What Lightning and other programs save: weights, the optimizer's state, the schedule and numbers."""
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(network.parameters(), amsgrad=True)
    network(torch.rand(5, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    states = {"optimizer_states": [optimizer.state_dict()], "lr_schedulers": [schedule.state_dict()]}
    loops = {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1, "completed": 1}}}}
    return {
        "epoch": 3,
        "state_dict": network.state_dict(),
        "pytorch-lightning_version": "2.6.6",
        "loops": loops,
    } | states


DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
)
CONTENTS: dict[str, Any] = {
    "a training": trained(),
    "views": {
        "whole": BASE,
        "turned": BASE.T,
        "part": BASE[2:5, ::2],
        "row": BASE[3],
        "expanded": torch.arange(4).expand(3, 4),
        "number": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(BASE),
    },
    "types": {str(kind): torch.tensor([0, 1, 2]).to(kind) for kind in (*DTYPES, torch.uint8, torch.bool)},
    "complex": {str(kind): torch.ones(2).to(kind) for kind in (torch.complex64, torch.complex128)},
    "values": {
        "size": torch.Size([1, 2]),
        "device": torch.device("cuda", 1),
        "type": torch.float16,
        "bytes": b"b\xff",
        "mutable": bytearray(b"xx"),
        "set": {1, "2"},
        "complex": 1 + 2j,
        "counter": Counter("aab"),
        "ordered": OrderedDict(a=1, b=BASE),
        "numbers": [0, -5, 2**40, -(2**100), 1e300, True, None],
        "nested": (1, (2, [3, {}, (), []])),
        (1, 2): 3,
        0.5: 4,
        2**70: 5,
        b"k": 6,
        7: "text ä",
    },
}


def require_same(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert isinstance(b, Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(a, b)
    elif isinstance(a, Mapping):
        assert isinstance(b, Mapping) and list(a) == list(b)
        for key in a:
            require_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert type(a) is type(b) and len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            require_same(one, other)
    else:
        assert type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_gives_what_torch_load_gives(name: str, zipped: bool, protocol: int, tmp_path: Path) -> None:
    """Protocol 4 is more than torch.load with weights_only=True reads."""
    path = tmp_path / "file.pt"
    torch.save(CONTENTS[name], path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    require_same(torch.load(path, weights_only=protocol == 2), read_torch(path))


def test_types_without_a_storage_of_their_own_are_read(tmp_path: Path) -> None:
    kinds = (torch.uint16, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)
    torch.save({str(kind): torch.ones(3).to(kind) for kind in kinds}, tmp_path / "file.pt")
    for name, value in read_torch(tmp_path / "file.pt").items():
        assert str(value.dtype) == name and value.float().tolist() == [1, 1, 1]


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
def test_complex_halves_and_exponents_of_8_bits_were_refused(tmp_path: Path) -> None:
    content = {"complex": torch.ones(2, dtype=torch.complex32), "exponents": torch.ones(2).to(torch.float8_e8m0fnu)}
    torch.save(content, tmp_path / "file.pt")
    for name, value in read_torch(tmp_path / "file.pt").items():
        assert value.dtype == content[name].dtype
        assert value.view(torch.uint8).tolist() == content[name].view(torch.uint8).tolist()


def test_whole_views_of_a_large_storage_were_refused_as_copies(tmp_path: Path) -> None:
    whole = torch.zeros(2**13, 2**13)
    torch.save({"w": whole, "wt": whole.T, "f": whole.view(-1)}, tmp_path / "views.pt")
    read = read_torch(tmp_path / "views.pt")
    assert read["w"].data_ptr() == read["wt"].data_ptr() == read["f"].data_ptr()
    assert read["wt"].stride() == (1, 2**13) and read["f"].shape == (2**26,)


def test_strides_of_one_element_and_of_none_were_replaced(tmp_path: Path) -> None:
    content = {
        "one": BASE.as_strided((1, 10, 1), (77, 10, 5)),
        "row": BASE[:1, ::2],
        "none": torch.empty_strided((5, 0), (7, 3)),
        "channels last": torch.rand(2, 1, 4, 5).contiguous(memory_format=torch.channels_last),
    }
    torch.save(content, tmp_path / "file.pt")
    read = read_torch(tmp_path / "file.pt")
    for name, value in torch.load(tmp_path / "file.pt", weights_only=True).items():
        assert read[name].stride() == value.stride() and torch.equal(read[name], value), name


def test_plain_integer_keys_in_any_order_stay_as_they_are(tmp_path: Path) -> None:
    """No fault of before: what is charged for integers that may collide must not meet a large optimizer or few keys."""
    content = {"state": {i: i for i in range(20_000)}, "steps": {i * 2**30: i for i in range(-500, 500)}, "set": {9, 5}}
    torch.save(content, tmp_path / "file.pt")
    require_same(torch.load(tmp_path / "file.pt", weights_only=False), read_torch(tmp_path / "file.pt"))


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_one_storage_share_it_and_the_file_stays_as_it_is(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.save({"a": BASE, "b": BASE.T, "c": BASE}, path, _use_new_zipfile_serialization=zipped)
    before, read = path.read_bytes(), read_torch(path)
    read["a"][0, 1] = -1
    assert read["b"][1, 0] == read["c"][0, 1] == -1
    assert path.read_bytes() == before


def name(module: str, kind: str) -> Raw:
    return Raw(f"c{module}\n{kind}\n".encode())


def tensor(key: str, count: int, size: Any, stride: Any, offset: int = 0, kind: str = "FloatStorage") -> Made:
    """A tensor as torch.save writes it into an archive."""
    reference = Raw(code(("storage", name("torch", kind), key, "cpu", count)) + b"Q")
    hooks = Made(name("collections", "OrderedDict"), ())
    return Made(name("torch._utils", "_rebuild_tensor_v2"), (reference, offset, size, stride, False, hooks))


def archive(content: Any, storages: dict[str, bytes] | None = None, **options: Any) -> bytes:
    """An archive around a pickle, given as a value or as instructions."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as file:
        file.writestr("a/data.pkl", b"\x80\x02" + code(content) + b".")
        for key, data in (storages or {}).items():
            file.writestr(f"a/{key}", data)
    return stream.getvalue()


def two_of_a_name() -> bytes:
    """The second entry is renamed to the first's name."""
    return archive({}, {"data/0": b"", "data/1": b""}).replace(b"data/1", b"data/0")


def overlapping() -> bytes:
    """Two entries whose sizes say that the first reaches into the second."""
    data = bytearray(archive({}, {"data/0": bytes(8), "data/1": bytes(8)}))
    directory = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    data[directory + 20 : directory + 28] = struct.pack("<II", 20, 20)
    return bytes(data)


def beyond() -> bytes:
    data = bytearray(archive({}, {"data/0": bytes(8)}))
    directory = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    data[directory + 20 : directory + 28] = struct.pack("<II", 2**31, 2**31)
    return bytes(data)


def colliding() -> tuple[list[int], int]:
    """Integers on one path through a dict of 2^17 places, and another one whose search walks along all of them."""
    mask, path = 2**17 - 1, [0]
    for _ in range(86_496):
        path.append((5 * path[-1] + 1) & mask)
    return path, 58_596_379


PATH, LAST = colliding()


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


one = kept(tensor("0", 1, (1,), (1,)), 1)
FOUR = {"data/0": bytes(4)}
LIST = kept([str(i) for i in range(200_000)], 2)
BOMBS: dict[str, tuple[bytes, str]] = {
    "itself": (archive(Raw(b"}" + put(0) + code("model") + get(0).code + b"s")), "lies in itself"),
    "a bytearray of a number": (archive({"a": Made(name("builtins", "bytearray"), (3 * 10**9,))}), "bytes of a tuple"),
    "compressed": (archive([1] * 10**5, compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "two of a name": (two_of_a_name(), "two entries are called"),
    "overlapping entries": (overlapping(), "inside of the one before"),
    "an entry beyond the file": (beyond(), "has 2147483648 bytes at byte"),
    "big-endian": (archive({}, {"byteorder": b"big"}), "big-endian"),
    "a program": (archive({}, {"constants.pkl": b""}), "TorchScript archive, which is a program"),
    "one element for a billion": (archive({"w": tensor("0", 1, (10**9,), (0,))}, FOUR), "more than the file's size"),
    "a storage of more": (archive({"w": tensor("0", 2, (2,), (1,))}, FOUR), "of 2 elements is of 4 bytes"),
    "a storage that is missing": (archive({"w": tensor("9", 1, (1,), (1,))}, FOUR), "is missing"),
    "a tensor behind its storage": (archive({"w": tensor("0", 1, (2,), (1,))}, FOUR), "the elements 0:2 of 1"),
    "large views in each other": (
        archive({f"n{i}": tensor("0", 10**6, (10**6 - i,), (1,)) for i in range(200)}, {"data/0": bytes(4 * 10**6)}),
        "more than the file's size",
    ),
    "a quantised storage": (archive({"w": tensor("0", 1, (1,), (1,), 0, "QInt8Storage")}, FOUR), "where a storage is"),
    "a sparse tensor": (
        archive({"w": Made(name("torch._utils", "_rebuild_sparse_tensor"), (1, 2))}),
        "a sparse tensor",
    ),
    "a function of no name": (archive({"w": Made(Made(name("torch", "Size"), ()), ())}), "a computed function"),
    "one list in many sets": (
        archive([LIST] + [Made(name("builtins", "set"), (get(2),)) for _ in range(2000)]),
        "instructions and values",
    ),
    "one list for many tensors": (
        archive([LIST] + [Made(name("torch._utils", "_rebuild_tensor_v2"), (get(2),)) for _ in range(2000)]),
        "in another form",
    ),
    "keys of equal hash": (
        archive(
            Raw(b"}(" + b"".join(b"G" + struct.pack(">d", i * (2.0**61 - 1)) + b"N" for i in range(20_000)) + b"u")
        ),
        "too many or too large keys",
    ),
    "numbers of values that collide": (
        archive(Raw(b"N" + b"".join(map(put, PATH)) + put(LAST) * 20_000)),
        "a value is to have the number 781, of at most",
    ),
    "integers that collide": (
        archive(Raw(b"}(" + b"".join(integer(i) + b"N" for i in PATH) + (integer(LAST) + b"N") * 20_000 + b"u")),
        "instructions and values",
    ),
    "integers that collide in a set": (
        archive(Raw(b"\x8f(" + b"".join(map(integer, PATH)) + integer(LAST) * 20_000 + b"\x90")),
        "instructions and values",
    ),
    "two million names": (
        archive(Raw(b"(" + b"".join(b"c\n%x\n" % i for i in range(1_990_000)) + b"t")),
        "instructions and values",
    ),
    "two million references": (archive(Raw(b"N" + b"Q" * 1_990_000)), "instructions and values"),
    "a key that multiplies": (
        archive(Raw(b"}N" + put(1) + (b"0" + get(1).code * 2 + b"\x86" + put(1)) * 60 + b"Ns")),
        "too many or too large keys",
    ),
    "deep lists": (archive(Raw(b"]" * 9000 + b"a" * 8999)), "in more than 64 others"),
    "a name of names": (archive({"module." * 10**6: one}, FOUR), "names of up to 7000000 characters"),
    "names of dots": (
        archive({"a": one} | {"." * 900 + str(i): get(1) for i in range(5000)}, FOUR),
        "4535000|45[0-9]+ in",
    ),
    "many networks": (
        archive({"p.a": one} | {f"p{i}.{n}": get(1) for i in range(5000) for n in "ab"}, FOUR),
        "under 5000 prefixes",
    ),
    "one mapping under many keys": (
        archive({"z": kept({f"k{i}": 0 for i in range(50_000)}, 3)} | {f"ema.{i}": get(3) for i in range(10_000)}),
        "has the keys",
    ),
}
"""Content of a file → what is said about it."""


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_of_torch_takes_little(kind: str, tmp_path: Path) -> None:
    content, message = BOMBS[kind]
    path = tmp_path / "bomb.pt"
    path.write_bytes(content)
    forget_peak()
    before = peak_memory()
    with no_hang(), pytest.raises(ValueError, match=message) as error:
        Checkpoint.read(path).fitted(["a", "b"])
    assert str(path) in str(error.value)
    assert peak_memory() - before < 2**28 + len(content)


def test_many_names_that_the_network_lacks_were_searched_one_by_one(tmp_path: Path) -> None:
    """In a list: 30,000 names took 7 seconds."""
    (tmp_path / "many.pt").write_bytes(archive({"a": one} | {f"loss{i}": get(1) for i in range(90_000)}, FOUR))
    with no_hang():
        fitted = Checkpoint.read(tmp_path / "many.pt").fitted(["a"])
    assert list(fitted.state) == ["a"] and "loss0, " in fitted.notes[0]


def test_copies_of_one_tensor_were_compared_for_every_name(tmp_path: Path) -> None:
    """Two storages of the same numbers, under 16 prefixes and 2,000 names each: 32,000 comparisons of 4 MB."""
    a, b = kept(tensor("0", 10**6, (10**6,), (1,)), 1), kept(tensor("1", 10**6, (10**6,), (1,)), 2)
    names = [f"l{i}.w" for i in range(2000)]
    content = {"p0.l0.w": a, "p1.l0.w": b} | {f"p{i}.{n}": get(1 + i % 2) for i in range(16) for n in names}
    content |= {"p0.l0.w": a, "p1.l0.w": b}
    data = bytes(4 * 10**6)
    (tmp_path / "copies.pt").write_bytes(archive(content, {"data/0": data, "data/1": data}))
    with no_hang():
        assert len(Checkpoint.read(tmp_path / "copies.pt").fitted(names).state) == 2000


def test_a_number_of_5000_digits_in_a_name_had_an_error_without_the_file() -> None:
    state = {f"f.{'1' * 5000}.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"mine.pth has .* 0 parts with weights"):
        ip_irm_names(state, Path("mine.pth"))


def test_a_header_of_safetensors_larger_than_any_networks_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    save_file({"a": torch.ones(2)}, path)
    assert torch.equal(load_safetensors(path)["a"], torch.ones(2))
    path.write_bytes(struct.pack("<Q", MAX_HEADER + 1) + b"{" + b" " * MAX_HEADER)
    with pytest.raises(ValueError, match=r"large.safetensors cannot be read \(its header has 8388609 bytes"):
        read_file(path)


def test_a_large_file_takes_no_memory_before_it_is_used(tmp_path: Path) -> None:
    """Its tensors lie in the file; only what is used is read."""
    path = tmp_path / "large.pt"
    torch.save({"a": torch.ones(2**24), "b": torch.ones(2)}, path)
    forget_peak()
    before = peak_memory()
    assert read_file(path)["b"].sum() == 2
    assert peak_memory() - before < 2**23
