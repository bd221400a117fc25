"""Fine-tune Gemma, and prove that it does your task.

    from gemtune import Job, Recipe, evaluate, train

    job = Job(Recipe(task="emoji", data="rows.csv", train={"epochs": 1}))
    train(job)
    print(evaluate(job)["metrics"]["f1"])

A job is a recipe in its run directory; the verbs of the command line are functions of one. Names are imported when they
are first used: `import gemtune` is instant, and `Recipe`, `prepare` and `report` need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemtune.errors import GemtuneError
    from gemtune.pipeline.compare import compare
    from gemtune.pipeline.job import Job
    from gemtune.pipeline.stages import check, distill, evaluate, export, generate, plan, prepare, report, run, train
    from gemtune.recipe.schema import Recipe

__all__ = [
    "GemtuneError",
    "Job",
    "Recipe",
    "check",
    "compare",
    "distill",
    "evaluate",
    "export",
    "generate",
    "plan",
    "prepare",
    "report",
    "run",
    "train",
]

_HOMES = {
    "GemtuneError": "gemtune.errors",
    "Job": "gemtune.pipeline.job",
    "compare": "gemtune.pipeline.compare",
    "Recipe": "gemtune.recipe.schema",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'gemtune' has no attribute '{name}'")
    return getattr(import_module(_HOMES.get(name, "gemtune.pipeline.stages")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
