"""Does a teacher's choice of tool agree with the requests whose tool is known?

Call-first requests and worked examples carry their tool by construction. A naive Bayes classifier on their words (Maron
1961; Laplace smoothing) judges the answers of the request-first source: it knows little, but it is independent of the
teacher, and it catches the "volume 60" that became a brightness. Nothing here knows of schemas or values.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from fcdistill.generation.verification.english.words import words_of

__all__ = ["ToolAgreement"]

_LEAST_PROBABILITY = 0.1
_LEAST_EXAMPLES = 5


class ToolAgreement:
    """A classifier from request words to tools.

    Args:
        labelled: (request, tool) of requests that call one tool.
    """

    def __init__(self, labelled: Iterable[tuple[str, str]]) -> None:
        self._requests: Counter[str] = Counter()
        self._words: dict[str, Counter[str]] = {}
        for text, tool in labelled:
            self._requests[tool] += 1
            self._words.setdefault(tool, Counter()).update(_features(text))
        self._vocabulary = {word for counts in self._words.values() for word in counts}

    def problem(self, text: str, tools: Sequence[str]) -> str:
        """Why these tools can't be what the request asks for; empty where nothing speaks against them.

        A tool is doubted when it is not among the likeliest (as many as are called) and its probability is below 0.1.
        Tools with fewer than 5 known requests are never doubted.
        """
        probabilities = self._probabilities(text)
        called = list(dict.fromkeys(tools))
        likeliest = sorted(probabilities, key=lambda tool: -probabilities[tool])[: len(called)]
        for tool in called:
            known = self._requests[tool] >= _LEAST_EXAMPLES and len(probabilities) > len(called)
            if known and tool not in likeliest and probabilities[tool] < _LEAST_PROBABILITY:
                return f"known requests like this one call {' and '.join(likeliest)}, not {tool}"
        return ""

    def _probabilities(self, text: str) -> dict[str, float]:
        """The posterior of each tool; words that no known request holds say nothing."""
        features = _features(text) & self._vocabulary
        scores = {
            tool: math.log(self._requests[tool])
            + sum(math.log((counts[word] + 1) / (self._requests[tool] + 2)) for word in features)
            for tool, counts in self._words.items()
        }
        if not scores:
            return {}
        top = max(scores.values())
        weights = {tool: math.exp(score - top) for tool, score in scores.items()}
        total = sum(weights.values())
        return {tool: weight / total for tool, weight in weights.items()}


def _features(text: str) -> set[str]:
    """The distinct words of a request; numbers say nothing of the tool."""
    return {word.text for word in words_of(text) if not word.is_number}
