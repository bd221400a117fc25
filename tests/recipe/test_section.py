"""A section: strict, frozen, and its keys and stages are those that its class names, however deep."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field, ValidationError

from gemtune.recipe.section import STAGES, Section, Stage, decided, deciding, keys_of, stages_of


class Inner(Section):
    decides = "tokens"

    length: int = Field(3, ge=1, description="How long.")


class Outer(Section):
    decides = "data"

    source: str = Field(description="Where from.")
    place: str = Field("here", description="Where to.", **deciding("run"))
    inner: Inner = Field(default_factory=Inner)
    several: list[Inner] = Field(default_factory=list)
    perhaps: Inner | None = None


KEYS: dict[str, tuple[Any, str, Stage]] = {  # key -> default, reason, stage
    "source": (..., "Where from.", "data"),
    "place": ("here", "Where to.", "run"),
    "inner.length": (3, "How long.", "tokens"),
    "several.length": (3, "How long.", "tokens"),
    "perhaps.length": (3, "How long.", "tokens"),
}


def test_every_key_is_listed_with_its_default_reason_and_stage() -> None:
    assert {key: (default, reason) for key, (_, default, reason) in keys_of(Outer)} == {
        key: (default, reason) for key, (default, reason, _) in KEYS.items()
    }
    assert dict(stages_of(Outer)) == {key: stage for key, (_, _, stage) in KEYS.items()}


def test_the_stages_divide_the_values_between_them() -> None:
    section = Outer(source="a", several=[Inner(length=4), Inner()], perhaps=None)
    parts = {stage: decided(section, (stage,)) for stage in STAGES}
    assert parts["data"] == {"source": "a", "perhaps": None}
    assert parts["tokens"]["inner"] == {"length": 3}
    assert parts["tokens"]["several"] == [{"length": 4}, {"length": 3}]
    assert parts["run"]["place"] == "here" and "source" not in parts["run"]
    assert decided(section, STAGES)["several"] == section.model_dump()["several"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": "a", "sorce": "b"}, "Extra inputs are not permitted"),
        ({"source": 1}, "valid string"),
        ({"source": "a", "inner": {"length": "3"}}, "valid integer"),
        ({"source": "a", "inner": {"length": 0}}, "greater than or equal to 1"),
        ({"source": "a\0b"}, "a NUL or half a surrogate pair"),
        ({"source": "a\ud83d"}, "a NUL or half a surrogate pair"),
    ],
)
def test_what_is_not_as_the_class_says_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Outer.model_validate(values)


def test_a_section_is_never_changed() -> None:
    section = Outer(source="a")
    with pytest.raises(ValidationError, match="frozen"):
        section.source = "b"  # type: ignore[misc]
