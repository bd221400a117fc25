import random

import pytest

from gemtune.documents.personal_data.national_ids import is_national_id
from gemtune.documents.personal_data.numbers import numbers


def is_found(text, *regions):
    return any(number.is_plain and is_national_id(number, regions) for number in numbers(text))


@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("29801010112345", "EG"), ("30402298812345", "EG"), ("1098765439", "SA"),
        ("2000000006", "SA"), ("784-1980-1234567-9", "AE"), ("784198012345679", "AE"),
        ("9891012345", "JO"), ("2000123456", "JO"), ("286010112344", "KW"),
        ("28635612345", "QA"), ("2 9 8 0 1 0 1 0 1 1 2 3 4 5", "EG"), ("298 010101 12345", "EG"),
    ],
)  # fmt: skip
def test_an_id_is_one_in_its_own_state(number, region):
    assert is_found(f"رقم {number}.", region)
    assert not is_found(f"رقم {number}.", "XX")


@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("49801010112345", "EG"),  # a century to come
        ("29813010112345", "EG"),  # the thirteenth month
        ("30302290112345", "EG"),  # 2003 was no leap year
        ("29801019912345", "EG"),  # no governorate
        ("1098765438", "SA"),  # the check digit
        ("3098765435", "SA"),
        ("784-1880-1234567-9", "AE"),
        ("286010112345", "KW"),
        ("98765 43210 1234", "EG"),
        ("10987 65439", "SA"),  # in groups any ten digits would do
    ],
)
def test_what_has_another_structure_is_none(number, region):
    assert not is_found(f"رقم {number}.", region)


@pytest.mark.parametrize(
    ("region", "length", "most"),
    [("EG", 14, 0.004), ("SA", 10, 0.025), ("AE", 15, 0.001), ("KW", 12, 0.003), ("QA", 11, 0.01)],
)
def test_few_random_numbers_have_the_structure(region, length, most):
    rng = random.Random(length)
    texts = (f"{rng.randrange(10**length):0{length}}" for _ in range(20_000))
    assert sum(is_found(text, region) for text in texts) <= most * 20_000
