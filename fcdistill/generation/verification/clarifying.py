"""Which value a request lacks, and whether a question asks for it.

A parameter is asked for by a question word with its name or a word of its description ("which room", "what should the
amount be"), by the question word of its kind ("when" for a date, "how long" for a duration, "where" for a place), or by
two of its choices ("on or off?"). English only; nothing here asks a model.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcdistill.generation.verification.english.english_pack import ENGLISH
from fcdistill.records import ToolSpec
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import required_parameters, resolve_schema
from fcdistill.tools.patterns import pattern_for

__all__ = ["Lacking", "is_asked", "lacking_values", "question_problem"]

_GLUE = frozenset(
    "a an and any are at be by can could do does exactly for from get give go have how i if in into is it kind like me "
    "my need new of on one or our out please set shall should that the there thing this to type up us use want we what "
    "when where which who will with would you your".split()
)
"""Words that name no parameter."""
_PHRASE_ENDS = frozenset("about at by for from if in into on when while with".split())
_VERBS = frozenset("are can could did do does is must shall should was were will would".split())
_LONGEST_PHRASE = 7
_PLACES = frozenset("address area building city country location place region room site street town".split())
_PERSONS = frozenset("contact customer guest person recipient user".split())
_SIZES = frozenset("much many high low warm hot cold loud bright fast big large far".split())
_WHAT_TO_DO = re.compile(r"\bwhat (?:exactly )?(?:should|shall|can|could|do you want me to) (?:i |we )?(\w+)")
_MIN_STEM = 4


@dataclass(frozen=True)
class Lacking:
    """A required parameter of a tool, the value of which a request lacks."""

    tool: str
    name: str

    @property
    def said(self) -> str:
        """The parameter's name as people read it."""
        return self.name.replace("_", " ").replace("-", " ")


def lacking_values(catalog: Catalog, request: str) -> list[Lacking]:
    """The required parameters of the tool, or tools, that a request most likely means.

    A word counts the more, the fewer tools speak of it, and twice in a tool's name; where no tool shares any, the
    result is empty. Which of the values the request does say is not looked at.
    """
    said = _stems(request)
    names = {spec.name: _stems(spec.name) for spec in catalog.specs}
    told = {spec.name: _stems(_told(spec)) | names[spec.name] for spec in catalog.specs}
    tools_of = Counter(word for words in told.values() for word in words)
    weights = {
        tool: round(sum((1 + (word in names[tool])) / tools_of[word] for word in said & words), 6)
        for tool, words in told.items()
    }
    most = max(weights.values(), default=0)
    return [
        Lacking(spec.name, name)
        for spec in catalog.specs
        if weights[spec.name] == most > 0
        for name in required_parameters(spec)
    ]


def question_problem(catalog: Catalog, request: str, question: str, lacking: Sequence[Lacking]) -> str:
    """Why a text is no question for one of the lacking values; empty where it is one.

    Args:
        catalog: the tools.
        request: what the user said.
        question: what the assistant says.
        lacking: any of these may be asked for.
    """
    text = question.strip()
    if not text.endswith("?") or "\n" in text:
        return "the answer is not one question"
    if not lacking:
        return "no tool of the catalogue speaks of what the request says, so that what it lacks is not known"
    heard = {word.text for word in ENGLISH.words(request)}
    if heard == {word.text for word in ENGLISH.words(text)}:
        return "the question repeats the request"
    if any(word.is_number and not word.spelled_out and word.text not in heard for word in ENGLISH.words(text)):
        return "the question states a number that nobody said"
    if not any(is_asked(catalog, value, text) for value in lacking):
        missing = " or ".join(dict.fromkeys(value.said for value in lacking))
        return f"the question does not ask for what is missing: {missing}"
    return ""


def is_asked(catalog: Catalog, value: Lacking, question: str) -> bool:
    """Whether a question asks for a parameter."""
    spec = catalog.by_name[value.tool]
    schema = resolve_schema(_properties(spec).get(value.name, {}), spec.parameters)
    words = [word.text for word in ENGLISH.words(question)]
    name = {word.text for word in ENGLISH.words(value.said)}
    choices = [{word.text for word in ENGLISH.words(str(choice))} for choice in _choices(schema, spec.parameters)]
    if "or" in words and sum(choice <= set(words) for choice in choices) > 1:
        return True
    kinds = _kinds(schema, spec.parameters)
    cues = name | _described(schema, spec.parameters) | kinds & {"day", "date", "time"}
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else ""
        if word in ("what", "which", "whose") and _starts_with_cue(words[place + 1 :], cues - _GLUE):
            return True
        if word == "when" and kinds & {"day", "time"}:
            return True
        if word == "where" and name & _PLACES or word in ("who", "whom") and name & _PERSONS:
            return True
        if word == "how" and (after == "long" and "duration" in kinds or after in _SIZES and "number" in kinds):
            return True
        if word == "how" and after == "many" and "duration" in kinds and cues & set(words[place + 2 : place + 3]):
            return True
    about = _WHAT_TO_DO.search(question.casefold())
    return about is not None and "text" in kinds and bool(_stems(about[1]) & _stems(f"{spec.name} {spec.description}"))


def _starts_with_cue(words: Sequence[str], cues: Collection[str]) -> bool:
    """Whether a question word asks for a cue, by the words that follow it.

    A noun right behind it is what is asked for: "which colour should the room have" asks for no room, and "which rooms
    are there" for no decision. Else the cue is what something is done to, as in "what should I set the amount to", or
    what something should be.
    """
    has_noun = bool(words) and words[0] not in _GLUE
    does = len(words) > 1 and words[0] in _VERBS and words[1] in ("i", "we")
    for place, word in enumerate(words[:_LONGEST_PHRASE]):
        after = words[place + 1] if place + 1 < len(words) else ""
        if word in cues and does:
            return after in ("to", "as", "at") or place + 1 < len(words) and words[-1] == "to"
        if word in cues:
            return not (has_noun and after in ("is", "are") and words[place + 2 : place + 3] not in (["it"], ["that"]))
        if word in _PHRASE_ENDS or has_noun and word in _VERBS:
            return False
    return False


def _kinds(schema: Mapping[str, Any], root: Mapping[str, Any]) -> set[str]:
    """What sort of thing the values are, in the words of questions for it."""
    if schema.get("format") in ("date", "date-time"):
        return {"day", "date", "time"} if schema["format"] == "date-time" else {"day", "date"}
    pattern = pattern_for(schema["pattern"]) if "pattern" in schema else None
    if schema.get("format") == "time" or pattern is not None and pattern.found_in("07:30"):
        return {"time"}
    properties = schema.get("properties", {})
    if properties and ENGLISH.duration_forms(dict.fromkeys(properties, 1)):
        return {"duration"}
    numeric = [part for part in (schema, *properties.values()) if _type(part, root) in ("integer", "number")]
    if numeric:
        return {"number"}
    items = resolve_schema(schema.get("items", {}), root)
    is_text = schema.get("type") == "array" or schema.get("type") == "string"
    return {"text"} if is_text and not {"enum", "pattern"} & (schema.keys() | items.keys()) else set()


def _type(schema: Any, root: Mapping[str, Any]) -> Any:
    return resolve_schema(schema, root).get("type")


def _choices(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Any]:
    return list(resolve_schema(schema.get("items", schema), root).get("enum", ()))


def _described(schema: Mapping[str, Any], root: Mapping[str, Any]) -> set[str]:
    """Words of a parameter's description and of its parts' names."""
    texts = [str(schema.get("description", ""))]
    for part in (schema, resolve_schema(schema.get("items", {}), root)):
        texts += [name.replace("_", " ") for name in part.get("properties", {})]
    return {word.text for text in texts for word in ENGLISH.words(text)}


def _properties(spec: ToolSpec) -> dict[str, Any]:
    found: dict[str, Any] = resolve_schema(spec.parameters, spec.parameters).get("properties", {})
    return found


def _told(spec: ToolSpec) -> str:
    """What a tool says of itself; a sentence that points to another tool is none of it."""
    own = spec.description.split(". ")[0]
    described = " ".join(
        str(part.get("description", "")) for part in _properties(spec).values() if isinstance(part, dict)
    )
    return f"{spec.name} {own} {' '.join(_properties(spec))} {described}"


def _stems(text: str) -> set[str]:
    """The longer words without their endings, so that "reminder" and "remind" are one."""
    words = {word.text for word in ENGLISH.words(re.sub(r"[-_]", " ", text)) if not word.is_number} - _GLUE
    return {re.sub(rf"(?<=\w{{{_MIN_STEM}}})(?:ers?|ing|ed|e)$", "", word) for word in words}
