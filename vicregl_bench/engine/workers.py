"""Data loading processes that leave signals to the process that started them."""

import os


def leave_process_group(worker_id: int) -> None:
    """Start a worker in a process group of its own.

    Ctrl-C and a scheduler's SIGTERM go to the whole group. The main process decides what they mean;
    a worker that died of them first would bring it down in the middle of saving.
    """
    os.setpgid(0, 0)
