"""Names in a list are found on a page without a label, in every spelling, and nowhere inside other words."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemtune.documents.personal_data.names import MOST, known_names
from gemtune.documents.personal_data.recognisers import matches
from gemtune.errors import GemtuneError, RecipeError


def found(tmp_path: Path, names: str, text: str) -> list[str]:
    path = tmp_path / "names.txt"
    path.write_text(names, encoding="utf-8")
    return [match.value for match in matches(text, ["EG"], None, known_names(path)) if match.kind == "name"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("وحضر الاجتماع أحمد  فؤاد وآخرون", ["أحمد  فؤاد"]),
        ("وحضر احمد فؤاد", ["احمد فؤاد"]),
        ("تسلّمها أَحْمَد\nفُؤاد", ["أحمد\nفؤاد"]),
        ("لأحمد فؤاد وأحمد فؤاد", ["أحمد فؤاد"] * 2),
        ("محمد فؤاد وأحمد فؤادي", []),
        ("signed ALI HASSAN-AMIN; Ali Hassanein", ["ALI HASSAN"]),
    ],
)
def test_names_without_a_label(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert found(tmp_path, "أحمد فؤاد\n\n  Ali   Hassan \n", text) == expected


def test_a_list_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n \n")
    with pytest.raises(RecipeError, match=r"privacy\.names: .*names\.txt has 0 names; wanted 1 to 5,000, one a line"):
        known_names(path)
    path.write_text("\n".join(f"Name {number}" for number in range(MOST + 1)))
    with pytest.raises(RecipeError, match="has 5,001 names"):
        known_names(path)
    path.write_bytes("اسم".encode("utf-16"))
    with pytest.raises(RecipeError, match="save it as UTF-8"):
        known_names(path)
    with pytest.raises(GemtuneError, match="gone"):
        known_names(tmp_path / "gone.txt")
