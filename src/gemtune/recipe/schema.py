"""Recipe: what a user writes, every key with its bounds, its default and the reason for it.

A recipe file holds only what differs from these defaults; `loader` reads one. How a section works is in `section`.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from gemtune.data.formats import FORMATS
from gemtune.recipe.document_sections import Documents, Pages, Privacy, Teacher
from gemtune.recipe.section import MOST, MOST_NAME, SEED, Section, Stage, decided, deciding, keys_of, stages_of

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal["auto", *FORMATS, "hub"]


class DataSource(Section):
    """Where rows come from."""

    decides = "data"

    source: str = Field(
        description="A file, a folder, a glob, a Hub data set id (`user/name`) or `dataset_info.json#name`. "
        "Relative paths start at the recipe file. `data: FILE` is short for it."
    )
    format: FormatName = Field(
        "auto",
        description="auto: the file name decides; `.gz`, `.bz2` and `.xz` on top of a text format "
        "are unpacked while reading.",
    )
    layout: Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "vertex"] = Field(
        "auto", description="auto: the keys of each row decide; only the `messages` task looks at it."
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="The task's name for a column -> the file's name for it."
    )
    bad_rows: Literal["fail", "drop"] = Field(
        "fail",
        description="A line of CSV or JSON that cannot be read. fail: stop there; drop: count it as a dropped row, for "
        "files that cannot be mended.",
    )
    encoding: str = Field("utf-8-sig", description="UTF-8, with or without a byte order mark.")
    hub_config: str | None = Field(None, description="The Hub data set's configuration, where it has several.")
    hub_split: str = Field("train", description="The Hub data set's split to read.")
    images: list[str] = Field(
        default_factory=list,
        description="Folders, zip and tar archives in which the images that rows name are looked for, in this order; "
        "the folder of the file when not set.",
    )
    download_images: bool = Field(
        False, description="Images that rows name by URL are downloaded, once; off, because data then opens addresses."
    )
    id: str | None = Field(
        None,
        description="A column that numbers rows: of two rows with one id in a file, and different words, one goes.",
    )
    download_private: bool = Field(
        False,
        description="Also from addresses of this machine and its network; off, because a row could then name what only "
        "you can reach.",
    )
    limit: int | None = Field(None, ge=1, le=MOST, description="Read at most this many rows; all, when not set.")
    weight: float = Field(
        1.0, ge=0.001, le=1000, description="How often an epoch visits a row of this source: 0.5 is every other."
    )
    train_on_test: bool = Field(
        False,
        description="Says that training on a test split, of a benchmark or in a folder, is meant.",
    )
    part: Literal["auto", "train", "val", "test"] = Field(
        "auto", description="auto: `split` decides; otherwise every row of this source goes there."
    )


Part = Annotated[int | float, Field(ge=0, le=MOST)] | list[str]


class Split(Section):
    """How rows are divided: by a hash of their group, so reordering or extending the file never moves a row."""

    decides = "data"

    val: Part = Field(
        0.1,
        description="Below 1: a share of the groups. From 1: a number of rows. A list: the groups of these names, "
        "or with one of them merged in.",
    )
    test: Part = Field(0.1, description="As `val`.")
    by: str | None = Field(
        None, description="The column whose equal values stay together; when not set, rows with the same question do."
    )
    seed: int = Field(0, **SEED, description="Another seed is another split.")

    @model_validator(mode="after")
    def _leaves_rows_to_train(self) -> Split:
        if sum(part for part in (self.val, self.test) if not isinstance(part, list) and part < 1) >= 1:
            raise ValueError("val and test together must leave rows to train on (their shares add up to 1 or more)")
        return self

    def size(self, key: Literal["val", "test"]) -> str:
        """How large a part is to be, in words: `0.1`, or `2 groups`."""
        part = getattr(self, key)
        return f"{len(part)} groups" if isinstance(part, list) else f"{part:g}"


class Prepare(Section):
    """What is thrown out before training."""

    decides = "data"

    dedupe: Literal["near", "exact", "none"] = Field(
        "near",
        description="near: exact copies, and rows with one answer whose questions differ in slips of the pen only; "
        "duplicates across the split inflate scores. none: nothing is deleted.",
    )
    similarity: float = Field(
        0.9, gt=0.5, le=1.0, description="Share of letters from which two questions can be near; 1.0 allows no slip."
    )
    bad_rows: Literal["drop", "fail"] = Field(
        "drop", description="drop: counted with its reason and reported; fail: stop at the first one."
    )
    merge_turns: bool = Field(
        False, description="`messages`: messages of one role that follow one another become one, on lines of its own."
    )
    ignore: list[str] = Field(
        default_factory=list,
        description="`messages`: fields of rows and messages that would change what is trained, and are not to.",
    )
    over_length: Literal["drop", "shorten", "fail"] = Field(
        "drop",
        description="An answer is never cut. shorten: the prompt is cut where the task says how.",
        **deciding("tokens"),
    )


class Template(Section):
    """The wording of the `columns` task; `{name}` is the row's column of that name."""

    decides = "data"

    system: str | None = Field(None, description="No system message unless asked for.")
    prompt: str = Field("{prompt}", description="The user's message.")
    answer: str = Field("{answer}", description="The assistant's message.")


class Sql(Section):
    """Options of the `sql` task."""

    decides = "data"

    dialect: str = Field(
        "sqlite", description="The dialect of the gold SQL, by sqlglot's name; a row in another one is found out."
    )
    engine: str = Field(
        "sqlite",
        pattern=r"^(sqlite|duckdb|(postgres|postgresql|mysql)://([^:/@\s]+@)?[^@\s]*)$",
        description="Where SQL is run: `sqlite`, `duckdb` (an extra), or a server, `postgres://user@host/database` or "
        "`mysql://user@host`; its password is in PGPASSWORD or MYSQL_PWD.",
    )


class Lora(Section):
    """LoRA adapters on the linear layers; `lora: none` trains every weight."""

    decides = "training"

    r: int = Field(
        16, ge=1, le=4096, description="Rank 16 is enough for one task at every Gemma 3 size; 3.8M weights at 270M."
    )
    alpha: int = Field(
        32, ge=1, le=100_000, description="Scale alpha/r = 2, the ratio most published Gemma recipes use."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="0: runs are repeatable and one elementwise pass cheaper.")
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="Every linear layer but the head: better than attention alone at the same rank."
    )
    token_rows: Literal["auto", "none"] | list[str] = Field(
        "auto",
        description="Embedding rows trained beside the adapters. auto: the chat template's tokens, when the base model "
        "never trained them (-pt); two rows instead of two copies of the embedding.",
    )

    @field_validator("target_modules")
    @classmethod
    def _are_some(cls, value: str | list[str]) -> str | list[str]:
        if not value:
            raise ValueError("wanted all-linear or names of layers, found []; `lora: none` trains every weight")
        return value


class Train(Section):
    """The optimisation."""

    decides = "training"

    epochs: float = Field(
        3.0, gt=0, le=1000, description="Three passes; early stopping and the best checkpoint bound the harm."
    )
    max_steps: int | None = Field(
        None, ge=1, le=10_000_000, description="Stops after this many steps; epochs decide when not set."
    )
    batch_size: int = Field(
        16, ge=1, le=100_000, description="Examples a step. How they are cut into micro-steps changes nothing."
    )
    micro_tokens: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="Tokens a micro-step holds; chosen from memory when not set. A longer row goes alone.",
    )
    learning_rate: float | None = Field(
        None, gt=0, le=100, description="2e-4 for LoRA, 2e-5 for full training, when not set."
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="Decays to zero; nothing else to tune."
    )
    warmup_ratio: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Adam's second moment needs a few steps to settle; the first one has a rate above 0.",
    )
    weight_decay: float = Field(0.0, ge=0, le=100, description="LoRA's low rank already regularises.")
    max_grad_norm: float = Field(1.0, gt=0, le=MOST, description="Clips the rare bad batch.")
    max_length: int = Field(
        1024,
        ge=16,
        le=1_000_000,
        description="Tokens of prompt and answer together; longer rows follow `prepare`.",
        **deciding("tokens"),
    )
    logging_steps: int = Field(1, ge=1, le=MOST, description="One line of metrics.jsonl for every this many steps.")
    eval_steps: int | None = Field(None, ge=1, le=MOST, description="About ten evaluations a run when not set.")
    save_steps: int | None = Field(None, ge=1, le=MOST, description="With every evaluation when not set.")
    keep_checkpoints: int = Field(2, ge=1, le=10_000, description="The newest and the best; the best is never deleted.")
    early_stopping: int | None = Field(
        3, ge=1, le=MOST, description="Stops after this many evaluations without a better one, by `train.best_by`."
    )
    best_by: Literal["loss", "metric"] = Field(
        "loss", description="loss: val loss. metric: the task's score on generated replies, slower, closer to the aim."
    )
    train_on: Literal["all", "last"] = Field(
        "all", description="Every assistant turn, or only the last one.", **deciding("tokens")
    )
    precision: Literal["auto", "bf16", "fp32", "fp16"] = Field("auto", description="auto: what the device is fast at.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU when there is one.")
    seed: int = Field(0, **SEED, description="Order, initial adapters and dropout.")


class Evaluate(Section):
    """How replies are generated and scored."""

    decides = "evaluation"

    metric: str | None = Field(None, description="The score that decides; the task's own when not set.")
    limit: int | None = Field(
        200, ge=1, le=MOST, description="Rows of the test split; 200 give an interval of about +-7 points."
    )
    max_new_tokens: int = Field(128, ge=1, le=100_000, description="A reply that is longer is cut and counted as such.")
    temperature: float = Field(0.0, ge=0, le=100, description="0 is greedy: the same reply every time.")
    top_p: float = Field(1.0, gt=0, le=1, description="Only with a temperature above 0.")
    batch_size: int = Field(16, ge=1, le=10_000, description="Prompts generated side by side.")
    seed: int = Field(0, **SEED, description="Sampling and the bootstrap.")


class Vision(Section):
    """How images are seen; only for models with a vision tower."""

    decides = "training"

    pan_and_scan: bool = Field(
        False,
        description="Gemma 3: long images are seen whole and in up to four crops, 256 tokens each.",
        **deciding("tokens"),
    )
    trains: Literal["text", "projector", "tower"] = Field(
        "text",
        description="What is trained: the text part alone; the layer from the tower to it too; or the tower as well. A "
        "frozen tower sees every image once, whatever the epochs and runs.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Of tower and projector; a tenth of the text part's when not set, because both are pretrained.",
    )
    cache_gb: float = Field(
        20.0,
        ge=0,
        le=1_000_000,
        description="Disk for what the frozen tower saw: 0.6 MB an image of Gemma 3.",
        **deciding("run"),
    )


class Scale(Section):
    """Several devices, and several machines: the losses are those of one."""

    decides = "run"

    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        1,
        description="Processes that share every effective batch. auto: one for every GPU that is visible; on CPUs one "
        "a machine, whose cores one process keeps busy.",
    )
    engine: Literal["local", "ray"] = Field(
        "local", description="local: the workers are on this machine. ray: on the nodes of a Ray cluster, an extra."
    )
    address: str | None = Field(
        None,
        description="The cluster's, such as `auto` for the one that this machine is in; when not set, Ray starts one "
        "here.",
    )


class Recipe(Section):
    """One recipe: from a data source to a tested model."""

    decides = "training"

    name: str = Field(
        "",
        description="The name of the run directory; the task's name when not set.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=MOST_NAME,
        **deciding("run"),
    )
    task: str = Field(
        description="emoji, sql, product, multi_image, documents, columns, messages, or `file.py:Class` for your own.",
        **deciding("data"),
    )
    data: list[DataSource] = Field(
        default_factory=list,
        description="One source or a list of them; the rows of `pages` when not set.",
        min_length=1,
    )
    pages: Pages | None = Field(
        None, description="The documents that `gemtune distill` makes rows of.", **deciding("run")
    )
    teacher: list[Teacher] = Field(
        default_factory=list,
        description="Who labels the pages: one model, or several whose replies have to agree.",
        **deciding("run"),
    )
    privacy: Privacy = Field(default_factory=Privacy)
    runs_dir: str = Field(
        "runs", description="Where run directories go; relative to the current folder.", **deciding("run")
    )
    model: str = Field(
        "gemma-3-270m", description="A short name, a Hub id or a folder. `org/name@commit` is a model at one revision."
    )
    split: Split = Field(default_factory=Split)
    prepare: Prepare = Field(default_factory=Prepare)
    template: Template = Field(default_factory=Template)
    sql: Sql = Field(default_factory=Sql)
    documents: Documents = Field(default_factory=Documents)
    options: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Options of a task of your own: what its class `Options` names.",
        **deciding("data"),
    )
    lora: Lora | None = Field(default_factory=Lora, description="`none` trains every weight.")
    quantize: Literal["none", "nf4"] = Field(
        "none", description="nf4 only when memory asks for it: at 270M it saves 0.15 GB and costs speed."
    )
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    export: list[str] = Field(
        default_factory=list,
        description="What `gemtune run` makes of the tuned model at its end, such as merged; each is verified in its "
        "own runtime.",
        **deciding("run"),
    )
    track: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list, description="metrics.jsonl is always written; these come on top.", **deciding("run")
    )

    vision: Vision = Field(default_factory=Vision)
    scale: Scale = Field(default_factory=Scale)

    @field_validator("model", "runs_dir", "task")
    @classmethod
    def _is_a_path_that_disks_take(cls, value: str) -> str:
        if len(value) > 4000 or any(len(part.encode()) > 255 for part in PurePath(value).parts):
            raise ValueError(f"a name of {len(value):,} characters; no disk takes a path or folder of that length")
        return value

    @field_validator("data", mode="before")
    @classmethod
    def _one_source_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [{"source": entry} if isinstance(entry, str) else entry for entry in value]
        return [{"source": value}] if isinstance(value, str) else [value] if isinstance(value, dict) else value

    @field_validator("teacher", mode="before")
    @classmethod
    def _one_teacher_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="before")
    @classmethod
    def _is_called_after_its_task(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(task := value.get("task"), str) and "name" not in value:
            file, colon, _ = task.rpartition(":")
            return {**value, "name": PurePath(file).stem if colon else task}
        return value

    @field_validator("lora", mode="before")
    @classmethod
    def _none_is_full_training(cls, value: Any) -> Any:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _has_rows(self) -> Recipe:
        if not self.data and self.pages is None:
            raise ValueError(
                "wanted `data` with a source of rows, or `pages` with a source of documents, found neither"
            )
        return self

    @model_validator(mode="after")
    def _teachers_differ(self) -> Recipe:
        asked = [(teacher.model, teacher.temperature) for teacher in self.teacher if teacher.provider != "files"]
        if len(set(asked)) < len(asked):
            raise ValueError(
                "teacher: wanted models that differ, found one twice, whose replies would be the same ones"
            )
        return self

    @model_validator(mode="after")
    def _quantised_weights_need_adapters(self) -> Recipe:
        if self.lora is None and self.quantize != "none":
            raise ValueError(f"quantize: {self.quantize} needs lora: quantised weights themselves cannot be trained")
        return self


def recipe_keys() -> dict[str, tuple[str, Any, str]]:
    """Every key of a recipe -> (type, default, reason), in the order of the classes above."""
    return dict(keys_of(Recipe))


def deciding_stage() -> dict[str, Stage]:
    """Every key of a recipe -> the first stage whose result it changes.

    >>> stage = deciding_stage()
    >>> stage["split.by"], stage["vision.pan_and_scan"], stage["lora.r"], stage["evaluate.limit"], stage["runs_dir"]
    ('data', 'tokens', 'training', 'evaluation', 'run')
    """
    return dict(stages_of(Recipe))


def deciders(recipe: Recipe, *stages: Stage) -> dict[str, Any]:
    """What a recipe says of the keys that decide some stages, as nested plain data.

    Two recipes with the same `data` and `tokens` deciders have the same tokens: cache keys are made from it.
    """
    return decided(recipe, stages)
