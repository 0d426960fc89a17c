"""FLOPs against torch's own counter, the clock's arithmetic, the memory of a process."""

import subprocess
import sys
from pathlib import Path

import measuring
import pytest
import torch
from measuring import ModelSize, StepClock, Work, padded_work
from torch.utils.flop_counter import FlopCounterMode

from fcdistill.config import LoraTuning
from fcdistill.models.students import apply_lora
from tests.tiny import tiny_model

TOKENS = 12


def counted_flops(model: torch.nn.Module) -> int:
    """What torch counts of a training step over one sequence, whose attention it counts as T x T."""
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=torch.arange(TOKENS)[None]).logits
        logits.float().sum().backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("adapted", [False, True])
def test_training_flops_are_those_that_torch_counts(adapted: bool) -> None:
    model = tiny_model("llama", 50, num_layers=2)
    model.set_attn_implementation("eager")
    if adapted:
        model = apply_lora(model, LoraTuning(lora_rank=4))
        # Otherwise the first layer's frozen matrices have no backward pass at all.
        model.enable_input_require_grads()
    work = Work(num_tokens=TOKENS, num_pairs=TOKENS * TOKENS, num_rows=TOKENS)
    assert ModelSize.of(model).training_flops(work) == pytest.approx(counted_flops(model), rel=1e-6)


def test_forward_flops_of_a_teacher_are_a_third_of_full_training() -> None:
    size = ModelSize(num_body=7, num_adapter=0, num_head=5, query_width=3)
    work = Work(num_tokens=11, num_pairs=13, num_rows=2)
    assert size.forward_flops(work) == 2 * 7 * 11 + 4 * 3 * 13 + 2 * 5 * 2
    assert size.training_flops(work) == 3 * size.forward_flops(work)


def test_padded_work_counts_no_padding() -> None:
    assert padded_work(torch.tensor([3, 1]), 2) == Work(num_tokens=4, num_pairs=3 + 2 + 1 + 1, num_rows=2)


def test_the_clock_leaves_the_warm_up_out_of_time_and_work_but_not_of_the_supervised_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([10.0, 12.0, 15.0])
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(times))
    model = tiny_model("llama", 50)
    clock = StepClock("cpu")
    clock.teacher_size = ModelSize.of(model)
    clock.on_train_begin(None, None, None, model=model)
    for tokens in (5, 7, 9):
        for _ in range(2):  # micro batches
            clock.count(Work(tokens, tokens, 1), Work(tokens, tokens, 1))
        clock.on_step_end(None, None, None)
    found = clock.result()
    assert found["step_s"] == [2.0, 3.0]
    assert found["supervised_tokens"] == 6
    assert found["computed_tokens"] == 2 * 7 + 2 * 9
    assert found["model_flops"] == 4 * clock.teacher_size.forward_flops(Work(32, 32, 4))
    assert found["peak_bytes"] >= found["loaded_bytes"] > 0


@pytest.mark.slow
def test_the_peak_is_the_process_s_own() -> None:
    held = bytearray(300 << 20)  # a parent that is large while it starts a contender
    code = "from measuring import peak_bytes; print(peak_bytes('cpu'))"
    held_peak = measuring.peak_bytes("cpu")
    path = Path(measuring.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=path, check=True, capture_output=True, text=True)
    assert int(done.stdout) < held_peak
    assert len(held) < held_peak
