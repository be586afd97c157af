"""Writes pickles that no pickler would write: names of anything, calls of anything, and networks made of them."""

from __future__ import annotations

import lzma
import pickle
import pickletools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lis.generators.stylegan_xl.geometry import GeneratorSpec, LayerSpec, LinearSpec, SynthesisSpec

DATA = Path(__file__).parents[1] / "data" / "stylegan_xl"
NAMES = ("mixed_super64_c10", "r_stem32_uncond", "t_stem16_c10", "t_stem16_c10_xform", "t_super32_c10")
FORMS = ("", ".dill")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(eq=False)
class Raw:
    """Instructions that leave one value on the stack."""

    code: bytes


@dataclass(eq=False)
class Name:
    module: str
    name: str


@dataclass(eq=False)
class Made:
    """What a callable makes, with a state set and items put in."""

    function: Any
    arguments: Any
    state: Any = None
    items: dict[Any, Any] | None = None


def packed(name: str) -> bytes:
    """The content of a checkpoint in tests/data."""
    return lzma.decompress((DATA / f"{name}.pkl.xz").read_bytes())


def pickled(value: Any) -> bytes:
    """The pickle of a value, protocol 4."""
    return b"\x80\x04" + code(value) + b"."


def code(value: Any) -> bytes:
    """The instructions that push a value."""
    match value:
        case Raw():
            return value.code
        case Name():
            return code(value.module) + code(value.name) + pickle.STACK_GLOBAL
        case Made():
            made = code(value.function) + code(value.arguments) + pickle.REDUCE
            made += b"" if value.items is None else filled(value.items)
            return made if value.state is None else made + code(value.state) + pickle.BUILD
        case bytes():
            return pickle.BINBYTES8 + struct.pack("<Q", len(value)) + value
        case dict():
            return pickle.EMPTY_DICT + filled(value)
        case list():
            return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(code, value)) + pickle.APPENDS
        case set():
            return pickle.EMPTY_SET + pickle.MARK + b"".join(map(code, value)) + pickle.ADDITEMS
        case tuple():
            return pickle.MARK + b"".join(map(code, value)) + pickle.TUPLE
    return pickletools.optimize(pickle.dumps(value, protocol=2))[2:-1]


def filled(items: dict[Any, Any]) -> bytes:
    """The instructions that put items into what lies on the stack."""
    return pickle.MARK + b"".join(code(key) + code(value) for key, value in items.items()) + pickle.SETITEMS


def blob(values: Tensor) -> bytes:
    """The storage of a tensor as PyTorch itself pickles it."""
    return values._typed_storage().__reduce__()[1][0]


def tensor(values: Tensor, **changes: Any) -> Made:
    """A tensor as PyTorch pickles it, but for changes of its data, storage, offset, size, stride or hooks."""
    own = {
        "storage": Made(Name("torch.storage", "_load_from_bytes"), (changes.pop("data", blob(values)),)),
        "offset": values.storage_offset(),
        "size": tuple(values.shape),
        "stride": values.stride(),
        "gradient": False,
        "hooks": Made(Name("collections", "OrderedDict"), ()),
    }
    return Made(Name("torch._utils", "_rebuild_tensor_v2"), tuple((own | changes).values()))


def network(**state: Any) -> Made:
    """A network as the authors' programs pickle it; its program raises where it is executed."""
    whole = {"_parameters": {}, "_buffers": {}, "_modules": {}} | state
    meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": "Network", "state": whole}
    return Made(Name("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))


def put(index: int) -> bytes:
    """The instruction that keeps what lies on the stack."""
    return pickle.LONG_BINPUT + struct.pack("<I", index)


def get(index: int) -> Raw:
    """What was kept."""
    return Raw(pickle.LONG_BINGET + struct.pack("<I", index))


def kept(value: Any, index: int) -> Raw:
    """A value that is written here once and kept for later."""
    return Raw(code(value) + put(index))


def forget_peak() -> None:
    """Let the peak of this process's memory begin anew, where the system can (Linux)."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def peak_memory() -> int:
    """Bytes that this process has taken at most since then; 0 where the system does not tell."""
    if not _CLEAR.exists():
        return 0
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def generator(spec: GeneratorSpec, tensors: dict[str, Tensor]) -> Made:
    """A generator as the authors' programs pickle it."""
    parts = {"mapping": _mapping(spec, _under("mapping", tensors)), "synthesis": _synthesis(spec.synthesis, tensors)}
    return network(_modules=parts)


def _mapping(spec: GeneratorSpec, tensors: dict[str, Tensor]) -> Made:
    own = spec.mapping
    parts = {f"fc{i}": _linear(layer, _under(f"fc{i}", tensors)) for i, layer in enumerate(own.layers)}
    if own.embedding:
        parts["embed"] = network(_parameters={"weight": tensor(tensors["embed.weight"])})
    if own.projection:
        parts["embed_proj"] = _linear(own.projection, _under("embed_proj", tensors))
    sizes = {"z_dim": own.z_dim, "c_dim": own.c_dim, "w_dim": own.w_dim, "num_ws": own.num_ws}
    return network(_modules=parts, _buffers=_own(tensors), num_layers=len(own.layers), **sizes)


def _synthesis(spec: SynthesisSpec, tensors: dict[str, Tensor]) -> Made:
    own = _under("synthesis", tensors)
    size = {"size": [spec.input.size] * 2, "channels": spec.input.channels}
    rates = {"sampling_rate": spec.input.sampling_rate, "bandwidth": spec.input.bandwidth}
    parts = {"input": _part(spec.input.affine, _under("input", own), **size, **rates)}
    parts |= {layer.name: _layer(layer, _under(layer.name, own)) for layer in spec.layers}
    image = {"img_resolution": spec.resolution, "img_channels": spec.channels, "output_scale": spec.output_scale}
    return network(_modules=parts, layer_names=[layer.name for layer in spec.layers], **image)


def _layer(spec: LayerSpec, tensors: dict[str, Tensor]) -> Made:
    same = ("in_sampling_rate", "out_sampling_rate", "in_cutoff", "out_cutoff", "in_half_width", "out_half_width")
    attributes = {name: getattr(spec, name) for name in same}
    attributes |= {"in_size": [spec.in_size] * 2, "out_size": [spec.out_size] * 2, "padding": [*spec.padding] * 2}
    attributes |= {"up_factor": spec.up, "down_factor": spec.down, "conv_clamp": spec.clamp, "is_torgb": spec.torgb}
    return _part(spec.affine, tensors, **attributes)


def _part(affine: LinearSpec, tensors: dict[str, Tensor], **attributes: Any) -> Made:
    parameters = {name: value for name, value in _own(tensors).items() if name in ("weight", "bias")}
    buffers = {name: value for name, value in _own(tensors).items() if name not in parameters}
    parts = {"affine": _linear(affine, _under("affine", tensors))}
    return network(_parameters=parameters, _buffers=buffers, _modules=parts, **attributes)


def _linear(spec: LinearSpec, tensors: dict[str, Tensor]) -> Made:
    gains = {"weight_gain": spec.weight_gain, "bias_gain": spec.bias_gain, "activation": spec.activation}
    return network(_parameters=_own(tensors), **gains)


def _own(tensors: dict[str, Tensor]) -> dict[str, Made]:
    return {name: tensor(value) for name, value in tensors.items() if "." not in name}


def _under(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): v for name, v in tensors.items() if name.startswith(f"{part}.")}
