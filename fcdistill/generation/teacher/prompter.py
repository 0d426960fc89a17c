"""What the teacher is asked: prompts that make it write requests, ask back, and answer.

Worked examples of the team come first where there are some, since a small teacher follows examples better than
instructions; else neutral ones of the kit. All prompts of one kind share their beginning, so that a backend computes
it once. Nothing here calls a model.
"""

import json
import random
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from fcdistill.backends.base import Request
from fcdistill.generation.plan.plan import PlanItem, time_of_context
from fcdistill.generation.verification.clarifying import Lacking, is_asked
from fcdistill.generation.verification.english.words import words_of
from fcdistill.generation.verification.spoken_forms import spoken_forms
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.prompts.worked_examples import choose_examples, example_turns, with_context
from fcdistill.records import ConversationKind, Message, ToolCall, WorkedExample
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import property_schema, required_parameters

__all__ = ["Prompter", "add_typos", "clean_request"]

_WRITER = (
    "You write what people say to an assistant that can call functions. You get an intent, the facts and a style. "
    "Write one request, in the user's voice, that contains every fact and nothing else. Never answer it."
)
_ASKER = "A user's request lacks one piece of information. Ask for it in one short, friendly question."
_FOLLOWER = (
    "A user talks to an assistant that can call functions. You get what the user said, what the user wants next, the "
    "facts and a style. Write what the user says next, with every fact and nothing else. Never answer it."
)
_FUNCTIONS = (
    "You play the functions of an app. You get a function, its arguments and what its result must hold. Write the "
    "result: one JSON object on one line, nothing else."
)
_AGAIN = "the same again, but with these facts"
_WISHES: dict[ConversationKind, str] = {
    "repeated": _AGAIN,
    "completed": "to say only what was still missing",
    "corrected": "to correct it: not what was said, but these facts",
    "carried_over": _AGAIN,
    "resumed": "to go back to what was said first, but with these facts",
}
"""What the user wants next, where it is no request of its own."""
_STYLES = {
    "casual": "casual",
    "terse": "terse, a few words",
    "polite": "polite",
    "question": "as a question: can you, could you, would you",
    "rambling": "chatty, with a reason",
    "typos": "casual",
}
_NEUTRAL = (
    ("book_table: Reserve a table in a restaurant.", "people: 4; time: 7:30 pm; restaurant: Luigi's", "polite",
     "Could you please get us a table for 4 at Luigi's at 7:30 pm?"),
    ("get_route: Get directions to a place.", "destination: Oslo airport; mode: by train", "terse, a few words",
     "route to Oslo airport by train"),
    ("set_fan: Switch a fan on or off.", "state: off; place: attic", "casual", "hey, switch off the fan in the attic"),
    ("send_money: Send money to a contact.", "amount: 25; recipient: Priya; note: pizza", "casual",
     "send 25 to Priya for the pizza"),
    ("get_stock_price: Read the price of a share.", "company: Nokia",
     "as a question: can you, could you, would you", "Can you tell me how much a Nokia share is right now?"),
    ("book_table: Reserve a table in a restaurant. / get_route: Get directions to a place.",
     "people: 2; restaurant: Noma / destination: Noma", "chatty, with a reason",
     "We are finally going out tonight, so reserve a table for 2 at Noma and then tell me how to get to Noma."),
)  # fmt: skip
_NEUTRAL_TOPICS = (
    ("the moon", "casual", "how far away is the moon actually"),
    ("a taxi", "polite", "Could you call me a taxi to the station, please?"),
    ("a compliment", "terse, a few words", "well done, you"),
)
_NEUTRAL_QUESTIONS = (
    ("Book a table at Luigi's", "people", "For how many people should I book the table?"),
    ("Set the fan in the attic", "speed", "Which speed should I set?"),
    ("Send some money to Priya", "amount", "How much money should I send to Priya?"),
    ("Could you switch the fan?", "place", "In which place should I switch the fan?"),
)
_NEUTRAL_LATER = (
    ("Reserve a table for 4 at Luigi's at 7:30 pm", _AGAIN, "restaurant: Noma", "polite",
     "And the same at Noma, please."),
    ("how much is a Nokia share", "send_money: Send money to a contact.", "recipient: Priya; amount: that", "casual",
     "ok send that to Priya"),
    ("switch off the fan in the attic", _AGAIN, "place: cellar", "terse, a few words", "and in the cellar"),
    ("When does my train leave?", "add_note: Write a note.", "title: train; time: the same", "chatty, with a reason",
     "Good to know, I always forget it, so add a note with the title train and the same time."),
    ("Find the next concert in Oslo", "buy_ticket: Buy tickets.", "seats: 2; concert id: that concert id",
     "as a question: can you, could you, would you", "Could you buy 2 seats for that concert id?"),
)  # fmt: skip
_NEUTRAL_FOLLOW_UPS: dict[ConversationKind, tuple[tuple[str, str, str, str], ...]] = {
    "completed": (
        ("Reserve a table at Luigi's", "people: 4", "terse, a few words", "4"),
        ("switch off the fan", "place: attic", "casual", "oh, in the attic"),
        ("Could you send 25 to my sister?", "note: pizza", "polite", "For the pizza, please."),
    ),
    "corrected": (
        ("Reserve a table for 4 at Luigi's at 7:30 pm", "time: 8 pm", "polite", "Sorry, please make that 8 pm."),
        ("switch off the fan in the attic", "place: cellar", "terse, a few words", "no, the cellar"),
        ("send 25 to Priya for the pizza", "recipient: Jonas", "chatty, with a reason",
         "Oh no, I mixed them up, it was Jonas who paid, so send it to him."),
    ),
    "carried_over": (
        ("Reserve a table for 4 at Luigi's at 7:30 pm", "restaurant: Noma", "polite", "And the same at Noma, please."),
        ("switch off the fan in the attic", "place: cellar", "terse, a few words", "and in the cellar"),
        ("how much is a Nokia share", "company: Volvo", "as a question: can you, could you, would you",
         "Can you tell me that for Volvo too?"),
    ),
    "resumed": (
        ("switch off the fan in the attic / how much is a Nokia share", "about: the fan; place: cellar", "casual",
         "back to the fan, do that in the cellar"),
        ("Reserve a table for 4 at Luigi's / send 25 to Priya", "about: the table; people: 6", "polite",
         "About the table, please make it for 6."),
        ("route to Oslo airport by train / set the alarm to 6 am", "about: the route; mode: by bus",
         "terse, a few words", "the route again, by bus"),
    ),
    "switched": (
        ("switch off the fan in the attic", "company: Nokia", "casual", "by the way, how much is a Nokia share"),
        ("how much is a Nokia share", "people: 2; restaurant: Noma", "polite",
         "Something else, could you please reserve a table for 2 at Noma?"),
    ),
    "social": (
        ("hello there", "place: attic; state: off", "casual", "switch off the fan in the attic"),
        ("switch off the fan in the attic", "none", "terse, a few words", "thanks"),
    ),
}  # fmt: skip
"""Per kind: what was said, the facts, the style, and what the user says next."""
_NEUTRAL_WISHES = {
    "company": "get_stock_price: Read the price of a share.",
    "people": "book_table: Reserve a table in a restaurant.",
    "place": "set_fan: Switch a fan on or off.",
    "none": "thank_you: The user says thanks.",
}
"""What is wanted next in the examples of `switched` and `social`, by their first fact."""
_NEUTRAL_RESULTS = (
    ("get_stock_price: Read the price of a share.", '{"company": "Nokia"}', "amount = 4.12",
     '{"company": "Nokia", "amount": 4.12, "currency": "EUR"}'),
    ("list_parcels: List the parcels on their way.", "{}", "nothing special",
     '{"parcels": [{"id": "P-1042", "from": "Bergen", "days_left": 2}]}'),
    ("find_concert: Find the next concert in a city.", '{"city": "Oslo"}', 'concert_id = "C77"',
     '{"concert_id": "C77", "artist": "Ane Brun", "city": "Oslo"}'),
)  # fmt: skip
_MAX_EXAMPLES = 6
_ASSENT = re.compile(r"(?:sure|of course|okay|certainly)[,.!] +(?=\w)", re.IGNORECASE)
"""A model that is asked for a request often agrees first; whether it then speaks as the user is checked later."""


class Prompter:
    """Builds the prompts for one catalogue and one set of worked examples.

    Args:
        catalog: the tools.
        book: how values are said.
        examples: of the team.
        answers_as_taught: whether who answers has learned the domain's traces, and is asked as they are written.
    """

    def __init__(
        self,
        catalog: Catalog,
        book: ValueBook,
        examples: Sequence[WorkedExample],
        *,
        answers_as_taught: bool = False,
    ) -> None:
        self._catalog = catalog
        self._book = book
        self._examples = examples
        self._answers_as_taught = answers_as_taught

    def write_request(self, item: PlanItem) -> Request:
        """Ask the teacher to write the request of a call-first item.

        Args:
            item: a call-first item; unless its topic is foreign, the prompt shows the team's examples of its tool.
        """
        if not item.calls:
            return self._write_foreign(item)
        turns: list[Message] = [Message(role="system", content=_WRITER)]
        shown = self._shown_for(item)
        if shown:
            for example in shown:
                intents, facts = self._describe(example.calls, example)
                turns += _turn(_brief(intents, facts, _style_of(example.request)), example.request)
        else:
            for intent, said, style, request in _NEUTRAL:
                turns += _turn(_brief(intent, said, style), request)
        intents = " / ".join(self._intent(call.name) for call in item.calls)
        facts = " / ".join(_facts(said) for said in item.facts)
        turns.append(Message(role="user", content=_brief(intents, facts, _STYLES[item.register])))
        return Request(id=item.id, messages=tuple(turns))

    def _write_foreign(self, item: PlanItem) -> Request:
        turns = [Message(role="system", content=_WRITER)]
        for topic, style, request in _NEUTRAL_TOPICS:
            turns += _turn(f"Topic: {topic}\nStyle: {style}", request)
        turns.append(Message(role="user", content=f"Topic: {item.topic}\nStyle: {_STYLES[item.register]}"))
        return Request(id=item.id, messages=tuple(turns))

    def write_later(self, item: PlanItem, said: str) -> Request:
        """Ask the teacher what the user of a planned conversation says last, after the calls before.

        Args:
            item: plans a dialogue; the last of its facts are what the user still has to say.
            said: what the user said so far.
        """
        kind = item.dialogue.kind if item.dialogue is not None else "referring"
        turns: list[Message] = [Message(role="system", content=_FOLLOWER)]
        for before, facts, style, text in _NEUTRAL_FOLLOW_UPS.get(kind, ()):
            wish = _WISHES.get(kind) or _NEUTRAL_WISHES[facts.partition(":")[0]]
            turns += _turn(f"Said: {before}\n{_brief(wish, facts, style)}", text)
        for before, wish, facts, style, text in _NEUTRAL_LATER if kind not in _NEUTRAL_FOLLOW_UPS else ():
            turns += _turn(f"Said: {before}\n{_brief(wish, facts, style)}", text)
        wish = _WISHES.get(kind) or self._intent(item.calls[-1].name)
        brief = _brief(wish, _facts(item.facts[-1]), _STYLES[item.register])
        turns.append(Message(role="user", content=f"Said: {said}\n{brief}"))
        return Request(id=item.id, messages=tuple(turns))

    def write_result(self, identity: str, call: ToolCall, needed: Mapping[str, object]) -> Request:
        """Ask the teacher what a call gives back.

        Args:
            identity: of the request.
            call: of one of the catalogue's tools.
            needed: what the result must hold, by a name for it.
        """
        turns: list[Message] = [Message(role="system", content=_FUNCTIONS)]
        for function, arguments, held, result in _NEUTRAL_RESULTS:
            turns += _turn(f"Function: {function}\nArguments: {arguments}\nMust hold: {held}", result)
        held = ", ".join(f"{name} = {_json(value)}" for name, value in needed.items()) or "nothing special"
        asked = f"Function: {self._intent(call.name)}\nArguments: {_json(call.arguments)}\nMust hold: {held}"
        turns.append(Message(role="user", content=asked))
        return Request(id=identity, messages=tuple(turns))

    def ask_back(self, identity: str, request: str, lacking: Sequence[Lacking]) -> Request:
        """Ask the teacher for the question that a request deserves.

        Args:
            identity: of the request to the teacher.
            request: what the user said.
            lacking: what the request lacks; the teacher is told where that is one value.
        """
        turns = [Message(role="system", content=_ASKER)]
        own = [(example.request, example.text) for example in self._examples if example.category == "clarify"]
        for text, missing, question in _NEUTRAL_QUESTIONS:
            turns += _turn(f"Request: {text}\nMissing: {missing}", question)
        for text, question in own:
            asked = [value for value in self._all_required() if is_asked(self._catalog, value, question)]
            turns += _turn(f"Request: {text}{self._missing(asked)}", question)
        turns.append(Message(role="user", content=f"Request: {request}{self._missing(lacking)}"))
        return Request(id=identity, messages=tuple(turns))

    def _all_required(self) -> Iterator[Lacking]:
        return (Lacking(spec.name, name) for spec in self._catalog.specs for name in required_parameters(spec))

    def _missing(self, lacking: Sequence[Lacking]) -> str:
        """The line that tells the teacher what is missing; empty where that is not certain."""
        told = {value.said for value in lacking}
        return f"\nMissing: {told.pop()}" if len(told) == 1 else ""

    def answer(self, item: PlanItem, request: str, before: Sequence[Message] = ()) -> Request:
        """Ask the teacher to answer a request blindly: it sees the tools, worked examples and what was said only.

        Where a hint says that a call is right, no example shows a refusal: a small teacher copies it too gladly. A
        teacher that has learned the traces needs no examples.

        Args:
            item: what is answered.
            request: the user's text.
            before: the turns of a conversation before it.
        """
        if self._answers_as_taught:
            context = [Message(role="system", content=item.system)] if item.system else []
            messages = (*context, *before, Message(role="user", content=request))
            return Request(id=item.id, messages=messages, specs=self._catalog.specs)
        shown = choose_examples(self._examples, self._catalog.specs, with_refusals=item.category is None)
        turns = [*example_turns(shown), *before, Message(role="user", content=with_context(item.system, request))]
        return Request(id=item.id, messages=tuple(turns), specs=self._catalog.specs)

    def _shown_for(self, item: PlanItem) -> list[WorkedExample]:
        if len(item.calls) > 1:
            several = [example for example in self._examples if len(example.calls) > 1]
            return several[: _MAX_EXAMPLES + 2]
        name = item.calls[0].name
        same = [example for example in self._examples if [call.name for call in example.calls] == [name]]
        if not same:
            return []
        others = [e for e in self._examples if len(e.calls) == 1 and e not in same]
        return [*others[:: max(1, len(others) // 3)][:2], *same[:_MAX_EXAMPLES]]

    def _describe(self, calls: Iterable[ToolCall], example: WorkedExample) -> tuple[str, str]:
        """Intent and facts of a worked example, in the words that its request uses where they can be found."""
        words = {word.text for word in words_of(example.request)}
        intents, facts = [], []
        for call in calls:
            spec = self._catalog.by_name[call.name]
            said = []
            for name, value in call.arguments.items():
                path = f"{call.name}.{name}"
                entry = self._book.entry(path, value)
                if entry is not None and any(other in call.arguments for other in entry.implied_by):
                    continue
                schema = property_schema(spec.parameters, [name]) or {}
                now = time_of_context(example.system)
                forms = spoken_forms(value, path, schema, self._book, now) or [_plain(value)]
                used = [form for form in forms if {word.text for word in words_of(form)} <= words]
                said.append((name.replace("_", " "), (used or forms)[0]))
            intents.append(self._intent(call.name))
            facts.append(_facts(said))
        return " / ".join(intents), " / ".join(facts)

    def _intent(self, name: str) -> str:
        first = self._catalog.by_name[name].description.split(". ")[0].rstrip(".")
        return f"{name.replace('_', ' ')}: {first}."


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return " ".join(str(part) for _, part in sorted(value.items(), key=lambda pair: isinstance(pair[1], str)))
    return str(value).replace("_", " ")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _brief(intent: str, facts: str, style: str) -> str:
    return f"Intent: {intent}\nFacts: {facts}\nStyle: {style}"


def _facts(said: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {form}" for name, form in said) or "none"


def _turn(user: str, assistant: str) -> list[Message]:
    return [Message(role="user", content=user), Message(role="assistant", content=assistant)]


def _style_of(request: str) -> str:
    words = request.split()
    if len(words) <= 5:
        return _STYLES["terse"]
    if any(word.lower().strip(",") in ("please", "could", "would") for word in words):
        return _STYLES["polite"]
    if request.endswith("?"):
        return _STYLES["question"]
    return _STYLES["rambling"] if "," in request else _STYLES["casual"]


def clean_request(text: str) -> str:
    """A written request without the quotes, labels and words of assent that models put around it."""
    text = text.strip()
    for label in ("Request:", "User:"):
        text = text.removeprefix(label).strip()
    if len(text) > 1 and text[0] + text[-1] in ('""', "''", "“”", "””"):
        text = text[1:-1].strip()
    assent = _ASSENT.match(text)
    return text[assent.end()].upper() + text[assent.end() + 1 :] if assent else text


def add_typos(text: str, seed: str, keep: Container[str] = frozenset()) -> str:
    """The text with up to two slips of the finger in its longer plain words.

    Numbers, in digits or in words, stay as they are, and so do words with a capital letter, since they may be names.

    Args:
        text: a request.
        seed: the same seed gives the same slips.
        keep: comparable words (`words.words_of`) that stay as they are, such as texts that the answer repeats.
    """
    generator = random.Random(seed)
    words = text.split(" ")
    candidates = [
        index
        for index, word in enumerate(words)
        if len(word) > 3
        and word.isalpha()
        and word.islower()
        and not any(part.is_number or part.text in keep for part in words_of(word))
    ]
    for index in generator.sample(candidates, min(len(candidates), generator.choice((1, 2)))):
        word = words[index]
        at = generator.randrange(1, len(word) - 1)
        words[index] = generator.choice(
            (
                word[:at] + word[at + 1 :],
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                word[:at] + word[at] + word[at:],
            )
        )
    return " ".join(words)
