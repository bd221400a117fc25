"""Runs in LiteRT's environment, which has no gemtune: writes a model for phones, or answers in Google's interpreter.

litert_child.py export MODEL FILE CONTEXT     writes FILE (.litertlm) of a Hugging Face folder
litert_child.py answer FILE                   a JSON request a line on standard input, a reply a line on the output
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import types
import zlib
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

CHUNK = 128  # tokens of a prompt that are read at once
RECIPE = "weight_only_wi8_afp32"  # 8 bits a weight, sums in float32
HIDDEN = -1e9  # what the mask adds to a position that is not seen
SCHEMA = "tensorflow.lite.python.schema_py_generated"


def export(model: str, file: str, context: int) -> None:
    """Converts a model folder."""
    converter = _converter()
    with tempfile.TemporaryDirectory(dir=Path(file).parent) as folder:
        converter.export(
            model,
            folder,
            prefill_lengths=[CHUNK],
            cache_length=context,
            quantization_recipe=RECIPE,
            export_vision_encoder=False,
        )
        (made,) = Path(folder).rglob("*.litertlm")
        made.replace(file)


def _converter() -> Any:
    """litert-torch's: it imports a part of TensorFlow that it does not ask for, and that is in ai-edge-litert, too."""
    for name in ("torch._dynamo", "transformers", "litert_torch"):
        importlib.import_module(name)
    parents = [SCHEMA.rsplit(".", number)[0] for number in (3, 2, 1)]
    for name in parents:
        module = types.ModuleType(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None), []
        sys.modules[name] = module
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    sys.modules[SCHEMA] = sys.modules[parents[-1]].schema_py_generated = schema  # type: ignore[attr-defined]
    converter = importlib.import_module("litert_torch.generative.export_hf.export")
    for name in (*parents, SCHEMA):
        del sys.modules[name]
    return converter


def answer(file: str) -> None:
    """Answers requests until standard input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the libraries print
    model = Interpreter(Path(file))
    for line in sys.stdin:
        request = json.loads(line)
        reply = model.tokenize(request["text"]) if "text" in request else model.decode(**request)
        answers.write(f"{json.dumps(reply)}\n")
        answers.flush()


class Interpreter:
    """A .litertlm file: its decoder in LiteRT's interpreter, and its tokenizer."""

    def __init__(self, file: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter as LiteRt
        from tokenizers import Tokenizer

        sections = _sections(file)
        self._tokenizer = Tokenizer.from_str(sections["tokenizer"].decode())
        self._model = LiteRt(model_content=sections["decoder"])
        runners = {name: self._model.get_signature_runner(name) for name in self._model.get_signature_list()}
        self._step, self._read = runners["decode"], runners[f"prefill_{CHUNK}"]
        self._empty = {
            name: detail for name, detail in self._step.get_input_details().items() if name.startswith("kv_cache")
        }
        self._context = self._step.get_input_details()["mask"]["shape"][-1]

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, prompt: list[int], limit: int, stops: list[int]) -> list[tuple[int, float]]:
        """Greedy choices with the lead of each over the second best."""
        import numpy as np

        if len(prompt) + limit > self._context:
            raise ValueError(
                f"a prompt of {len(prompt)} tokens and {limit} more; the file has {self._context} positions"
            )
        cache = {name: np.zeros(detail["shape"], detail["dtype"]) for name, detail in self._empty.items()}
        done = 0
        while done < len(prompt) - 1 and done + CHUNK <= self._context:
            ids = prompt[done:-1][:CHUNK]
            # What fills a chunk up lies at positions that are not seen before their own tokens are written there.
            _, cache = self._run(self._read, ids + [0] * (CHUNK - len(ids)), done, cache)
            done += len(ids)
        choices: list[tuple[int, float]] = []
        ids = prompt[done:]
        while len(choices) < limit and not (choices and choices[-1][0] in stops):
            for token in ids:
                logits, cache = self._run(self._step, [token], done, cache)
                done += 1
            second, best = (int(place) for place in np.argpartition(logits, -2)[-2:])
            choices.append((best, float(logits[best] - logits[second])))
            ids = [best]
        return choices

    def _run(self, runner: Any, ids: list[int], first: int, cache: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The logits (V,) after the last of `ids`, of which the first stands at position `first`, and the cache."""
        import numpy as np

        places = np.arange(first, first + len(ids), dtype=np.int32)
        seen = np.arange(self._context)[None] <= places[:, None]  # (S, T)
        mask = np.where(seen, 0, HIDDEN).astype(np.float32)[None, None]
        out = runner(tokens=np.array([ids], np.int32), input_pos=places, mask=mask, **cache)
        logits = out.pop("logits", None)
        return None if logits is None else logits[0, -1], {name: out[name] for name in cache}


def _sections(file: Path) -> dict[str, bytes]:
    """The decoder and the tokenizer in a file."""
    from litert_lm_builder import litertlm_core, litertlm_peek

    metadata = litertlm_peek.read_litertlm_header(str(file), sys.stderr).SectionMetadata()
    found = {}
    with file.open("rb") as stream:
        for number in range(metadata.ObjectsLength()):
            section = metadata.Objects(number)
            stream.seek(section.BeginOffset())
            kind = litertlm_core.any_section_data_type_to_string(section.DataType())
            data = stream.read(section.EndOffset() - section.BeginOffset())
            if kind == "TFLiteModel":
                found["decoder"] = data
            elif kind == "HF_Tokenizer_Zlib":
                found["tokenizer"] = zlib.decompress(data[8:])
    return found


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        answer(sys.argv[2])
