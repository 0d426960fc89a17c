"""A subclass of `transformers.Trainer` for packed micro batches and the distillation objective.

The Trainer keeps its loop, schedules, checkpoints and distribution. What differs: the loss is computed here from
selected rows (HF `labels` are never passed), it is divided by totals of the whole optimizer step, projectors are
trained and saved beside the model, and held-out evaluation reports cross-entropy, token accuracy and, where it is
monitored, call accuracy. Where examples and models come from is not known here (`run`).
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from fcdistill.config import ObjectiveConfig
from fcdistill.distillation.batches import MicroBatch
from fcdistill.distillation.callbacks.best_student import BestStudent
from fcdistill.distillation.callbacks.call_accuracy import CallMonitor
from fcdistill.distillation.callbacks.checkpoints import checkpoint_of, last_sealed, remove_older, seal
from fcdistill.distillation.callbacks.progress import LinesBeforeCheckpoints
from fcdistill.distillation.examples.collation import Collator
from fcdistill.distillation.examples.examples import Example
from fcdistill.distillation.launch.batch_shards import sharded_loader
from fcdistill.distillation.losses.chunks import row_chunks
from fcdistill.distillation.losses.divergences import cross_entropy
from fcdistill.distillation.objective import RowSums, SpanRows, StepTotals, loss_and_components
from fcdistill.distillation.on_policy import OnPolicy
from fcdistill.distillation.packed.forward import ModelRows, forward_rows
from fcdistill.distillation.signals.sources import CachedRows, CachedTeacher, OnlineTeacher
from fcdistill.distillation.student.projectors import PROJECTORS_NAME, Projectors
from fcdistill.distillation.student_model import StudentModel
from fcdistill.errors import ModelError
from fcdistill.models.students import weight_storage_errors

__all__ = ["DistillTrainer"]


class _ZeroProjectorGradients(TrainerCallback):  # type: ignore[misc]
    """The Trainer clears the gradients of its model only."""

    def __init__(self, projectors: nn.Module) -> None:
        self._projectors = projectors

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._projectors.zero_grad()


class DistillTrainer(Trainer):  # type: ignore[misc]
    """Trains a student on examples, with a teacher where the objective needs one.

    Args:
        student: the student.
        args: arguments of the Trainer; the batch size is that of a micro batch.
        objective: the terms of the loss.
        collator: makes micro batches.
        train_examples: what is trained on.
        held_out_examples: what `evaluate` measures.
        teacher: needed where the objective has a logit or hidden-state term; a cached one is also the collator's.
        projectors: needed where it has a hidden-state term; their pairs are the aligned layers.
        monitor: measures call accuracy where that is wanted; its config also says which weights are kept.
        on_policy: samples what some steps train on; needs a teacher that runs beside the student.
        callbacks: further callbacks.
        compiled: `compiled_row_sums`, where the loss is compiled.
    """

    # The loss is divided by totals of the optimizer step, whatever the number of micro batches.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        student: StudentModel,
        args: TrainingArguments,
        *,
        objective: ObjectiveConfig,
        collator: Collator,
        train_examples: Sequence[Example] | Dataset[Example],
        held_out_examples: Sequence[Example] = (),
        teacher: OnlineTeacher | CachedTeacher | None = None,
        projectors: Projectors | None = None,
        monitor: CallMonitor | None = None,
        on_policy: OnPolicy | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        compiled: RowSums | None = None,
    ) -> None:
        args._n_gpu = min(args.n_gpu, 1)  # several GPUs are used through a launcher, never through DataParallel
        super().__init__(
            model=student.model,
            args=args,
            # Where answers are yet to be sampled, examples become tensors later, see `get_batch_samples`.
            data_collator=collator if on_policy is None else list,
            train_dataset=train_examples,
            eval_dataset=held_out_examples,
            callbacks=list(callbacks),
        )
        self._student = student
        self._collator = collator
        self._on_policy = on_policy
        self._objective = objective
        # Nobody has verified what the student samples: there is nothing to imitate, and nothing to gate the teacher by.
        self._sample_objective = objective.model_copy(update={"ce_weight": 0.0, "kd_gate": "off"})
        self._teacher = teacher
        self._compiled = compiled
        self._pairs = projectors.pairs if projectors is not None else ()
        self._projectors = projectors
        self._projector_call: nn.Module | None = projectors
        if projectors is not None and any(True for _ in projectors.parameters()):
            projectors.to(args.device)
            self.add_callback(_ZeroProjectorGradients(projectors))
            if self.accelerator.num_processes > 1:
                self._projector_call = self.accelerator.prepare_model(projectors)
        self._monitor = monitor
        if monitor is not None:
            self.add_callback(monitor)
            self.add_callback(BestStudent(monitor.config))
        self.add_callback(LinesBeforeCheckpoints())
        self._sums: dict[str, Tensor] = {}
        self._sample_sums: dict[str, Tensor] = {}
        self._since: tuple[int, float] | None = None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: MicroBatch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """This micro batch's share of the optimizer step's loss.

        Times the number of processes, since their gradients are averaged.

        Args:
            model: the student, with whatever wraps it.
            inputs: a batch of `Collator`, on the model's device.
            return_outputs: not supported.
            num_items_in_batch: the step's totals, see `_get_num_items_in_batch`.
        """
        assert not return_outputs and num_items_in_batch is not None
        self._start_clock()
        is_sampled = "num_valid" in inputs
        objective = self._sample_objective if is_sampled else self._objective
        rows = forward_rows(
            model,
            self._student.head,
            inputs["student"]["inputs"],
            inputs["student"]["logit_rows_N"],
            layers=[student_layer for student_layer, _ in self._pairs],
            hidden_rows_M=inputs["student"]["hidden_rows_M"],
            autocast=self._student.autocast,
        )
        vocabulary_map = self._teacher.vocabulary_map if self._teacher is not None else None
        loss, found = loss_and_components(
            objective,
            rows,
            self._teacher_rows(inputs),
            targets_N=inputs["targets_N"],
            weights_N=inputs["weights_N"],
            pairs=self._pairs,
            projectors=self._projector_call,
            totals=StepTotals(*num_items_in_batch),
            spans=SpanRows(inputs["spans"], vocabulary_map) if vocabulary_map is not None else None,
            compiled=self._compiled,
        )
        for name, value in found.items():
            _add(self._sample_sums if is_sampled else self._sums, name, value)
        if is_sampled:
            _add(self._sample_sums, "num_examples", inputs["num_examples"])
            _add(self._sample_sums, "num_valid", inputs["num_valid"])
        _add(self._sums, "num_tokens", inputs["num_tokens"])
        _add(self._sums, "num_examples", inputs["num_examples"])
        num_processes: int = self.accelerator.num_processes
        loss = loss * num_processes
        if num_processes > 1 and not objective.ce_weight + objective.kd_weight:
            # Processes average the gradients of all trained weights, also of those that no term reaches here.
            loss = loss + 0.0 * rows.logits_NV.float().sum()
        return loss

    def _teacher_rows(self, batch: MicroBatch) -> ModelRows | CachedRows | None:
        if isinstance(self._teacher, CachedTeacher):
            return self._teacher.rows(batch["cached"])
        return self._teacher.rows(batch["teacher"]) if self._teacher is not None else None

    def _start_clock(self) -> None:
        if self._since is None:
            self._since = (self.state.global_step, time.monotonic())

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[MicroBatch], Tensor | None]:
        """The micro batches of an optimizer step and its totals; here, before any loss, answers are sampled."""
        if self._on_policy is None:
            found: tuple[list[MicroBatch], Tensor | None]
            found = super().get_batch_samples(epoch_iterator, num_batches, device)
            return found
        self._start_clock()
        groups = list(itertools.islice(epoch_iterator, num_batches))
        batches = self._on_policy.batches(groups, self.state.global_step, self._collator)
        return batches, self._get_num_items_in_batch(batches, device)

    def get_train_dataloader(self) -> Any:
        """The Trainer's; several processes share out the very micro batches of a single one."""
        if self.accelerator.num_processes == 1:
            return super().get_train_dataloader()
        return sharded_loader(
            self.train_dataset,
            self.data_collator,
            batch_size=self.args.per_device_train_batch_size,
            num_processes=self.accelerator.num_processes,
            process_index=self.accelerator.process_index,
            place=self.args.device,
        )

    def _get_num_items_in_batch(self, batch_samples: list[MicroBatch], device: torch.device) -> Tensor | None:
        """The optimizer step's token weight and number of aligned rows, over all micro batches and processes."""
        totals = torch.zeros(2, dtype=torch.float32, device=device)
        for batch in batch_samples:
            totals[0] += batch["weights_N"].sum()
            totals[1] += len(batch["student"]["hidden_rows_M"])
        if self.accelerator.num_processes > 1:
            totals = self.accelerator.reduce(totals, reduction="sum")
        return totals

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the components and the speed since the last line to the Trainer's log."""
        if "loss" in logs and self._since is not None:
            step, started = self._since
            steps = range(step, self.state.global_step)
            num_sampled = sum(map(self._on_policy.is_on_policy, steps)) if self._on_policy is not None else 0
            elapsed_s = time.monotonic() - started
            for name, total in self._totals(self._sums).items():
                if name.startswith("num_"):
                    logs[f"{name.removeprefix('num_')}_per_s"] = total / elapsed_s
                else:
                    logs[name] = total / (len(steps) - num_sampled)
            if num_sampled:
                totals = self._totals(self._sample_sums)
                logs["on_policy_examples"] = num_examples = int(totals.pop("num_examples"))
                logs["on_policy_valid"] = totals.pop("num_valid") / num_examples
                logs |= {f"on_policy_{name}": total / num_sampled for name, total in totals.items()}
            self._since = (self.state.global_step, time.monotonic())
        super().log(logs, start_time)

    def _totals(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Sums over all processes, which begin anew."""
        totals = {name: self.accelerator.reduce(value, reduction="sum").item() for name, value in sorted(sums.items())}
        sums.clear()
        return totals

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "held_out"
    ) -> dict[str, float]:
        """Cross-entropy (nats per completion token, no class weights) and token accuracy of the held-out examples.

        Every process computes all of them. Call accuracy is added at the steps at which the monitor wants it.
        """
        started = time.monotonic()
        examples = self.eval_dataset
        size = self.args.per_device_train_batch_size
        was_training = self.model.training
        self.model.eval()
        sums = torch.zeros(2, device=self.args.device)
        num_tokens = 0
        for start in range(0, len(examples), size):
            batch: MicroBatch = self._prepare_inputs(self._collator(examples[start : start + size]))
            found = forward_rows(
                self.model,
                self._student.head,
                batch["student"]["inputs"],
                batch["student"]["logit_rows_N"],
                autocast=self._student.autocast,
            )
            for logits_NV, targets_N in row_chunks(found.logits_NV, batch["targets_N"]):
                sums[0] += cross_entropy(logits_NV, targets_N)
                sums[1] += (logits_NV.argmax(-1) == targets_N).sum()
            num_tokens += len(batch["targets_N"])
        self.model.train(was_training)
        ce, right = (sums / num_tokens).tolist()
        metrics = {"held_out_ce": ce, "held_out_token_accuracy": right}
        if self._monitor is not None and self._monitor.is_due(self.state):
            metrics["held_out_call_accuracy"] = self._monitor.call_accuracy(self.accelerator)
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self._since is not None:  # the time spent here is not training time
            self._since = (self._since[0], self._since[1] + time.monotonic() - started)
        return metrics

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer, which also trains the projectors."""
        fresh = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if fresh and (parameters := self._projector_parameters()):
            optimizer.add_param_group({"params": parameters, "weight_decay": 0.0})
        return optimizer

    def _clip_grad_norm(self, model: nn.Module) -> Tensor | None:
        parameters = [*model.parameters(), *self._projector_parameters()]
        norm: Tensor | None = self.accelerator.clip_grad_norm_(parameters, self.args.max_grad_norm)
        # A loss of float16 is scaled: where that overflows, the step is left out and the scale made smaller.
        if isinstance(norm, Tensor) and self.accelerator.scaler is None and not norm.isfinite():
            self._refuse_step(
                f"the gradient of step {self.state.global_step + 1} is not finite (its norm is {norm.item()})"
            )
        return norm

    def _require_finite_weights(self) -> None:
        """Refuse to save what nothing can be computed with."""
        trained = itertools.chain(self.model.named_parameters(), self._named_projector_parameters())
        broken = [name for name, weight in trained if weight.requires_grad and not weight.isfinite().all()]
        if broken:
            self._refuse_step(f"the weights of step {self.state.global_step} are not finite ({broken[0]})")

    def _refuse_step(self, problem: str) -> NoReturn:
        last = last_sealed(Path(self.args.output_dir)) if self.args.should_save else None
        kept = f"; the last whole checkpoint is {last}" if last is not None else ""
        raise ModelError(
            f"{problem}, so that training can't go on{kept}",
            required="a loss with finite gradients at every step",
            fix="train in another directory with a lower learning_rate, a higher kd_temperature, or dtype float32",
        )

    def _projector_parameters(self) -> list[nn.Parameter]:
        return [weight for _, weight in self._named_projector_parameters()]

    def _named_projector_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self._projectors.named_parameters() if self._projectors is not None else iter(())

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if not self.args.should_save:
            return
        directory = Path(output_dir if output_dir is not None else self.args.output_dir)
        # Adapters keep the rows that they change themselves; peft would ask the hub to find that out.
        extra = {"save_embedding_layers": False} if isinstance(self.model, PeftModel) else {}
        self.model.save_pretrained(directory, state_dict=state_dict, **extra)
        if self._projector_parameters():
            assert self._projectors is not None
            self._projectors.save(directory / PROJECTORS_NAME)

    def train(self, *arguments: Any, **options: Any) -> Any:
        """As the Trainer's, which must leave weights that can be used."""
        output = super().train(*arguments, **options)
        self._require_finite_weights()
        return output

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._require_finite_weights()
        with weight_storage_errors(Path(self.args.output_dir), "write a checkpoint in"):
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint = checkpoint_of(Path(self.args.output_dir), self.state.global_step)
            best = self.best_checkpoint
            seal(checkpoint, *([] if best is None or best == checkpoint else [best]))
            # The Trainer itself would remove older ones before this one is sealed.
            remove_older(checkpoint.parent)

    @property
    def best_checkpoint(self) -> Path | None:
        """The checkpoint of the highest call accuracy, where the student of that step is kept."""
        if self._monitor is None or not self._monitor.config.keeps_best or self.state.best_global_step is None:
            return None
        return checkpoint_of(Path(self.args.output_dir), self.state.best_global_step)

    def load_best(self) -> int:
        """Give the student the weights of its highest call accuracy, where they are kept; the step they are of."""
        step: int = self.state.global_step
        best = self.best_checkpoint
        if best is not None and self.state.best_global_step != step:
            self._load_from_checkpoint(str(best))
            step = self.state.best_global_step
        return step

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._projector_parameters():
            assert self._projectors is not None
            self._projectors.load(Path(resume_from_checkpoint) / PROJECTORS_NAME)


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value.clone()
