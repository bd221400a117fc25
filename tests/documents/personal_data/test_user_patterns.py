import pytest

from gemtune.documents.personal_data.user_patterns import UserPatterns
from gemtune.errors import RecipeError


def test_patterns_are_found_by_their_names():
    with UserPatterns({"case": r"قضية \d+", "code": "[A-Z]-7", "empty": "x*"}) as patterns:
        found = list(patterns.find(["قضية 12 A-7", "قضية 3"]))
    assert found == [("case", 0, 0, 7), ("case", 1, 0, 6), ("code", 0, 8, 11)]


def test_a_pattern_that_never_ends_is_named():
    with (
        UserPatterns({"fine": "a", "slow": "(a+)+b"}, seconds=0.5) as patterns,
        pytest.raises(
            RecipeError, match=r"privacy\.patterns\.slow: on a page of 40 characters it takes longer than 0\.5 s; write"
        ),
    ):
        list(patterns.find(["a" * 40]))
