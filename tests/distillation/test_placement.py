import pytest
import torch

from fcdistill.distillation import placement
from fcdistill.distillation.placement import free_gpus, teacher_place
from fcdistill.errors import ConfigError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_without_a_device_of_its_own_the_teacher_is_beside_the_student() -> None:
    assert teacher_place(None, GPU).device == GPU and teacher_place(None, GPU).max_memory is None
    assert teacher_place("cpu", GPU).device == teacher_place(None, torch.device("cpu", 0)).device == CPU
    assert teacher_place("cuda:1", GPU).device == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("num_gpus", "num_students", "student", "free"),
    [
        (4, 1, GPU, [1, 2, 3]),
        (4, 1, torch.device("cuda"), [1, 2, 3]),
        (4, 1, torch.device("cuda", 2), [0, 1, 3]),
        (4, 2, torch.device("cuda", 1), [2, 3]),
        (2, 2, GPU, []),
        (2, 1, CPU, [0, 1]),
        (2, 2, CPU, [0, 1]),
        (1, 1, GPU, []),
    ],
)
def test_the_gpus_of_the_students_are_left_to_them(
    num_gpus: int, num_students: int, student: torch.device, free: list[int]
) -> None:
    assert free_gpus(num_gpus, num_students, student) == free


def test_several_students_share_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (1000 * index, 9999))
    place = teacher_place("auto", GPU)
    assert (place.device, place.max_memory) == (torch.device("cuda", 2), {2: 900, 3: 1350})


def test_auto_without_a_free_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="teacher_device is auto, but this machine has 0 CUDA devices for 1 students"):
        teacher_place("auto", CPU)
