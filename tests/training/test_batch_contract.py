"""The batch contract: each clause holds on what gemtune makes, and fails on what another tokenizer or model would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gemtune.errors import CheckError
from gemtune.models.families import write_tiny
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from models.stock_templates import TRL


@pytest.mark.parametrize(("template", "holds"), [("qwen3", True), ("qwen3_instruct_2507", False)])
def test_check_tells_the_qwen3_of_another_template(
    template: str, holds: bool, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_tiny("qwen3", tmp_path / "model")
    (folder / "chat_template.jinja").write_text((TRL / f"{template}.jinja").read_text(encoding="utf-8"))
    job = Job(write_recipe(model=str(folder)))
    if holds:
        stages.check(job)
    else:
        with pytest.raises(CheckError, match="ids equal the model's own chat template: not in"):
            stages.check(job)
