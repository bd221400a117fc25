"""The image token of a vision-language model, and how many of them an image takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gemtune.data.conversation import Part
from gemtune.errors import RowError
from gemtune.models.families.base import ImageProcessor, Size, VisionFamily, image_token_id
from gemtune.recipe.schema import Vision

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class ImageTokenizer:
    """What a renderer needs to write images as tokens."""

    def __init__(self, config: PretrainedConfig, processor: ImageProcessor, family: VisionFamily, vision: Vision):
        self.processor, self.family = processor, family
        self.settings = family.settings(vision.pan_and_scan)
        self.token_id = image_token_id(config)
        self._config = config

    def alone(self, images: Sequence[object]) -> bool:
        """Whether a conversation's images are processed as one that is alone; True where that makes no difference."""
        return len(images) == 1 or not self.family.alone_differs

    def texts(self, images: Sequence[Part]) -> list[str]:
        """What stands for each image of a conversation in its text."""
        alone, texts = self.alone(images), []
        for part in images:
            if part.size is None:
                raise RowError("bad image", f"{part.image!r} has no size; prepare the data again")
            texts.append(self.family.image_text(self._config, self.processor, part.size, alone, self.settings))
        return texts

    def count(self, images: Sequence[Part]) -> int:
        """How many tokens of the model a conversation's images are."""
        return "".join(self.texts(images)).count(self.family.image_token)

    def seen_sizes(self, images: Sequence[Part]) -> list[Size]:
        """The (width, height) in pixels at which the model sees each image of a conversation."""
        alone = self.alone(images)
        return [self.family.seen_size(self.processor, part.size or (0, 0), alone) for part in images]

    def sizes(self, images: Sequence[Part]) -> list[str]:
        """The size of each image of a conversation, and the size at which the model sees it: `640x480 to 896x896`."""
        pairs = zip((part.size or (0, 0) for part in images), self.seen_sizes(images), strict=True)
        return [
            f"{width}x{height} to {seen_width}x{seen_height}" for (width, height), (seen_width, seen_height) in pairs
        ]
