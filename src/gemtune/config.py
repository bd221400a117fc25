"""Recipe: what a user writes, checked strictly, every default with its reason.

A recipe file holds only what differs from these defaults. `load_recipe` reads the YAML, applies `key=value`
overrides and names file, line and the nearest right key when something is wrong.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gemtune.errors import RecipeError
from gemtune.files import SUFFIXES, suffix_of


class Section(BaseModel):
    """A part of a recipe: no unknown keys, no silent conversions, never changed after it is read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataSource(Section):
    """Where rows come from."""

    source: str = Field(
        description="A file, a folder, a glob, a Hub data set id (`user/name`) or `dataset_info.json#name`. "
        "Relative paths start at the recipe file."
    )
    format: Literal["auto", "csv", "tsv", "json", "jsonl", "parquet", "hub"] = Field(
        "auto", description="auto: the file name decides; `.gz` on top of any of them is unpacked while reading."
    )
    layout: Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion"] = Field(
        "auto", description="auto: the keys of the first row decide; only the `messages` task looks at it."
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="The task's name for a column -> the file's name for it."
    )
    encoding: str = Field("utf-8-sig", description="UTF-8, with or without a byte order mark.")
    hub_config: str | None = Field(None, description="The Hub data set's configuration, where it has several.")
    hub_split: str = Field("train", description="The Hub data set's split to read.")
    limit: int | None = Field(None, ge=1, description="Read at most this many rows; all, when not set.")
    weight: float = Field(1.0, gt=0, description="How often an epoch visits a row of this source: 0.5 is every other.")
    part: Literal["auto", "train", "val", "test"] = Field(
        "auto", description="auto: `split` decides; otherwise every row of this source goes there."
    )


Share = Annotated[int | float, Field(ge=0)]


class Split(Section):
    """How rows are divided: by a hash of their group, so order and growth of the file move nobody."""

    val: Share = Field(0.1, description="Below 1: a share of the groups. From 1: a number of rows.")
    test: Share = Field(0.1, description="Below 1: a share of the groups. From 1: a number of rows.")
    by: str | None = Field(
        None, description="The column whose equal values stay together; when not set, rows with the same question do."
    )
    seed: int = Field(0, description="Another seed is another split.")

    @model_validator(mode="after")
    def _leaves_rows_to_train(self) -> Split:
        if self.val < 1 and self.test < 1 and self.val + self.test >= 1:
            raise ValueError("val and test together must leave rows to train on (their shares add up to 1 or more)")
        return self


class Prepare(Section):
    """What is thrown out before training."""

    dedupe: Literal["near", "exact", "none"] = Field(
        "near", description="near: exact copies and almost equal questions; copies on both sides of a split flatter."
    )
    similarity: float = Field(
        0.9, gt=0.5, le=1.0, description="Jaccard similarity of 5-character shingles from which two questions are near."
    )
    bad_rows: Literal["drop", "fail"] = Field(
        "drop", description="drop: counted with its reason and reported; fail: stop at the first one."
    )
    over_length: Literal["drop", "shorten", "fail"] = Field(
        "drop", description="An answer is never cut. shorten: the prompt is cut where the task says how."
    )


class Template(Section):
    """The wording of the `columns` task; `{name}` is the row's column of that name."""

    system: str | None = Field(None, description="No system message unless asked for.")
    prompt: str = Field("{prompt}", description="The user's message.")
    answer: str = Field("{answer}", description="The assistant's message.")


class Sql(Section):
    """Options of the `sql` task."""

    dialect: str = Field("sqlite", description="The dialect of the gold SQL, by sqlglot's name; it is run in SQLite.")


class Lora(Section):
    """LoRA adapters on the linear layers; `lora: none` trains every weight."""

    r: int = Field(16, ge=1, description="Rank 16 is enough for one task at every Gemma 3 size; 3.8M weights at 270M.")
    alpha: int = Field(32, ge=1, description="Scale alpha/r = 2, the ratio most published Gemma recipes use.")
    dropout: float = Field(0.0, ge=0, lt=1, description="0: runs are repeatable and one elementwise pass cheaper.")
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="Every linear layer but the head: better than attention alone at the same rank."
    )
    token_rows: Literal["auto", "none"] | list[str] = Field(
        "auto",
        description="Embedding rows trained beside the adapters. auto: the chat template's tokens, when the base model "
        "never trained them (-pt); two rows instead of two copies of the embedding.",
    )


class Train(Section):
    """The optimisation."""

    epochs: float = Field(3.0, gt=0, description="Three passes; early stopping and the best checkpoint bound the harm.")
    max_steps: int | None = Field(None, ge=1, description="Stops after this many steps; epochs decide when not set.")
    batch_size: int = Field(16, ge=1, description="Examples a step. How they are cut into micro-steps changes nothing.")
    micro_tokens: int | None = Field(
        None, ge=1, description="Tokens a micro-step holds, padding included; chosen from memory when not set."
    )
    learning_rate: float | None = Field(None, gt=0, description="2e-4 for LoRA, 2e-5 for full training, when not set.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="Ends near zero without a tail to tune."
    )
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Adam's second moment needs a few steps to settle.")
    weight_decay: float = Field(0.0, ge=0, description="LoRA's low rank already regularises.")
    max_grad_norm: float = Field(1.0, gt=0, description="Clips the rare bad batch.")
    max_length: int = Field(
        1024, ge=16, description="Tokens of prompt and answer together; longer rows follow `prepare`."
    )
    logging_steps: int = Field(1, ge=1, description="One line of metrics.jsonl for every this many steps.")
    eval_steps: int | None = Field(None, ge=1, description="About ten evaluations a run when not set.")
    save_steps: int | None = Field(None, ge=1, description="With every evaluation when not set.")
    keep_checkpoints: int = Field(2, ge=1, description="The newest and the best; the best is never deleted.")
    early_stopping: int | None = Field(3, ge=1, description="Evaluations without a better val loss before stopping.")
    best_by: Literal["loss", "metric"] = Field(
        "loss", description="loss: val loss. metric: the task's score on generated replies, slower, closer to the aim."
    )
    train_on: Literal["all", "last"] = Field("all", description="Every assistant turn, or only the last one.")
    precision: Literal["auto", "bf16", "fp32", "fp16"] = Field("auto", description="auto: what the device is fast at.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU when there is one.")
    seed: int = Field(0, description="Order, initial adapters and dropout.")


class Evaluate(Section):
    """How replies are generated and scored."""

    metric: str | None = Field(None, description="The score that decides; the task's own when not set.")
    limit: int | None = Field(
        200, ge=1, description="Rows of the test split; 200 give an interval of about +-7 points."
    )
    max_new_tokens: int = Field(128, ge=1, description="A reply that is longer is cut and counted as such.")
    temperature: float = Field(0.0, ge=0, description="0 is greedy: the same reply every time.")
    top_p: float = Field(1.0, gt=0, le=1, description="Only with a temperature above 0.")
    batch_size: int = Field(16, ge=1, description="Prompts generated side by side.")
    seed: int = Field(0, description="Sampling and the bootstrap.")


class Recipe(Section):
    """One recipe: from a data source to a tested model."""

    name: str = Field(description="The name of the run directory.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: str = Field(description="emoji, sql, columns, messages, or `file.py:Class` for your own.")
    data: list[DataSource] = Field(description="One source or a list of them.", min_length=1)
    runs_dir: str = Field("runs", description="Where run directories go; relative to the current folder.")
    model: str = Field("gemma-3-270m", description="A short name, a Hub id or a folder.")
    split: Split = Field(default_factory=Split)
    prepare: Prepare = Field(default_factory=Prepare)
    template: Template = Field(default_factory=Template)
    sql: Sql = Field(default_factory=Sql)
    lora: Lora | None = Field(default_factory=Lora, description="`none` trains every weight.")
    quantize: Literal["none", "nf4"] = Field(
        "none", description="nf4 only when memory asks for it: at 270M it saves 0.15 GB and costs speed."
    )
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    track: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list, description="metrics.jsonl is always written; these come on top."
    )

    @field_validator("data", mode="before")
    @classmethod
    def _one_source_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("lora", mode="before")
    @classmethod
    def _none_is_full_training(cls, value: Any) -> Any:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _quantised_weights_need_adapters(self) -> Recipe:
        if self.lora is None and self.quantize != "none":
            raise ValueError(f"quantize: {self.quantize} needs lora: quantised weights themselves cannot be trained")
        return self


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-4 as a number and refuses the same key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in seen:
                raise RecipeError(
                    f"line {line}: key '{key.value}' stands twice (first on line {seen[key.value]}); keep one"
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


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


def parse_recipe(text: str, path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Like load_recipe, for text already read; relative data sources start at the folder of `path`."""
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
        lines = dict(_lines(yaml.compose(text, yaml.SafeLoader)))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{path}{line}: not YAML ({getattr(error, 'problem', None) or error}); mend it") from error
    except (ValueError, RecursionError) as error:  # a date like 2024-13-01; a list in itself
        raise RecipeError(f"{path}: a value YAML cannot make sense of ({error}); quote it") from error
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise RecipeError(
            f"{path}: found {found}, wanted keys and values (`task: emoji`, ...); see `gemtune new emoji`"
        )
    return recipe_of(value, path, overrides, lines)


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
    return _absolute_paths(recipe, path.parent)


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


def _apply(value: dict[str, Any], override: str) -> tuple[Any, ...]:
    """Sets `a.b=c` in a nested dict and returns the key path; `data.0.limit=5` reaches into a list."""
    name, equals, raw = override.partition("=")
    if not equals:
        raise RecipeError(f"override '{override}': wanted key=value, for example train.epochs=3")
    keys: list[Any] = [int(key) if key.isdigit() else key for key in name.strip().split(".")]
    try:
        new = yaml.load(raw, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"override '{override}': the value is not YAML; quote it") from error
    here: Any = value
    for key, after in pairwise(keys):
        if isinstance(here, list):
            if not isinstance(key, int) or key >= len(here):
                raise RecipeError(
                    f"override '{override}': '{name}' reaches into a list of {len(here)}; name one by number"
                )
            here = here[key]
        else:
            if not isinstance(here.get(key), dict | list):
                here[key] = {}
            if isinstance(here[key], dict) and isinstance(after, int):
                here[key] = [here[key]]  # one data source may be written without a list
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
    at = tuple(key for key in finding["loc"] if not (isinstance(key, str) and key in _UNION_TAGS))
    # One source may be written without a list: its key path then has no index.
    known = [at, tuple(key for key in at if not isinstance(key, int))]
    nearest_first = [*((*place, "key") for place in known), *known, *(place[:-1] for place in known), ()]
    line = next((lines[place] for place in nearest_first if place in lines), None)
    key = ".".join(str(part) for part in at)
    where = f"{path}:{line}" if line else f"{path}" if line is None else "override"
    if finding["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'{_nearest(key)}"
    if finding["type"] == "missing":
        return f"{path}: key '{key}' is missing; {_description(key)}"
    wanted = finding["msg"][0].lower() + finding["msg"][1:]
    wanted = wanted.removeprefix("value error, ").replace("input should be", "wanted")
    found = "" if finding["type"] == "value_error" else f", found {finding['input']!r}"
    return f"{where}: {key + ': ' if key else ''}{wanted}{found}"


_UNION_TAGS = {
    "int",
    "float",
    "constrained-int",
    "constrained-float",
    "list[str]",
    "literal['all-linear']",
    "literal['auto','none']",
}


def recipe_keys() -> dict[str, tuple[str, Any, str]]:
    """Every key of a recipe -> (type, default, reason), in the order of the classes above."""
    return dict(_keys_of(Recipe))


def _keys_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[str, Any, str]]]:
    for name, info in section.model_fields.items():
        kinds = [
            kind for kind in (info.annotation, *getattr(info.annotation, "__args__", ())) if isinstance(kind, type)
        ]
        nested = next((kind for kind in kinds if issubclass(kind, Section)), None)
        if nested is not None:
            yield from _keys_of(nested, f"{prefix}{name}.")
        else:
            default = "" if info.is_required() else info.get_default(call_default_factory=True)
            kind = str(info.annotation).replace("typing.", "").removeprefix("<class '").removesuffix("'>")
            yield f"{prefix}{name}", (kind, default, info.description or "")


def _nearest(key: str) -> str:
    known = list(recipe_keys())
    last = key.rsplit(".", 1)[-1]
    plain = re.sub(r"\.\d+", "", key)
    by_leaf = [name for name in known if name.rsplit(".", 1)[-1] == last]
    near = by_leaf or difflib.get_close_matches(plain, known + sorted({k.split(".")[0] for k in known}), 1, 0.6)
    if not near:
        leaves = {name.rsplit(".", 1)[-1]: name for name in known}
        near = [leaves[leaf] for leaf in difflib.get_close_matches(last, leaves, 1, 0.6)]
    return f"; did you mean '{near[0]}'?" if near else "; `docs/recipe.md` lists all keys"


def _description(key: str) -> str:
    section = Recipe.model_fields.get(key)
    return str(section.description) if section else recipe_keys()[re.sub(r"\.\d+", "", key)][2]


def is_hub(data: DataSource, folder: Path = Path()) -> bool:
    """Whether a source is a Hub data set: where data.format says so, and for a user/name that is nothing in `folder`.

    >>> is_hub(DataSource(source="BelleGroup/train_0.5M_CN")), is_hub(DataSource(source="emoji/train.csv"))
    (True, False)
    """
    if data.format != "auto" or suffix_of(Path(data.source)) in SUFFIXES:
        return data.format == "hub"
    path = folder / data.source
    return bool(_HUB_ID.fullmatch(data.source)) and not path.exists() and not path.parent.is_dir()


_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def _absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the files it names, which start at its own folder, made absolute: so it runs from anywhere."""
    sources = [
        data if is_hub(data, folder) else data.model_copy(update={"source": _absolute(data.source, folder)})
        for data in recipe.data
    ]
    file, colon, name = recipe.task.rpartition(":")
    task = f"{_absolute(file, folder)}:{name}" if colon else recipe.task
    return recipe.model_copy(update={"data": sources, "task": task})


def _absolute(name: str, folder: Path) -> str:
    path = folder / Path(name).expanduser()
    return str(path.parent.resolve() / path.name)  # the last link is not followed: its name has the suffix
