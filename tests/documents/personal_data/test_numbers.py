import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.documents.personal_data.numbers import is_dates, luhn, numbers


@given(st.text("0123456789", min_size=1, max_size=18))
def test_one_check_digit_of_ten_is_right_and_every_other_digit_wrong(digits):
    assert [luhn(digits + check) for check in "0123456789"].count(True) == 1


@given(st.lists(st.text("0123456789", min_size=1, max_size=6), min_size=1, max_size=9), st.sampled_from(" -"))
def test_every_part_of_a_run_is_looked_at(groups, sign):
    text = f"رقم {sign.join(groups)}؛"
    seen = {(number.text, number.digits) for number in numbers(text)}
    parts = [groups[a:b] for a in range(len(groups)) for b in range(a + 1, len(groups) + 1)]
    assert seen == {(sign.join(part), "".join(part)) for part in parts if 9 <= sum(map(len, part)) <= 19}
    for number in numbers(text):
        assert text[number.start : number.end] == number.text and number.is_plain


@pytest.mark.parametrize("text", ["2010 2012", "1995-2001", "1.2.2020 345", "2021/12/05 123", "31 / 12 / 1999"])
def test_years_and_dates_are_no_numbers_of_anybody(text):
    assert is_dates(text)


def test_a_number_on_a_line_of_a_thousand_others_is_looked_at():
    text = "1 " * 1_000 + "2980 1010112345" + " 1" * 1_000
    assert "29801010112345" in {number.digits for number in numbers(text)}


def test_a_number_in_letters_is_a_code():
    assert not list(numbers("AB1234567890 1234567890X"))
