"""Realistic texts for arguments of which nobody lists values: what a format, a pattern or the argument's name suggests.

Names, addresses and the like come from Faker, texts of a pattern from rstr. Mail, web and network addresses and phone
numbers lie in the ranges that are reserved for documentation. Where nothing is suggested there is no text: made-up
sentences would teach a student nothing, and people know better what their users say.
"""

import random
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fcdistill.generation.verification.english.words import words_of
from fcdistill.tools.patterns import WORD, Token, pattern_for

if TYPE_CHECKING:
    from faker import Faker

__all__ = ["RealisticTexts"]

_TRIES = 20
_OPEN_SET = 128
"""A set with more characters than this says what is not meant."""
_PLAIN_SETS = ("abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz0123456789 -", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""What people would write where a set is open: the first of these that is in it, or what it has of one of them."""
_WORD = "[a-z0-9]"
_OPEN_REPEATS = {"+": "{1,6}", "*": "{0,4}"}


class RealisticTexts:
    """Draws texts; the same seed gives the same ones, with the same version of Faker.

    Args:
        seed: of all choices.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)

    def draw(self, name: str, schema: Mapping[str, Any]) -> str | None:
        """A text for an argument of this name; None where neither its schema nor its name suggests any.

        Whether it satisfies the whole schema is not checked, but for its length.
        """
        if "pattern" in schema:
            make: Callable[[], str] | None = lambda: self._of_pattern(str(schema["pattern"]))  # noqa: E731
        else:
            make = self._of_format(schema.get("format", "")) or self._of_name(name)
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        for _ in range(_TRIES if make is not None else 0):
            assert make is not None
            try:
                text = make()
            except (re.error, LookupError):  # what rstr can't write
                return None
            if least <= len(text) and (most is None or len(text) <= most):
                return text
        return None

    @cached_property
    def _faker(self) -> "Faker":
        from faker import Faker

        faker = Faker("en_US")
        faker.seed_instance(self._seed)
        return faker

    def _of_pattern(self, written: str) -> str:
        from rstr import Rstr

        pattern = pattern_for(written)
        if pattern is None:
            raise LookupError(written)
        return Rstr(self._random).xeger("".join(map(_tamed, pattern.tokens)))

    def _of_format(self, name: str) -> Callable[[], str] | None:
        fake = self._faker
        return {
            "email": fake.safe_email,
            "idn-email": fake.safe_email,
            "hostname": self._hostname,
            "idn-hostname": self._hostname,
            "ipv4": lambda: f"192.0.2.{self._random.randint(1, 254)}",
            "ipv6": lambda: f"2001:db8::{self._random.randint(1, 0xFFFF):x}",
            "uri": self._address,
            "iri": self._address,
            "uri-reference": self._address,
            "iri-reference": self._address,
            "uri-template": lambda: f"{self._address()}/{{id}}",
            "uuid": lambda: str(fake.uuid4()),
            "duration": lambda: self._random.choice(("PT{}M", "PT{}H", "P{}D")).format(self._random.randint(1, 23)),
            "json-pointer": lambda: f"/{fake.word()}/{self._random.randint(0, 9)}",
            "relative-json-pointer": lambda: f"{self._random.randint(0, 3)}/{fake.word()}",
            "regex": lambda: f"^{fake.word()}[0-9]+$",
        }.get(name)

    def _of_name(self, name: str) -> Callable[[], str] | None:
        fake = self._faker
        makers: dict[str, Callable[[], str]] = {
            "address": fake.street_address,
            "assignee": fake.name,
            "attendee": fake.name,
            "city": fake.city,
            "company": fake.company,
            "contact": fake.name,
            "country": fake.country,
            "country code": fake.country_code,
            "currency": fake.currency_code,
            "customer": fake.name,
            "customer name": fake.name,
            "domain": self._hostname,
            "email": fake.safe_email,
            "email address": fake.safe_email,
            "first name": fake.first_name,
            "full name": fake.name,
            "guest": fake.name,
            "host": self._hostname,
            "hostname": self._hostname,
            "iban": fake.iban,
            "id": self._identifier,
            "ip": lambda: f"192.0.2.{self._random.randint(1, 254)}",
            "last name": fake.last_name,
            "link": self._address,
            "mobile": self._phone,
            "organization": fake.company,
            "participant": fake.name,
            "passenger": fake.name,
            "person": fake.name,
            "phone": self._phone,
            "phone number": self._phone,
            "postal code": fake.postcode,
            "postcode": fake.postcode,
            "recipient": fake.name,
            "street": fake.street_address,
            "surname": fake.last_name,
            "telephone": self._phone,
            "url": self._address,
            "user name": fake.user_name,
            "username": fake.user_name,
            "website": self._address,
            "zip": fake.postcode,
            "zip code": fake.postcode,
        }
        # "customerEmail" and "customer-email" are emails; the last words say most.
        spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("-", " ")
        words = [word.text for word in words_of(spaced)]
        return next((makers[end] for size in (2, 1) if (end := " ".join(words[-size:])) in makers), None)

    def _hostname(self) -> str:
        return f"{self._faker.domain_word()}.example.com"

    def _address(self) -> str:
        return f"https://www.example.com/{self._faker.slug()}"

    def _phone(self) -> str:
        return str(self._faker.numerify("202-555-01##"))

    def _identifier(self) -> str:
        return str(self._faker.bothify("??-####", letters="ABCDEFGHJKLMNPRSTUVWXYZ"))


def _tamed(token: Token) -> str:
    """A part of a pattern that is written as people would: short, and in plain letters where any would do."""
    if token.kind == "reference":
        return f"\\{token.group}"
    if token.kind == "repeat":
        sign = token.text if len(token.text) == 1 else token.text.removesuffix("?")
        if sign.endswith(",}"):
            least = int(sign[1:-2])
            return f"{{{least},{least + 4}}}"
        return _OPEN_REPEATS.get(sign, sign)
    if token.kind != "set":
        return token.text
    if token.ranges == WORD:
        return _WORD
    if sum(last - first + 1 for first, last in token.ranges) <= _OPEN_SET:
        return token.text
    for letters in _PLAIN_SETS:
        if token.holds(letters):
            return f"[{re.escape(letters)}]"
    found = next(filter(None, ("".join(filter(token.holds, letters)) for letters in _PLAIN_SETS[1:])), "")
    return f"[{re.escape(found)}]" if found else token.text
