"""A recipe file: its YAML, `key=value` overrides, and errors that name file, line and the nearest right key."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gemtune.data.paths import at_home
from gemtune.data.sources import is_hub
from gemtune.errors import RecipeError, nearest, shown
from gemtune.recipe.document_sections import ROWS, Pages
from gemtune.recipe.schema import DataSource, Recipe, recipe_keys
from gemtune.recipe.section import section_of

MOST_TEXT = 1_000_000  # characters of a recipe
MOST_KEY = 80  # characters of a key or an override in an error
MOST_DEPTH = 40  # of values in values


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-4 as a number and refuses the same key twice, and what can grow beyond its text.

    An anchor with aliases of aliases makes gigabytes of four hundred bytes; no recipe needs one.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RecipeError(
                f"line {line}: an anchor or alias (& or *); write the value out, or quote it if it is text"
            )
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise RecipeError(f"line {line}: nested more than {MOST_DEPTH} deep; a recipe's values are not")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                raise RecipeError(f"line {line}: a merge key (<<); write its keys out, or quote it if it is text")
            if key.value in seen:
                name, first = key.value[:MOST_KEY], seen[key.value]
                raise RecipeError(f"line {line}: key '{name}' stands twice (first on line {first}); keep one")
            seen[key.value] = line
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """The plain data of a recipe's YAML: no tags that make objects, no key twice.

    >>> read_yaml("train: {learning_rate: 1e-4}")
    {'train': {'learning_rate': 0.0001}}
    """
    if len(text) > MOST_TEXT:
        raise RecipeError(f"{len(text):,} characters; a recipe has a few thousand")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


# A date like 2024-13-01 or an integer of 5,000 digits; brackets in brackets; a list as a key.
_SENSELESS = (ValueError, RecursionError, TypeError, AttributeError)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file with `key=value` overrides; RecipeError says file, line and what was wanted."""
    path = Path(path)
    return parse_recipe(recipe_text(path), path, overrides)


def recipe_text(path: Path) -> str:
    """What stands in a recipe file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe or run directory; `gemtune new emoji` writes a recipe") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a UTF-8 text file ({error}); save it as UTF-8") from error


@contextlib.contextmanager
def yaml_errors(path: Path) -> Iterator[None]:
    """Turns what reading the YAML of a file raises into one line with its place."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or error)[:200]
        raise RecipeError(f"{path}{line}: not YAML ({problem}); mend it") from error
    except _SENSELESS as error:
        raise RecipeError(f"{path}: a value YAML cannot make sense of ({str(error)[:200]}); quote it") from error


def parse_recipe(text: str, path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Like load_recipe, for text already read; relative data sources start at the folder of `path`."""
    with yaml_errors(path):
        value = read_yaml(text)
        lines = dict(_lines(yaml.compose(text, _Loader)))
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise RecipeError(
            f"{path}: found {found}, wanted keys and values (`task: emoji`, ...); see `gemtune new emoji`"
        )
    return recipe_of(value, path, overrides, lines)


def as_data(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe is not its defaults, as plain data that `recipe_of` reads."""
    return recipe.model_dump(mode="json", exclude_unset=True)


def as_yaml(recipe: Recipe) -> str:
    """The text of a recipe file."""
    return yaml.safe_dump(as_data(recipe), sort_keys=False, allow_unicode=True)


def recipe_of(
    value: dict[str, Any], path: Path, overrides: Sequence[str] = (), lines: dict[tuple[Any, ...], int] | None = None
) -> Recipe:
    """The recipe of plain data from `path`; `lines` says on which line of it a key stands."""
    lines = {} if lines is None else lines
    for override in overrides:
        lines[_apply(value, override)] = 0
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError(_explain(error, path, lines)) from error
    return from_folder(recipe, path.parent)


def _lines(node: yaml.Node | None, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Yields (key path, line) of every node, so that an error can point at it."""
    if node is None:
        return
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield (*at, key.value, "key"), key.start_mark.line + 1
            yield from _lines(child, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _lines(child, (*at, index))


_INDEX = re.compile(r"[0-9]{1,6}")


def _apply(value: dict[str, Any], override: str) -> tuple[Any, ...]:
    """Sets `a.b=c` in a nested dict and returns the key path; `data.0.limit=5` reaches into a list."""
    name, equals, raw = override.partition("=")
    override = override if len(override) <= MOST_KEY else f"{override[:MOST_KEY]}…"
    if not equals:
        raise RecipeError(f"override '{override}': wanted key=value, for example train.epochs=3")
    keys: list[Any] = [int(key) if _INDEX.fullmatch(key) else key for key in name.strip().split(".")]
    try:
        new = read_yaml(raw)
    except RecipeError as error:
        raise RecipeError(f"override '{override}': {error}") from error
    except (yaml.YAMLError, *_SENSELESS) as error:
        raise RecipeError(f"override '{override}': the value is not YAML; quote it") from error
    here: Any = value
    for key, after in pairwise(keys):
        if isinstance(here, list):
            if not isinstance(key, int) or key >= len(here):
                raise RecipeError(
                    f"override '{override}': '{name}' reaches into a list of {len(here)}; count its entries from 0"
                )
            if isinstance(here[key], str) and keys[0] == "data" and isinstance(after, str):
                here[key] = {"source": here[key]}  # a source may be written as its name alone
            here = here[key]
            if not isinstance(here, dict | list):
                raise RecipeError(f"override '{override}': {shown(here)} has no keys")
        else:
            if not isinstance(here.get(key), dict | list):
                here[key] = {}
            if isinstance(here[key], dict) and isinstance(after, int):
                here[key] = [here[key]]  # one data source or teacher may be written without a list
            here = here[key]
        if isinstance(here, list) and isinstance(after, str):
            raise RecipeError(f"override '{override}': {key} is a list; say {key}.0.{after}=... for its first entry")
    if isinstance(here, list) and not (isinstance(keys[-1], int) and keys[-1] < len(here)):
        raise RecipeError(
            f"override '{override}': {'.'.join(map(str, keys[:-1]))} is a list of {len(here)}; count from 0"
        )
    here[keys[-1]] = new
    return tuple(keys)


def _explain(error: ValidationError, path: Path, lines: dict[tuple[Any, ...], int]) -> str:
    """The first finding of pydantic in one line: file, line, key, what was found and what was wanted."""
    finding = error.errors()[0]
    at = tuple(_key_path(finding["loc"]))
    # One source may be written without a list: its key path then has no index.
    known = [at, tuple(key for key in at if not isinstance(key, int))]
    nearest_first = [*((*place, "key") for place in known), *known, *(place[:-1] for place in known), ()]
    line = next((lines[place] for place in nearest_first if place in lines), None)
    key = ".".join(str(part) for part in at)
    where = f"{path}:{line}" if line else f"{path}" if line is None else "override"
    if finding["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key[:MOST_KEY]}'{_nearest(key[:MOST_KEY])}"
    if finding["type"] == "missing":
        return f"{path}: key '{key}' is missing; {_description(key)}"
    quotes = "; put it in quotes" if finding["type"] == "string_type" and finding["input"] is not None else ""
    return f"{where}: {key + ': ' if key else ''}{wanted_and_found(finding)}{quotes}"


def wanted_and_found(finding: ErrorDetails) -> str:
    """What pydantic wanted of a value, what it found, and the nearest right value where it is one of a list."""
    wanted = finding["msg"][0].lower() + finding["msg"][1:]
    wanted = wanted.removeprefix("value error, ").replace("input should be", "wanted")
    found = "" if finding["type"] == "value_error" else f", found {shown(finding['input'])}"
    return f"{wanted}{found}{_nearest_value(finding)}"


def _key_path(places: Sequence[Any]) -> Iterator[Any]:
    """The keys and indices of pydantic's `loc`, without the labels that it puts in for a value of several types.

    >>> list(_key_path(("lora", "token_rows", "list[str]", 0))), list(_key_path(("split", "val", "constrained-int")))
    (['lora', 'token_rows', 0], ['split', 'val'])
    >>> list(_key_path(("data", 0, "columns", "text"))), list(_key_path(("train", "epochss")))
    (['data', 0, 'columns', 'text'], ['train', 'epochss'])
    """
    annotation: Any = Recipe
    for place in places:
        section = section_of(annotation)
        if isinstance(place, int):
            yield place
        elif section is not None:
            yield place
            field = section.model_fields.get(place)
            annotation = field.annotation if field else None
        elif get_origin(annotation) is dict:
            yield place


def _nearest_value(finding: ErrorDetails) -> str:
    """The listed value that is almost the one found, where a key takes one of a list."""
    if finding["type"] != "literal_error" or not isinstance(finding["input"], str):
        return ""
    near = nearest(finding["input"], re.findall(r"'([^']*)'", finding["ctx"]["expected"]))
    return f"; did you mean '{near}'?" if near else ""


def _nearest(key: str) -> str:
    known = list(recipe_keys())
    last = key.rsplit(".", 1)[-1]
    plain = re.sub(r"\.\d+", "", key)
    by_leaf = [name for name in known if name.rsplit(".", 1)[-1] == last]
    near = by_leaf[0] if by_leaf else nearest(plain, [*known, *sorted({name.split(".")[0] for name in known})])
    if near is None:
        leaves = {name.rsplit(".", 1)[-1]: name for name in known}
        leaf = nearest(last, leaves)
        near = leaves[leaf] if leaf else None
    return f"; did you mean '{near}'?" if near else "; `docs/recipe.md` lists all keys"


def _description(key: str) -> str:
    section = Recipe.model_fields.get(key)
    return str(section.description) if section else recipe_keys()[re.sub(r"\.\d+", "", key)][2]


def from_folder(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the files it names, which start at its own folder, made absolute: so it runs from anywhere."""
    sources = [
        data.model_copy(
            update={
                "source": data.source if is_hub(data, folder) else _absolute(data.source, folder),
                "images": [_absolute(name, folder) for name in data.images],
            }
        )
        for data in recipe.data
    ]
    file, colon, name = recipe.task.rpartition(":")
    task = f"{_absolute(file, folder)}:{name}" if colon else recipe.task
    placed = recipe.model_copy(update={"data": sources, "task": task})
    return _with_pages(placed, recipe.pages, folder) if recipe.pages else placed


def _with_pages(recipe: Recipe, given: Pages, folder: Path) -> Recipe:
    """The files that its documents' sections name, made absolute; its rows are those that `distill` writes."""
    names = [given.source] if isinstance(given.source, str) else given.source
    distilled = os.path.abspath(given.folder)
    pages = given.model_copy(update={"source": [_absolute(name, folder) for name in names], "folder": distilled})
    teachers = [
        teacher.model_copy(update={"replies": _absolute(teacher.replies, folder)}) if teacher.replies else teacher
        for teacher in recipe.teacher
    ]
    tasks = [_absolute(task, folder) if task.endswith(".json") else task for task in recipe.documents.tasks]
    documents = recipe.documents.model_copy(update={"tasks": tasks})
    update: dict[str, object] = {"pages": pages, "teacher": teachers, "documents": documents}
    if recipe.privacy.names:
        update["privacy"] = recipe.privacy.model_copy(update={"names": _absolute(recipe.privacy.names, folder)})
    if not recipe.data:
        update["data"] = [DataSource(source=str(Path(distilled) / recipe.name / ROWS))]
        if "by" not in recipe.split.model_fields_set:
            update["split"] = recipe.split.model_copy(update={"by": "group"})
    return recipe.model_copy(update=update)


def _absolute(name: str, folder: Path) -> str:
    path = folder / at_home(name)
    return str(path.parent.resolve() / path.name)  # the last link is not followed: its name has the suffix
