"""Fields by type: what counts as found, given and true, for schemas and values of every shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.metrics.fields import compare_fields

SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {"party": {"type": "object", "properties": {"name": {"type": "string"}}}},
    "properties": {
        "number": {"type": "string"},
        "date": {"type": ["string", "null"], "format": "date"},
        "total": {"type": "number"},
        "currency": {"type": "string", "enum": ["EGP", "SAR"]},
        "paid": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "seller": {"$ref": "#/$defs/party"},
        "buyer": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/party"}]},
        "lines": {
            "type": "array",
            "items": {"type": "object", "properties": {"what": {"type": "string"}, "price": {"type": "number"}}},
        },
    },
}
TRUTH: dict[str, Any] = {
    "number": "ف-١٢",
    "date": "2024-03-05",
    "total": 1200.5,
    "currency": "EGP",
    "paid": False,
    "tags": ["عاجل", "سري"],
    "seller": {"name": "شركة النور"},
    "buyer": None,
    "lines": [{"what": "pen", "price": 2}, {"what": "ink", "price": 3}],
}


def counts(reply: object, truth: object = TRUTH, schema: Any = SCHEMA) -> tuple[int, int, int]:
    hits = compare_fields(reply, truth, schema)
    return hits.found.total(), hits.given.total(), hits.true.total()


def test_all_of_it_is_found_in_any_digits_order_and_spelling() -> None:
    assert counts(TRUTH) == (12, 12, 12)
    other = {**TRUTH, "number": "ف-12", "date": "٥/٣/٢٠٢٤", "total": "1,200.50", "tags": ["سري", "عاجل"]}
    other |= {"seller": {"name": "شَرِكة النور"}, "lines": TRUTH["lines"][::-1]}
    assert counts(other) == (12, 12, 12)


def test_types_are_the_schemas() -> None:
    hits = compare_fields(TRUTH, TRUTH, SCHEMA)
    assert dict(hits.true) == {"text": 4, "date": 1, "number": 3, "enum": 1, "boolean": 1, "list": 2}
    bare = compare_fields(None, {"a": 1, "b": ["x"], "c": True, "d": "e"})
    assert dict(bare.true) == {"number": 1, "list": 1, "boolean": 1, "text": 1}


@pytest.mark.parametrize(
    ("change", "found", "given_", "true"),
    [
        ({"total": 1200.4}, 11, 12, 12),
        ({"total": None}, 11, 11, 12),
        ({"number": " "}, 11, 11, 12),
        ({"buyer": {"name": "Ali"}}, 12, 13, 12),
        ({"extra": "x"}, 12, 13, 12),
        ({"paid": True}, 11, 12, 12),
        ({"paid": "false"}, 12, 12, 12),
        ({"tags": ["عاجل", "عاجل"]}, 11, 12, 12),
        ({"tags": "عاجل"}, 10, 11, 12),
        ({"lines": [{"what": "ink", "price": 3}]}, 10, 10, 12),
        ({"lines": [*TRUTH["lines"], {"what": "cap", "price": 1}]}, 12, 14, 12),
        ({"seller": "شركة النور"}, 11, 12, 12),
        ({"seller": [1, [2]]}, 11, 13, 12),
    ],
)
def test_each_change_costs_what_it_should(change: dict[str, Any], found: int, given_: int, true: int) -> None:
    assert counts({**TRUTH, **change}) == (found, given_, true)


@pytest.mark.parametrize("reply", [None, [], {}, "text", 3, [[[]]], {"number": {"number": {"number": 1}}}])
def test_a_reply_of_another_shape_finds_nothing(reply: object) -> None:
    found, _, true = counts(reply)
    assert (found, true) == (0, 12)


def test_nothing_true_and_nothing_given() -> None:
    assert counts({"number": None, "tags": []}, {}) == (0, 0, 0)


def test_long_lists_are_paired_by_their_order() -> None:
    lines = [{"what": str(n), "price": n} for n in range(3_000)]
    assert counts({"lines": lines}, {"lines": lines}) == (6_000, 6_000, 6_000)
    assert counts({"lines": lines[:100]}, {"lines": lines}) == (200, 200, 6_000)


def test_a_schema_that_refers_to_itself_ends() -> None:
    loop = {"properties": {"a": {"$ref": "#/properties/a"}, "b": {"$ref": "#"}}}
    assert counts({"a": 1, "b": {"a": 2}}, {"a": 1, "b": {"a": 2}}, loop) == (2, 2, 2)


@pytest.mark.parametrize(
    "schema", [{"properties": {"a": True}}, {"properties": 3}, {"items": []}, {"anyOf": []}, {"$ref": 3}]
)
def test_odd_schemas_are_read(schema: Any) -> None:
    assert counts({"a": "x"}, {"a": "x"}, schema) == (1, 1, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from([*SCHEMA["properties"], "x"]), below, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_no_more_is_found_than_given_or_true(reply: object, truth: object) -> None:
    for schema in (SCHEMA, None):
        found, given_, true = counts(reply, truth, schema)
        assert 0 <= found <= min(given_, true)
        assert len(set(counts(truth, truth, schema))) == 1, "a truth is right about itself"
