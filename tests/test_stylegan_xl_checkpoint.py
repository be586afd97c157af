"""Checkpoints of StyleGAN-XL: the published form against the reference's weights, and what is no checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pickled import DATA, FORMS, NAMES, Made, Name, blob, network, packed, pickled, tensor
from helpers.pickled import generator as pickled_generator

from lis.convert import convert, main
from lis.generators.stylegan_xl.checkpoint import read_checkpoint, read_pickle, write_checkpoint
from lis.generators.stylegan_xl.generator import StyleGANXL
from lis.generators.stylegan_xl.geometry import GeneratorSpec, geometry
from lis.generators.stylegan_xl.published import Stage, Widths, imagenet256, mapping_of, stack


@pytest.fixture
def file(tmp_path):
    def write(content: bytes) -> Path:
        path = tmp_path / "network.pkl"
        path.write_bytes(content)
        return path

    return write


def read_json(name: str) -> dict[str, Any]:
    """What the reference says about one of its networks."""
    return json.loads((DATA / f"{name}.json").read_text())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_reference_to_the_bit(name, form, file):
    read = read_pickle(file(packed(name + form))).tensors()
    expected = dict(np.load(DATA / f"{name}.state.npz"))
    assert list(read) == list(expected)
    for key, value in expected.items():
        assert (tuple(read[key].shape), str(read[key].dtype)) == (value.shape, f"torch.{value.dtype}")
        assert read[key].numpy().tobytes() == value.tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_the_layers_say_of_themselves_what_the_reference_says(name, form, file):
    synthesis = read_pickle(file(packed(name + form))).children["synthesis"]
    expected = read_json(name)
    assert synthesis.attributes["layer_names"] == expected["layer_names"]
    for layer in expected["layers"]:
        found = synthesis.children[layer["name"]].attributes
        assert {key: found[key] for key in layer if key != "name"} == {k: v for k, v in layer.items() if k != "name"}


def test_both_forms_give_the_same_picture(file):
    def picture(node):
        children = {name: picture(child) for name, child in node.children.items()}
        return node.class_name, node.attributes, list(node.parameters), list(node.buffers), children

    plain, dill = (read_pickle(file(packed(f"t_super32_c10{form}"))) for form in FORMS)
    assert picture(plain) == picture(dill)
    assert plain.class_name == "SuperresGenerator"
    assert plain.children["mapping"].children["embed"].class_name == "Embedding"


class Odd(torch.nn.Module):
    """Everything that a state dict may meet: several types, views, a scalar, a tied weight."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Linear(3, 4), torch.nn.BatchNorm2d(2)
        self.tied = torch.nn.Linear(3, 4)
        self.tied.weight = self.first.weight
        self.turned = torch.nn.Parameter(torch.randn(5, 6, dtype=torch.float64).T[1:4, ::2])
        self.register_buffer("halves", torch.randn(2, 2).half())
        self.register_buffer("brain", torch.randn(3).bfloat16())
        self.register_buffer("scalar", torch.tensor(7, dtype=torch.int32))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("unsaved", torch.zeros(2), persistent=False)
        self.register_buffer("nothing", None)
        self.sizes, self.hook, self.names = (3, [4.5, None]), torch.relu, {"a": True, 2: "b"}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_any_pickled_network_gives_its_state_dict(protocol, file):
    network = Odd()
    node = read_pickle(file(pickle.dumps({"net": network}, protocol)), "net")
    expected = network.state_dict()
    read = node.tensors()
    assert list(read) == list(expected)
    for name, value in expected.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)
    assert node.attributes == {"training": True, "sizes": (3, [4.5, None]), "names": {"a": True, 2: "b"}}
    assert node.children["norm"].attributes["eps"] == network.norm.eps


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1.5, -2], ">f4"),
        np.array([True, False]),
        np.array(3, np.uint8),
        np.zeros((0, 4)),
        np.float16(0.5),
        np.int64(-3),
    ],
)
def test_numbers_and_arrays_of_numpy_become_plain(value, protocol, file):
    network = torch.nn.Module()
    network.value = value
    read = read_pickle(file(pickle.dumps({"G_ema": network}, protocol))).attributes["value"]
    assert read == value.tolist()
    assert type(read) is type(value.tolist())


def test_a_storage_may_come_from_any_device(file):
    values = torch.randn(3)
    device = b"X\x06\x00\x00\x00cuda:3"
    data = blob(values).replace(b"ctorch\nFloat", b"ctorch.cuda\nFloat").replace(b"X\x03\x00\x00\x00cpu", device)
    assert device in data and b"torch.cuda" in data
    parameters = {"w": Made(Name("torch._utils", "_rebuild_parameter"), (tensor(values, data=data), True, None))}
    read = read_pickle(file(pickled({"G_ema": network(_parameters=parameters)})))
    assert torch.equal(read.parameters["w"], values)


def test_dictionaries_of_other_classes_are_dictionaries(file):
    weights = Made(Name("collections", "OrderedDict"), (), items={"w": tensor(torch.ones(2))})
    settings = Made(Name("dnnlib.util", "EasyDict"), (), items={"size": 4})
    entries = Made(Name("collections", "OrderedDict"), (), items={"G": network(_parameters=weights, settings=settings)})
    node = read_pickle(file(pickled(entries)), "G")
    assert list(node.tensors()) == ["w"]
    assert node.attributes == {"settings": {"size": 4}}


@pytest.mark.parametrize(
    "names",
    [
        {"b"},
        Made(Name("builtins", "set"), (["b"],)),
        Made(Made(Name("dill._dill", "_load_type"), ("set",)), (["b"],)),
    ],
)
def test_buffers_that_are_not_saved_are_left_out(names, file):
    buffers = {"a": tensor(torch.zeros(1)), "b": tensor(torch.ones(1))}
    node = network(_buffers=buffers, _non_persistent_buffers_set=names)
    assert list(read_pickle(file(pickled({"G_ema": node}))).buffers) == ["a"]


def test_attributes_that_are_not_plain_are_left_out(file):
    call = Made(Name("lis.nowhere", "Thing"), (1,))
    node = network(a=1, b=call, c=[1, call], d={"e": call}, f={(1, 2): 3}, g=b"bytes", h=tensor(torch.ones(1)))
    assert read_pickle(file(pickled({"G_ema": node}))).attributes == {"a": 1}


def test_an_entry_that_is_not_there_is_answered_with_those_that_are(file):
    path = file(packed("t_stem16_c10"))
    with pytest.raises(ValueError, match=r"network.pkl.* no entry 'G_emma', but 'G', 'D', 'G_ema', 'augment_pipe'"):
        read_pickle(path, "G_emma")
    with pytest.raises(ValueError, match=r"D is None: expected a network"):
        read_pickle(path, "D")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04rest", "a zip archive, which torch.save writes"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"hello", "it is no pickle: it begins with b'hello'"),
        (pickle.dumps([1, 2]), "it holds a list"),
        (pickle.dumps({"G_ema": 3}), "G_ema is a int"),
        (pickle.dumps({"G_ema": torch.ones(3)}), "G_ema is what torch._utils._rebuild_tensor_v2 would make"),
        (pickle.dumps({"G_ema": torch.nn.Linear(2, 2).state_dict()}), "G_ema is what collections.OrderedDict would"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(content, what, file):
    with pytest.raises(ValueError, match=r"network.pkl cannot be read .*fetch the file again") as error:
        read_pickle(file(content))
    assert what in str(error.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.pkl"):
        with pytest.raises(ValueError, match=f"{path} cannot be read"):
            read_pickle(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_anywhere_is_called_truncated(form, file):
    whole = packed(f"mixed_super64_c10{form}")
    for length in np.linspace(1, len(whole) - 1, 100).astype(int):
        with pytest.raises(ValueError, match="truncated"):
            read_pickle(file(whole[:length]))


MEASURE = """
import sys
from pathlib import Path
from lis.generators.stylegan_xl.checkpoint import read_checkpoint
def memory(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) * 1024
read_checkpoint(sys.argv[1])  # a small one, for what is imported at the first
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = memory("VmRSS")
tensors = read_checkpoint(sys.argv[2]).state_dict()
print(sum(value.nbytes for value in tensors.values()), memory("VmHWM") - before)
"""


def measured(small: Path, large: Path) -> tuple[int, int]:
    """Bytes of the tensors that a new process reads, and by how much its memory has grown at most."""
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    size, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(size), int(peak)


def write_beside_a_hole(path: Path, generator: Made, hole: int) -> None:
    """Write a checkpoint whose discriminator is large and takes no room on the disk."""
    start, end = pickled({"D": b"", "G_ema": generator}).split(pickle.BINBYTES8 + bytes(8), 1)
    with path.open("wb") as stream:
        stream.write(start + pickle.BINBYTES8 + struct.pack("<Q", hole))
        stream.seek(hole, os.SEEK_CUR)
        stream.write(end)


linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux"
)


def wide() -> GeneratorSpec:
    """A network of 100 MB."""
    synthesis = stack([Stage(16, 10, kernel=3, radial=False)], Widths(maximum=512), w_dim=64)
    return GeneratorSpec(mapping_of(64, 0, 64, len(synthesis.layers) + 1, (10, 32)), synthesis)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux")
@pytest.mark.parametrize(
    ("spec", "beside"),
    [
        pytest.param(wide, 3 * 2**30, marks=pytest.mark.slow),
        pytest.param(imagenet256, 2**30, marks=pytest.mark.full),
    ],
)
def test_a_network_is_read_into_the_room_of_one(spec, beside, file):
    small = file(packed("t_stem16_c10"))
    large = small.with_name("large.pkl")
    tensors = {name: torch.ones(value.shape) for name, value in StyleGANXL(spec()).state_dict().items()}
    write_beside_a_hole(large, pickled_generator(spec(), tensors), beside)
    assert geometry(read_pickle(large)) == spec()
    size, peak = measured(small, large)
    assert size == sum(value.nbytes for value in tensors.values()) > 8e7
    assert 0.9 * size < peak < 1.25 * size


def same(generator: StyleGANXL, expected: Mapping[str, Any]) -> bool:
    """Whether the weights are the expected ones to the bit."""
    state = generator.state_dict()
    return state.keys() == expected.keys() and all(
        value.contiguous().numpy().tobytes() == np.asarray(expected[name]).tobytes() for name, value in state.items()
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_generator_has_the_weights_of_the_reference_to_the_bit(name, form, file):
    generator = read_checkpoint(file(packed(name + form)))
    assert same(generator, np.load(DATA / f"{name}.state.npz"))
    assert [layer.name for layer in generator.spec.synthesis.layers] == read_json(name)["layer_names"]


def test_settings_are_those_of_the_generator(file):
    path = file(packed("t_stem16_c10"))
    names = [f"animal {i}" for i in range(10)]
    generator = read_checkpoint(path, class_names=names, domain="zoo", truncation=0.5)
    assert (list(generator.class_names), generator.domain, generator.truncation) == (names, "zoo", 0.5)
    with pytest.raises(ValueError, match=r"^2 class names for 10 classes"):
        read_checkpoint(path, class_names=["a", "b"])


def test_a_network_of_another_kind_is_refused(file):
    path = file(pickle.dumps({"G_ema": torch.nn.Linear(2, 2)}))
    with pytest.raises(ValueError, match=r"network.pkl cannot be read .*Linear has no part 'mapping'"):
        read_checkpoint(path)


def test_tensors_of_another_size_than_their_layers_are_refused(file):
    whole = read_checkpoint(file(packed("t_stem16_c10")))
    wrong = whole.state_dict() | {"synthesis.input.freqs": torch.ones(3, 2)}
    path = file(pickled({"G_ema": pickled_generator(whole.spec, wrong)}))
    with pytest.raises(ValueError, match=r"network.pkl cannot be read .*freqs is \[3, 2\], expected \[12, 2\]"):
        read_checkpoint(path)


@pytest.mark.parametrize(("channels", "words"), [(1, r"1 channel \(grey\)"), (4, r"4 channels \(RGB with transp")])
def test_a_generator_of_other_images_than_rgb_failed_only_in_the_classifier(channels, words, file, tmp_path, capsys):
    """On loading, from either form, and in words; before it is converted, too."""
    spec = read_checkpoint(file(packed("t_stem16_c10"))).spec
    *layers, last = spec.synthesis.layers
    last = replace(last, name=f"{last.name.rpartition('_')[0]}_{channels}", out_channels=channels)
    spec = replace(spec, synthesis=replace(spec.synthesis, channels=channels, layers=(*layers, last)))
    network = StyleGANXL(spec).load({name: torch.ones(v.shape) for name, v in StyleGANXL(spec).state_dict().items()})
    write_checkpoint(network, tmp_path / "saved")
    pickle = file(pickled({"G_ema": pickled_generator(spec, network.state_dict())}))
    for path in (tmp_path / "saved", pickle):
        with pytest.raises(ValueError, match=rf"{words}.*: expected 3 \(red, green, blue\)") as error:
            read_checkpoint(path)
        assert str(error.value).startswith(str(path)) and "fetch the file again" not in str(error.value)
    with pytest.raises(SystemExit, match="1"):
        main([str(pickle), str(tmp_path / "out")])
    assert "red, green, blue" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_what_is_converted_is_the_same_generator(file, tmp_path, capsys):
    source, out = file(packed("mixed_super64_c10.dill")), tmp_path / "new" / "out"
    main([str(source), str(out)])
    assert "0.01 million parameters, 13 ws, 64 px" in capsys.readouterr().err
    original = read_checkpoint(source)
    for path in (out, out / "generator.safetensors"):
        read = read_checkpoint(path)
        assert read.spec == original.spec
        assert same(read, original.state_dict())
    description = json.loads((out / "generator.json").read_text())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert description["origin"] == {"file": "network.pkl", "sha256": digest, "entry": "G_ema"}
    assert sorted(path.name for path in out.iterdir()) == ["generator.json", "generator.safetensors"]


def test_another_entry_can_be_converted(file, tmp_path):
    convert(file(packed("t_stem16_c10.dill")), tmp_path / "out", "G")
    assert json.loads((tmp_path / "out" / "generator.json").read_text())["origin"]["entry"] == "G"


def test_nothing_is_written_over(file, tmp_path, capsys):
    source, out = file(packed("t_stem16_c10")), tmp_path / "out"
    convert(source, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(SystemExit) as exit:
        main([str(source), str(out)])
    assert exit.value.code == 1
    assert "generator.safetensors is there already: choose another folder" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is there already"):
        write_checkpoint(read_checkpoint(source), out)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_file_that_cannot_be_converted_leaves_nothing_behind(file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(file(b"hello")), str(tmp_path / "out")])
    assert "network.pkl cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="no weights yet"):
        write_checkpoint(StyleGANXL(imagenet256()), tmp_path / "out")


def broken_folders(folder: Path) -> Iterator[Path]:
    """Folders of converted checkpoints with one thing wrong."""
    description = json.loads((folder / "generator.json").read_text())
    texts = {
        "no object": "[]",
        "no JSON": "{",
        "deep": "[" * 100_000,
        "another version": json.dumps(description | {"version": 2}),
        "a key too many": json.dumps(description | {"more": 1}),
        "no geometry": json.dumps(description | {"geometry": None}),
        "another geometry": json.dumps(description | {"geometry": asdict(imagenet256())}),
        "no text": b"\xff\xfe",
    }
    for name, text in texts.items():
        copy = Path(shutil.copytree(folder, folder.parent / name))
        (copy / "generator.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        yield copy
    weights = (folder / "generator.safetensors").read_bytes()
    for name, content in {"truncated": weights[:-9], "empty": b"", "no header": b"\xff" * 99}.items():
        copy = Path(shutil.copytree(folder, folder.parent / name))
        (copy / "generator.safetensors").write_bytes(content)
        yield copy
    for name in ("generator.json", "generator.safetensors"):
        copy = Path(shutil.copytree(folder, folder.parent / f"without {name}"))
        (copy / name).unlink()
        yield copy


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("embedding", [-1, 24], r"embedding is \(-1, 24\), expected 1 to"),
        ("embedding", [10**18, 24], r"expected 1 to 1e\+06"),
        ("embedding", [10**30, 24], "expected int"),
        ("z_dim", 10**400, "expected int"),
        ("layers", [], "the last layer of the mapping gives"),
    ],
)
def test_a_description_that_no_network_could_be_built_from_had_an_error_without_the_file(
    part, value, message, file, tmp_path
):
    """PyTorch's own, for a size of -1 or of 10^18."""
    convert(file(packed("r_stem32_uncond")), tmp_path / "out")
    path = tmp_path / "out" / "generator.json"
    description = json.loads(path.read_text())
    description["geometry"]["mapping"][part] = value
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(tmp_path / "out")
    assert str(tmp_path / "out") in str(error.value) and isinstance(error.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("number", "message"),
    [("9" * 5000, r"generator.json cannot be read \(.*digits"), ("9" * 400, "is 999"), ("1e999", "is inf")],
)
def test_a_description_with_a_number_of_any_length_names_the_file(number, message, file, tmp_path):
    convert(file(packed("t_stem16_c10")), tmp_path / "out")
    path = tmp_path / "out" / "generator.json"
    path.write_text(path.read_text().replace('"output_scale": 0.25', f'"output_scale": {number}'))
    assert number in path.read_text()
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(tmp_path / "out")
    assert str(tmp_path / "out") in str(error.value) and isinstance(error.value.__cause__, ValueError)


def test_a_description_of_more_than_a_few_megabytes_is_not_read(file, tmp_path):
    convert(file(packed("t_stem16_c10")), tmp_path / "out")
    (tmp_path / "out" / "generator.json").write_text("[" + " " * 2**22)
    with pytest.raises(
        ValueError, match=r"out cannot be read .*generator.json has 4,194,305 bytes: expected at most 4,194,304"
    ):
        read_checkpoint(tmp_path / "out")


def test_damage_to_what_was_converted_is_found(file, tmp_path):
    convert(file(packed("t_stem16_c10")), tmp_path / "out")
    folders = list(broken_folders(tmp_path / "out"))
    assert len(folders) == 13
    for folder in folders:
        with pytest.raises(ValueError, match=f"{folder} cannot be read as a checkpoint"):
            read_checkpoint(folder)
