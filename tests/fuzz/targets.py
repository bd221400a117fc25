"""TARGETS, the table of what is attacked: the functions of the library that a verb calls with somebody else's files.

A function takes an input and an empty folder, and does with it what the verb does. Raising GemtuneError is right.
"""

from __future__ import annotations

from fuzz import (
    document_targets,
    image_targets,
    model_targets,
    row_targets,
    run_targets,
    serving_targets,
    sql_targets,
)
from fuzz.harness import Target

TARGETS: dict[str, Target] = {
    **row_targets.TARGETS,
    **image_targets.TARGETS,
    **sql_targets.TARGETS,
    **run_targets.TARGETS,
    **model_targets.TARGETS,
    **document_targets.TARGETS,
    **serving_targets.TARGETS,
}
