import re

import pytest

from gemtune.documents.personal_data.numbers import numbers
from gemtune.documents.personal_data.phones import is_mobile, phones

REGIONS = ("EG", "SA", "AE", "JO", "KW", "MA")


def found(text, regions=REGIONS):
    spans = {number.text for number in numbers(text) if is_mobile(number, regions)}
    return spans | {text[start:end] for start, end in phones(text, regions)}


@pytest.mark.parametrize(
    "text",
    [
        "هاتف: 01228762033 / 01061319140",
        "جوال 0501234567",
        "+966 50 123 4567",
        "00971501234567",
        "+971 (0)50-123-4567",
        "010 1234 5678",
        "0 1 0 1 2 3 4 5 6 7 8",
        "+965 5123 4567",
        "079 123 4567",
        "0612345678",
        "02 23456789",  # a line in Cairo
        "+49 30 901820",  # of any country after a +
        "Tel. 2345 6789",  # one in Kuwait after a label
        "هاتف رقم: 51234567",
    ],
)
def test_a_phone_number_is_found_however_it_is_grouped(text):
    for number in re.findall("[+(]?[0-9][0-9 ()-]+[0-9]", text):
        assert max(found(text), key=lambda part: (part in number, len(part))) == number
    assert set("".join(found(text))) <= set("+0123456789 ()-")


def test_a_date_before_a_number_does_not_hide_it():
    assert found("05/12/2010 01228762033") == {"01228762033"}


@pytest.mark.parametrize(
    "text",
    [
        "22.997 22.481 21.455 23.114",
        "2010 1995 2012",
        "05/12/2010 12",
        "1.234.567.890",
        "123456",
        "صفحة 12-15",
        "AB01228762033",
    ],
)
def test_tables_dates_and_codes_are_none(text):
    assert found(text) == set()


def test_only_numbers_of_the_regions_are_known_without_a_country_code():
    assert found("0501234567", ("KW",)) == set()
    assert found("رقم القيد 51234567", ("KW",)) == set()  # any eight digits
    assert found("+966501234567", ("EG",)) >= {"+966501234567"}
