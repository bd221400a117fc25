"""What every arm shares: its workload, the clock that runs beside it, and the adapter it starts from and ends with."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback


def is_fast_in_bf16() -> bool:
    """Whether this machine multiplies matrices in bf16 as fast as in fp32; not every processor with bf16 does."""
    if torch.cuda.is_available():
        return True
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    seconds = dict[torch.dtype, list[float]]({torch.bfloat16: [], torch.float32: []})
    for _ in range(6):
        for dtype, times in seconds.items():
            x, weight = torch.randn(512, 640, dtype=dtype), torch.randn(8192, 640, dtype=dtype)
            began = time.perf_counter()
            torch.mm(torch.mm(x, weight.t()), weight)
            times.append(time.perf_counter() - began)
    return min(seconds[torch.bfloat16]) <= min(seconds[torch.float32])


class Arm(TrainerCallback):
    """A run of an arm, made after its imports: `python -m benchmarks.compare.arms.NAME WORKLOAD OUTPUT [VARIANT]`."""

    def __init__(self) -> None:
        self.workload, self.output = (Path(argument) for argument in sys.argv[1:3])
        self.adapter, self.first_adapter = self.output / "adapter", self.workload / "init_adapter"
        self.meta: dict[str, Any] = json.loads((self.workload / "meta.json").read_text())
        self.steps = len(self.meta["tokens"])
        self.times: dict[str, Any] = {"imported": time.time(), "steps": [], "losses": []}

    def rows(self) -> list[dict[str, list[int]]]:
        """{"input_ids": [...], "labels": [...]} of every row, in the order of training."""
        return [json.loads(line) for line in (self.workload / "train.jsonl").read_text().splitlines()]

    def start_from_first_adapter(self, model: Any) -> None:
        """Sets the LoRA weights of a PEFT model to those that every arm starts from."""
        saved = load_file(self.first_adapter / "adapter_model.safetensors")
        weights = {name.replace(".weight", ".default.weight"): value for name, value in saved.items()}
        if {name for name, _ in model.named_parameters() if ".lora_" in name} != weights.keys():
            raise ValueError("the adapter of this arm has other layers than the first adapter")
        model.load_state_dict(weights, strict=False)

    def ready(self) -> None:
        self.times["ready"] = time.time()

    def step(self) -> None:
        self.times["steps"].append(time.time())

    def loss(self, value: float) -> None:
        self.times["losses"].append(value)

    def finish(self) -> None:
        (self.output / "times.json").write_text(json.dumps(self.times))

    # transformers' Trainer calls these.

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.ready()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.step()

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.loss(float(logs["loss"]))
