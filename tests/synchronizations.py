"""Record on a CPU what would make the host wait for a GPU: reads of values of tensors within training steps.

``with waits() as places`` records the line of each read. Lines of our own that read only where it is free, on a CPU, do
as on a GPU meanwhile.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.runs import ROOT
from transformers_framework import device_reads
from transformers_framework.runtime.loops import EpochLoop

TORCH: Final = str(Path(torch.__file__).parent)
aten = torch.ops.aten
# operators whose result has a value or a shape that only the device knows
READS: Final = {
    aten._local_scalar_dense.default,  # item(), float(), bool(), and indexes that are tensors
    aten.is_nonzero.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.unique_consecutive.default,
    aten._unique2.default,
    aten.bincount.default,
}
INDEXES: Final = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
# methods that copy between host and device, which needs no operator on a CPU
COPIES: Final = {
    torch.Tensor.cpu,
    torch.Tensor.tolist,
    torch.Tensor.numpy,
    torch.Tensor.__array__,
    torch.Tensor.new_tensor,
}
CREATES: Final = {torch.tensor, torch.as_tensor}  # copies to a device if one is given


@contextmanager
def waits() -> Iterator[list[str]]:
    """Record ``file:line`` of each read of a value of a tensor by the host, as if tensors were on a GPU."""
    places: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(device_reads, "are_free", return_value=False))
        stack.enter_context(_Methods(places))
        stack.enter_context(_Operators(places))
        yield places


@contextmanager
def waits_of_steps(*, skip: int = 2) -> Iterator[list[str]]:
    """Record the reads in the batches of the training runs of this process, without the first ones of an epoch.

    Args:
        skip: Batches that are not watched: metrics are checked, and states of optimizers made, in the first ones.
    """
    places: list[str] = []
    steps = 0
    advance = EpochLoop.advance

    def watched(self: EpochLoop, data_fetcher: Any) -> None:
        if self.batch_idx + 1 < skip:
            return advance(self, data_fetcher)
        nonlocal steps
        with waits() as found:
            advance(self, data_fetcher)
        places.extend(found)
        steps += 1
        return None

    with mock.patch.object(EpochLoop, "advance", watched):
        yield places
    assert steps, "no batch was watched"


def _place() -> str:
    """Return the line that reads a value now: the last one that is not torch's."""
    frame = [frame for frame in traceback.extract_stack() if not frame.filename.startswith((TORCH, __file__))][-1]
    return f"{frame.filename.removeprefix(f'{ROOT}/')}:{frame.lineno} {frame.line}"


class _Operators(TorchDispatchMode):
    def __init__(self, places: list[str]) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        by_mask = func in INDEXES and any(index is not None and index.dtype == torch.bool for index in args[1])
        repeats = func is aten.repeat_interleave.Tensor and (kwargs or {}).get("output_size") is None
        if func in READS or by_mask or repeats:
            self.places.append(_place())
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, places: list[str]) -> None:
        super().__init__()
        self.places = places

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in COPIES or (func in CREATES and (kwargs or {}).get("device") is not None):
            self.places.append(_place())
        return func(*args, **(kwargs or {}))
