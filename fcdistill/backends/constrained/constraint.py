"""Which tokens a constrained answer may go on with: the grammars of `call_grammar`, followed token by token.

Each row has a matcher of llguidance, which reads the tokens that were written and gives a bit for each that may come
next. How the next one is chosen among them, and when a row has ended, is not known here.

Axes: B rows, V tokens of the tokenizer.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from fcdistill.backends.base import Request
from fcdistill.backends.constrained.call_grammar import (
    FORBIDDEN,
    call_grammar,
    require_enforceable,
    require_llguidance,
)
from fcdistill.backends.constrained.call_layout import read_layout
from fcdistill.backends.constrained.grammar_rules import LISTED
from fcdistill.backends.constrained.value_grammar import CLOSED, NAME, OPENED
from fcdistill.errors import BackendError, ModelError
from fcdistill.prompts.rendering import answer_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Constraint", "RowMasks"]

_KEPT_GRAMMARS = 32
_ENDS = frozenset("\"':")
_SAMPLE = 'Say "é": {"a b": [1, 2]}'
"""Text whose tokens show whether a tokenizer is read rightly."""


class Constraint:
    """The grammars of one model's answers.

    Args:
        tokenizer: of the model, as `rendering.prepare_tokenizer` leaves it.
        stop_ids: the tokens that end an answer.

    Raises:
        MissingDependencyError: llguidance is not installed.
        ModelError: the template writes calls in no way that can be enforced, or llguidance can't read the tokenizer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", stop_ids: Iterable[int]) -> None:
        require_llguidance()
        import llguidance

        self._layout = read_layout(tokenizer)
        self._tokens = _read_tokens(tokenizer, stop_ids)
        added = {
            index: token
            for index, token in tokenizer.added_tokens_decoder.items()
            if self._tokens.is_special_token(index)
        }
        self._marks = {token.content: index for index, token in added.items()}
        # Tokens such as <think>, which llguidance takes for special because of how they look.
        layout = self._layout
        written = (layout.opening, layout.middle, layout.closing, layout.between or "", *FORBIDDEN)
        self._asides = [
            index
            for index, token in added.items()
            if token.content in layout.thoughts
            or not token.special
            and not any(token.content in each for each in written)
        ]
        self._executor = llguidance.LLExecutor()
        self._start = functools.lru_cache(maxsize=_KEPT_GRAMMARS)(self._compiled)

    def masks(self, requests: Sequence[Request]) -> "RowMasks":
        """Masks for the answers to these requests.

        Raises:
            CatalogError: the parameters of a request's tools can't be enforced.
        """
        catalogs = {id(request.specs): request.specs for request in requests}
        require_enforceable(catalogs.values(), self._layout.dialect)
        written = {key: call_grammar(specs, self._layout, self._marks, self._asides) for key, specs in catalogs.items()}
        return RowMasks(self, {request.id: written[id(request.specs)] for request in requests})

    def matcher(self, grammar: str) -> Any:
        """A matcher at the start of an answer."""
        return self._start(grammar).deep_copy()

    def bits(self, matchers: Sequence[Any]) -> NDArray[numpy.bool_]:
        """Which tokens each matcher allows next [B, V]."""
        import llguidance.numpy

        words = llguidance.numpy.allocate_token_bitmask(len(matchers), self._tokens.vocab_size)
        numbered = [(matcher, index) for index, matcher in enumerate(matchers)]
        llguidance.numpy.fill_next_token_bitmask_par(self._executor, numbered, words)
        bytes_ = words.view(numpy.uint8)
        return numpy.unpackbits(bytes_, axis=1, count=self._tokens.vocab_size, bitorder="little").view(numpy.bool_)

    def repeating(self, matcher: Any, written: Sequence[int], allowed: NDArray[numpy.bool_]) -> list[int]:
        """The allowed tokens that would give an object a name that it has already.

        No grammar can keep names from repeating that it does not list, but a matcher notes them, and the objects that
        they belong to.

        Args:
            matcher: at the place where the tokens may follow.
            written: the tokens before.
            allowed: the tokens that the grammar allows [V].
        """
        names = _open_names(matcher)[-1:]
        if not names or not names[0]:
            return []
        longest = max(map(len, names[0]))
        tail = self._tokens.decode_str(list(written[-longest - 8 :]))[-longest:]
        found = []
        for index, text in self._ends_of_names.items():
            # Most tokens end no name that is known: only for the others is the matcher asked.
            if allowed[index] and any(
                (tail + text).find(name, max(len(tail) - len(name), 0)) >= 0 for name in names[0]
            ):
                ahead = matcher.deep_copy()
                ahead.consume_token(index)
                if any(len(each) != len(set(each)) for each in _open_names(ahead, closed=True)):
                    found.append(index)
        return found

    @functools.cached_property
    def _ends_of_names(self) -> dict[int, str]:
        """The tokens that may end a name: by a quote, a colon, or space before it."""
        texts = {index: self._tokens.decode_str([index]) for index in range(self._tokens.vocab_size)}
        return {index: text for index, text in texts.items() if not set(text).isdisjoint(_ENDS) or text.isspace()}

    def _compiled(self, grammar: str) -> Any:
        import llguidance

        matcher = llguidance.LLMatcher(self._tokens, grammar, log_level=0)
        _require_working(matcher)
        return matcher


class RowMasks:
    """The masks of the rows of one call, by their ids.

    Args:
        constraint: the model's grammars.
        grammars: which of them each row's answer obeys.
    """

    def __init__(self, constraint: Constraint, grammars: Mapping[str, str]) -> None:
        self._constraint = constraint
        self._grammars = grammars
        self._matchers: dict[str, Any] = {}
        self._num_read: dict[str, int] = {}

    def allowed(self, written: Mapping[str, Sequence[int]]) -> NDArray[numpy.bool_]:
        """Which tokens each row may go on with [B, V].

        Args:
            written: the tokens of each row so far, by its id; they may only grow from call to call.

        Raises:
            BackendError: a grammar is too intricate to follow.
        """
        for name, tokens in written.items():
            if name not in self._matchers:
                self._matchers[name] = self._constraint.matcher(self._grammars[name])
            self._matchers[name].consume_tokens(list(tokens[self._num_read.get(name, 0) :]))
            self._num_read[name] = len(tokens)
        matchers = [self._matchers[name] for name in written]
        allowed = self._constraint.bits(matchers)
        for index, (matcher, tokens) in enumerate(zip(matchers, written.values(), strict=True)):
            _require_working(matcher)
            repeating = self._constraint.repeating(matcher, tokens, allowed[index])
            # Where nothing else is left, the call is broken and the reader says so.
            if len(repeating) < numpy.count_nonzero(allowed[index]):
                allowed[index, repeating] = False
        return allowed

    def forget(self, name: str) -> None:
        """Release what a row that has ended holds."""
        self._matchers.pop(name, None)
        self._num_read.pop(name, None)


def _open_names(matcher: Any, *, closed: bool = False) -> list[list[str]]:
    """Of each object with any names that is not closed, from without to within, the names that it has.

    Args:
        matcher: whose captures say so.
        closed: those that are closed too.
    """
    opened: list[list[str]] = []
    done: list[list[str]] = []
    for kind, found in matcher.get_captures():
        kind = kind.removeprefix(LISTED)
        if kind == OPENED:
            opened.append([])
        elif kind == NAME:
            opened[-1].append(found.decode("utf-8", "replace").strip("\"'"))
        elif kind == CLOSED:
            done.append(opened.pop())
    return done + opened if closed else opened


def _read_tokens(tokenizer: "PreTrainedTokenizerBase", stop_ids: Iterable[int]) -> Any:
    """The tokenizer as llguidance reads it."""
    import llguidance.hf

    problem = ""
    try:
        tokens = llguidance.hf.from_tokenizer(tokenizer, eos_token=sorted(stop_ids))
        ids = tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]
        found, wanted = tokens.decode_str(ids).strip(), answer_text(tokenizer, ids).strip()
    except ValueError as error:
        problem = " ".join(str(error).split())[:300]
    else:
        if found == wanted:
            return tokens
        problem = f"it takes {wanted!r} for {found!r}"
    raise ModelError(
        f"llguidance can't read the tokenizer {tokenizer.name_or_path!r}: {problem}",
        required="for constrained decoding, a byte-level tokenizer or one with byte fallback, in tokenizer.json",
        fix="decode without constrained",
    )


def _require_working(matcher: Any) -> None:
    if matcher.is_error():
        reason = " ".join(matcher.get_error().split())
        raise BackendError(
            f"llguidance can't follow the grammar of an answer: {reason[:300]}",
            required="tools whose calls can be followed token by token",
            fix="simplify their parameters (long patterns, large ranges), or decode without constrained",
        )
