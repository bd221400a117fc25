"""verify.json as a type: one that is damaged names itself and the command that writes it again."""

from __future__ import annotations

import json

import pytest

from gemtune.errors import RunError
from gemtune.files import write_json
from gemtune.runs import Run
from reporting.test_artifacts import GGUF, MERGED


def test_it_is_read_as_it_was_written(run: Run) -> None:
    for artifact in (GGUF, MERGED):
        write_json(run.verify_file(artifact.format), artifact.to_json())
    kept = [note.to_json() for note in run.artifacts()]
    assert kept == [GGUF.to_json(), MERGED.to_json()] and run.formats() == ["gguf-q8_0", "merged"]


@pytest.mark.parametrize("change", [{"bytes": 1}, {"verification": {"passed": True}}, {"version": 2}])
def test_a_changed_one_is_one_line(change: dict[str, object], run: Run) -> None:
    path = run.verify_file("gguf-q8_0")
    write_json(path, {**json.loads(json.dumps(GGUF.to_json())), **change})
    with pytest.raises(
        RunError, match=r"verify\.json: (is not what was written; run `gemtune export` again|not a version)"
    ):
        run.artifacts()
