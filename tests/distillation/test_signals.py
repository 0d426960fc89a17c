import torch

from fcdistill.distillation.data import Collator
from fcdistill.distillation.signals import OnlineTeacher
from tests.distillation.tiny_data import PACKED, VOCABULARY, random_examples
from tests.tiny import tiny_model


def _teacher(**fields: object) -> OnlineTeacher:
    model = tiny_model("llama", VOCABULARY + 4)
    values = {"vocabulary_size": VOCABULARY, "layers": (), "needs_logits": True, **fields}
    return OnlineTeacher(model=model, head=model.get_output_embeddings(), **values)  # type: ignore[arg-type]


def test_a_teacher_gives_the_rows_of_its_own_prompt_cut_to_the_vocabulary() -> None:
    examples = random_examples(3)
    teacher = _teacher(layers=(2,))
    rows = teacher.rows(Collator(PACKED, PACKED, {}, "completion")(examples))
    expected = []
    for example in examples:
        logits_TV = teacher.model(torch.tensor([example.teacher_ids])).logits[0]
        expected.append(logits_TV[len(example.teacher_prompt) - 1 :, :VOCABULARY])
    assert torch.allclose(rows.logits_NV, torch.cat(expected), atol=1e-5)
    assert not rows.logits_NV.requires_grad and rows.hidden_MH[2].shape == (len(rows.logits_NV), 32)


def test_logits_that_are_not_needed_are_not_computed() -> None:
    rows = _teacher(needs_logits=False).rows(Collator(PACKED, PACKED, {}, "completion")(random_examples(3)))
    assert rows.logits_NV.shape == (0, VOCABULARY)
