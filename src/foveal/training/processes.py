"""Several processes of one training (`torchrun`): who writes, what they agree on, how they end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState

from foveal.errors import UserError
from foveal.runs import Run, world_size


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def agree_on_run(make: Callable[[], Run], *, cpu: bool) -> Run:
    """The run that the main process makes, in all processes.

    Args:
        make: Makes the run; called in the main process only.
        cpu: Whether training is on CPU (decides the backend).

    Raises:
        UserError: In every process, where the main one could not make it.
    """
    if world_size() == 1:
        return make()
    PartialState(cpu=cpu)
    message: list[tuple[str, str] | None] = [None]
    if is_main():
        try:
            message = [("run", str(make().path))]
        except UserError as error:
            message = [("error", str(error))]
    torch.distributed.broadcast_object_list(message, src=0)
    kind, text = message[0] or ("error", "the main process told no run")
    if kind == "error":
        finish()
        raise UserError(text)
    return Run(Path(text))


def finish() -> None:
    """Waits for all and leaves the group; a process that just ends can take the others down after the work is done."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
