"""The processes that train one network together, one per GPU, and their communication.

Each process has a part of every batch. The loss is that of the whole batch in each of them, so that a training has
the same result in several processes as in one, except for rounding, and for batch normalisation on the processor, whose
statistics in training are those of a process's own faces.
"""

import gc
import io
import math
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, cast

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from affectnet.errors import UserError
from affectnet.running.parallel import cores
from affectnet.training.launcher import reporting_failures
from affectnet.training.targets import Targets

LONGEST_WAIT = timedelta(hours=12)
"""Of the other processes, while the first decodes the faces. The launcher notices when one of them has died."""


class Group:
    """A single process: each method returns its argument, or does nothing."""

    rank, count = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def refuse_small_steps(self, rows: int, batch: int) -> None:
        """Batch normalisation needs two faces of each process. Errors: UserError when an epoch's steps have fewer."""

    def own_rows(self, faces: int) -> slice:
        """This process's part of the rows of `faces` faces: contiguous; the parts of two processes differ by one row at most."""
        return slice(0, faces)

    def gather(self, rows: torch.Tensor, faces: int) -> torch.Tensor:
        """(faces, …) rows of all processes in order, of which `rows` are this one's."""
        return rows

    def gather_outputs(self, outputs: torch.Tensor, targets: Targets, faces: int) -> tuple[torch.Tensor, Targets]:
        """Outputs and targets of all processes' faces; the gradient flows into this process's own outputs."""
        return outputs, targets

    def weighted_mean(self, rows: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
        """(k, d) means of the rows over the processes, each weighted by its mass (k,); 0 where the mass is 0."""
        return rows

    def average_statistics(self, *networks: nn.Module) -> None:
        """Makes the running statistics of batch normalisation their mean over the processes."""

    def synchronised(self, network: nn.Module) -> nn.Module:
        """The network with batch statistics over all processes, where the device can; weights keep their names."""
        return network

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients that are means over the processes. Wrap it again when other parameters are trainable."""
        return network

    def gradient_exchange(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Context of a forward and backward pass: gradients are exchanged only after the last pass of a step."""
        return nullcontext()

    def barrier(self) -> None:
        """Waits until all processes have called it."""

    @contextmanager
    def first_process_first(self) -> Iterator[None]:
        """Runs the block in the first process, and then in the others: for files that one writes and all read."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()


class Processes(Group):
    """One of several processes, after torch's process group is initialised."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    def refuse_small_steps(self, rows: int, batch: int) -> None:
        smallest = rows // math.ceil(rows / batch)
        if smallest < 2 * self.count:
            raise UserError(
                f"train.batch: a step of {smallest} faces leaves fewer than two to each of {self.count} processes; "
                "choose a larger batch or fewer runtime.processes"
            )

    def own_rows(self, faces: int) -> slice:
        return self._rows_of(self.rank, faces)

    def gather(self, rows: torch.Tensor, faces: int) -> torch.Tensor:
        ranges = [self._rows_of(rank, faces) for rank in range(self.count)]
        longest = ranges[0].stop
        if not faces or 0 in rows.shape[1:]:
            return rows.new_empty(faces, *rows.shape[1:])
        padded = torch.zeros(longest, *rows.shape[1:], dtype=rows.dtype, device=self.device)
        padded[: len(rows)] = rows
        received = [torch.empty_like(padded) for _ in ranges]
        distributed.all_gather(received, padded)
        return torch.cat([values[: one.stop - one.start] for values, one in zip(received, ranges, strict=True)]).to(rows.device)

    def gather_outputs(self, outputs: torch.Tensor, targets: Targets, faces: int) -> tuple[torch.Tensor, Targets]:
        """The gradient is multiplied by `count`, because `wrap` divides the sum over the processes by it."""
        local = self.own_rows(faces)
        columns = [outputs.shape[1], targets.expression.shape[1], targets.affect.shape[1]]
        gathered = self.gather(torch.cat([outputs.detach(), targets.expression, targets.affect], 1), faces)
        detached, expression, affect = torch.split(gathered, columns, 1)
        rows = None if targets.rows is None else self.gather(targets.rows, faces)
        if outputs.requires_grad:
            outputs.register_hook(lambda gradient: gradient * self.count)  # type: ignore[no-untyped-call]
        return torch.cat([detached[: local.start], outputs, detached[local.stop :]]), Targets(expression, affect, rows)

    def weighted_mean(self, rows: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
        total = torch.cat([rows * mass[:, None], mass[:, None]], 1)
        distributed.all_reduce(total)
        return total[:, :-1] / total[:, -1:].clamp_min(1e-12)

    def average_statistics(self, *networks: nn.Module) -> None:
        norms = [module for network in networks for module in network.modules() if isinstance(module, _BatchNorm)]
        for buffer in (buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None):
            distributed.all_reduce(buffer)
            buffer.div_(self.count)

    def synchronised(self, network: nn.Module) -> nn.Module:
        if self.device.type != "cuda":
            return network
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        if type(network).__module__.startswith("timm."):
            from timm.layers.norm_act import convert_sync_batchnorm as convert  # noqa: PLC0415 (optional; torch's loses timm's activations)
        return cast(nn.Module, convert(network))

    def wrap(self, network: nn.Module) -> nn.Module:
        wrapped = DistributedDataParallel(network)
        wrapped.broadcast_buffers = False  # as an argument it is deprecated, and what follows it is newer than torch 2.11
        return wrapped

    def gradient_exchange(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else cast(DistributedDataParallel, wrapped).no_sync()

    def barrier(self) -> None:
        distributed.barrier()

    def _rows_of(self, rank: int, faces: int) -> slice:
        each, remainder = divmod(faces, self.count)
        return slice(rank * each + min(rank, remainder), (rank + 1) * each + min(rank + 1, remainder))


def is_launched() -> bool:
    """Whether torch's launcher, ours or torchrun, started this process."""
    return distributed.is_torchelastic_launched()


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """The processes that torch's launcher started with this one, on this kind of device; only this one without a launcher."""
    if not is_launched():
        yield Group(device)
        return
    with reporting_failures():
        yield from _joined(device)


def _joined(device: torch.device) -> Iterator[Group]:
    torch.set_num_threads(max(1, cores() // int(os.environ["LOCAL_WORLD_SIZE"])))
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    backend, bound = ("nccl", device) if device.type == "cuda" else ("gloo", None)
    distributed.init_process_group(backend, timeout=LONGEST_WAIT, device_id=bound)
    group = Processes(device)
    yield group
    group.barrier()
    gc.collect()  # collect before teardown: gloo's threads abort the process when they free tensors after the interpreter's exit
    distributed.destroy_process_group()
    if not group.first:
        sys.stdout = io.StringIO()  # only the first process prints the summary line
