"""A vision model on this machine reads pages as a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

from gemtune.documents.folder import DistilledFolder
from gemtune.documents.teacher import Request
from gemtune.errors import ModelError
from gemtune.models.families import write_tiny
from gemtune.pipeline.job import Job
from gemtune.pipeline.local_teacher import local_teacher
from gemtune.recipe.document_sections import Teacher


def asked(root: Path, model: Path, **settings: object) -> list[tuple[str, str, int, int]]:
    """Text, finish and tokens of the replies to two pages."""
    recipe = {
        "name": "t",
        "task": "documents",
        "pages": {"source": "in", "folder": str(root)},
        "runs_dir": str(root / "runs"),
    }
    (root / "t.yaml").write_text(yaml.safe_dump({**recipe, "train": {"device": "cpu", "precision": "fp32"}}))
    job = Job(root / "t.yaml", say=lambda text: None)
    ask = local_teacher(job)(Teacher(provider="local", model=str(model), max_tokens=4, **settings))
    replies = []
    for number in (1, 2):
        image = DistilledFolder.of(job.recipe).images / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (90, 120), 80 * number).save(image)
        answer = ask(Request("a.pdf", number, "content", 0, image, "Read it.", {}))
        assert answer.usage
        replies.append((answer.text, answer.finish, answer.usage.input, answer.usage.output))
    return replies


def test_it_answers_each_page_and_says_what_was_cut(tmp_path: Path) -> None:
    model = write_tiny("gemma3-vision", tmp_path / "tiny")
    replies = asked(tmp_path, model)
    assert replies == asked(tmp_path, model)
    assert all(finish == "cut" and given > 4 for _, finish, given, _ in replies)
    assert not any(path.name == "manifest.json" for path in tmp_path.rglob("*"))  # no run is begun


def test_a_model_that_sees_nothing_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="reads text only; a teacher of pages sees images"):
        asked(tmp_path, tiny_model)
