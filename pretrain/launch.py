"""The processes of a run, as torchrun or srun started them."""

import os

import torch
from mmengine.dist import init_dist

from vicregl_bench.engine.device import choose_device
from vicregl_bench.errors import ConfigError


def join_processes(device: str) -> torch.device:
    """Join the processes of torchrun or srun, if there are any, and choose this one's device.

    Raises:
        ConfigError: no such device, fewer GPUs than processes, or srun without GPUs.
    """
    chosen = choose_device(device)
    by_srun = "RANK" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    if by_srun and chosen.type != "cuda":
        raise ConfigError("several tasks of srun need GPUs: use torchrun on the CPU")
    if by_srun and not torch.distributed.is_initialized():
        init_dist("slurm", backend="nccl")
    if not by_srun and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return chosen
    if chosen.type == "cuda":
        chosen = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(chosen)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return chosen
