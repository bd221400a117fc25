import random

import pytest

from gemtune.documents.personal_data.banking import ibans, is_card, is_iban
from gemtune.documents.personal_data.numbers import numbers

# Examples of the registry of ISO 13616, and of the brands' own test cards.
IBANS = (
    "EG380019000500000000263180002, SA0380000000608010167519, AE070331234567890123456, JO94CBJO0010000000000131000302, "
    "KW81CBKU0000000000001234560101, QA58DOHB00001234567890ABCDEFG, BH67BMAG00001299123456, TN5910006035183598478831, "
    "LB62099900000001001901229114, IQ98NBIQ850123456789012, PS92PALS000000000400123456702, DE89370400440532013000, "
    "GB29NWBK60161331926819, FR1420041010050500013M02606"
)
CARDS = (
    "4111111111111111, 5555555555554444, 2223003122003222, 378282246310005, 6011111111111117, 30569309025904, "
    "3530111333300000, 6200000000000005"
)


def found(text):
    return [text[start:end] for start, end in ibans(text)]


@pytest.mark.parametrize("iban", IBANS.split(", "))
def test_an_iban_is_found_however_it_is_grouped(iban):
    grouped = " ".join(iban[place : place + 4] for place in range(0, len(iban), 4))
    assert is_iban(iban)
    for written in (iban, grouped, grouped.replace(" ", "-"), iban.lower(), grouped.replace(" ", "\n", 1)):
        assert found(f"IBAN: {written}، البنك") == [written]


def test_nine_wrong_check_digits_of_ten_are_seen():
    wrong = [f"DE{check:02}370400440532013000" for check in range(100) if check != 89]
    assert not any(map(is_iban, wrong))
    assert not found("BE16 1234 5678 9012 and FR1420041010050500013M02607")


def test_an_arab_iban_that_was_misread_in_one_digit_is_still_one():
    assert found("حساب EG38 0019 0005 0000 0000 2631 8000 3") == ["EG38 0019 0005 0000 0000 2631 8000 3"]
    assert found("eg38 0019 0005 0000 0000 2631 8000 3") == []


@pytest.mark.parametrize(
    "text",
    [
        "SA03 8000 0000 6080 1016 751",
        "SA03 8000 0000 6080 1016 75190",
        "XSA0380000000608010167519",
        "in 20 2011 2012 2013",
    ],
)
def test_what_is_longer_or_shorter_is_none(text):
    assert found(text) == []


@pytest.mark.parametrize("card", CARDS.split(", "))
def test_a_card_needs_its_brand_its_check_digit_and_even_groups(card):
    def is_found(text):
        return any(is_card(number) for number in numbers(text) if number.is_plain)

    fours = " ".join(card[place : place + 4] for place in range(0, len(card), 4))
    assert is_found(card) and is_found(" ".join(card))
    assert is_found(fours) or len(fours.split()[-1]) < 3
    assert not is_found(card[:-1] + str((int(card[-1]) + 1) % 10))
    assert not is_found(f"{card[:1]} {card[1:]}")
    assert not is_found("9" + card[1:])


def test_random_numbers_are_hardly_ever_cards():
    rng = random.Random(0)
    texts = (str(rng.randrange(10**15, 10**16)) for _ in range(20_000))
    assert sum(any(map(is_card, numbers(text))) for text in texts) < 0.05 * 20_000
