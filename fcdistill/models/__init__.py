"""From a model reference to a model and its tokenizer; whether two tokenizers share a vocabulary.

How prompts are rendered is not known here. The names of `students` and of the catalogue are offered here too: whoever
uses models meets all three.
"""

from fcdistill.model_catalogue import CATALOGUE, pull
from fcdistill.models.devices import choose_device
from fcdistill.models.fetching import without_weights
from fcdistill.models.loading import LoadedModel, load_model, load_tokenizer
from fcdistill.models.references import ResolvedModel, resolve
from fcdistill.models.shapes import ModelShape, card_of, load_skeleton, model_shape
from fcdistill.models.vocabulary import SharedVocabulary, shared_vocabulary
from fcdistill.students import (
    CARD_NAME,
    StudentCard,
    apply_lora,
    cut_layers,
    layers_to_keep,
    save_student,
    trained_token_ids,
)

__all__ = [
    "CARD_NAME",
    "CATALOGUE",
    "LoadedModel",
    "ModelShape",
    "ResolvedModel",
    "SharedVocabulary",
    "StudentCard",
    "apply_lora",
    "card_of",
    "choose_device",
    "cut_layers",
    "layers_to_keep",
    "load_model",
    "load_skeleton",
    "load_tokenizer",
    "model_shape",
    "pull",
    "resolve",
    "save_student",
    "shared_vocabulary",
    "trained_token_ids",
    "without_weights",
]
