import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.metrics.structured import json_valid


@pytest.mark.parametrize("text", ["{}", " [1, 2.5e3, null]\n", '"a"', "3", '{"ف": "\\u0641"}', "1" * 5000])
def test_valid_json(text):
    assert json_valid(text)


@pytest.mark.parametrize(
    "text", ["", "{", "{'a': 1}", "[1,]", "NaN", "[Infinity]", "{} {}", "```json\n{}\n```", "// x\n{}", "[" * 200_000]
)
def test_invalid_json(text):
    assert not json_valid(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=10))
def test_what_python_writes_is_valid_json(value):
    assert json_valid(json.dumps(value))
