"""Held-out loss by plain transformers and PEFT: fp32, one row at a time, every logit.

python -m benchmarks.compare.heldout MODEL WORKLOAD ADAPTER prints {"loss": nats a labelled token}.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def main(model: str, workload: Path, adapter: str) -> None:
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa")
    tuned = PeftModel.from_pretrained(base, adapter).eval()
    total, labelled = 0.0, 0
    for line in (workload / "heldout.jsonl").read_text().splitlines():
        ids, labels = (torch.tensor(json.loads(line)[key]) for key in ("input_ids", "labels"))  # (T,)
        with torch.no_grad():
            logits = tuned(input_ids=ids[None]).logits[0]  # (T, V)
        total += torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum").item()
        labelled += int((labels[1:] != -100).sum())
    print(json.dumps({"loss": total / labelled}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
