"""TRL set up by somebody who knows it: bf16 weights, no autocast, no checkpointing, sdpa attention."""

import torch
from transformers import AutoModelForCausalLM

from benchmarks.compare.arms.common import Arm
from benchmarks.compare.arms.sft import train


def main() -> None:
    arm = Arm()
    model = AutoModelForCausalLM.from_pretrained(arm.meta["model"], dtype=torch.bfloat16, attn_implementation="sdpa")
    train(arm, model, bf16=False, gradient_checkpointing=False)


if __name__ == "__main__":
    main()
