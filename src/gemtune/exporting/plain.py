"""The model in plain transformers, fp32, on the CPU: what every other runtime is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from PIL import Image
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from gemtune.errors import ModelError
from gemtune.exporting.runtime import Choice
from gemtune.files import read_json
from gemtune.models.families import family_of
from gemtune.models.families.base import GridFamily, ImageProcessor, Settings, VisionFamily, image_token_id
from gemtune.models.loading import load_image_processor, load_model, load_tokenizer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NOT_THE_MODELS = ("num_crops",)  # what an image processor says that the model does not take


class PlainRuntime:
    """A model in memory with its tokenizer, and its image processor where it takes images."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        stop_ids: Sequence[int],
        vision: VisionFamily | None = None,
        processor: ImageProcessor | None = None,
        settings: Settings | None = None,
        name: str = "transformers",
    ):
        """`settings`: of the image processor, where they differ from its config."""
        self.name = f"{name} {version('transformers')}, fp32"
        self._model, self._tokenizer, self._stop_ids = model, tokenizer, list(stop_ids)
        self._vision, self._processor, self._settings = vision, processor, settings or {}

    @classmethod
    def of(cls, folder: Path) -> Self:
        """A model folder, loaded as anybody would load it."""
        vision = family_of(folder).vision
        stops = read_json(folder / "generation_config.json")["eos_token_id"]
        processor = load_image_processor(folder) if vision else None
        return cls(load_model(folder), load_tokenizer(folder), stops, vision, processor)

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.no_grad()
    def decode(self, prompt: Sequence[int], limit: int, images: Sequence[Path] = ()) -> list[Choice]:
        ids, steps = torch.tensor([prompt]), _Steps()
        config = GenerationConfig(
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=self._stop_ids,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            logits_processor=LogitsProcessorList([steps]),
            **self._image_inputs(ids, images),
        )
        return steps.choices

    @torch.no_grad()
    def logits(self, prompt: Sequence[int], images: Sequence[Path] = ()) -> Tensor:
        """The logits after every token of a prompt: (T, V)."""
        ids = torch.tensor([prompt])
        logits: Tensor = self._model(input_ids=ids, **self._image_inputs(ids, images)).logits[0].float()
        return logits

    def _image_inputs(self, ids: Tensor, images: Sequence[Path]) -> dict[str, Tensor]:
        """What the model takes beside its tokens for the images of a prompt."""
        if not images:
            return {}
        if self._vision is None or self._processor is None:
            raise ModelError(f"{images[0]}: an image, and the model takes none")
        pictures = [Image.open(path).convert("RGB") for path in images]
        seen = self._processor([pictures], return_tensors="pt", **self._settings)  # one conversation's
        inputs = {name: value for name, value in seen.items() if name not in _NOT_THE_MODELS}
        kinds = (ids == image_token_id(self._model.config)).long()
        if self._vision.bidirectional:
            inputs["token_type_ids"] = kinds
        if isinstance(self._vision, GridFamily):
            inputs["mm_token_type_ids"] = kinds
        return inputs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        del self._model


class _Steps(LogitsProcessor):
    """Notes each step's choice, and changes nothing."""

    def __init__(self) -> None:
        self.choices: list[Choice] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        (first, second), (token, _) = scores[0].float().topk(2)
        self.choices.append(Choice(int(token), float(first - second)))
        return scores
