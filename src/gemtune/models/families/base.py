"""What gemtune must know of a model family beyond its config: `Family`, and `VisionFamily` for images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling

Size = tuple[int, int]  # (width, height)
Settings = dict[str, bool | int | float]  # of an image processor, where they differ from its config
Pixels = dict[str, "Tensor"]

ATTENTION_AND_MLP = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ENCODER = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")  # the linear layers of SigLIP and of CLIP


@dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture of transformers."""

    name: str  # of its tiny model: `gemtune tiny NAME FOLDER`
    template: str  # a chat template in templates/, equal to the stock one but for its {% generation %} marks
    turn_tokens: tuple[str, ...]  # what the template writes that a base model may never have seen
    stop_tokens: tuple[str, ...]  # what ends a reply
    write_tiny: Callable[[Path], Path]  # writes a random-weight model of a few layers into a folder
    linear: tuple[str, ...] = ATTENTION_AND_MLP  # the linear layers that `all-linear` means
    vision: VisionFamily | None = None


class ImageProcessor(Protocol):
    """What the image processors of all families have in common."""

    size: Mapping[str, int]
    image_mean: Sequence[float]
    image_std: Sequence[float]

    def __call__(
        self,
        images: Sequence[Image] | Sequence[Sequence[Image]],
        *,
        return_tensors: str,
        **settings: bool | int | float,
    ) -> Mapping[str, Tensor]: ...

    def to_dict(self) -> dict[str, object]: ...


class VisionFamily(ABC):
    """How a vision-language family takes images; `core` is its model without the head.

    An image's features are cached as `encode` gives them: from before the projector, so that it can be trained on them.
    `alone` says whether an image is the only one of its conversation.
    """

    image_token: str  # stands in the text for a piece of an image
    tower: str  # the module that turns pixels into features
    projector: tuple[str, ...]  # the modules between it and the language model
    tower_blocks: str  # the part of the tower whose linear layers get adapters, where the tower is trained
    tower_linear: tuple[str, ...] = ENCODER  # their names
    bidirectional = False  # an image's tokens attend to each other in both directions
    alone_differs = False  # an image alone in its conversation is processed in another way than one of several

    @abstractmethod
    def image_text(
        self, config: PretrainedConfig, processor: ImageProcessor, size: Size, alone: bool, settings: Settings
    ) -> str:
        """What stands for an image of a size in the text that the model reads."""

    @abstractmethod
    def encode(self, core: PreTrainedModel, pixels: Pixels) -> list[Tensor]:
        """The tower's features of each image that `preprocess` was given."""

    @abstractmethod
    def project(
        self, core: PreTrainedModel, features: Sequence[Tensor], sizes: Iterable[Size]
    ) -> BaseModelOutputWithPooling:
        """`mm_encoder_outputs["image"]` from the features of images; their `sizes` are read only where they matter."""

    def preprocess(self, processor: ImageProcessor, images: Sequence[Image], alone: bool, settings: Settings) -> Pixels:
        """What the tower takes of images that are all alone in their conversations, or all are not."""
        return dict(processor(list(images), return_tensors="pt", **settings))

    def seen_size(self, processor: ImageProcessor, size: Size, alone: bool) -> Size:
        """The (width, height) in pixels at which the model sees an image of a size."""
        is_cropped = getattr(processor, "do_center_crop", False)
        seen: Mapping[str, int] = processor.crop_size if is_cropped else processor.size  # type: ignore[attr-defined]
        return int(seen["width"]), int(seen["height"])

    def settings(self, pan_and_scan: bool) -> Settings:
        """What vision.pan_and_scan asks of the image processor."""
        return {}


class GridFamily(VisionFamily):
    """One whose positions count the rows and columns of an image's patches."""

    @abstractmethod
    def grid(self, processor: ImageProcessor, size: Size) -> tuple[int, int, int]:
        """The frames, rows and columns of an image's patches."""


def image_token_id(config: PretrainedConfig) -> int:
    """The id of the token that stands where an image's features go."""
    return int(config.image_token_id if hasattr(config, "image_token_id") else config.image_token_index)
