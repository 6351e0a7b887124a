"""Private parts of PyTorch and of Python's multiprocessing, on which its loaders stand."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import queues
from typing import Any, Final

import torch
from torch import nn
from torch._utils import ExceptionWrapper
from torch.utils.data._utils import signal_handling

__all__ = ["ExceptionWrapper"]

# what is used, as `module:name`, and why the public interface does not do
PARTS: Final = {
    "torch._utils:ExceptionWrapper": "errors that a worker sends in the place of a batch",
    "torch.utils.data._utils.signal_handling:_remove_worker_pids": "workers that are killed on purpose",
    "torch.utils.data.dataloader:_MultiProcessingDataLoaderIter": "`_workers`, `_worker_pids_set`: the same",
    "torch.distributed.distributed_c10d:_pickler": "collectives that read no code",
    "torch.distributed.distributed_c10d:_unpickler": "the same",
    "torch.distributed.fsdp._optim_utils:StateInfo": "what FSDP's collectives send",
    "torch.distributed.fsdp._optim_utils:_PosDimTensorInfo": "the same",
    "torch.distributed.fsdp._optim_utils:_OptimStateKey": "the same",
    "torch._C._autograd:_get_current_graph_task_keep_graph": "memory of a backward pass that is freed early",
    "torch.nn:Module.named_buffers": "`_buffers`, to put back the buffers of a module that was moved",
    "torch.optim.lr_scheduler:LambdaLR._update_lr": "`_last_lr`: learning rates that are set while training",
    "torch:_foreach_add_": "an optimizer whose step is a few kernels",
    "torch:_foreach_addcdiv_": "an optimizer whose step is a few kernels",
    "torch:_foreach_addcmul_": "an optimizer whose step is a few kernels",
    "torch:_foreach_lerp_": "an optimizer whose step is a few kernels",
    "torch:_foreach_mul_": "an optimizer whose step is a few kernels",
    "torch:_foreach_sqrt": "an optimizer whose step is a few kernels",
    "multiprocessing.process:BaseProcess": "`_config`: the folder of the sockets of a process",
    "multiprocessing.queues:Queue._on_queue_feeder_error": "a batch that cannot be sent",
}
MAKER = "transformers_framework.maker_of_tempdir"  # beside multiprocessing's own "tempdir", which a fork inherits

foreach_add_ = torch._foreach_add_
foreach_addcdiv_ = torch._foreach_addcdiv_
foreach_addcmul_ = torch._foreach_addcmul_
foreach_lerp_ = torch._foreach_lerp_
foreach_mul_ = torch._foreach_mul_
foreach_sqrt = torch._foreach_sqrt


@contextlib.contextmanager
def restored_modules(*modules: nn.Module) -> Iterator[None]:
    """Give modules their weights, buffers, devices, dtypes and modes back, bit by bit, and no gradients.

    Args:
        modules: The modules, which have no gradients.
    """
    every = [module for root in modules for module in root.modules()]
    weights = [(parameter, parameter.data) for module in every for parameter in module.parameters(recurse=False)]
    buffers = [(module, {n: (b, b.clone()) for n, b in module.named_buffers(recurse=False)}) for module in every]
    modes = [(module, module.training) for module in every]
    try:
        yield
    finally:
        for parameter, data in weights:
            parameter.grad = None
            parameter.data = data
        with torch.no_grad():
            for module, own in buffers:
                module._buffers.update({name: buffer.copy_(values) for name, (buffer, values) in own.items()})
        for module, training in modes:
            module.training = training


def has_workers(loader: Any) -> bool:
    """Return whether the persistent workers of a loader have been started."""
    return loader.persistent_workers and loader._iterator is not None


def workers_of(batches: Any) -> list[Any]:
    """Return the processes of the iterator of a loader."""
    return list(batches._workers)


def kill_workers(loader: Any, batches: Any) -> None:
    """Kill the workers of a loader's iterator, and let the loader make another one."""
    signal_handling._remove_worker_pids(id(batches))  # else torch takes what follows for an accident
    batches._worker_pids_set = False
    for worker in batches._workers:
        worker.kill()
        worker.join()
    loader._iterator = None


def own_temporary_folder() -> None:
    """Let this process make its own folder for sockets: one that it was forked from needs that which it inherits."""
    config = multiprocessing.process.current_process()._config  # type: ignore[attr-defined]
    if config.get(MAKER) != os.getpid():
        config.update({MAKER: os.getpid(), "tempdir": None})


def on_unsent_batch(send: Callable[[Any, Exception, Any], None]) -> None:
    """Let a function know of what a queue of this process cannot send: the queue, the error, what it was."""
    queues.Queue._on_queue_feeder_error = send  # type: ignore[attr-defined]


def use_pickler(pickler: Any, unpickler: Any) -> None:
    """Let collectives of objects write and read with these classes."""
    from torch.distributed import distributed_c10d

    setattr(distributed_c10d, "_pickler", pickler)  # noqa: B010
    setattr(distributed_c10d, "_unpickler", unpickler)  # noqa: B010


def classes_of_fsdp() -> list[Any]:
    """Return the classes whose objects the collectives of FSDP exchange: only names and shapes."""
    from torch.distributed.fsdp import _optim_utils as fsdp

    return [fsdp.StateInfo, fsdp._PosDimTensorInfo, fsdp._OptimStateKey]


def graph_is_kept() -> bool:
    """Return whether the running backward pass may be followed by another one, as ``retain_graph=True`` allows."""
    ask = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return bool(ask and ask())


def set_last_learning_rates(scheduler: Any, rates: Sequence[float]) -> None:
    """Let a scheduler report these learning rates as its last ones."""
    scheduler._last_lr = list(rates)


def forbid_fused_unscaling(optimizer: Any) -> None:
    """Let gradients be unscaled before they are clipped: a fused step would unscale them itself, afterwards."""
    for group in optimizer.param_groups:
        group.update({"fused": False} if "fused" in group else {})
    optimizer._step_supports_amp_scaling = False
