"""How varied the kept requests are, source by source.

A source that says everything in the same words teaches these words. Three figures tell: by how many wordings each
closed value is asked for, how many of the words are different ones, and how alike each request is to the one that is
most like it. Nothing here judges a single trace.
"""

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from fcdistill.generation.dataset.dedupe import request_key, request_text
from fcdistill.records import Diversity, Trace
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import property_schema

__all__ = ["measure_diversity"]

_MOST_COMPARED = 500
"""Requests of a source whose nearest neighbours are looked for: each is compared with all others of them."""


def measure_diversity(traces: Iterable[Trace], catalog: Catalog) -> dict[str, Diversity]:
    """The figures of each source.

    Args:
        traces: kept ones.
        catalog: whose enum and boolean arguments are the closed values.
    """
    requests: defaultdict[str, list[str]] = defaultdict(list)
    wordings: defaultdict[str, defaultdict[tuple[str, str, str], set[str]]] = defaultdict(lambda: defaultdict(set))
    for trace in traces:
        source, said = trace.meta.source, request_key(request_text(trace))
        requests[source].append(said)
        for call in trace.answer.calls:
            for name, value in call.arguments.items():
                schema = property_schema(catalog.by_name[call.name].parameters, [name]) or {}
                if "enum" in schema or isinstance(value, bool):
                    wordings[source][call.name, name, repr(value)].add(said)
    return {source: _measured(said, wordings[source].values()) for source, said in sorted(requests.items())}


def _measured(requests: list[str], wordings: Iterable[set[str]]) -> Diversity:
    words = [word for said in requests for word in said.split()]
    counts = [len(found) for found in wordings]
    step = -(-len(requests) // _MOST_COMPARED)
    return Diversity(
        requests=len(requests),
        wordings_per_value=round(fmean(counts), 2) if counts else None,
        type_token_ratio=round(len(set(words)) / len(words), 4) if words else None,
        self_similarity=_self_similarity([frozenset(said.split()) for said in requests[::step]]),
    )


def _self_similarity(requests: list[frozenset[str]]) -> float | None:
    """The mean Jaccard similarity of the words of each request and of its nearest neighbour; None below two."""
    if len(requests) < 2:
        return None
    nearest = [0.0] * len(requests)
    for place, one in enumerate(requests):
        for later in range(place + 1, len(requests)):
            other = requests[later]
            shared = len(one & other)
            jaccard = shared / ((len(one) + len(other) - shared) or 1)
            nearest[place], nearest[later] = max(nearest[place], jaccard), max(nearest[later], jaccard)
    return round(fmean(nearest), 4)
