"""Where the teacher runs: on the student's device, on one of its own, or spread over the GPUs that no student uses."""

from dataclasses import dataclass

import torch

from fcdistill.errors import ConfigError
from fcdistill.machine.launcher import num_local_processes

__all__ = ["TeacherPlace", "free_gpus", "teacher_place"]

_USED_FRACTION = 0.9
"""Of a GPU's free memory: the rest is for activations and logits."""


@dataclass(frozen=True)
class TeacherPlace:
    """A device, or several with the bytes of weights that each may take."""

    device: torch.device
    """Where the teacher's inputs go."""
    max_memory: dict[int, int] | None = None
    """By index of the GPU, where the teacher is spread over several."""


def teacher_place(teacher_device: str | None, student: torch.device) -> TeacherPlace:
    """What a configuration's `teacher_device` means beside a student on this device; nothing is allocated.

    Raises:
        ConfigError: `auto`, and there is no GPU but those of the students.
    """
    if teacher_device is None:
        # accelerate calls the CPUs that several processes share cpu:0.
        return TeacherPlace(torch.device("cpu") if student.type == "cpu" else student)
    if teacher_device != "auto":
        return TeacherPlace(torch.device(teacher_device))
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    num_students = num_local_processes()
    free = free_gpus(num_gpus, num_students, student)
    if not free:
        raise ConfigError(
            f"teacher_device is auto, but this machine has {num_gpus} CUDA devices for {num_students} students",
            required="at least one CUDA device that no student uses",
            fix="leave teacher_device away, name a device, or launch fewer processes",
        )
    # Each local process has a teacher of its own.
    shares = {index: int(_USED_FRACTION * torch.cuda.mem_get_info(index)[0]) // num_students for index in free}
    return TeacherPlace(torch.device("cuda", free[0]), shares)


def free_gpus(num_gpus: int, num_students: int, student: torch.device) -> list[int]:
    """Indices of the GPUs that no student uses: several students have the first ones."""
    if num_students > 1:
        return list(range(num_students if student.type == "cuda" else 0, num_gpus))
    used = (student.index or 0) if student.type == "cuda" else -1
    return [index for index in range(num_gpus) if index != used]
