"""Task: a row becomes a Conversation, a reply becomes scores; prompt and metric of a use case are in one file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gemtune.data.cells import Unreadable
from gemtune.data.conversation import MOST_TEXT, Conversation, Message, check_size
from gemtune.data.formats import Row
from gemtune.errors import RecipeError, RowError, did_you_mean, listed
from gemtune.metrics.statistics import Metric
from gemtune.recipe.loader import wanted_and_found
from gemtune.recipe.schema import Recipe
from gemtune.recipe.section import Section


class NoOptions(Section):
    """A task without options."""


class Task:
    """A use case: subclass it in a file of your own and name it `file.py:Class` in the recipe.

    A subclass sets `columns` and `metric` and defines `conversation` and `score`; the other methods have defaults.
    Each data source has a task object of its own, so that `layout` is that source's.

    Options are a nested `class Options(Section)`: the recipe gives them under `options:`, a task reads `self.options`.

    >>> from pydantic import Field
    >>> class Shout(Task):
    ...     class Options(Section):
    ...         mark: str = Field("!", description="What ends the answer.")
    >>> recipe = {"name": "s", "task": "shout.py:Shout", "data": [{"source": "s.csv"}]}
    >>> Shout(Recipe(**recipe, options={"mark": "?"})).options.mark, Shout(Recipe(**recipe)).options.mark
    ('?', '!')
    """

    Options: type[Section] = NoOptions
    section: str = "options"  # the section of the recipe that the options are in
    options: Section

    metric: str = "exact"  # the score that decides; a key of what `score` returns
    metrics: Mapping[str, Metric] = MappingProxyType({})  # scores of which lower is better, or no mean is taken
    columns: tuple[str, ...] = ()  # the columns every row must have
    unanswered: Mapping[str, str] = MappingProxyType({})  # the columns of the answer alone -> placeholders for them
    headline: tuple[str, ...] = ()  # the scores that are said first after `metric`, where there are many
    beside: tuple[str, ...] = ()  # who else than the models answers rows, in `replies_beside`

    def __init__(self, recipe: Recipe, layout: str = "auto"):
        self.recipe = recipe
        self.layout = layout
        self.options = _options(type(self), recipe)

    def conversation(self, row: Row, where: str) -> Conversation:
        """The row as a conversation that ends in the right answer; RowError when it cannot be one.

        `prepare` replaces its `group` and `weight` by what the recipe says.
        """
        raise RecipeError(f"task {self.recipe.task}: {type(self).__name__} has no method that makes a conversation")

    def question(self, row: Row, where: str) -> Conversation:
        """A row to be answered, as a conversation; its answer may be missing and is not used."""
        return self.conversation({**row, **self.unanswered}, where)

    def asked(self, prompt: str) -> Conversation:
        """A typed prompt as a conversation to be answered."""
        messages = (Message.of("user", prompt), Message.of("assistant", ""))
        return Conversation(messages, self.recipe.task, key=prompt, group=prompt, where="prompt")

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        """The scores of a reply to the conversation without its last message, each from 0 to 1, 1 the best.

        Rows may differ in what they are scored by. The first score every row has decides where not all have `metric`.
        `metrics` says which scores are otherwise.
        """
        raise RecipeError(f"task {self.recipe.task}: {type(self).__name__} has no method that scores a reply")

    def unscored(self, conversation: Conversation) -> Mapping[str, str]:
        """The scores that this row cannot have, each with the reason."""
        return {}

    def doubts(self, conversation: Conversation) -> Mapping[str, str]:
        """What is wrong with a row's own answer: the scores it gets less than full marks in, each with the reason.

        `prepare` asks this of every row that is trained; a task whose `score` takes long says it by less.
        """
        return reasons_of(doubtful_scores(self, self.score(conversation, conversation.answer)))

    def replies_beside(self, conversation: Conversation) -> Mapping[str, tuple[str, dict[str, float]]]:
        """Who of `beside` has answered this row already -> the reply, and the scores of it that mean something."""
        return {}

    def scope(self, conversation: Conversation) -> str:
        """What two rows must have in common to count as duplicates (`sql`: the database); by default nothing."""
        return ""

    def shorten(self, conversation: Conversation, share: float) -> Conversation | None:
        """The conversation with about `share` of its prompt's length, or None where the task cannot shorten it."""
        return None


def counted_scores(task: Task, conversation: Conversation, reply: str) -> dict[str, float]:
    """The scores of a reply that count: those in which the row's own answer gets full marks."""
    scores = task.score(conversation, reply)
    doubtful = doubtful_scores(task, task.score(conversation, conversation.answer))
    return {name: score for name, score in scores.items() if name not in doubtful}


def doubtful_scores(task: Task, own: Mapping[str, float]) -> dict[str, float]:
    """The scores in which a row's own answer gets less than full marks."""
    metrics = {name: metric_of(task, name) for name in own}
    judged = {name: score for name, score in own.items() if _is_judged(metrics[name])}
    return {name: score for name, score in judged.items() if abs(score - metrics[name].higher_is_better) > 1e-9}


def _is_judged(metric: Metric) -> bool:
    return metric.reported and metric.of_answer and metric.combine is None


def reasons_of(doubtful: Mapping[str, float]) -> dict[str, str]:
    """
    >>> reasons_of({"fits_mobile": 0.0})
    {'fits_mobile': "the row's own answer gets 0"}
    """
    return {name: f"the row's own answer gets {score:.3g}" for name, score in doubtful.items()}


def metric_of(task: Task, name: str) -> Metric:
    """How a task's score is read; unless the task says otherwise, higher is better and a corpus has the mean."""
    return task.metrics.get(name, Metric())


def _options(kind: type[Task], recipe: Recipe) -> Section:
    """The options of a task that its recipe gives, with the defaults of the others; RecipeError names the wrong key."""
    if kind.section != "options":
        if recipe.options:
            raise RecipeError(f"options: task {recipe.task} has its options in the section `{kind.section}`; move them")
        section: Section = getattr(recipe, kind.section)
        return section
    try:
        return kind.Options.model_validate(recipe.options)
    except ValidationError as error:
        raise RecipeError(_wrong_option(kind, error.errors()[0])) from error


def _wrong_option(kind: type[Task], finding: ErrorDetails) -> str:
    key = ".".join(["options", *map(str, finding["loc"])])
    known = list(kind.Options.model_fields)
    if finding["type"] == "extra_forbidden":
        names = did_you_mean(str(finding["loc"][-1]), known, f"{kind.__name__} takes {listed(known)}")
        return f"unknown key '{key}'{names}"
    if finding["type"] == "missing":
        info = kind.Options.model_fields.get(str(finding["loc"][0]))
        return f"key '{key}' is missing; {(info and info.description) or f'{kind.__name__} needs it'}"
    return f"{key}: {wanted_and_found(finding)}"


def text_of(row: Row, column: str) -> str:
    """A column's value as text without surrounding white space; a missing value, NULL and NaN are the empty text.

    >>> text_of({"text": " hi ", "n": 3, "gone": None}, "text"), text_of({"n": 3}, "n"), text_of({}, "gone")
    ('hi', '3', '')
    """
    value = row.get(column)
    if value is None or value != value:
        return ""
    if isinstance(value, Unreadable):
        raise RowError("not text", f"column '{column}' is {value.why}; wanted text")
    if isinstance(value, dict | list | tuple | bytes):
        raise RowError("not text", f"column '{column}' holds a {type(value).__name__}; wanted text")
    text = str(value).strip()
    if len(text) > MOST_TEXT:
        check_size([text])
    return text
