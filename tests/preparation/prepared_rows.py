"""Rows in a file, prepared: the run, each row's part, and the lines of dropped.jsonl and leaks.jsonl."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from gemtune.data.conversation import read_conversations
from gemtune.recipe.schema import Recipe
from gemtune.runs import PARTS, Run

Rows = list[dict[str, Any]]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def a_run(folder: Path, rows: Rows, name: str = "t", **sections: Any) -> tuple[Recipe, Run]:
    data = sections.pop("data", [{"source": str(write(folder / f"{name}.jsonl", rows))}])
    value = {"name": name, "task": "columns", "runs_dir": str(folder), "data": data, **sections}
    recipe = Recipe.model_validate(value)
    return recipe, Run.of(recipe)


def pairs(count: int) -> Rows:
    words = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "haven", "iris", "jade", "knoll", "lilac"]
    draw = random.Random(1)
    return [{"prompt": f"{' '.join(draw.choices(words, k=5))} {i}?", "answer": f"answer {i}"} for i in range(count)]


def parts_of(run: Run) -> dict[str, str]:
    """The part every question landed in."""
    return {c.key: part for part in PARTS for c in read_conversations(run.part(part))}


def dropped(run: Run) -> list[tuple[str, str]]:
    return [(line["where"], line["reason"]) for line in map(json.loads, run.dropped_file.read_text().splitlines())]


def leaked(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.leaks_file.read_text(encoding="utf-8").splitlines()]


WORDS = [
    "river", "market", "bridge", "stone", "winter", "harvest", "garden", "letter", "captain", "harbour",
    "silver", "mountain", "valley", "morning", "window", "kitchen", "teacher", "doctor", "engine", "station",
    "summer", "island", "forest", "music", "painter", "hunter", "castle", "village", "ancient", "narrow",
    "broken", "golden", "distant", "frozen", "crowded", "travel", "carry", "build", "follow", "remember",
    "discover", "promise", "believe", "gather", "whisper", "between", "behind",
]  # fmt: skip


def phrase(draw: random.Random, fewest: int, most: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(fewest, most)))


def misspelt(draw: random.Random, text: str) -> str:
    """The text with two letters in another order, one left out, one doubled, or the key beside one hit."""
    words = text.split(" ")
    place = draw.choice([place for place, word in enumerate(words) if len(word) >= 5 and place])
    word = words[place]
    at = draw.choice([at for at in range(1, len(word) - 2) if word[at] != word[at + 1]])
    beside = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wqreytiuposafdhgkjkxzvcnbn", strict=True))
    words[place] = draw.choice(
        [
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + beside[word[at]] + word[at + 1 :],
        ]
    )
    return " ".join(words)
