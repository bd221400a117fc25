"""A planted number is found in every order in which it may come out of a right-to-left line."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemtune.documents.personal_data.national_ids import is_national_id
from gemtune.documents.personal_data.numbers import luhn, numbers
from gemtune.documents.personal_data.recognisers import matches
from gemtune.documents.personal_data.user_patterns import UserPatterns

REGIONS = ("EG", "SA", "AE", "JO", "KW", "MA")
INDIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
WORDS = st.text(st.sampled_from("ابتثجحخدذرزسشصضطظعغفقكلمنهوي"), min_size=2, max_size=8)


def with_check(body):
    return next(body + check for check in "0123456789" if luhn(body + check))


def fours(text):
    return " ".join(text[place : place + 4] for place in range(0, len(text), 4))


digits = st.text("0123456789", min_size=12, max_size=12)
PLANTED = st.one_of(
    digits.map(lambda body: ("iban", fours(_iban("EG", body + body + "1")))),
    digits.map(lambda body: ("iban", fours(_iban("SA", body + "12345678")))),
    digits.map(lambda body: ("card", fours(with_check("412" + body)))),
    digits.map(lambda body: ("national id", "2980101" + "01" + body[:5])),
    digits.map(lambda body: ("national id", with_check("1" + body[:8]))),
    digits.map(lambda body: ("national id", f"784-1985-{body[:7]}-{body[7]}")),
    digits.map(lambda body: ("phone", f"+20 10 {body[:4]} {body[4:8]}")),
    digits.map(lambda body: ("phone", f"050 {body[:3]} {body[3:7]}")),
    digits.map(lambda body: ("phone", f"010{body[:8]}")),
)


def _iban(country, bban):
    number = "".join(str(int(character, 36)) for character in bban + country + "00")
    return f"{country}{98 - int(number) % 97:02}{bban}"


def as_is(number):
    return number


def groups_reversed(number):
    """As pdfium gives a line: groups in reverse order, and Latin letters on the other side of their digits."""
    return "".join(reversed(re.findall("[0-9]+|[A-Z]+|.", number)))


def words_reversed(number):
    return " ".join(reversed(number.split(" ")))


def within_words(number):
    return " ".join(groups_reversed(word) for word in number.split(" "))


def indic(number):
    return number.translate(INDIC)


def indic_reversed(number):
    return number.translate(INDIC)[::-1]


def indic_each_reversed(number):
    return re.sub("[0-9]+", lambda digits: digits[0][::-1], number).translate(INDIC)


LATIN = (as_is, groups_reversed, words_reversed, within_words)
NATIVE = (indic, indic_reversed, indic_each_reversed)


@settings(max_examples=300)
@given(PLANTED, st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4), st.sampled_from(LATIN + NATIVE))
def test_a_planted_number_is_found_in_any_order(planted, before, after, order):
    kind, number = planted
    if order in NATIVE and re.search("[A-Z+]", number):
        order = indic if "+" in number else as_is  # Latin letters are not turned with Arabic digits
    written = order(number)
    line = " ".join([*before, written, *after])
    found = [match for match in matches(f"سطر\n{line}\nسطر", REGIONS)]
    start = line.index(written) + 4
    whole = [match for match in found if match.start <= start + 1 and match.end >= start + len(written) - 1]
    assert whole, (written, found)
    assert kind in {match.kind for match in whole} or is_more_than_one_kind(number)


def is_more_than_one_kind(number):
    """A card of 14 digits can be an Egyptian id, and a Saudi id a phone number."""
    return any(is_national_id(part, REGIONS) for part in numbers(number)) or "+" in number or number.startswith("0")


@given(st.lists(WORDS, max_size=30))
def test_words_alone_are_nobodys_data(words):
    assert matches(" ".join(words), REGIONS) == []


def test_email_addresses_are_found_also_with_a_space_that_ocr_put_in():
    text = "البريد: ahmed.ali@example.com.eg أو info @ example.org، لا @هذا ولا a@b"
    assert [match.value for match in matches(text, REGIONS)] == ["ahmed.ali@example.com.eg", "info @ example.org"]


def test_a_number_in_a_longer_one_is_not_named_twice():
    found = matches("IBAN EG38 0019 0005 0000 0000 2631 8000 2", REGIONS)
    assert [match.kind for match in found] == ["iban"]


def test_user_patterns_are_tried_on_the_text_as_it_is_and_on_every_order():
    with UserPatterns({"file": r"F-\d{3}", "native": "ملف ٣"}) as patterns:
        found = matches("ملف ٣ 204-F", REGIONS, patterns)
    assert [(match.kind, match.start, match.end) for match in found] == [("native", 0, 5), ("file", 6, 11)]


@pytest.mark.parametrize("part", ["1", "1 ", "a@", "+1-", "EG38 ", "الاسم: ", "a.", "Name: a ", "4111 ", "("])
def test_hostile_text_ends(part):
    """It would not, by far, with a pattern that backtracks."""
    assert isinstance(matches(part * 2_000, REGIONS), list)
