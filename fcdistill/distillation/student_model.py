"""The student of a training: its weights made ready to be trained, and what is saved of it."""

from dataclasses import dataclass

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from fcdistill.config import FromTeacherLayers, FullTuning, LoraTuning, Quantization, TrainConfig
from fcdistill.distillation.launch.strategies import shards_weights
from fcdistill.distillation.packed.recomputation import recompute_cheap_parts
from fcdistill.distillation.preparation import Prepared
from fcdistill.distillation.student.lora import fuse_lora
from fcdistill.distillation.student.projectors import PROJECTORS_NAME, Projectors
from fcdistill.models.loading import load_model
from fcdistill.models.students import (
    StudentCard,
    apply_lora,
    cut_layers,
    layers_to_keep,
    save_student,
    trained_token_ids,
)
from fcdistill.prompts.chat_template import template_values
from fcdistill.prompts.rendering import call_format
from fcdistill.prompts.response_template import missing_response_template
from fcdistill.records import ModelRef
from fcdistill.storage import storage_errors
from fcdistill.toolcalls.dialects.table import DIALECTS

__all__ = ["StudentModel", "load_student", "quantization_of", "reassemble_student", "save_trained"]


@dataclass(frozen=True)
class StudentModel:
    """The student as it is trained."""

    model: PreTrainedModel | PeftModel
    head: nn.Module
    """Its output embeddings."""
    autocast: torch.dtype | None
    """Precision of its matrix products where its trained weights are kept in float32; None: that of its weights."""


def quantization_of(config: TrainConfig) -> Quantization:
    """How the student's weights are stored while an adapter is trained."""
    return config.tuning.quantization if isinstance(config.tuning, LoraTuning) else "none"


def load_student(config: TrainConfig, device: torch.device) -> tuple[StudentModel, ModelRef]:
    """The student, ready to be trained, and what its card calls its base; quantised weights come to their device."""
    full = isinstance(config.tuning, FullTuning)
    quantization = quantization_of(config)
    # Small updates vanish in bfloat16: weights that are trained are float32, and only products use config.dtype.
    loaded = load_model(
        config.student.model,
        config.student,
        thinks=config.keep_thinking,
        dtype="float32" if full else config.dtype,
        device="cpu" if quantization == "none" else str(device),
        quantization=quantization,
    )
    model: PreTrainedModel | PeftModel = loaded.model
    params: dict[str, object] = {}
    if isinstance(config.student, FromTeacherLayers):
        keep = layers_to_keep(model.config.get_text_config().num_hidden_layers, config.student)
        model = cut_layers(model, keep)
        params["keep_layers"] = keep
    if isinstance(config.tuning, LoraTuning):
        model = apply_lora(model, config.tuning, trained_token_ids(loaded.tokenizer, config.tuning))
        fuse_lora(model)
    head = model.get_output_embeddings()
    if not (config.gradient_checkpointing or shards_weights()):  # sharded weights come and go with their layer
        recompute_cheap_parts(model)
    autocast = torch.bfloat16 if config.dtype == "bfloat16" else None
    if autocast is not None:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                # Autocast chooses the precision; peft would first copy each input to float32.
                module.cast_input_dtype_enabled = False
    base = ModelRef(model=config.student.model, revision=loaded.ref.revision, params=params)
    return StudentModel(model, head, autocast), base


def reassemble_student(config: TrainConfig, weights: dict[str, torch.Tensor]) -> StudentModel:
    """The student with the weights that its shards make up."""
    student, _ = load_student(config, torch.device("cpu"))
    student.model.load_state_dict(weights)
    return student


def save_trained(
    config: TrainConfig, student: StudentModel, prepared: Prepared, base: ModelRef, projectors: Projectors | None
) -> None:
    """Write the student into the run directory: adapter, full weights, projectors, whatever it has and config asks.

    Raises:
        StorageError: the disk refused.
    """
    dialect = call_format(prepared.tokenizer).dialect
    card = StudentCard(
        tools_in_prompt=config.tools_in_prompt,
        tools=prepared.tools,
        base=base,
        dialect=dialect,
        server_parsers=DIALECTS[dialect].servers.by_server,
        no_response_template=missing_response_template(prepared.tokenizer, dialect),
        chat_template_kwargs=template_values(prepared.tokenizer, config.student, thinks=config.keep_thinking),
    )
    model = student.model
    if projectors is not None and projectors.maps:
        with storage_errors(config.out, "write"):
            projectors.save(config.out / PROJECTORS_NAME)
    if isinstance(model, PeftModel):
        save_student(model, prepared.tokenizer, config.out / "adapter", card)
        if not config.merge:
            return
        if quantization_of(config) == "none":
            model = model.merge_and_unload()
        else:
            # Merged into the weights as they are: quantised ones would round the adapter's small changes away.
            model = load_model(str(config.out / "adapter"), dtype=config.dtype, device="cpu").model
    save_student(model.to(getattr(torch, config.dtype)), prepared.tokenizer, config.out / "merged", card)
