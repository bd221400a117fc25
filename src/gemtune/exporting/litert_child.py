"""Runs in LiteRT's environment, which has no gemtune: writes a model for phones, or answers as a phone does.

litert_child.py export MODEL FILE CONTEXT     writes FILE (.litertlm) of a Hugging Face folder
litert_child.py answer FILE                   a JSON request a line on standard input, a reply a line on the output
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import types
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
    engine, interpreter = Engine(Path(file)), Interpreter(Path(file))
    for line in sys.stdin:
        request = json.loads(line)
        if "text" in request:
            reply: Any = engine.tokenize(request["text"])
        else:
            reply = engine.choices(request["prompt"], request["limit"], interpreter.decode(**request), request["stops"])
        answers.write(f"{json.dumps(reply)}\n")
        answers.flush()


class Engine:
    """A .litertlm file in LiteRT-LM, which is what runs it on phones; here on the CPU."""

    def __init__(self, file: Path) -> None:
        import litert_lm

        litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
        self._greedy = litert_lm.SamplerConfig(top_k=1)
        self._engine = litert_lm.Engine(str(file), litert_lm.Backend.CPU(), cache_dir=":nocache")

    def tokenize(self, text: str) -> list[int]:
        return list(self._engine.tokenize(text))

    def choices(
        self, prompt: list[int], limit: int, measured: list[tuple[int, float]], stops: list[int]
    ) -> list[tuple[int, float]]:
        """Its reply as tokens. LiteRT-LM tells a text alone: leads are the interpreter's, as far as that agrees."""
        reply = self._reply(prompt, limit)
        written = [token for token, _ in measured if token not in stops]
        if reply == self._engine.detokenize(written):
            return measured
        tokens = self.tokenize(reply)
        tokens = (tokens if len(tokens) >= limit else [*tokens, stops[0]])[:limit]
        same = 0
        while same < min(len(tokens), len(measured)) and tokens[same] == measured[same][0]:
            same += 1
        return measured[:same] + [(token, float("nan")) for token in tokens[same:]]

    def _reply(self, prompt: list[int], limit: int) -> str:
        text = self._engine.detokenize(prompt[1:])  # it writes the first token itself
        if self.tokenize(text) != prompt[1:]:
            raise ValueError("LiteRT-LM cuts the text of a prompt into other tokens")
        settings = {"sampler_config": self._greedy, "max_output_tokens": limit}
        with self._engine.create_session(apply_prompt_template=False, **settings) as session:
            session.run_prefill([text])
            return str(session.run_decode().texts[0])


class Interpreter:
    """The decoder of a .litertlm file in LiteRT's interpreter, which tells how far ahead a choice is."""

    def __init__(self, file: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter as LiteRt

        self._model = LiteRt(model_content=_decoder(file))
        runners = {name: self._model.get_signature_runner(name) for name in self._model.get_signature_list()}
        self._step, self._read = runners["decode"], runners[f"prefill_{CHUNK}"]
        self._empty = {
            name: detail for name, detail in self._step.get_input_details().items() if name.startswith("kv_cache")
        }
        self._context = self._step.get_input_details()["mask"]["shape"][-1]

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


def _decoder(file: Path) -> bytes:
    """The section of a file that is the model."""
    from litert_lm_builder import litertlm_core, litertlm_peek

    metadata = litertlm_peek.read_litertlm_header(str(file), sys.stderr).SectionMetadata()
    for number in range(metadata.ObjectsLength()):
        section = metadata.Objects(number)
        if litertlm_core.any_section_data_type_to_string(section.DataType()) == "TFLiteModel":
            with file.open("rb") as stream:
                stream.seek(section.BeginOffset())
                return stream.read(section.EndOffset() - section.BeginOffset())
    raise ValueError("it holds no model")


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        answer(sys.argv[2])
