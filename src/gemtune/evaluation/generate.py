"""Conversations -> replies: batched, greedy or sampled, with the renderer that training used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gemtune.data.conversation import Conversation
from gemtune.errors import is_out_of_memory
from gemtune.models.image_features import ImageFeatures
from gemtune.recipe.schema import Evaluate
from gemtune.rendering.renderer import Renderer
from gemtune.training import ranks
from gemtune.training.batching import left_padded

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

GREEDY = 1e-5  # a temperature below it is none: scores divided by it could overflow
FeaturesFor = Callable[["PreTrainedModel"], ImageFeatures | None]


def no_features(model: PreTrainedModel) -> None:
    """The image features of a text model: none."""


@dataclass(frozen=True)
class Reply:
    """What a model answered, and whether it reached max_new_tokens before a stop token."""

    text: str
    cut: bool


def replies(
    model: PreTrainedModel,
    renderer: Renderer,
    conversations: Sequence[Conversation],
    decoding: Evaluate,
    progress: Callable[[int], None] = lambda done: None,
    features_for: FeaturesFor = no_features,
) -> list[Reply]:
    """One reply to each conversation without its last message, in order; `features_for` gives a model's image features.

    Prompts of similar length run side by side, padded on the left; fewer of them where memory runs out.
    """
    prompts = [renderer.prompt_ids(conversation) for conversation in conversations]
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    # Whole batches are shared out: a prompt is beside the same ones on any number of ranks.
    batch_of = [place // decoding.batch_size for place in range(len(prompts))]
    mine = [place for place, batch in enumerate(batch_of) if batch % ranks.count() == ranks.rank()]
    reply_to: dict[int, Reply] = {}
    features = features_for(model)
    start, size = 0, decoding.batch_size
    while start < len(mine):
        places = mine[start : start + size]
        indices = [by_length[place] for place in places]
        torch.manual_seed(ranks.seed_of(decoding.seed, places[0]))
        batch = [prompts[index] for index in indices]
        images = [conversations[index].image_paths for index in indices]
        try:
            generated = generate_ids(model, renderer, batch, decoding, images, features)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or len(indices) == 1:
                raise
            size = len(indices) // 2
            continue
        for index, ids in zip(indices, generated, strict=True):
            reply_to[index] = Reply(*renderer.reply(ids))
        progress(min(len(reply_to) * ranks.count(), len(prompts)))
        start += len(indices)
    reply_to = ranks.united(reply_to)
    return [reply_to[index] for index in range(len(prompts))]


@torch.no_grad()
def generate_ids(
    model: PreTrainedModel,
    renderer: Renderer,
    prompts: Sequence[Sequence[int]],
    decoding: Evaluate,
    images: Sequence[Sequence[str]],
    features: ImageFeatures | None,
    **hooks: object,
) -> list[list[int]]:
    """The ids that follow each prompt; `hooks` of transformers' `generate` may draw and stop in their own way."""
    ids, mask = (t.to(model.device) for t in left_padded(prompts, renderer.tokenizer.pad_token_id))
    image_inputs = features.prompt_inputs(ids, images) if features and any(images) else {}
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        generation_config=_generation_config(renderer, decoding),
        **image_inputs,
        **hooks,
    )
    return [list(row) for row in out[:, ids.shape[1] :].tolist()]


def _generation_config(renderer: Renderer, decoding: Evaluate) -> GenerationConfig:
    from transformers import GenerationConfig

    sampled = decoding.temperature >= GREEDY
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=sampled,
        temperature=decoding.temperature if sampled else None,
        top_p=decoding.top_p if sampled else None,
        top_k=0 if sampled else None,  # all words; transformers' own default is 50
        eos_token_id=renderer.stop_ids,
        pad_token_id=renderer.tokenizer.pad_token_id,
        bos_token_id=renderer.tokenizer.bos_token_id,
        use_cache=True,
    )


def stream(
    model: PreTrainedModel,
    renderer: Renderer,
    conversation: Conversation,
    decoding: Evaluate,
    features_for: FeaturesFor = no_features,
) -> Iterator[str]:
    """Yields pieces of one reply as they are generated."""
    from transformers import TextIteratorStreamer

    streamer = TextIteratorStreamer(renderer.tokenizer, skip_prompt=True, skip_special_tokens=True)
    prompts = [renderer.prompt_ids(conversation)]
    ids, mask = (t.to(model.device) for t in left_padded(prompts, renderer.tokenizer.pad_token_id))
    images, features = [conversation.image_paths], features_for(model)
    torch.manual_seed(decoding.seed)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "generation_config": _generation_config(renderer, decoding),
        "streamer": streamer,
        **(features.prompt_inputs(ids, images) if features and any(images) else {}),
    }

    def generate() -> None:
        try:
            model.generate(**inputs)
        finally:
            streamer.end()  # a generation that failed has not ended it, and the loop below would wait forever

    with ThreadPoolExecutor(1) as pool:
        generation = pool.submit(generate)
        yield from streamer
        generation.result()  # raises what the generation raised
