"""What the JSON files of a run directory hold: a class per file or line, which docs/formats.md is written from."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, ValidationError

from gemtune.errors import RunError
from gemtune.files import JsonObject, sha256_of_text
from gemtune.metrics.statistics import Difference, Direction, Interval
from gemtune.recipe.loader import wanted_and_found


@dataclass(frozen=True)
class Stored:
    """Plain data that is kept as JSON; the words beside a field's type are what docs/formats.md says of it."""

    def to_json(self) -> JsonObject:
        return asdict(self)

    def fault(self) -> str | None:
        """What does not fit together in it, or None."""
        return None

    @classmethod
    def from_json(cls, value: object, where: object) -> Self:
        """The value as data; RunError names the file and the field when it is not what gemtune writes.

        >>> Decision.from_json({"value": "cpu"}, "a/manifest.json: decisions.device")
        Traceback (most recent call last):
        gemtune.errors.RunError: a/manifest.json: decisions.device: why: is missing; run the stage that wrote it again
        """
        try:
            stored: Self = _reader(cls).validate_python(value)  # type: ignore[arg-type]  # a class has a hash
        except ValidationError as error:
            finding = error.errors()[0]
            places = [str(where), *filter(None, [".".join(map(str, finding["loc"]))])]
            fault = "is missing" if finding["type"] == "missing" else wanted_and_found(finding)
            raise RunError(f"{': '.join(places)}: {fault}; run the stage that wrote it again") from error
        if misfit := stored.fault():
            raise RunError(f"{where}: {misfit}; run the stage that wrote it again")
        return stored


@dataclass(frozen=True, kw_only=True)
class Sealed(Stored):
    """Data that is stored with its own digest."""

    seal: Annotated[str | None, "the SHA-256 of all else in it: a damaged one is seen"] = None

    @classmethod
    def from_json(cls, value: object, where: object) -> Self:
        if isinstance(value, dict) and value.get("seal") not in (None, _seal_of(value)):
            raise RunError(f"{where}: is not what was written; {cls.move()}")
        return super().from_json(value, where)

    @classmethod
    def move(cls) -> str:
        """What to do about a damaged one."""
        return "run the stage that wrote it again"

    def to_json(self) -> JsonObject:
        return sealed(super().to_json())


def sealed(values: JsonObject) -> JsonObject:
    """The values with the digest of them all, which comes last; an older one is left out."""
    bare = {name: value for name, value in values.items() if name != "seal"}
    return {**bare, "seal": _seal_of(json.loads(json.dumps(bare)))}  # as it is read back, where every key is a text


def _seal_of(values: JsonObject) -> str:
    return sha256_of_text(json.dumps({name: value for name, value in values.items() if name != "seal"}, sort_keys=True))


@cache
def _reader(kind: type) -> TypeAdapter[Any]:
    """Made once per class: that of a Summary takes 2 ms, and a file of replies has many lines."""
    return TypeAdapter(kind)


# --- manifest.json ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Decision(Stored):
    """What gemtune chose where the recipe left it open."""

    value: object
    why: str


@dataclass(frozen=True, kw_only=True)
class Training(Stored):
    """The manifest's section `training`, once training has ended."""

    steps: Annotated[int, "taken", "steps"]
    planned_steps: Annotated[int, "of the recipe; more than `steps` when it stopped early", "steps"]
    epochs: Annotated[float, "taken", "epochs"]
    seconds: Annotated[float, "in training steps, without evaluations and saving", "s"]
    tokens: Annotated[int, "seen, padding not counted", "tokens"]
    labelled_tokens: Annotated[int, "of them trained on", "tokens"]
    peak_memory_gb: Annotated[float, "of the process; on a GPU, of the process there", "10⁹ bytes"]
    best_step: Annotated[
        int | None, "whose weights were kept; null where a training diverged before it had any", "step"
    ]
    best_eval_loss: Annotated[float | None, "there; null without val rows", "nats per labelled token"]
    stopped: Annotated[str, "why it ended"]
    # A run from before this was looked at has none.
    diverged: Annotated[bool, "whether it ended because its loss was no number, or far above the base model's"] = False
    workers: Annotated[int, "that took the steps together", "processes"] = 1
    exchange_bytes: Annotated[int, "that each worker sums with the others a step; 0 with one", "bytes"] = 0
    exchange_seconds: Annotated[float, "of `seconds`, in these sums, waiting for the slowest included", "s"] = 0.0


@dataclass(frozen=True, kw_only=True)
class PlacedSource(Stored):
    """What of a source in `trained_on.recipe` is told by where it lies."""

    source: str
    images: list[str]


@dataclass(frozen=True, kw_only=True)
class PlacedRecipe(Stored):
    """What of `trained_on.recipe` is."""

    task: str = ""
    model: str = ""
    data: list[PlacedSource] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class TrainedOn(Stored):
    """The manifest's section `trained_on`: what the run was begun with."""

    data: str
    tokens: str
    recipe: PlacedRecipe
    root: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelNote(Stored):
    """The manifest's section `model`."""

    name: str | None = None
    path: str | None = None
    folder: str | None = None
    fingerprint: str | None = None
    parameters: int | None = None
    trainable: int | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceNote(Stored):
    """The manifest's section `device`."""

    name: str | None = None
    cores: int | None = None
    memory_gb: float | None = None
    instruction_sets: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest(Sealed):
    """The sections of manifest.json, each as far as the run has got."""

    recipe: dict[str, object] = field(default_factory=dict)
    decisions: dict[str, dict[str, object]] = field(default_factory=dict)  # of Decision
    trained_on: TrainedOn | None = None
    training: dict[str, object] | None = None  # of Training
    model: ModelNote = ModelNote()
    device: DeviceNote = DeviceNote()
    versions: dict[str, str | None] = field(default_factory=dict)
    check: list[str] | None = None
    checked: str | None = None
    digests: dict[str, str] = field(default_factory=dict)  # of files that are written line by line, once they are whole

    @classmethod
    def move(cls) -> str:
        return "start again under another run name, or delete its `seal` if it was you who changed it"


# --- gemtune.lock -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Lock(Sealed):
    """gemtune.lock: what a run is made from, by digest and version."""

    version: Annotated[int, "1"]
    python: Annotated[str, "its version"]
    packages: Annotated[dict[str, str], "of gemtune and all that it needs, as installed: package: version"]
    sources: Annotated[dict[str, str | None], "the files of rows: number and name: SHA-256, null for the Hub"]
    data: Annotated[dict[str, str], "the files of `data/` made from them: SHA-256"]
    model: Annotated[dict[str, str], "the files of the base model: SHA-256"]
    seeds: Annotated[dict[str, int], "`split`, `train`, `evaluate`"]
    hardware: Annotated[dict[str, object], "`device` of the manifest, and `threads`"]
    decisions: Annotated[dict[str, object], "the values of the manifest's `decisions`, without the model's folder"]

    @classmethod
    def move(cls) -> str:
        return "train under another run name, which writes one"


# --- metrics.jsonl ----------------------------------------------------------------------------------------------------

MOST = 1e100  # of a loss or any other number there
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]


@dataclass(frozen=True, kw_only=True)
class MetricsLine(Stored):
    """One line of metrics.jsonl: the step, and the numbers of a training step or of an evaluation."""

    step: Int64
    epoch: float | None = None
    values: dict[str, float | Int64 | None]

    @classmethod
    def of(cls, line: JsonObject, where: object) -> JsonObject:
        """The line itself, once it is known to be one."""
        values = {name: value for name, value in line.items() if name not in ("step", "epoch")}
        checked: JsonObject = {name: line[name] for name in ("step", "epoch") if name in line}
        checked["values"] = values
        read = cls.from_json(checked, where)
        return {"step": read.step, **read.values} | ({"epoch": read.epoch} if "epoch" in line else {})

    def fault(self) -> str | None:
        far = [name for name, value in self.values.items() if value and math.isfinite(value) and abs(value) > MOST]
        return f"{far[0]} is {self.values[far[0]]}, beyond any number of a training" if far else None


# --- data/manifest.json -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SourceRows(Stored):
    """One source of the recipe, as it was read."""

    source: str
    format: str
    rows: int
    sha256: str | None


# Reason that rows are dropped for -> the key that changes it, where it is one; see `move_of`.
_MOVES = {
    "duplicate": "prepare.dedupe: none keeps them",
    "near duplicate": "prepare.dedupe: exact keeps them, prepare.similarity: 1.0 those with a slip",
    "duplicate id": "without data.id they are kept",
    "no group": "fill the column of split.by, or split by another",
    "unclear field": "prepare.ignore: [the field] uses them as they are",
    "preference data": "prepare.ignore: [the field] uses them as they are",
    "not trained": "prepare.ignore: [the field] uses them as they are",
    "marked wrong": "prepare.ignore: [the field] uses them as they are",
    "two turns of one role": "prepare.merge_turns: true joins messages of one role",
    "no layout": "data.layout names their layout",
    "missing image": "data.images names the folders and archives to look in",
    "image outside": "data.images names the folders and archives to look in",
    "image not here": "data.download_images: true fetches them",
    "over length": "a higher train.max_length keeps them, or prepare.over_length: shorten",
    "control token": "mend the rows, or choose another model",
}


def move_of(reason: str) -> str:
    """What a user changes to keep the rows that are dropped for a reason.

    >>> move_of("duplicate id"), move_of("empty answer")
    ('without data.id they are kept', 'mend the rows, or check `task` and `data.columns`')
    """
    return _MOVES.get(reason, "mend the rows, or check `task` and `data.columns`")


@dataclass(frozen=True, kw_only=True)
class PartLengths(Stored):
    """The token table of one part: how long its rows are, and which are not in it."""

    rows: Annotated[int, "in the token table", "rows"]
    min: Annotated[int, "shortest row, prompt and answer", "tokens"]
    median: Annotated[int, "", "tokens"]
    p95: Annotated[int, "95 % are not longer", "tokens"]
    max: Annotated[int, "longest", "tokens"]
    tokens: Annotated[int, "sum", "tokens"]
    over_length: Annotated[int, "left out: longer than `train.max_length`", "rows"]
    shortened: Annotated[int, "with a prompt cut by the task", "rows"]
    control_token: Annotated[int, "left out: the text spells a control token of the model", "rows"]
    images: Annotated[int, "of its rows", "images"] = 0
    image_pixels: Annotated[int, "of an image as it is stored, the median", "pixels"] = 0
    seen_pixels: Annotated[int, "at which the model sees it, the median; its crops not counted", "pixels"] = 0
    image_tokens: Annotated[int, "that a row's images take, the median", "tokens"] = 0
    characters: Annotated[float, "of the answer per image token: the median of its rows", "characters"] = 0.0
    most_characters: Annotated[float, "the same, which 95 % do not exceed", "characters"] = 0.0


@dataclass(frozen=True, kw_only=True)
class Lengths(Stored):
    """The token tables of all parts, and the ids of the tokens that training asks about."""

    key: str
    max_length: int
    special_ids: dict[str, int | list[int]]
    token_ids: dict[str, int]
    train: PartLengths
    val: PartLengths
    test: PartLengths
    tables: dict[str, str] | None = None

    def of(self, part: str) -> PartLengths:
        return {"train": self.train, "val": self.val, "test": self.test}[part]


@dataclass(frozen=True, kw_only=True)
class Shard(Stored):
    """A file of a token table."""

    name: Annotated[str, "the file, beside the index"]
    rows: Annotated[int, "in it", "rows"]
    tokens: Annotated[int, "sum", "tokens"]
    labelled: Annotated[int, "of them trained", "tokens"]
    longest: Annotated[int, "row", "tokens"]
    sha256: Annotated[str, "of the file"]


@dataclass(frozen=True)
class WeightedRows(Stored):
    """Rows of a token table that follow each other and have one `data.weight`."""

    weight: float
    rows: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class TableIndex(Sealed):
    """data/<part>.index.json: the token table of a part."""

    version: Annotated[int, "1"]
    shards: Annotated[list[Shard], "in the order of their rows: the fields below"]
    weights: Annotated[
        list[WeightedRows], "rows of one `data.weight` that follow each other: `weight`, `rows`, `tokens`"
    ]

    @classmethod
    def writer(cls) -> str:
        return "`gemtune prepare`"


@dataclass(frozen=True, kw_only=True)
class DataManifest(Sealed):
    """data/manifest.json: what was read, dropped and split."""

    version: Annotated[int, "1"]
    fingerprint: Annotated[str, "of sources and keys; the same means nothing is prepared again"]
    task: Annotated[str, "its name"]
    sources: Annotated[list[SourceRows], "for each: `source`, `format`, `rows`, `sha256` (null for the Hub)"]
    rows_read: Annotated[int, "= sum of `kept` + sum of `dropped`"]
    kept: Annotated[dict[str, int], "part: rows"]
    dropped: Annotated[dict[str, int], "reason: rows"]
    groups: Annotated[dict[str, int], "part: groups"]
    split: Annotated[dict[str, object], "the `split` section"]
    leaks: Annotated[int, "lines of leaks.jsonl"]
    audited_similarity: Annotated[float, "from which similarity on a pair is listed there"]
    scored: Annotated[dict[str, int], "score: rows of val and test that it counts for"] = field(default_factory=dict)
    unscored: Annotated[int, "lines of unscored.jsonl"] = 0
    lengths: Annotated[
        Lengths | None,
        "`key`, `max_length`, `special_ids` and `token_ids` (of the tokens training asks about), by part the fields "
        "below, and in `tables` the SHA-256 of the index of each token table",
    ] = None
    files: Annotated[dict[str, str] | None, "the SHA-256 of each `.jsonl` file beside it"] = None
    images: Annotated[int | None, "in `images/`, of its rows; each is named by the SHA-256 of its bytes"] = None

    @classmethod
    def move(cls) -> str:
        return "run `gemtune prepare` again"

    @property
    def losses(self) -> dict[str, int]:
        """Reason -> rows that it takes, the most first; with those that are in no token table."""
        losses = dict(self.dropped)
        if self.lengths:
            tables = [self.lengths.of(part) for part in self.kept]  # dropped.jsonl lists their rows, too
            losses["over length"] = sum(table.over_length for table in tables)
            losses["control token"] = sum(table.control_token for table in tables)
        return {reason: rows for reason, rows in sorted(losses.items(), key=lambda loss: -loss[1]) if rows}

    @property
    def token_lengths(self) -> Lengths:
        """`lengths`; RunError when the rows were never tokenised."""
        if self.lengths is None:
            raise RunError("data/manifest.json: no lengths in it; run `gemtune prepare RECIPE.yaml` again")
        return self.lengths

    def to_json(self) -> JsonObject:
        """Without `lengths` until the rows are tokenised."""
        return sealed({name: value for name, value in super().to_json().items() if name != "lengths" or value})


# --- eval/ ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Evaluation(Sealed):
    """One line of eval/base.jsonl, eval/tuned.jsonl, or of another's replies to the same rows: a test row with one."""

    where: Annotated[str, "the row"]
    key: Annotated[str, "its question, as in data/test.jsonl"]
    group: Annotated[str, "what the split keeps together with it, as in data/test.jsonl"] = ""
    prompt: Annotated[str, "what was asked, without the system message"]
    images: Annotated[list[str], "its images, by path in `data/`"]
    gold: Annotated[str, "the row's answer"]
    reply: Annotated[str, "the model's"]
    scores: Annotated[dict[str, float], "score: value, from 0 to 1 unless the task says otherwise"]
    cut: Annotated[bool, "whether the reply was cut at `evaluate.max_new_tokens`"]
    evaluation: Annotated[str, "a hash of weights, rows and decoding; equal means nothing has to be generated again"]

    @classmethod
    def move(cls) -> str:
        return "run `gemtune evaluate` again"


@dataclass(frozen=True, kw_only=True)
class Comparison(Stored):
    """One score of the base and the tuned model on the same rows."""

    direction: Direction = "higher"  # a summary from before there were directions has none
    base: Interval
    tuned: Interval
    difference: Difference


@dataclass(frozen=True, kw_only=True)
class Regression(Stored):
    """A row where the tuned model is behind the base model."""

    where: str
    prompt: str
    gold: str
    base: str
    tuned: str
    difference: float


@dataclass(frozen=True, kw_only=True)
class Decoding(Stored):
    """How replies were generated."""

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class CutReplies(Stored):
    """How many replies of each model were cut at max_new_tokens."""

    base: int
    tuned: int


@dataclass(frozen=True, kw_only=True)
class Summary(Sealed):
    """eval/summary.json: base against tuned."""

    version: Annotated[int, "1"]
    metric: Annotated[str, "the score that decides"]
    rows: Annotated[int, "how many test rows"]
    metrics: Annotated[
        dict[str, Comparison],
        "score: `direction`, `base`, `tuned` and `difference`, below; the deciding one first",
    ]
    scored: Annotated[dict[str, int], "score: test rows that have it"] = field(default_factory=dict)
    groups: Annotated[
        int,
        "groups of rows, such as documents or schemas, that the intervals and p-values keep together; 0: each row "
        "stands alone",
    ] = 0
    beside: Annotated[
        dict[str, dict[str, Comparison]],
        "who else has answered rows, such as `teacher`, `ocr` or `layer`: score: tuned against them on those rows, "
        "as in `metrics`, with their side under `base`",
    ] = field(default_factory=dict)
    regressions: Annotated[
        list[Regression],
        "up to ten rows where tuned is furthest behind base: `where`, `prompt`, `gold`, `base`, `tuned`, `difference`",
    ]
    decoding: Annotated[Decoding, "`temperature`, `top_p`, `max_new_tokens`, `seed`"]
    cut: Annotated[CutReplies, "`base`, `tuned`: replies that were cut"]

    @classmethod
    def move(cls) -> str:
        return "run `gemtune evaluate` again"

    def fault(self) -> str | None:
        return None if self.metric in self.metrics else f"no comparison by {self.metric!r}, which should decide"

    @property
    def deciding(self) -> Comparison:
        """The comparison by the score that decides."""
        return self.metrics[self.metric]
