"""How many held-out requests the student answers with exactly the right calls, while it is trained.

The student is asked as it stands: with its prompts, in the precision of training, adapters unmerged, through the
backend that evaluation uses. Asking draws no random numbers and leaves the model as it was, so that training goes on as
without it. What follows from the figure is not known here.
"""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from fcdistill.backends.base import Completion, Request
from fcdistill.backends.local.local_backend import LocalBackend
from fcdistill.config import DecodeSettings, MonitorConfig, ToolsInPrompt
from fcdistill.distillation.eval_mode import answering
from fcdistill.models.loading import LoadedModel
from fcdistill.records import ModelRef, Trace
from fcdistill.records.equality import same_calls

__all__ = ["CallMonitor", "is_right"]


class CallMonitor(TrainerCallback):  # type: ignore[misc]
    """Measures call accuracy on held-out traces, and has the Trainer evaluate when that is due.

    Args:
        config: how often, how many, how long.
        model: the student; processes of one training hold the same weights.
        tokenizer: its tokenizer.
        ref: what it is called in errors.
        traces: the held-out traces.
        tools_in_prompt: how its prompts show the tools.
        autocast: precision of its matrix products where that is not the precision of its weights.
    """

    def __init__(
        self,
        config: MonitorConfig,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        ref: ModelRef,
        *,
        traces: Sequence[Trace],
        tools_in_prompt: ToolsInPrompt,
        autocast: torch.dtype | None,
    ) -> None:
        assert config.steps is not None and traces
        self.config = config
        self._steps = config.steps
        self._settings = DecodeSettings(max_new_tokens=config.max_new_tokens)
        self._batch_size = config.batch_size
        self._model = model
        self._loaded = LoadedModel(
            model.get_base_model() if isinstance(model, PeftModel) else model, tokenizer, ref, card=None
        )
        self._traces = list(traces[: config.num_examples])
        self._tools_in_prompt = tools_in_prompt
        self._autocast = autocast
        self._backend: LocalBackend | None = None

    def is_due(self, state: TrainerState) -> bool:
        """Whether call accuracy is measured at this step: every so many steps, and at the last one."""
        return bool(state.global_step % self._steps == 0 or state.global_step >= state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask the Trainer for an evaluation when it is due."""
        if self.is_due(state):
            control.should_evaluate = True

    def call_accuracy(self, accelerator: Accelerator) -> float:
        """The share of the traces whose answer `is_right`.

        Each process asks for its part of them, and all get the same figure, so that they also decide alike.

        Raises:
            BackendError: the model failed, for example for lack of memory.
        """
        part = {trace.id: trace for trace in self._traces[accelerator.process_index :: accelerator.num_processes]}
        requests = [Request(id=trace.id, messages=trace.messages[:-1], specs=trace.specs) for trace in part.values()]
        with answering(self._model, self._autocast):
            if self._backend is None:
                self._backend = LocalBackend(
                    self._loaded, batch_size=self._batch_size, tools_in_prompt=self._tools_in_prompt
                )
            answers = list(self._backend.complete(requests, self._settings))
            self._backend.close()  # what it remembers of prompts was computed with weights that now change
        num_right = sum(is_right(part[answer.id], answer) for answer in answers)
        total = accelerator.reduce(torch.tensor(num_right, device=accelerator.device), reduction="sum")
        return int(total) / len(self._traces)


def is_right(trace: Trace, answer: Completion) -> bool:
    """Whether an answer makes exactly the verified calls, in any order, and nothing in it is malformed.

    Where no call is verified, a text without any call is right. An answer that is empty or was cut off never is.
    """
    output = answer.parsed([tool.function for tool in trace.tools])
    if answer.finish_reason == "length" or not (output.calls or output.text):
        return False
    return not output.errors and same_calls(trace.answer.calls, output.calls)
