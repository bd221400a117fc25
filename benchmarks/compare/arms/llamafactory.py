"""LLaMA-Factory with LoRA in bf16 where that is fast, with sdpa and without checkpointing, unneeded here.

It trains in the type that the weights are stored in: where fp32 is faster (where bf16 is emulated, a step would take
minutes), it is given fp32 weights.
"""

from pathlib import Path

import torch
from datasets import Dataset, DatasetDict
from llamafactory.train.tuner import run_exp  # type: ignore[import-not-found]
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.compare.arms.common import Arm, is_fast_in_bf16


def main() -> None:
    arm, in_bf16 = Arm(), is_fast_in_bf16()
    tokenised = arm.output / "tokenised"
    rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in arm.rows()]
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(tokenised)
    run_exp(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": arm.meta["model"] if in_bf16 else in_fp32(arm.meta["model"], arm.output / "model"),
            "template": "gemma2",
            "dataset": "tokenised",  # a name is required; the rows come from the next line
            "tokenized_path": str(tokenised),
            "finetuning_type": "lora",
            "adapter_name_or_path": str(arm.first_adapter),
            "output_dir": str(arm.adapter),
            "max_steps": arm.steps,
            "per_device_train_batch_size": arm.meta["batch_size"],
            "gradient_accumulation_steps": 1,
            "learning_rate": arm.meta["learning_rate"],
            "max_grad_norm": arm.meta["max_grad_norm"],
            "seed": arm.meta["seed"],
            "lr_scheduler_type": "constant",
            "disable_shuffling": True,
            "bf16": in_bf16,
            "flash_attn": "sdpa",
            "disable_gradient_checkpointing": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": not torch.cuda.is_available(),
        },
        callbacks=[arm],
    )
    arm.finish()


def in_fp32(model: str, folder: Path) -> str:
    """A copy of a model folder with fp32 weights."""
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()
