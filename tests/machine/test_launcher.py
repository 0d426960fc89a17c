import pytest

from fcdistill.machine.launcher import is_main_process, num_local_processes, num_processes, process_index


@pytest.mark.parametrize(
    ("variables", "count", "index"),
    [
        ({}, 1, 0),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, 2, 1),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 4, 3),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, 2, 0),
        ({"RANK": "3"}, 1, 0),
        ({"RANK": "", "WORLD_SIZE": ""}, 1, 0),
    ],
)
def test_the_launcher_says_who_this_process_is(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], count: int, index: int
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (num_processes(), process_index(), is_main_process()) == (count, index, index == 0)
    assert num_local_processes() == (2 if any("LOCAL" in name for name in variables) else 1)
