"""Google's guide for Gemma 3 270M as it is written, without its 4-bit weights, which need a GPU.

fp32, two trained copies of the embedding, eager attention, four rows at a time, no checkpointing. From
`Fine_tune_Gemma_3_270M_for_emoji_generation.ipynb` in google-gemini/gemma-cookbook, which has rank 16 and alpha 32 too.
"""

import torch
from transformers import AutoModelForCausalLM

from benchmarks.compare.arms.common import Arm
from benchmarks.compare.arms.sft import train


def main() -> None:
    arm = Arm()
    model = AutoModelForCausalLM.from_pretrained(arm.meta["model"], dtype=torch.float32, attn_implementation="eager")
    train(
        arm,
        model,
        micro_batch=4,
        modules_to_save=["lm_head", "embed_tokens"],
        bf16=False,
        gradient_checkpointing=False,
    )


if __name__ == "__main__":
    main()
