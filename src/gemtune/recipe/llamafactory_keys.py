"""LLaMA-Factory's keys: those that gemtune has by another name, their defaults, and those that it has no use for."""

from __future__ import annotations

from gemtune.files import JsonObject

# LLaMA-Factory's key -> gemtune's, where the same value says the same; the export of a data set reads it backward.
SAME = {
    "model_name_or_path": "model",
    "lora_rank": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "cutoff_len": "train.max_length",
    "num_train_epochs": "train.epochs",
    "max_steps": "train.max_steps",
    "learning_rate": "train.learning_rate",
    "lr_scheduler_type": "train.schedule",
    "warmup_ratio": "train.warmup_ratio",
    "weight_decay": "train.weight_decay",
    "max_grad_norm": "train.max_grad_norm",
    "logging_steps": "train.logging_steps",
    "eval_steps": "train.eval_steps",
    "save_steps": "train.save_steps",
    "save_total_limit": "train.keep_checkpoints",
    "early_stopping_steps": "train.early_stopping",
    "seed": "train.seed",
    "max_new_tokens": "evaluate.max_new_tokens",
    "temperature": "evaluate.temperature",
    "top_p": "evaluate.top_p",
    "per_device_eval_batch_size": "evaluate.batch_size",
}
# What LLaMA-Factory takes for a key that is not there, where gemtune takes something else.
DEFAULTS: JsonObject = {
    "finetuning_type": "lora",
    "lora_rank": 8,
    "cutoff_len": 2048,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.0,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "seed": 42,
}
SCHEDULES = ("constant", "linear", "cosine")
TRACKERS = ("tensorboard", "wandb", "trackio")

_BY_MACHINE = "gemtune fits it to the machine; `gemtune plan` shows how"
_NONE = "gemtune has nothing like it"
DROPPED = {
    **dict.fromkeys(("do_train", "do_eval", "do_predict", "predict_with_generate"), "`gemtune run` does all of it"),
    **dict.fromkeys(("overwrite_output_dir", "overwrite_cache"), "`gemtune run --fresh` begins again"),
    "resume_from_checkpoint": "a run resumes by itself",
    **dict.fromkeys(("template", "default_system", "tool_format"), "the model's own chat template is used"),
    **dict.fromkeys(
        ("packing", "neat_packing", "group_by_length"), "rows are packed exactly, without seeing each other"
    ),
    **dict.fromkeys(
        ("flash_attn", "enable_liger_kernel", "use_unsloth", "disable_gradient_checkpointing"), _BY_MACHINE
    ),
    **dict.fromkeys(("gradient_checkpointing", "upcast_layernorm", "use_cache", "low_cpu_mem_usage"), _BY_MACHINE),
    **dict.fromkeys(("preprocessing_num_workers", "preprocessing_batch_size", "dataloader_num_workers"), _BY_MACHINE),
    **dict.fromkeys(("dataloader_pin_memory", "ddp_timeout", "ddp_find_unused_parameters", "deepspeed"), _BY_MACHINE),
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "tf32", "remove_unused_columns", "optim", "quantization_method"), _BY_MACHINE
    ),
    **dict.fromkeys(
        ("plot_loss", "include_num_input_tokens_seen", "log_level", "logging_strategy"), "report.html has it"
    ),
    **dict.fromkeys(
        ("eval_strategy", "evaluation_strategy", "save_strategy"), "eval_steps and save_steps alone decide"
    ),
    **dict.fromkeys(("load_best_model_at_end", "save_only_model", "greater_is_better"), "the best checkpoint is kept"),
    "metric_for_best_model": "train.best_by: metric takes the task's score instead of the loss",
    "trust_remote_code": "gemtune never runs a model's own code",
    "use_fast_tokenizer": "the fast tokenizer is used",
    "hub_model_id": "`gemtune push RUN USER/NAME` sends it",
    "push_to_hub": "`gemtune push RUN USER/NAME` sends it",
    "run_name": "the run is called after `name`",
    **dict.fromkeys(("image_max_pixels", "image_min_pixels"), "images are seen at the model's own resolution"),
    **dict.fromkeys(("video_max_pixels", "video_min_pixels", "video_fps"), "gemtune reads no videos"),
    "additional_target": "lora.token_rows trains rows of the embedding instead of two copies of it",
    **dict.fromkeys(("use_rslora", "use_dora", "pissa_init", "loraplus_lr_ratio", "neftune_noise_alpha"), _NONE),
    **dict.fromkeys(("warmup_steps", "adam_beta1", "adam_beta2", "adam_epsilon", "label_smoothing_factor"), _NONE),
    **dict.fromkeys(("rope_scaling", "shift_attn", "mixture_of_depths", "use_galore", "use_badam"), _NONE),
    **dict.fromkeys(("adapter_name_or_path", "create_new_adapter", "ref_model", "reward_model"), _NONE),
    "streaming": "rows are read as they come, always",
    "ignore_pad_token_for_loss": "padding is never trained",
}
# Keys that are read together with another.
WITH = {
    **dict.fromkeys(("dataset_dir", "media_dir", "eval_dataset", "max_samples"), "dataset"),
    "gradient_accumulation_steps": "per_device_train_batch_size",
}
# A section and a key in it, as the nested form has them -> LLaMA-Factory's own key.
NESTED = {
    ("model", "name"): "model_name_or_path",
    ("model", "path"): "model_name_or_path",
    ("dataset", "name"): "dataset",
    ("dataset", "train"): "dataset",
    ("dataset", "val"): "eval_dataset",
    ("dataset", "eval"): "eval_dataset",
    ("dataset", "dir"): "dataset_dir",
    ("dataset", "max_length"): "cutoff_len",
    ("output", "dir"): "output_dir",
    ("train", "epochs"): "num_train_epochs",
    ("train", "batch_size"): "per_device_train_batch_size",
    ("eval", "batch_size"): "per_device_eval_batch_size",
    ("eval", "strategy"): "eval_strategy",
}
