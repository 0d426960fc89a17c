"""Tiny tokenizers and randomly initialised models, built in the process in well under a second.

Nothing here knows the package under test: only the libraries that it builds on.
"""

import copy
import functools
import itertools
import json
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

__all__ = ["CHATML_TEMPLATE", "QWEN_TEMPLATE", "TokenizerKind", "tiny_model", "tiny_tokenizer"]

TokenizerKind = Literal["chatml", "metaspace", "plain", "qwen", "unigram"]
Family = Literal["llama", "qwen2", "gemma3"]

CHATML_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""Knows roles and contents; drops tools and tool calls, as the templates of small chat models do."""

QWEN_TEMPLATE = """\
{%- set ns = namespace(system='You are a helpful assistant.', rest=messages) -%}
{%- if messages[0].role == 'system' -%}
{%- set ns.system = messages[0].content -%}{%- set ns.rest = messages[1:] -%}
{%- endif -%}
{{ '<|im_start|>system\\n' + ns.system }}
{%- if tools -%}
{{ '\\n\\n# Tools\\n<tools>' }}{%- for tool in tools -%}{{ '\\n' + (tool | tojson) }}{%- endfor -%}
{{ '\\n</tools>\\nAnswer with <tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>' }}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- for message in ns.rest -%}
{%- if message.role == 'tool' -%}
{{ '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] -%}
{{ '\\n' if message.content or not loop.first }}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""Renders tools, calls and tool results the way Qwen's template does."""

_SENTENCES = (
    "You are a helpful assistant. You may call one or more functions to assist with the user query.",
    "Turn the kitchen light on and set the brightness to 30 percent.",
    "Please set a timer for 10 minutes and play some jazz in the living room!",
    "What is the weather in Paris tomorrow at 18:45? Which room do you mean?",
    "system user assistant tool tools tool_response tool_call name arguments description parameters properties",
)
_CALLS = (
    {"name": "set_light", "arguments": {"room": "kitchen", "state": "on", "brightness": 30}},
    {"name": "set_timer", "arguments": {"duration": {"hours": 1, "minutes": 30}, "label": "pasta"}},
    {"name": "add_shopping_items", "arguments": {"items": [{"name": "milk", "quantity": 2}]}},
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "required": ["city"]}}},
)
_SPECIAL: dict[TokenizerKind, tuple[str, ...]] = {
    "chatml": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "metaspace": ("<unk>", "<s>", "</s>"),
    "plain": ("<s>", "</s>"),
    "qwen": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "unigram": ("<unk>", "<s>", "</s>"),
}
_NAMED: dict[TokenizerKind, dict[str, str]] = {
    "chatml": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
    "metaspace": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "plain": {"bos_token": "<s>", "eos_token": "</s>"},
    "qwen": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "unigram": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
}
_TEMPLATES: dict[TokenizerKind, str] = {"chatml": CHATML_TEMPLATE, "qwen": QWEN_TEMPLATE}
_CORPUS = (*_SENTENCES, *(json.dumps(call) for call in _CALLS))


def tiny_tokenizer(kind: TokenizerKind = "chatml") -> PreTrainedTokenizerFast:
    """A tokenizer of about 400 to 500 tokens; a fresh object at each call.

    Args:
        kind: `chatml` has <|im_start|>, <|im_end|> and a template that ignores tools (pad == eos, as in SmolLM2);
            `qwen` also has <tool_call> and </tool_call> as single, not special tokens and a template with tools;
            `plain` has <s> and </s>, no pad token and no template. These three are byte-level BPE; `metaspace` and
            `unigram` are cut as SentencePiece does (a space before the first word, <0xNN> for unknown characters), by
            BPE and by likelihood, and have <s> and </s>, <tool_call> as a special token and no template.
    """
    return copy.deepcopy(_trained(kind))


@functools.cache
def _trained(kind: TokenizerKind) -> PreTrainedTokenizerFast:
    tokenizer = _sentencepiece(kind) if kind in ("metaspace", "unigram") else _byte_level(kind)
    if kind == "qwen":
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("<tool_call>", "</tool_call>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **_NAMED[kind])
    fast.chat_template = _TEMPLATES.get(kind)
    return fast


def _byte_level(kind: TokenizerKind) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        min_frequency=2,
        special_tokens=list(_SPECIAL[kind]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.chain.from_iterable(itertools.repeat(_CORPUS, 2)), trainer)
    return tokenizer


def _sentencepiece(kind: TokenizerKind) -> Tokenizer:
    """Pieces trained on the corpus behind special and byte tokens, which no trainer adds."""
    draft = Tokenizer(models.BPE() if kind == "metaspace" else models.Unigram())
    draft.pre_tokenizer = pre_tokenizers.Metaspace()
    if kind == "metaspace":
        draft.train_from_iterator(_CORPUS, trainers.BpeTrainer(vocab_size=240, show_progress=False))
    else:
        draft.train_from_iterator(_CORPUS, trainers.UnigramTrainer(vocab_size=200, show_progress=False))
    model = json.loads(draft.to_str())["model"]
    first = [*_SPECIAL[kind], *(f"<0x{byte:02X}>" for byte in range(256))]
    if kind == "metaspace":
        vocabulary = {piece: index for index, piece in enumerate([*first, *model["vocab"]])}
        merges = [tuple(merge) for merge in model["merges"]]
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
        # As Llama 2 has it: a space before each text between added tokens.
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    else:
        pieces = [(piece, 0.0) for piece in first] + [(piece, score) for piece, score in model["vocab"]]
        tokenizer = Tokenizer(models.Unigram(pieces, 0, byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
        parts = [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in (*_SPECIAL[kind], "<tool_call>")])
    return tokenizer


def tiny_model(
    family: Family = "llama",
    vocab_size: int = 500,
    *,
    hidden_size: int = 32,
    num_layers: int = 4,
    seed: int = 0,
    **config: Any,
) -> PreTrainedModel:
    """A float32 causal LM in eval mode with seeded random weights, large enough that its distributions are not flat.

    Args:
        family: `gemma3` alternates sliding-window (16 tokens) and full attention layers.
        vocab_size: rows of the embedding; give `len(tokenizer)` or more.
        hidden_size: width; divisible by 4.
        num_layers: decoder layers.
        seed: seed of the weights; the global generator's state is left as it was.
        config: further fields of the model's config.
    """
    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "llama":
            model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**common | config))
        elif family == "qwen2":
            model = Qwen2ForCausalLM(Qwen2Config(**common | config))
        else:
            gemma = {
                "head_dim": hidden_size // 4,
                "sliding_window": 16,
                "tie_word_embeddings": False,
                "layer_types": ["full_attention" if layer % 2 else "sliding_attention" for layer in range(num_layers)],
            }
            model = Gemma3ForCausalLM(Gemma3TextConfig(**common | gemma | config))
    return model.eval()
