"""Verbs that need more memory than there is: one line with the next move, whatever the library that says it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import command

# A process that may take so many bytes more than it has after its imports.
LIMITED = """
import resource
import peft, torch, transformers
from pathlib import Path
from gemtune.evaluation import evaluate, generate
from gemtune.pipeline import decisions, stages
from gemtune.training import run
torch.set_num_threads(1)
most = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + {0}
resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""
ROOM = 400_000_000
LONG = "tea " * 12_000  # attention over its tokens takes more than that


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs to know how large a process is")
def test_a_verb_without_memory_is_one_line(
    write_recipe: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = {"data": {"limit": 40}, "evaluate": {"limit": 2, "max_new_tokens": 2}}
    recipe = write_recipe(train={"max_steps": 1, "max_length": 100_000}, **settings)
    assert command.gemtune(capfd, "prepare", recipe).code == 0
    (tmp_path / "long.csv").write_text(f"text,emoji\n{LONG},☕\n", encoding="utf-8")
    run, rows = tmp_path / "runs" / "t", tmp_path / "long.csv"
    moves = {
        ("generate", run, LONG, "--base"): "give a shorter prompt, or lower evaluate.max_new_tokens",
        ("evaluate", run, "--data", rows, "--base"): "lower evaluate.max_new_tokens, or give shorter rows",
        ("train", recipe, f"data.source={rows}", "name=l", "data.limit=1", "split.val=0"): (
            "lower train.max_length, or set quantize: nf4"
        ),
    }
    for args, move in moves.items():
        answer = command.spawn(*args, first=LIMITED.format(ROOM))
        assert answer.code == 2, (args[0], answer.err[-500:])
        last = answer.err.strip().splitlines()[-1]
        assert last.startswith("gemtune: ") and "out of memory" in last and move in last, last
