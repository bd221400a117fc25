"""What an error about a recipe advises is done; then the recipe loads, with its task."""

# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

from pathlib import Path

import pytest

from gemtune.errors import GemtuneError
from gemtune.recipe.loader import load_recipe
from gemtune.recipe.scaffold import write_example
from gemtune.tasks import task_of

HEAD = "name: t\ndata: {source: e.csv}\n"
EMOJI = f"{HEAD}task: emoji\n"
COLUMNS = f"{HEAD}task: columns\n"
TWO = "name: t\ntask: emoji\ndata: [{source: e.csv}, {source: f.csv}]\n"
TASK = "from gemtune.tasks.columns import Columns\nclass Mine(Columns): pass\n"
# what is wrong -> (the recipe, overrides, words of the error, the recipe after that was done, overrides then)
RECIPES: dict[str, tuple[str | bytes, list[str], str, str, list[str]]] = {
    "another encoding": (EMOJI.encode("utf-16"), [], "save it as UTF-8", EMOJI, []),
    "a list": ("- name: t\n", [], ", wanted keys and values (`task: emoji`, ...); see `gemtune new emoji`", EMOJI, []),
    "not YAML": ("name: [t\n", [], ": not YAML (", EMOJI, []),
    "a date that is none": (f"{EMOJI}seed: 2020-99-99\n", [], "a value YAML cannot make sense of (", EMOJI, []),
    "an override that is not YAML": (EMOJI, ["runs_dir=[x"], "the value is not YAML; quote it", EMOJI, ["runs_dir='[x'"]),
    "an entry that is not there": (TWO, ["data.7=x.csv"], "data is a list of 2; count from 0", TWO, ["data.1=x.csv"]),
    "a key of an entry that is not there": (TWO, ["data.7.limit=1"], "reaches into a list of 2; count its entries from 0", TWO, ["data.0.limit=1"]),
    "a list as one": (TWO, ["data.limit=1"], "data is a list; say data.0.limit=... for its first entry", TWO, ["data.0.limit=1"]),
    "an anchor": (f"{EMOJI}train: &t {{epochs: 1}}\n", [], "write the value out, or quote it if it is text", f"{EMOJI}train: {{epochs: 1}}\n", []),
    "a merge key": (f"{EMOJI}train: {{<<: {{epochs: 1}}}}\n", [], "write its keys out, or quote it if it is text", f"{EMOJI}train: {{epochs: 1}}\n", []),
    "a NUL": (EMOJI.replace("e.csv", '"e\\0.csv"'), [], "found a NUL or half a surrogate pair in it; mend it", EMOJI, []),
    "no layers": (EMOJI, ["lora.target_modules=[]"], "`lora: none` trains every weight", EMOJI, ["lora=none"]),
    "an unknown task": (EMOJI, ["task=smiley"], "wanted emoji, sql, product, multi_image, documents, columns, messages, or file.py:Class", EMOJI, []),
    "a task that is no Python": (EMOJI, ["task=FOLDER/mine.txt:Mine"], "not a Python file; write file.py:Class", EMOJI, ["task=FOLDER/mine.py:Mine"]),
    "a task without its class": (EMOJI, ["task=FOLDER/mine.py:Other"], "no such class; wanted `class Other(Task)`", EMOJI, ["task=FOLDER/mine.py:Mine"]),
    "options in the wrong place": (f"{COLUMNS}options: {{answer: '{{b}}'}}\n", [], "has its options in the section `template`; move them", f"{COLUMNS}template: {{prompt: '{{a}}', answer: '{{b}}'}}\n", []),
    "a brace": (f"{COLUMNS}template: {{prompt: '{{a', answer: '{{b}}'}}\n", [], "a single '{' at character 1; write {column} for a column, and {{ or }} for a brace itself", f"{COLUMNS}template: {{prompt: '{{{{a', answer: '{{b}}'}}\n", []),
    "an answer without a column": (f"{COLUMNS}template: {{prompt: '{{a}}', answer: b}}\n", [], "write {column} in it", f"{COLUMNS}template: {{prompt: '{{a}}', answer: '{{b}}'}}\n", []),
}  # fmt: skip


def taken(folder: Path, text: str | bytes, overrides: list[str]) -> object:
    (folder / "mine.txt").write_text(TASK)
    (folder / "mine.py").write_text(TASK)
    path = folder / "t.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return task_of(load_recipe(path, [override.replace("FOLDER", str(folder)) for override in overrides]))


@pytest.mark.parametrize("what", RECIPES)
def test_a_move_for_a_recipe_works(tmp_path: Path, what: str) -> None:
    text, overrides, words, mended, then = RECIPES[what]
    with pytest.raises(GemtuneError) as error:
        taken(tmp_path, text, overrides)
    assert words in str(error.value), str(error.value)
    assert taken(tmp_path, mended, then)


def test_an_example_goes_into_another_folder(tmp_path: Path) -> None:
    (tmp_path / "emoji.yaml").write_text("name: mine\n")
    with pytest.raises(GemtuneError, match="is already there; remove it, or give another folder"):
        list(write_example("emoji", tmp_path))
    assert list(write_example("emoji", tmp_path / "other"))
