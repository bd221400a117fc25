"""TRL's SFTTrainer on a workload; what an arm does not say is TRL's default."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from benchmarks.compare.arms.common import Arm


def train(
    arm: Arm, model: Any, *, micro_batch: int | None = None, modules_to_save: list[str] | None = None, **settings: Any
) -> None:
    """Trains `model` (loaded, or the path of one) on our tokens, labels and order, and saves the adapter."""
    size = arm.meta["batch_size"]
    args = SFTConfig(
        output_dir=str(arm.output),
        max_steps=arm.steps,
        per_device_train_batch_size=micro_batch or size,
        gradient_accumulation_steps=size // (micro_batch or size),
        learning_rate=arm.meta["learning_rate"],
        max_grad_norm=arm.meta["max_grad_norm"],
        seed=arm.meta["seed"],
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        **settings,
    )
    lora = LoraConfig.from_pretrained(arm.first_adapter)
    lora.inference_mode, lora.modules_to_save = False, modules_to_save
    data = Dataset.from_list(arm.rows())
    trainer = SFTTrainer(model=model, args=args, train_dataset=data, peft_config=lora, callbacks=[arm])
    arm.start_from_first_adapter(trainer.model)
    trainer.train()
    trainer.model.save_pretrained(arm.adapter)
    arm.finish()
