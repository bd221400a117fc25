import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.documents.personal_data.reading_orders import fold, readings

texts = st.text(st.sampled_from("رقم ab12٣٤۵ -+/\n\u200f\u0640\u064eﻻ"), max_size=40)


@given(texts)
def test_every_reading_has_the_same_characters_each_with_its_place(text):
    plain, *others = readings(text)
    assert plain == fold(text)
    for reading in others:
        assert sorted(reading.text) == sorted(plain.text) and reading.text != plain.text
        assert sorted(reading.places) == sorted(plain.places)
        assert [line for line in map(len, reading.text.split("\n"))] == [len(line) for line in plain.text.split("\n")]
    for reading in (plain, *others):
        folded = {place: fold(text[place]).text for place in range(len(text))}
        assert all(character in folded[place] for character, place in zip(reading.text, reading.places, strict=True))


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("٠١٢٣۴۵", "012345"),
        ("١٢\u200f-\u20143", "12--3"),
        ("ﺍﻟﺮﻗﻢ", "الرقم"),
        ("رَقَمـــ", "رقم"),
        ("４\u00a0＠", "4 @"),
        ("a\r\nb", "a\n\nb"),
    ],
)
def test_a_text_is_folded_a_character_at_a_time(text, folded):
    assert fold(text).text == folded


def test_a_span_is_where_the_characters_came_from():
    reading = fold("رقـــم ١٢")
    assert reading.text == "رقم 12"
    assert reading.span(4, 6) == (7, 9)
    assert reading.span(0, 3) == (0, 6)
