"""Settings of every test: one thread each, since pytest-xdist's workers share the cores; memory as in a run."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator

import pytest
import torch

from lis.memory import keep_freed_memory
from lis.stopping import stop

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # for the programs that tests start
torch.set_num_threads(1)
keep_freed_memory()


@pytest.fixture(autouse=True)
def nothing_stays_stopped() -> Iterator[None]:
    """A test whose signal stays noted in this process would fail those behind it."""
    yield
    number, stop.signal = stop.signal, None
    assert number is None, f"{number!r} stays noted in lis.stopping.stop: replace it by a Stop of the test's own"


@pytest.fixture
def page_style() -> Iterator[None]:
    """Figures that a test draws by itself look as in a section."""
    import matplotlib

    from lis.report.style import RC

    with matplotlib.rc_context(RC):
        yield


@pytest.fixture
def no_tensor_is_an_index(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NumPy and lists take a tensor of one element for a number, which drops an axis exactly where its length is 1."""
    whole, met = torch.Tensor.__index__, set[str]()

    def index(tensor: torch.Tensor) -> int:
        if tensor.ndim:  # noted, since NumPy swallows what is raised here
            met.add("".join(traceback.format_stack(limit=2)[:1]))
        return whole(tensor)

    monkeypatch.setattr(torch.Tensor, "__index__", index)
    yield
    assert not met, f"a tensor is the index of an array or of a list; use .numpy():\n{''.join(met)}"
