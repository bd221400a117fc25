"""LiteRT: without its environment one line says how to make that; with it, the file answers as the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporting.gguf_models import write_text_model
from gemtune.errors import GemtuneError, ModelError
from gemtune.exporting import litert
from gemtune.exporting.formats import FORMATS, formats_of
from gemtune.exporting.plain import PlainRuntime
from gemtune.files import cache_folder, write_json
from gemtune.models.families import write_tiny

IS_HERE = (cache_folder() / "litert" / "bin" / "python").exists()
needs_litert = pytest.mark.skipif(not IS_HERE, reason="needs LiteRT's environment (docs/export.md)")


def test_without_its_environment_one_line_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path))
    with pytest.raises(GemtuneError, match=rf"python3 -m venv {tmp_path}/litert && {tmp_path}/litert/bin/pip install"):
        formats_of(["litert"])


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="LiteRT is written for gemma3_text alone: export gguf, or merged"):
        litert.write_litert(write_tiny("qwen3", tmp_path / "model"), tmp_path)


@pytest.mark.journey
@needs_litert
def test_it_answers_as_the_model(tmp_path: Path) -> None:
    """A prompt of more than one chunk, one of less, and a text of every kind of token."""
    model, folder = write_text_model(tmp_path / "model"), tmp_path / "litert"
    write_json(model / "generation_config.json", {"eos_token_id": [106, 1]})
    folder.mkdir()
    litert.write_litert(model, folder)
    with FORMATS["litert"].runtime(folder) as runtime, PlainRuntime.of(model) as reference:
        for text in ("<start_of_turn>user\nمرحبا 👨‍👩‍👧  x<end_of_turn>\n", "go to the beach"):
            assert runtime.tokenize(text) == reference.tokenize(text)
        for prompt in ([2, *range(150, 350)], [2, 300, 301]):
            found, wanted = runtime.decode(prompt, 12), reference.decode(prompt, 12)
            assert found[0].token == wanted[0].token or wanted[0].margin < 0.1
            assert found[0].margin == pytest.approx(wanted[0].margin, abs=0.1)
        with pytest.raises(GemtuneError, match="no images"):
            runtime.decode([2], 1, [tmp_path / "photo.png"])


@needs_litert
def test_a_file_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    (tmp_path / litert.FILE).write_bytes(b"LITERTLM" + bytes(100))
    write_json(tmp_path / "generation_config.json", {"eos_token_id": 1})
    with (
        litert.LiteRt(tmp_path) as runtime,
        pytest.raises(GemtuneError, match=r"model\.litertlm: LiteRT .* cannot run it"),
    ):
        runtime.tokenize("a")
