"""Processes of a run: the number of nodes, the launch of all ranks, and the check that flags and data are the same."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.distributed.nodes import MasterAddress, Participant
from transformers_framework.distributed.signals import set_parent_death_signal
from transformers_framework.distributed.sockets import LOOPBACK, choose_interface, is_loopback
from transformers_framework.exceptions import ConfigurationError, RunError
from transformers_framework.storage.atomic import atomic_file

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from transformers_framework.distributed.peer_watchdog import PeerWatchdog
    from transformers_framework.distributed.rendezvous import Rendezvous

# flags that may differ between nodes: paths and numbers of workers
LOCAL_FLAGS = re.compile(r"\w+_dir|config|\w+_workers|\w+_dataset|pre_trained_\w+|\w+_filename|ckpt_path")
CHUNK = 2**26  # bytes of a checkpoint per broadcast
PARENT = "TRANSFORMERS_FRAMEWORK_PARENT"  # environment variable: id of the process that launches the others


def num_nodes(environment: Mapping[str, str], asked: int, local_devices: int) -> int:
    """Return the number of nodes: ``--num_nodes``, else the world size divided by the number of local devices.

    Args:
        environment: Environment variables; ``WORLD_SIZE`` is the number of processes on all nodes.
        asked: Value of ``--num_nodes``; its default is 1.
        local_devices: Number of processes on this node.

    Raises:
        ConfigurationError: When environment variables contradict the flags or each other.

    Examples:
        >>> num_nodes({"WORLD_SIZE": "16", "NODE_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}, 1, 8)
        2
    """
    if "TORCHELASTIC_RUN_ID" in environment or "SLURM_NTASKS" in environment:
        return asked  # Lightning reads the variables of torchrun and SLURM
    world, node = _number(environment, "WORLD_SIZE"), _number(environment, "NODE_RANK")
    meant = max(asked, world or 0, (node or 0) + 1, 2)  # number of nodes, if WORLD_SIZE was meant as such
    remedy = (
        f"Set WORLD_SIZE to the number of processes on all nodes: {meant * local_devices} for {meant} nodes "
        f"with {local_devices} {'devices' if local_devices > 1 else 'device'}"
    )
    nodes = asked
    if world is not None:
        nodes, rest = divmod(world, local_devices)
        if rest or not nodes or (asked > 1 and nodes != asked):
            raise ConfigurationError(
                f"WORLD_SIZE is {world}, which is not {local_devices} devices on each of "
                f"{asked if asked > 1 else 'several'} nodes. {remedy}."
            )
    if nodes == 1 and node is not None and "LOCAL_RANK" not in environment:
        raise ConfigurationError(
            f"NODE_RANK is {node}, which is for several nodes, and WORLD_SIZE is {world or 'not set'}, which means "
            f"one node. {remedy}, and so on; on a single node, unset NODE_RANK."
        )
    absent = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if not environment.get(name)]
    if nodes > 1 and absent:
        raise ConfigurationError(
            f"{nodes} nodes ({'WORLD_SIZE' if world else '--num_nodes'}) need {' and '.join(absent)}. On every node, "
            "set MASTER_ADDR and MASTER_PORT to the address and a free port of the first node, NODE_RANK to 0 on the "
            "first node, 1 on the next, and so on."
        )
    if node is not None and not 0 <= node < nodes:
        raise ConfigurationError(
            f"NODE_RANK is {node}, but there are {nodes} nodes. Set it to 0 on the first node, 1 on the next, and "
            f"so on. {remedy}."
        )
    _number(environment, "MASTER_PORT")
    return nodes


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if text is not None and not text.isdecimal():
        raise ConfigurationError(f"{name} is '{text}' in the environment; expected a number.")
    return None if text is None else int(text)


def end_with_parent(follows: bool = True) -> None:
    """Terminate this process when the process that launched it dies, where the operating system supports it.

    Args:
        follows: Whether to terminate it; False undoes an earlier call.

    Raises:
        RunError: When the process that launched this one has died already.
    """
    if PARENT not in os.environ:  # torchrun and SLURM terminate their own processes
        return
    set_parent_death_signal(signal.SIGTERM if follows else 0)
    if follows and os.environ[PARENT] != str(os.getppid()):
        raise RunError("The process that launched this one has died.")


@contextlib.contextmanager
def distributed_run(
    trainer: pl.Trainer,
    rendezvous: Rendezvous,
    flags: Mapping[str, Any],
    rows: Callable[[], Mapping[Any, str]],
    hang_timeout: float,
) -> Iterator[None]:
    """Launch the other ranks of a run, check that all have the same flags and data, and stop all when one fails.

    Args:
        trainer: The trainer; without this function, it would launch the ranks later.
        rendezvous: Rendezvous of the ranks.
        flags: All flags of the run.
        rows: Returns the number of rows and the fingerprint of each stage's data.
        hang_timeout: Seconds without an answer after which a process is considered frozen.

    Raises:
        ConfigurationError: When ranks have different flags or data, or a node refuses to start.
        RunError: When another rank died, or ranks did not join in time.
    """
    if trainer.world_size == 1:
        yield
        return
    watchdog = _start(trainer, rendezvous, str(flags["name"]), hang_timeout)
    try:
        _check_agreement(trainer, flags, rows())
        yield
    except Exception as error:  # the peer watchdogs of other ranks detect the end of this process
        if watchdog.explains(error):
            watchdog.kill_frozen()
            raise RunError(watchdog.message) from error
        raise
    except BaseException:  # a graceful shutdown of all ranks
        watchdog.finish()
        raise
    watchdog.finish()


def _start(trainer: pl.Trainer, rendezvous: Rendezvous, name: str, hang_timeout: float) -> PeerWatchdog:
    from transformers_framework.distributed.collectives import broadcast, refuse_pickles
    from transformers_framework.distributed.peer_watchdog import PeerWatchdog
    from transformers_framework.distributed.sockets import stay_on_loopback

    strategy: Any = trainer.strategy
    address = LOOPBACK if trainer.num_nodes == 1 else strategy.cluster_environment.main_address
    if is_loopback(address):
        stay_on_loopback()
    refuse_pickles()
    strategy.broadcast = broadcast
    join = partial(_join, trainer, rendezvous, address, name)
    if strategy.launcher is None:
        join()
    else:
        os.environ[PARENT] = str(os.getpid())
        strategy.launcher.launch(join)
    watchdog = PeerWatchdog(
        trainer.global_rank,
        trainer.world_size,
        broadcast,
        address,
        getattr(strategy.launcher, "procs", ()),
        rendezvous.late_refusal,
        hang_timeout,
    )
    end_with_parent(False)
    return watchdog


def _join(trainer: pl.Trainer, rendezvous: Rendezvous, address: str, name: str) -> None:
    """Initialize the process group of a run when all ranks have joined; torchrun has its own rendezvous."""
    import torch

    from transformers_framework.compat import lightning

    lightning.end_child_observers()
    strategy: Any = trainer.strategy
    if strategy.root_device.type == "cuda":
        torch.cuda.set_device(strategy.root_device)
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        strategy.set_world_ranks()
        environment, world_size = strategy.cluster_environment, trainer.world_size
        rank, node, nodes = trainer.global_rank, strategy.node_rank, trainer.num_nodes
        me = Participant(rank, node, world_size, nodes, name, logs=trainer.local_rank == 0)
        master = MasterAddress(address, environment.main_port, node)
        options = lightning.process_group_options(strategy)
        store = rendezvous.store(me, master, check_alive=partial(_check_children, strategy.launcher))
        if not is_loopback(address):
            choose_interface(address)
        torch.distributed.init_process_group(
            store=store,
            rank=rank,
            world_size=world_size,
            device_id=strategy.root_device if strategy.root_device.type != "cpu" else None,
            **options,
        )
        if options["backend"] == "nccl":
            atexit.register(lightning.destroy_process_group)
    strategy.setup_environment()


def _check_children(launcher: Any) -> None:
    """Raise if a process that this process launched has exited before the run starts."""
    for local_rank, child in enumerate(getattr(launcher, "procs", ()), 1):
        if (status := child.poll()) is not None:
            raise RunError(
                f"Process {local_rank} of this machine exited with status {status} before the run started. Read "
                "its last messages; without any, it probably ran out of memory."
            )


def _check_agreement(trainer: pl.Trainer, flags: Mapping[str, Any], rows: Mapping[Any, str]) -> None:
    from transformers_framework.distributed.collectives import all_gather_json

    meant = [f"--{name} {value}" for name, value in flags.items() if not LOCAL_FLAGS.fullmatch(name)]
    meant += [f"{text} of --{stage}_dataset" for stage, text in rows.items()]
    everyone = [set(theirs) for theirs in all_gather_json(meant)]
    for rank, theirs in enumerate(everyone):
        if here := sorted(theirs - everyone[0]):
            there = sorted(everyone[0] - theirs)
            raise ConfigurationError(
                f"Process {rank} has {', '.join(here)}, but process 0 has {', '.join(there)}. Give the same command "
                "and the same data on every node."
            )


def share_checkpoint(trainer: pl.Trainer, path: str | None, folder: Path) -> str | None:
    """Return the path of a checkpoint on this node; nodes without it receive it if it belongs to this run.

    Args:
        trainer: The trainer, whose ranks have started.
        path: The checkpoint; the value of rank 0 is used.
        folder: Checkpoint folder of this run on this node.

    Raises:
        ConfigurationError: When the checkpoint does not belong to this run and is missing on a node.
    """
    if trainer.world_size == 1:
        return path
    import numpy as np

    from transformers_framework.distributed.collectives import all_gather_json, broadcast

    source = Path(path) if path is not None else None
    choice = (path, source.parent == folder, source.is_dir(), _content_hash(source)) if source is not None else None
    chosen = broadcast(choice)
    if chosen is None:
        return None
    text, is_ours, is_folder, mark = chosen
    mine = folder / Path(text).name if is_ours else Path(text)
    lacks = all_gather_json(mine.is_dir() != is_folder if is_folder else _content_hash(mine) != mark)
    if not any(lacks):
        return str(mine)
    if is_folder or not is_ours:
        raise ConfigurationError(
            f"{text} is not on every node. Copy it to every node, or use an --output_dir that the nodes share."
        )
    receives = lacks[trainer.global_rank] and trainer.local_rank == 0
    with contextlib.ExitStack() as files:
        given = files.enter_context(mine.open("rb")) if trainer.is_global_zero else None
        taken = files.enter_context(files.enter_context(atomic_file(mine)).open("wb")) if receives else None
        while len(chunk := broadcast(np.fromfile(given, np.uint8, CHUNK) if given else None)):
            if taken:
                taken.write(chunk)
    trainer.strategy.barrier()
    return str(mine)


def _content_hash(path: Path) -> str | None:
    """Return a hash of the last megabyte of a checkpoint, which contains the checksums of all its tensors."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2**20))
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None
