"""Random walks over what a constraint allows: the worst model there can be, in a fraction of a model's time."""

import random
from collections.abc import Sequence

import numpy
from transformers import PreTrainedTokenizerFast

from fcdistill.backends import Request
from fcdistill.backends.constrained.constraint import Constraint, RowMasks
from fcdistill.prompts.rendering import answer_text, prepare_tokenizer, stop_token_ids
from fcdistill.records import ToolSpec
from tests.tiny import TokenizerKind, tiny_tokenizer

__all__ = ["Walker", "spec"]


def spec(name: str = "tool", **parameters: object) -> ToolSpec:
    return ToolSpec(name=name, description="", parameters={"type": "object", **parameters})


class Walker:
    """Writes answers to a request with these tools by drawing among the allowed tokens.

    Args:
        specs: the tools.
        kind: of the tokenizer.
        chat_template: instead of the tokenizer's.
        tokenizer: instead of one of a kind.
    """

    def __init__(
        self,
        specs: Sequence[ToolSpec],
        kind: TokenizerKind = "qwen",
        *,
        chat_template: str | None = None,
        tokenizer: PreTrainedTokenizerFast | None = None,
    ) -> None:
        self.tokenizer = tokenizer or tiny_tokenizer(kind)
        if chat_template is not None:
            self.tokenizer.chat_template = chat_template
        else:
            prepare_tokenizer(self.tokenizer)
        self._stops = frozenset(stop_token_ids(self.tokenizer))
        self._constraint = Constraint(self.tokenizer, self._stops)
        self.specs = tuple(specs)
        tokens = {index: answer_text(self.tokenizer, [index]) for index in range(len(self.tokenizer))}
        self._closing = {index for index, token in tokens.items() if any(mark in token for mark in '"}])<')}

    def allows(self, text: str) -> bool:
        """Whether an answer may be this text, as the tokenizer cuts it."""
        return self.num_allowed(text) == len(self._ids(text)) and self._may_stop(text)

    def num_allowed(self, text: str) -> int:
        """How many tokens of a text the grammar allows."""
        masks, ids = self._masks(), self._ids(text)
        return next((n for n, token in enumerate(ids) if not masks.allowed({"0": ids[:n]})[0, token]), len(ids))

    def walks(self, count: int, *, start: str = "<tool_call>\n{", most: int = 150, ending: str = "") -> list[str]:
        """Answers drawn side by side.

        Args:
            count: of answers; those are left out that `most` tokens do not finish.
            start: what they begin with.
            most: tokens of each behind that.
            ending: tried now and then, token by token, since a free text hardly ever finds its end by chance.
        """
        draw, masks, first = random.Random(0), self._masks(count), self._ids(start)
        rows: dict[str, list[int]] = {str(index): [] for index in range(count)}
        wanted: dict[str, list[int]] = {name: [] for name in rows}
        finished = []
        for step in range(len(first) + most):
            for (name, ids), allowed_V in zip(list(rows.items()), masks.allowed(rows), strict=True):
                allowed = numpy.flatnonzero(allowed_V).tolist()
                closing = [token for token in allowed if token in self._closing]
                may_stop = not self._stops.isdisjoint(allowed)
                if step < len(first):
                    assert first[step] in allowed
                    ids.append(first[step])
                elif may_stop and draw.random() < 0.7:
                    finished.append(answer_text(self.tokenizer, rows.pop(name)))
                elif wanted[name] and wanted[name][0] in allowed:
                    ids.append(wanted[name].pop(0))
                else:
                    wanted[name] = self._ids(ending) if draw.random() < 0.2 else []
                    ids.append(draw.choice(closing if closing and draw.random() < 0.5 else allowed))
                    if ids[-1] in self._stops:
                        finished.append(answer_text(self.tokenizer, rows.pop(name)[:-1]))
            if not rows:
                break
        return finished

    def _masks(self, count: int = 1) -> RowMasks:
        return self._constraint.masks([Request(str(index), (), self.specs) for index in range(count)])

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _may_stop(self, text: str) -> bool:
        allowed = self._masks().allowed({"0": self._ids(text)})[0]
        return bool(allowed[list(self._stops)].all())
