"""What a launcher (accelerate, torchrun, mpirun) tells a process that it starts: which of how many it is.

It is read from the environment alone, so that the command line may ask before anything imports torch. How processes
exchange anything is not known here.
"""

import os

__all__ = ["is_main_process", "num_local_processes", "num_processes", "process_index"]

# In accelerate's order of precedence.
_INDEX_NAMES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_COUNT_NAMES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_COUNT_NAMES = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")


def num_processes() -> int:
    """How many processes were launched together; 1 without a launcher."""
    return max(1, _first_number(_COUNT_NAMES, 1))


def num_local_processes() -> int:
    """How many of them run on this machine."""
    return max(1, _first_number(_LOCAL_COUNT_NAMES, 1))


def process_index() -> int:
    """Which of them this one is, from 0."""
    return _first_number(_INDEX_NAMES, 0) if num_processes() > 1 else 0


def is_main_process() -> bool:
    """Whether this is the one that speaks and writes."""
    return process_index() == 0


def _first_number(names: tuple[str, ...], default: int) -> int:
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), default)
