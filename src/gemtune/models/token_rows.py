"""The rows of the embedding that need training: those of the template's tokens that the base model never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch.nn.functional import cosine_similarity

from gemtune.errors import ModelError
from gemtune.models.families.base import Family
from gemtune.recipe.schema import Lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

UNUSED = tuple(f"<unused{i}>" for i in range(99))
# To the mean <unused> row: 270M-pt has 0.97 and 0.98 for its turn tokens, 0.47 at most elsewhere.
UNTRAINED_COSINE = 0.9


def known_tokens(tokenizer: PreTrainedTokenizerBase, family: Family) -> dict[str, int]:
    """The ids of the tokens that training asks about, so that it need not load a tokenizer: 5 s for Gemma's words."""
    vocab = tokenizer.get_vocab()
    special = (tokenizer.bos_token, tokenizer.pad_token, *family.turn_tokens, *family.stop_tokens)
    return {token: vocab[token] for token in (*special, *UNUSED) if token in vocab}


def untrained_tokens(model: PreTrainedModel, ids: Mapping[str, int], family: Family) -> tuple[list[str], str]:
    """The template's tokens that the base model never trained, and how that was seen; `ids` of all known_tokens.

    Rows that never had a gradient stay where weight decay left them: next to the rows of the `<unused...>` tokens.
    """
    unused = [ids[name] for name in UNUSED if name in ids]
    if not unused:
        return [], "the tokenizer has no <unused> tokens to compare with"
    weight = model.get_input_embeddings().weight
    centre = weight[unused].float().mean(0, keepdim=True)  # (1, H)
    turns = [ids[token] for token in family.turn_tokens]
    cosine = cosine_similarity(weight[turns].float(), centre).tolist()
    cosines = dict(zip(family.turn_tokens, cosine, strict=True))
    untrained = [token for token, value in cosines.items() if value > UNTRAINED_COSINE]
    values = ", ".join(f"{token} {value:.2f}" for token, value in cosines.items())
    return untrained, f"cosine to the mean <unused> row: {values}; above {UNTRAINED_COSINE} means never trained"


def choose_token_rows(
    lora: Lora, model: PreTrainedModel, ids: Mapping[str, int], family: Family
) -> tuple[list[str], str]:
    """The tokens whose embedding rows are trained, and why; `ids` of known_tokens and of those in the recipe."""
    if lora.token_rows == "none":
        return [], "the recipe says so"
    if lora.token_rows == "auto":
        return untrained_tokens(model, ids, family)
    require_tokens(lora.token_rows, ids)
    return list(lora.token_rows), "the recipe says so"


def require_tokens(tokens: Sequence[str], ids: Mapping[str, int]) -> None:
    """ModelError where a token of lora.token_rows is not one of the model's."""
    unknown = [token for token in tokens if token not in ids]
    if unknown:
        raise ModelError(f"lora.token_rows: '{unknown[0]}' is not a token of this model")
