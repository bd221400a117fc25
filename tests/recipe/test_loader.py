"""A recipe is read strictly: an error names file, line and key, and what was wanted."""

# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.data.sources import is_hub
from gemtune.errors import RecipeError
from gemtune.recipe.loader import load_recipe, parse_recipe, read_yaml, recipe_of
from gemtune.recipe.schema import DataSource, Recipe, recipe_keys

LEAST = "name: t\ntask: emoji\ndata: {source: e.csv}\n"
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def parsed(text: str, *overrides: str, folder: Path = Path("/work")) -> Recipe:
    return parse_recipe(text, folder / "r.yaml", overrides)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        parse_recipe(text, Path("r.yaml"), overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- what is wrong with it


WRONG: dict[str, tuple[str, str]] = {
    "unknown key": (LEAST + "train: {epoch: 3}\n", "r.yaml:4: unknown key 'train.epoch'; did you mean 'train.epochs'?"),
    "key of another section": (LEAST + "learning_rate: 1e-4\n", "r.yaml:4: unknown key 'learning_rate'; did you mean 'train.learning_rate'?"),
    "like nothing": (LEAST + "qqqq: 1\n", "r.yaml:4: unknown key 'qqqq'; `docs/recipe.md` lists all keys"),
    "in a source": ("name: t\ntask: emoji\ndata:\n  source: e.csv\n  colums: {a: b}\n", "r.yaml:5: unknown key 'data.0.colums'; did you mean 'data.columns'?"),
    "in the second source": ("name: t\ntask: emoji\ndata:\n- source: a.csv\n- source: b.csv\n  limit: x\n", "r.yaml:6: data.1.limit: wanted a valid integer, found 'x'"),
    "wrong type": (LEAST + "train:\n  epochs: three\n", "r.yaml:5: train.epochs: wanted a valid number, found 'three'"),
    "a number as a string": (LEAST + "train: {batch_size: '8'}\n", "r.yaml:4: train.batch_size: wanted a valid integer, found '8'"),
    "too small": (LEAST + "train:\n  batch_size: 0\n", "r.yaml:5: train.batch_size: wanted greater than or equal to 1, found 0"),
    "not one of": (LEAST + "quantize: int3\n", "r.yaml:4: quantize: wanted 'none' or 'nf4', found 'int3'"),
    "almost one of": (LEAST.replace("e.csv}", "e.csv, format: cvs}"), "r.yaml:3: data.0.format: wanted 'auto', 'csv', 'tsv', 'json', 'jsonl', 'parquet', 'arrow' or 'hub', found 'cvs'; did you mean 'csv'?"),
    "missing": ("name: t\ntask: emoji\n", "r.yaml:1: wanted `data` with a source of rows, or `pages` with a source of documents, found neither"),
    "missing in a source": ("name: t\ntask: emoji\ndata: {limit: 3}\n", "r.yaml: key 'data.0.source' is missing; A file"),
    "no source at all": ("name: t\ntask: emoji\ndata: []\n", "r.yaml:3: data: "),
    "name of a path": ("name: ../x\ntask: emoji\ndata: {source: e.csv}\n", "r.yaml:1: name: "),
    "nothing to train on": (LEAST + "split: {val: 0.5, test: 0.5}\n", "must leave rows to train on"),
    "quantised full training": (LEAST + "lora: none\nquantize: nf4\n", "quantize: nf4 needs lora"),
    "twice": (LEAST + "task: sql\n", "r.yaml: line 4: key 'task' stands twice (first on line 2); keep one"),
    "twice in a section": (LEAST + "train:\n  epochs: 1\n  epochs: 2\n", "line 6: key 'epochs' stands twice"),
    "not YAML": ("name: [\n", "r.yaml:2: not YAML ("),
    "a tab": ("name: t\n\ttask: emoji\n", "r.yaml:2: not YAML ("),
    "a Python object": ("name: !!python/object:os.system {}\n", "r.yaml:1: not YAML ("),
    "a date that is none": (LEAST + "train: 2024-13-45\n", "r.yaml: a value YAML cannot make sense of"),
    "itself": ("name: &a [*a]\n", "r.yaml: line 1: an anchor or alias (& or *); write the value out"),
    "a list": ("- a\n- b\n", "r.yaml: found a list, wanted keys and values (`task: emoji`, ...)"),
    "nothing": ("# a comment\n", "r.yaml: found nothing, wanted keys and values"),
    "a key that is a list": ("? [a]\n: b\n", "r.yaml:1: not YAML (found unhashable key)"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_an_error_names_file_line_and_key(what: str) -> None:
    text, wanted = WRONG[what]
    assert wanted in refusal(text)


OVERRIDES = {
    "no equals": ("train.epochs", "override 'train.epochs': wanted key=value, for example train.epochs=3"),
    "unknown": ("train.epoch=3", "override: unknown key 'train.epoch'; did you mean 'train.epochs'?"),
    "wrong type": ("train.epochs=many", "override: train.epochs: wanted a valid number, found 'many'"),
    "not YAML": ("model=[", "override 'model=[': the value is not YAML; quote it"),
    "a list without a number": ("data.limit=3", "override 'data.limit=3': data is a list; say data.0.limit=..."),
    "past the end of a list": ("data.7.limit=3", "reaches into a list of 2"),
    "past the end, whole": ("data.7=x", "data is a list of 2; count from 0"),
    "into a text": ("name.first=x", "name: wanted a valid string, found {'first': 'x'}"),
}


@pytest.mark.parametrize("what", OVERRIDES)
def test_an_override_that_cannot_be_says_why(what: str) -> None:
    override, wanted = OVERRIDES[what]
    assert wanted in refusal("name: t\ntask: emoji\ndata: [{source: a.csv}, {source: b.csv}]\n", override)


def test_an_error_elsewhere_keeps_its_line_beside_an_override() -> None:
    assert refusal(LEAST + "lora: {r: 0}\n", "train.epochs=2").startswith("r.yaml:4: lora.r")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no\.yaml: no such recipe or run directory; `gemtune new emoji`"):
        load_recipe(tmp_path / "no.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.yaml: cannot be read as a UTF-8 text file"):
        load_recipe(tmp_path / "latin.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)


# ---- what is right


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_reads_and_finds_its_data(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    sources = recipe.pages.source if recipe.pages else [data.source for data in recipe.data]
    assert sources and all(Path(source).exists() for source in sources)


def test_overrides_replace_and_reach_into_sections_and_lists() -> None:
    text = "name: t\ntask: emoji\ndata: {source: e.csv}\ntrain: {epochs: 1}\n"
    recipe = parsed(text, "train.epochs=2.5", "train.learning_rate=5e-4", "lora=none", "data.0.limit=7", "split.seed=3")
    assert (recipe.train.epochs, recipe.train.learning_rate, recipe.lora) == (2.5, 5e-4, None)
    assert (recipe.data[0].limit, recipe.split.seed) == (7, 3)
    two = parsed("name: t\ntask: emoji\ndata: [{source: a.csv}, {source: b.csv}]\n", "data.1.weight=0.5")
    assert [data.weight for data in two.data] == [1.0, 0.5]


@pytest.mark.parametrize("written", ["1e-4", "1.0e-4", "0.0001", "1E-04"])
def test_a_number_may_have_an_exponent(written: str) -> None:
    """YAML 1.1 reads 1e-4 as a text."""
    assert parsed(LEAST + f"train: {{learning_rate: {written}}}\n").train.learning_rate == 1e-4


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(LEAST, encoding="utf-8-sig")
    assert load_recipe(tmp_path / "r.yaml").name == "t"


def test_a_recipe_survives_its_own_json() -> None:
    """The manifest keeps a recipe as JSON; emoji and exponents come back as they were."""
    recipe = parsed(LEAST + "template: {prompt: 'Say it in 🏖️: {prompt}'}\ntrain: {learning_rate: 2e-05}\n")
    assert recipe_of(recipe.model_dump(mode="json"), Path("/else/where/manifest.json")) == recipe


def test_every_key_has_a_reason() -> None:
    keys = recipe_keys()
    assert {"name", "train.epochs", "data.source", "lora.r", "split.by", "sql.dialect"} <= keys.keys()
    assert [key for key, (_, _, why) in keys.items() if not why] == []


# ---- what its paths mean


def source(written: str, folder: Path, **keys: Any) -> str:
    recipe = {"name": "t", "task": "emoji", "data": {"source": written, **keys}}
    return recipe_of(recipe, folder / "r.yaml").data[0].source


HUB = ["user/name", "BelleGroup/train_0.5M_CN", "lmsys/lmsys-chat-1m", "a/b.c-d_e", "Anthropic/hh.rlhf"]


@pytest.mark.parametrize("name", HUB)
def test_a_hub_id_stays_one_with_a_dot_or_without(name: str, tmp_path: Path) -> None:
    assert is_hub(DataSource(source=name), tmp_path)
    assert source(name, tmp_path) == name


FILES = ["e.csv", "data/train.jsonl", "data/Train.JSONL.gz", "../e.parquet", "./user/name", "data/*.csv", "rows"]


@pytest.mark.parametrize("name", [*FILES, "a/b/c", "info/dataset_info.json#alpaca"])
def test_a_file_starts_at_the_recipe(name: str, tmp_path: Path) -> None:
    assert not is_hub(DataSource(source=name), tmp_path)
    found = source(name, tmp_path)
    assert Path(found).is_absolute()
    assert found == str(tmp_path.parent / name[3:] if name.startswith("../") else tmp_path / name)


def test_what_is_on_the_disk_is_no_hub_id(tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    assert source("user/train_0.5M", tmp_path) == str(tmp_path / "user/train_0.5M")
    assert source("user/train_0.5M", tmp_path, format="hub") == "user/train_0.5M"


def test_a_home_folder_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert source("~/e.csv", tmp_path) == "/home/me/e.csv"


def test_a_link_keeps_the_name_that_says_its_format(tmp_path: Path) -> None:
    """Caches hold files without a suffix and link to them."""
    (tmp_path / "blob").write_text("text,emoji\n")
    (tmp_path / "e.csv").symlink_to(tmp_path / "blob")
    assert source("e.csv", tmp_path) == str(tmp_path / "e.csv")


def test_a_task_file_starts_at_the_recipe(tmp_path: Path) -> None:
    value = {"name": "t", "task": "mine.py:Mine", "data": {"source": "e.csv"}}
    assert recipe_of(value, tmp_path / "r.yaml").task == f"{tmp_path / 'mine.py'}:Mine"


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_a_recipe_error(text: str) -> None:
    try:
        parse_recipe(text, Path("r.yaml"))
    except RecipeError as error:
        assert str(error).startswith("r.yaml")


@given(st.text(max_size=40))
def test_any_override_is_taken_or_a_recipe_error(text: str) -> None:
    try:
        parse_recipe(LEAST, Path("r.yaml"), [text])
    except RecipeError as error:
        assert "override" in str(error) or "r.yaml" in str(error)


# ---- what is hostile in it: one short line, at once

BOMB = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True))
HOSTILE = {
    "aliases of aliases": BOMB,
    "a merge of keys": LEAST + "train: {<<: {epochs: 1}}\n",
    "an anchor nobody uses": LEAST + "train: &t {epochs: 1}\n",
    "brackets in brackets": LEAST + "track: " + "[" * 5_000,
    "mappings in mappings": LEAST + "options: " + "{a: " * 200 + "1" + "}" * 200,
    "a number of 5,000 digits": LEAST + "train: {seed: " + "9" * 5_000 + "}\n",
    "a long value": LEAST + "train: {epochs: " + "x" * 100_000 + "}\n",
    "a long key": LEAST + "x" * 900 + ": 1\n",
    "a long recipe": LEAST + "#" * 1_000_001,
    "a list as a key": LEAST + "? [a]\n: b\n",
    "a date": LEAST + "train: {epochs: 2024-13-01}\n",
    "a NUL": LEAST + 'runs_dir: "a\\0b"\n',
    "half a surrogate pair": LEAST + 'model: "\\ud83d"\n',
    "a name of 300 characters": LEAST + "model: " + "x" * 300 + "\n",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_recipe_is_refused_in_a_short_line(what: str) -> None:
    assert len(refusal(HOSTILE[what])) < 400


HOSTILE_OVERRIDES = [
    "train.epochs=2024-13-01",
    "train.seed=" + "9" * 5_000,
    "data.².limit=1",
    "data.0.x.y=1",
    "name.a.b=1",
]
HOSTILE_OVERRIDES += [
    "x=" + "[" * 5_000,
    "train.epochs=" + "x" * 100_000,
    "y" * 5_000,
    "track=&a [*a]",
    "data.99999999999=1",
]
HOSTILE_OVERRIDES += [
    "train.epochs=.inf",
    "train.epochs=.nan",
    "train.epochs=1e9",
    "split.val=.inf",
    "x.y.z=1",
    "=1",
    "..=1",
]


@pytest.mark.parametrize("override", HOSTILE_OVERRIDES, ids=lambda text: text[:20])
def test_a_hostile_override_is_refused_in_a_short_line(override: str) -> None:
    assert len(refusal(LEAST, override)) < 400


def test_an_override_reaches_a_source_that_is_a_name_alone() -> None:
    recipe = parse_recipe("name: t\ntask: emoji\ndata: [a.csv, b.csv]\n", Path("r.yaml"), ["data.1.limit=5"])
    assert [data.limit for data in recipe.data] == [None, 5] and recipe.data[1].source.endswith("b.csv")


@pytest.mark.parametrize("name", ["&", "*", "<<"])
def test_a_quoted_sign_is_text(name: str) -> None:
    assert read_yaml(f'prompt: "{name} b"') == {"prompt": f"{name} b"}


def test_a_home_that_is_nobodys_is_a_folder_of_that_name() -> None:
    recipe = parse_recipe(LEAST.replace("e.csv", "~nobody-of-that-name/e.csv"), Path("r.yaml"))
    assert recipe.data[0].source.endswith("/~nobody-of-that-name/e.csv")
