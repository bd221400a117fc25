"""LLaVA-OneVision: an image of any size has the tokens that the stock processor gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlavaOnevisionConfig, SiglipVisionConfig
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from gemtune.models.families.llava_onevision import LlavaOnevisionVision
from models.vision import stock_counts


@pytest.fixture(scope="session")
def onevision() -> Any:
    """The stock config and image processor of LLaVA-OneVision, as they come: 36 resolutions of 384 pixels a tile."""
    return LlavaOnevisionConfig(vision_config=SiglipVisionConfig(image_size=384, patch_size=14))


@given(width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_an_image_of_any_size_has_the_tokens_that_stock_gives_it(onevision: Any, width: int, height: int) -> None:
    reads = LlavaOnevisionImageProcessorPil()
    seen = {
        "image_sizes": [[height, width]],
        "batch_num_images": [1],
        "pixel_values": np.zeros((1, 1, 3, 384, 384), np.bool_),
    }
    stock = stock_counts(onevision, reads).replace_image_token(seen, 0)
    assert LlavaOnevisionVision().image_text(onevision, reads, (width, height), True, {}) == stock
