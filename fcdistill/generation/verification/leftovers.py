"""What a request states that no argument holds, as far as its form alone tells: numbers, quoted texts, days.

`claimed` are the indices of the words that say some value; `pack` is the request's language.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from fcdistill.generation.verification.languages.language_pack import LanguagePack
from fcdistill.generation.verification.languages.word_places import Word, find
from fcdistill.records import ToolCall
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import resolve_schema

__all__ = ["leftover_days", "leftover_numbers", "leftover_quotes", "numbers_without_a_place"]

_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”')


def leftover_numbers(words: Sequence[Word], claimed: Set[int], pack: LanguagePack) -> Iterator[str]:
    """Numbers, halves and quarters."""
    for place, word in enumerate(words):
        if place not in claimed and (_states_number(word) or _states_fraction(words, place, pack)):
            yield word.text


def leftover_quotes(request: str, words: Sequence[Word], claimed: Set[int], pack: LanguagePack) -> Iterator[str]:
    """Quoted texts that say no value."""
    for found in _QUOTED.finditer(request):
        quoted = pack.words(found[0])
        places = find(quoted, words)
        if places and not any(index in claimed for place in places for index in place):
            yield found[0]


def leftover_days(
    words: Sequence[Word], calls: Sequence[ToolCall], catalog: Catalog, claimed: Set[int], pack: LanguagePack
) -> Iterator[str]:
    """Days that the request says, where a called tool has a date to give and the call leaves it out."""
    for call in calls:
        root = catalog.by_name[call.name].parameters
        for name, schema in resolve_schema(root, root).get("properties", {}).items():
            if name in call.arguments or resolve_schema(schema, root).get("format") not in ("date", "date-time"):
                continue
            said = [w.text for place, w in enumerate(words) if w.text in pack.days and place not in claimed]
            yield from (f"{day} ({call.name}.{name})" for day in said)


def numbers_without_a_place(calls: Sequence[ToolCall], catalog: Catalog, pack: LanguagePack) -> Iterator[str]:
    """Texts that start with a number, where an optional number beside them is left out: a name "4 limes"."""
    for call in calls:
        root = catalog.by_name[call.name].parameters
        for value, schema in _objects(call.arguments, root, root):
            properties = {name: resolve_schema(part, root) for name, part in schema.get("properties", {}).items()}
            counts = [name for name, part in properties.items() if part.get("type") in ("integer", "number")]
            if any(name not in value for name in counts) and value is not call.arguments:
                texts = [text for name, text in value.items() if isinstance(text, str) and name in properties]
                yield from (repr(text) for text in texts if len(said := pack.words(text)) > 1 and said[0].is_number)


def _objects(value: Any, schema: Any, root: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """All objects of a value, each with its schema."""
    schema = resolve_schema(schema, root)
    if isinstance(value, dict):
        yield value, schema
        for name, part in value.items():
            yield from _objects(part, schema.get("properties", {}).get(name, {}), root)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part, schema.get("items", {}), root)


def _states_number(word: Word) -> bool:
    # "one" hardly ever is a number: "this one", "one of them".
    return word.is_number and not (word.spelled_out and word.text == "1")


def _states_fraction(words: Sequence[Word], place: int, pack: LanguagePack) -> bool:
    """Whether a half or a quarter changes a value: "an hour and a half", "half past 7", "quarter of an hour"."""
    if words[place].text not in pack.fractions:
        return False
    before = tuple(word.text for word in words[max(0, place - 2) : place])
    after = words[place + 1] if place + 1 < len(words) else None
    follows = after is not None and (after.is_number or after.text in pack.fraction_links)
    return follows or any(before[-len(link) :] == link for link in pack.after_links)
