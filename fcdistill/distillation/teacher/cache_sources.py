"""Who speaks into a teacher cache: a teacher whose weights are loaded here, or a server that has it.

Either gives the signals of examples. A server is asked for the log-probabilities of the very tokens that a loaded
teacher would read, at temperature 1; what its likeliest tokens leave of 1 is the mass of all others, to the rounding of
float32. Tokens that only the server's model has (a padded head, a token that was added to the teacher) stay in that
mass, and a trace then keeps fewer tokens per position. What shards are, and when they are written, is not known here.

Axes: N completion positions, K tokens, T temperatures, V vocabulary, M positions with hidden states, H width.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from fcdistill.backends.openai.client import OpenAIClient
from fcdistill.backends.openai.logprobs_wire import GivenText, TokenLogprobs
from fcdistill.backends.openai.text_scoring import score_texts
from fcdistill.config import CacheConfig, TrainConfig
from fcdistill.distillation.batches import side_to
from fcdistill.distillation.examples.collation import Layout, lay_out_side
from fcdistill.distillation.examples.examples import Example, HiddenPositions
from fcdistill.distillation.losses.chunks import row_chunks
from fcdistill.distillation.losses.cross_tokenizer import token_logprobs
from fcdistill.distillation.preparation import PreparedTeacher, load_teacher, teacher_layout
from fcdistill.distillation.signals.cache_files import TraceSignals, top_k_signals
from fcdistill.distillation.signals.sources import OnlineTeacher
from fcdistill.errors import ModelError
from fcdistill.models.devices import choose_device

__all__ = ["SignalsOf", "loaded_teacher", "served_signals", "served_teacher"]

SignalsOf = Callable[[Sequence[Example]], Iterator[tuple[str, TraceSignals]]]
"""The signals of examples by trace id, in any order."""


def loaded_teacher(
    config: TrainConfig,
    prepared: PreparedTeacher,
    layers: Sequence[int],
    positions: HiddenPositions,
    examples: Sequence[Example],
) -> SignalsOf:
    """A teacher with its weights, which live as long as what is returned.

    Args:
        config: names the teacher, its place and the cache.
        prepared: what is known of it.
        layers: HF hidden_states indices that are wanted.
        positions: of the hidden states.
        examples: all of them; they decide how rows are laid out.

    Raises:
        ModelError: it can't be loaded; later, its logits are unusable.
    """
    assert config.cache is not None
    cache = config.cache
    teacher = load_teacher(config, prepared, choose_device(config.device), layers, needs_logits=True)
    layout = teacher_layout(config, teacher, examples)
    signals_of_pack = partial(_signals, teacher, layout, cache, positions)

    def signals_of(examples: Sequence[Example]) -> Iterator[tuple[str, TraceSignals]]:
        for start in range(0, len(examples), cache.examples_per_pack):
            yield from signals_of_pack(examples[start : start + cache.examples_per_pack])

    return signals_of


def _signals(
    teacher: OnlineTeacher, layout: Layout, cache: CacheConfig, positions: HiddenPositions, pack: Sequence[Example]
) -> Iterator[tuple[str, TraceSignals]]:
    device = next(teacher.model.parameters()).device
    side, _ = lay_out_side("teacher", layout, pack, positions)
    rows = teacher.rows(side_to(side, device))
    targets_N = torch.tensor([token for example in pack for token in example.teacher_completion], device=device)
    chunks = [
        (*top_k_signals(chunk_NV, cache.top_k, cache.temperatures, chunk_N), token_logprobs(chunk_NV, chunk_N))
        for chunk_NV, chunk_N in row_chunks(rows.logits_NV, targets_N)
    ]
    kept = [torch.cat(parts).cpu() for parts in zip(*chunks, strict=True)]
    hidden_MH = {layer: values_MH.to(torch.bfloat16).cpu() for layer, values_MH in rows.hidden_MH.items()}
    row = hidden_row = 0
    for example in pack:
        end = row + len(example.teacher_completion)
        hidden_end = hidden_row + len(example.hidden_rows("teacher", positions))
        ids_NK, logprobs_NK, log_z_NT, target_logprobs_N = (values[row:end] for values in kept)
        if not log_z_NT.isfinite().all():
            raise ModelError(
                f"the teacher's logits for trace {example.trace_id!r} are not finite",
                required="finite logits",
                fix="choose another dtype (float16 overflows in some models)",
            )
        hidden = {layer: values_MH[hidden_row:hidden_end] for layer, values_MH in hidden_MH.items()}
        yield example.trace_id, TraceSignals(ids_NK, logprobs_NK, log_z_NT, target_logprobs_N, hidden)
        row, hidden_row = end, hidden_end


@contextlib.contextmanager
def served_teacher(
    config: TrainConfig, prepared: PreparedTeacher, report: Callable[[str], None]
) -> Iterator[SignalsOf]:
    """A teacher behind a server; what it was asked, and what that cost, is reported when all is done.

    Args:
        config: names the server and the cache.
        prepared: what is known of the teacher.
        report: takes lines for people.

    Raises:
        BackendError: the server does not answer, or not what was asked.
        ConfigError: the key's variable is not set or holds no key.
        MissingDependencyError: the package openai is not installed.
        ModelError: what the server says is of another vocabulary.
    """
    assert config.served_teacher is not None and config.cache is not None
    served, top_k = config.served_teacher, config.cache.top_k
    client = OpenAIClient.from_config(served)

    def given(example: Example) -> GivenText:
        texts = prepared.tokenizer.batch_decode(
            [[token] for token in example.teacher_completion],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return GivenText(example.trace_id, example.teacher_prompt, example.teacher_completion, tuple(texts))

    with contextlib.ExitStack() as stack:
        stack.callback(client.close)

        def signals_of(examples: Sequence[Example]) -> Iterator[tuple[str, TraceSignals]]:
            completions = {example.trace_id: example.teacher_completion for example in examples}
            answers = score_texts(client, served, map(given, examples), top_k)
            stack.callback(answers.close)  # before the client, where the work ends early
            for scored in answers:
                completion = completions[scored.id]
                yield scored.id, served_signals(scored.tokens, completion, top_k, prepared.vocabulary_size)

        yield signals_of
    if client.usage.num_answered:
        report(f"asked of {served.base_url}: {client.usage}")


def served_signals(
    tokens: Sequence[TokenLogprobs], completion: Sequence[int], top_k: int, vocabulary_size: int
) -> TraceSignals:
    """What a cache keeps of a server's answer.

    Args:
        tokens: what it says of each token of the completion.
        completion: their ids.
        top_k: likeliest tokens per position; 0: the completion's own.
        vocabulary_size: ids from here on are left in the tail.

    Raises:
        ModelError: all likely tokens of a position lie beyond the vocabulary.
    """
    if top_k:
        rows = [[pair for pair in token.likeliest if pair[0] < vocabulary_size] for token in tokens]
    else:
        rows = [[(index, token.logprob)] for index, token in zip(completion, tokens, strict=True)]
    width = min(map(len, rows))
    if not width:
        raise ModelError(
            f"the likeliest tokens at a position have ids beyond the tokenizer's {vocabulary_size}",
            required="the tokenizer of the served model",
            fix="correct served_teacher.tokenizer",
        )
    ids_NK = torch.tensor([[index for index, _ in row[:width]] for row in rows])
    exact_NK = torch.tensor([[logprob for _, logprob in row[:width]] for row in rows], dtype=torch.float64)
    # Of a single token the complement is exact even where its likelihood is nearly 1.
    others_N = -exact_NK.logsumexp(1).clamp_max(0.0).expm1()
    rounded_NK = exact_NK.clamp_min(torch.finfo(torch.float16).min).half()
    log_z_N = torch.logaddexp(rounded_NK.double().logsumexp(1), others_N.log())
    return TraceSignals(
        ids_NK=ids_NK,
        logprobs_NK=rounded_NK,
        log_z_NT=log_z_N[:, None].float(),
        target_logprobs_N=torch.tensor([token.logprob for token in tokens]),
        hidden_MH={},
    )
