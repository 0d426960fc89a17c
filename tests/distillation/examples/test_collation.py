import pytest
import torch

from fcdistill.config import CLASS_NAMES
from fcdistill.distillation.examples.collation import Collator
from fcdistill.distillation.examples.examples import render_traces
from fcdistill.prompts.rendering import prepare_tokenizer
from tests.distillation.tiny_data import PACKED, UNPACKED, foreign_examples, random_examples, tiny_traces
from tests.tiny import tiny_tokenizer


def test_the_stop_token_is_supervised_though_it_is_the_pad_token() -> None:
    tokenizer = tiny_tokenizer("chatml")
    prepare_tokenizer(tokenizer)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    examples = render_traces(tiny_traces(3), tokenizer, "none")
    for layout in (PACKED, UNPACKED):
        batch = Collator(layout, None, {}, "completion")(examples)
        stop_N = batch["classes_N"] == CLASS_NAMES.index("stop")
        assert stop_N.sum() == 3
        assert (batch["targets_N"][stop_N] == tokenizer.eos_token_id).all()
        assert (batch["weights_N"] == 1).all()


@pytest.mark.parametrize("layout", [PACKED, UNPACKED], ids=["packed", "unpacked"])
@pytest.mark.parametrize("positions", ["completion", "request+completion"])
def test_rows_predict_their_targets_and_pair_the_sides(layout, positions) -> None:
    examples = random_examples(6)
    batch = Collator(layout, layout, {"name": 2.5}, positions)(examples)
    assert batch["targets_N"].tolist() == [token for example in examples for token in example.completion]
    assert batch["example_N"].tolist() == [index for index, e in enumerate(examples) for _ in e.completion]
    names_N = batch["classes_N"] == CLASS_NAMES.index("name")
    assert torch.equal(batch["weights_N"], torch.where(names_N, 2.5, 1.0))
    for side in ("student", "teacher"):
        ids = batch[side]["inputs"]["input_ids"].flatten()
        before = [
            token
            for example in examples
            for token in (getattr(example, f"{side}_prompt")[-1], *example.completion[:-1])
        ]
        assert ids[batch[side]["logit_rows_N"]].tolist() == before
        aligned = [
            token
            for example in examples
            for token in (
                *example.student_prompt[-(example.num_request_tokens if "request" in positions else 1) :],
                *example.completion[:-1],
            )
        ]
        assert ids[batch[side]["hidden_rows_M"]].tolist() == aligned


@pytest.mark.parametrize("layout", [PACKED, UNPACKED], ids=["packed", "unpacked"])
@pytest.mark.parametrize("positions", ["completion", "request+completion"])
def test_rows_of_two_tokenizers_are_paired_by_the_text_that_they_predict_and_have_read(layout, positions) -> None:
    examples = foreign_examples(6)
    tokenizers = {"student": tiny_tokenizer("chatml"), "teacher": tiny_tokenizer("qwen")}
    batch = Collator(layout, layout, {"name": 2.5, "arg_value": 0.5}, positions)(examples)
    spans = batch["spans"]
    targets = {"student": batch["targets_N"], "teacher": spans["teacher_targets_U"]}
    assert targets["teacher"].tolist() == [token for example in examples for token in example.teacher_completion]
    for side in ("student", "teacher"):
        assert len(batch[side]["logit_rows_N"]) == len(targets[side])
    assert tokenizers["student"].batch_decode(batch["targets_N"][spans["paired_student_P"]][:, None]) == tokenizers[
        "teacher"
    ].batch_decode(spans["teacher_targets_U"][spans["paired_teacher_P"]][:, None])
    texts = []
    for side, tokens in (("student", "span_tokens_student_I"), ("teacher", "span_tokens_teacher_J")):
        of_span = spans[{"student": "span_student_I", "teacher": "span_teacher_J"}[side]]
        texts.append(
            [
                tokenizers[side].decode(targets[side][spans[tokens][of_span == span]])
                for span in range(len(spans["span_weights_Q"]))
            ]
        )
    assert texts[0] == texts[1] and "<tool_call>" in texts[0]
    covered = torch.cat([spans["paired_student_P"], spans["span_tokens_student_I"]])
    assert sorted(covered.tolist()) == list(range(len(batch["targets_N"])))
    lengths_Q = torch.bincount(spans["span_student_I"])
    total = batch["weights_N"][spans["paired_student_P"]].sum() + (lengths_Q * spans["span_weights_Q"]).sum()
    assert total.item() == pytest.approx(batch["weights_N"].sum().item())
    # What was read since the end of the prompt, at each row whose hidden states are aligned; the request's text before.
    read = {}
    for side in ("student", "teacher"):
        read[side] = []
        for example in examples:
            ids = getattr(example, f"{side}_ids")
            start = len(getattr(example, f"{side}_prompt"))
            for row in example.hidden_rows(side, positions):
                after = ids[row + 1 : start] if row < start - 1 else ids[start : row + 1]
                read[side].append((row < start - 1, tokenizers[side].decode(after)))
        rows = batch[side]["hidden_rows_M"]
        assert len(rows) == len(read[side]) == len(rows.unique() if layout is UNPACKED else rows)
    assert read["student"] == read["teacher"]
    assert any(before for before, _ in read["student"]) == ("request" in positions)


def test_an_empty_micro_batch_has_the_passes_of_its_filler_and_nothing_that_counts() -> None:
    examples = foreign_examples(2)
    collator = Collator(PACKED, PACKED, {}, "completion", filler=examples[0])
    empty, filled = collator([]), collator(examples[:1])
    assert empty.keys() == filled.keys()
    for side in ("student", "teacher"):
        assert torch.equal(empty[side]["inputs"]["input_ids"], filled[side]["inputs"]["input_ids"])
        assert torch.equal(empty[side]["logit_rows_N"], filled[side]["logit_rows_N"])
        assert len(empty[side]["hidden_rows_M"]) == 0 < len(filled[side]["hidden_rows_M"])
    assert torch.equal(empty["targets_N"], filled["targets_N"])
    assert empty["weights_N"].abs().sum() == 0 and empty["spans"]["span_weights_Q"].abs().sum() == 0
    assert (empty["num_tokens"], empty["num_examples"]) == (0, 0)
    assert torch.equal(empty["spans"]["paired_student_P"], filled["spans"]["paired_student_P"])
