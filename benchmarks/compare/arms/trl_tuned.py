"""TRL set up by somebody who knows it: bf16 weights where they are fast, sdpa; no autocast or checkpointing."""

import torch
from transformers import AutoModelForCausalLM

from benchmarks.compare.arms.common import Arm, is_fast_in_bf16
from benchmarks.compare.arms.sft import train


def main() -> None:
    arm = Arm()
    dtype = torch.bfloat16 if is_fast_in_bf16() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(arm.meta["model"], dtype=dtype, attn_implementation="sdpa")
    train(arm, model, bf16=False, gradient_checkpointing=False)


if __name__ == "__main__":
    main()
