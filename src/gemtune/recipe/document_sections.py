"""The sections of a recipe that turn documents into rows: pages, teacher, privacy, and the task's options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from gemtune.errors import did_you_mean, shown
from gemtune.metrics.arabic import Folding
from gemtune.recipe.section import MOST, Section, deciding

ROWS = "rows.jsonl"  # in the folder that `distill` writes

Step = str | dict[str, int | float]  # the name of a step, or {name: its setting}, as in {resize: 1600}


@dataclass(frozen=True)
class StepSetting:
    """The one number of a step of `pages.steps`."""

    what: str
    default: float | None  # None: it has to be given
    least: float
    most: float


STEPS: dict[str, StepSetting | None] = {  # None: a step without a setting
    "orient": None,
    "flatten": None,
    "deskew": StepSetting("degrees from which on a page is turned", 0.5, 0, 10),
    "crop": StepSetting("pixels of margin that stay", 40, 0, 5_000),
    "resize": StepSetting("pixels of the longest side", None, 64, 20_000),
    "autocontrast": StepSetting("percent of the darkest and of the lightest pixels that are cut off", 0.5, 0, 49),
    "clahe": StepSetting("times that a grey may be commoner than the average one", 2, 1, 100),
    "gray": None,
}


def _described(step: str) -> str:
    """
    >>> _described("flatten"), _described("deskew")
    ('flatten', 'deskew (0.5: degrees from which on a page is turned)')
    """
    setting = STEPS[step]
    if setting is None:
        return step
    default = "" if setting.default is None else f"{setting.default}: "
    return f"{step} ({default}{setting.what})"


# `1-3,7`: page 7 and those from 1 to 3. `5-`: from 5 on. `-2-`: the last two.
PAGE_RANGE = re.compile(
    r"\s*(?P<first>[1-9]\d*)(?P<dash>\s*-\s*(?P<last>[1-9]\d*)?)?\s*|\s*-(?P<from_end>[1-9]\d*)-\s*"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def step_and_setting(step: Step) -> tuple[str, float | None]:
    """A step's name and its setting, given or default; ValueError says what is wrong.

    >>> step_and_setting({"resize": 1600}), step_and_setting("deskew"), step_and_setting("gray")
    (('resize', 1600), ('deskew', 0.5), ('gray', None))
    """
    if isinstance(step, dict) and len(step) != 1:
        raise ValueError(
            f"wanted a step's name or {{name: setting}}, found {shown(step)}; give each step a `-` of its own"
        )
    name, given = next(iter(step.items())) if isinstance(step, dict) else (step, None)
    if name not in STEPS:
        raise ValueError(f"no step is called {shown(name)}{did_you_mean(name, STEPS, 'steps: ' + ', '.join(STEPS))}")
    setting = STEPS[name]
    if setting is None:
        if given is not None:
            raise ValueError(f"{name} takes no setting, found {given}; write `- {name}`")
        return name, None
    if given is None and setting.default is None:
        raise ValueError(f"{name} needs its setting ({setting.what}), as in {{{name}: 1600}}")
    number = setting.default if given is None else given
    if number is None or not setting.least <= number <= setting.most:
        raise ValueError(f"{name} takes {setting.what}, from {setting.least} to {setting.most}; found {number}")
    return name, number


class Pages(Section):
    """PDFs, scans and photos become page images. What these keys decide is in the rows that `distill` writes."""

    decides = "run"

    source: str | list[str] = Field(
        description="PDFs, TIFFs and images: files, folders (read to the bottom) or globs. Relative paths start at the "
        "recipe file."
    )
    folder: str = Field(
        "distilled",
        description="Where page images, the teacher's replies and the rows go, in a folder of the recipe's name; "
        "relative to the current folder. Apart from runs, because replies are paid for.",
    )
    select: dict[str, str] = Field(
        default_factory=dict,
        description="A document, or a glob of documents -> the pages to read, such as `1-3,7`; `-2-` is the last two.",
    )
    passwords: dict[str, str] = Field(
        default_factory=dict,
        description="A document, or a glob -> the environment variable with its password; never the password itself.",
    )
    dpi: int = Field(200, ge=36, le=1200, description="Dots an inch at which a page is drawn.")
    least_side: int = Field(
        2200, ge=0, le=20_000, description="Pixels that the longest side has at least; a small page is drawn finer."
    )
    steps: list[Step] = Field(
        default_factory=lambda: list[Step](["flatten", "deskew", "gray"]),
        description="What is done to a page image, in this order; `{resize: 1600}` gives a setting. "
        + ", ".join(map(_described, STEPS))
        + ". Without gray, pages keep their colours.",
    )
    groups: list[list[str]] = Field(
        default_factory=list,
        description="Documents that belong together though they share no page; the split keeps them on one side.",
    )
    workers: int | None = Field(None, ge=1, le=1024, description="Processes that draw pages; one a core when not set.")

    @field_validator("source")
    @classmethod
    def _is_named(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and not all(value)):
            raise ValueError(f"wanted files, folders or globs of PDFs and images, found {shown(value)}")
        return value

    @field_validator("select", mode="before")
    @classmethod
    def _one_page_may_be_a_number(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: str(pages) if type(pages) is int else pages for name, pages in value.items()}

    @field_validator("select")
    @classmethod
    def _are_page_ranges(cls, value: dict[str, str]) -> dict[str, str]:
        for name, pages in value.items():
            for part in pages.split(","):
                match = PAGE_RANGE.fullmatch(part)
                if match is None:
                    raise ValueError(
                        f"{shown(name)}: wanted pages such as `1-3,7`, `5-` or `-2-`, found {shown(pages)}"
                    )
                if match["last"] and int(match["last"]) < int(match["first"]):
                    raise ValueError(
                        f"{shown(name)}: {shown(part.strip())} runs backward; the smaller page comes first"
                    )
        return value

    @field_validator("passwords")
    @classmethod
    def _are_names_of_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, variable in value.items():
            if not _VARIABLE.fullmatch(variable):  # which may be the password itself: it is not shown
                raise ValueError(
                    f"{shown(name)}: wanted the name of an environment variable that holds the password, such as "
                    "PDF_PASSWORD; a password itself does not belong in a recipe"
                )
        return value

    @field_validator("steps")
    @classmethod
    def _are_known_steps(cls, value: list[Step]) -> list[Step]:
        for step in value:
            step_and_setting(step)
        return value


KEYS = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}  # provider -> where the key to its own address is


class Teacher(Section):
    """The large model that labels pages."""

    decides = "run"

    provider: Literal["openai", "gemini", "local", "files"] = Field(
        "openai",
        description="openai: any endpoint that speaks OpenAI's chat completions with images. gemini: Google's, an "
        "extra. local: a model of a Hub id or folder, on this machine. files: replies that are there already.",
    )
    url: str | None = Field(None, description="Address of the endpoint, up to `/v1`; the provider's own when not set.")
    model: str = Field("", description="The model's name there; for `local` a Hub id or a folder.")
    replies: str | None = Field(
        None,
        description="`files`: a JSONL of `document`, `page`, `task`, `reply`, or a folder of "
        "`<document>/<page>.<task>.json`.",
    )
    key: str | None = Field(
        None,
        description="The environment variable with the key, which is never written anywhere. When not set, "
        "OPENAI_API_KEY or GEMINI_API_KEY goes to the provider's own address, and no key to a `url`.",
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0: the teacher's most likely reading.")
    max_tokens: int = Field(
        12_000, ge=1, le=1_000_000, description="Of a reply; one that is cut there is paid for and thrown away."
    )
    samples: int = Field(1, ge=1, le=10, description="Replies a page and task; from 2 on they have to agree.")
    agreement: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Similarity of two replies, of samples or teachers, below which a page is left out.",
    )
    structured: Literal["auto", "schema", "json", "none"] = Field(
        "auto",
        description="How the endpoint is told the JSON Schema. auto: by schema, and by what it takes where it refuses "
        "that.",
    )
    concurrency: int = Field(8, ge=1, le=1000, description="Requests under way at once, at most.")
    requests_per_minute: int | None = Field(None, ge=1, le=MOST, description="The endpoint's limit, where you know it.")
    tokens_per_minute: int | None = Field(None, ge=1, le=MOST, description="The endpoint's limit, where you know it.")
    timeout: float = Field(300.0, gt=0, le=86_400, description="Seconds that a reply may take.")
    attempts: int = Field(
        5, ge=1, le=100, description="Tries of a page and task before it is given up, over all starts."
    )
    input_price: float | None = Field(None, ge=0, le=MOST, description="Of a million tokens; never looked up.")
    output_price: float | None = Field(None, ge=0, le=MOST, description="Of a million tokens.")
    budget: float | None = Field(
        None, ge=0, le=MOST, description="In the prices' currency: reserved before a request is sent, never passed."
    )
    budget_tokens: int | None = Field(None, ge=1, le=MOST * 1000, description="As `budget`, where prices are unknown.")
    batch: bool = Field(
        False,
        description="By the endpoint's batch API: hours later, and counted at half of the prices; the first page of a "
        "task is asked for at once.",
    )

    @property
    def key_variable(self) -> str | None:
        """The environment variable with the key; none for a `url` of another's, which gets no provider's key."""
        return self.key or (None if self.url else KEYS.get(self.provider))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.budget is not None and None in (self.input_price, self.output_price):
            raise ValueError("wanted input_price and output_price for a budget, found none; or set budget_tokens")
        if self.samples > 1 and self.temperature == 0 and self.provider != "files":
            raise ValueError("wanted a temperature above 0 for several samples, found 0, which makes them all alike")
        if self.batch and self.provider in ("local", "files"):
            raise ValueError(f"wanted openai or gemini as provider for batch, found {self.provider}")
        return self


class Privacy(Section):
    """What is looked for before a page leaves this machine."""

    decides = "run"

    findings: Literal["stop", "allow", "redact", "skip"] = Field(
        "stop",
        description="Of a page with personal data, before it goes to a teacher by HTTP, also here (that may "
        "pass it on). stop: with a list; allow: it is sent; redact: boxes are drawn over the findings first; skip: the "
        "page is left out.",
    )
    unscanned: Literal["stop", "allow", "skip"] = Field(
        "stop", description="Of a page without text to scan: neither a layer that can be trusted nor OCR."
    )
    ocr: bool = Field(True, description="Pages are read by tesseract, where it is there, and that text is scanned too.")
    patterns: dict[str, str] = Field(
        default_factory=dict, description="A name -> a regular expression of your own, such as a case number."
    )
    names: str | None = Field(
        None,
        description="A file of names, one a line, looked for in every spelling: a name without a label such as "
        "`Name:` is found no other way. Relative paths start at the recipe file.",
    )
    regions: list[str] = Field(
        default_factory=lambda: ["EG", "SA", "AE", "JO", "KW", "MA"],
        description="Countries whose phone numbers and national ids are known, as two letters.",
    )

    @field_validator("patterns")
    @classmethod
    def _are_regular_expressions(cls, value: dict[str, str]) -> dict[str, str]:
        for name, pattern in value.items():
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"{name!r} is no regular expression ({error}); mend {shown(pattern)}") from error
        return value

    @field_validator("regions")
    @classmethod
    def _are_countries(cls, value: list[str]) -> list[str]:
        if wrong := [region for region in value if not re.fullmatch("[A-Z]{2}", region)]:
            raise ValueError(f"wanted countries by two capital letters, such as EG; found {shown(wrong[0])}")
        return value


class Documents(Section):
    """Options of the `documents` task."""

    decides = "run"

    tasks: list[str] = Field(
        default_factory=lambda: ["content", "fields"],
        description="What is asked of every page: content (Markdown and structure), fields (what kind of page, from "
        "whom, when), or a file with a JSON Schema of your own.",
        min_length=1,
    )
    prompts: dict[str, str] = Field(
        default_factory=dict, description="A task -> the student's prompt; made from its schema when not set."
    )
    teacher_prompts: dict[str, str] = Field(
        default_factory=dict,
        description="A task -> the teacher's prompt; made from its schema when not set, longer than the student's.",
    )
    folding: Folding = Field(
        "arabic",
        description="How texts are compared in the score that decides: as they are, without punctuation, with "
        "Arabic letters, marks and digits unified, or both. All stand side by side in the report.",
        **deciding("evaluation"),
    )
    fold_hamza: bool = Field(
        False,
        description="Whether Arabic folding also takes hamza off waw and ya.",
        **deciding("evaluation"),
    )
