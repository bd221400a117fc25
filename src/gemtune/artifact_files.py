"""What verify.json of an artifact holds, which docs/formats.md is written from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gemtune.run_files import Comparison, Sealed, Stored


@dataclass(frozen=True, kw_only=True)
class Parting(Stored):
    """Where the artifact's reply first differs from the reference's."""

    where: Annotated[str, "the row"]
    token: Annotated[int, "how many tokens are the same before it", "tokens"]
    margin: Annotated[float, "how far the reference's second choice was behind its first there", "nats"]


@dataclass(frozen=True, kw_only=True)
class Agreement(Stored):
    """Greedy replies of the artifact and of the reference to the same prompts, token by token."""

    prompts: Annotated[int, "asked", "rows"]
    prompts_cut_alike: Annotated[int, "whose text the artifact's own tokenizer cuts into the same tokens", "rows"]
    tokens: Annotated[int, "of the reference's replies, stop tokens counted", "tokens"]
    tokens_agreed: Annotated[int, "until the two part", "tokens"]
    replies_equal: Annotated[int, "to the last token", "rows"]
    drift: Annotated[
        float | None,
        "how far the likeliest token's lead over the next moved until the replies part, as a share of the reference's "
        "lead; null where that has none",
    ] = None
    reference_stopped: Annotated[int, "replies of the reference that end with a stop token", "rows"]
    stopped: Annotated[int, "the same of the artifact", "rows"]
    partings: Annotated[list[Parting], "for each reply that differs: `where`, `token`, `margin`"]


@dataclass(frozen=True, kw_only=True)
class Verification(Stored):
    """An artifact in its own runtime against the model that it was made from."""

    key: Annotated[str, "a hash of prompts and bounds; equal means nothing has to be verified again"]
    runtime: Annotated[str, "what ran the artifact, with its version"]
    reference: Annotated[str, "what it was compared with"]
    part: Annotated[str, "whose rows were asked: test, or the first of val and train that has any"]
    agreement: Annotated[Agreement, "below"]
    metric: Annotated[str | None, "the task's score that decides; null where it counts for none of the rows"]
    score: Annotated[Comparison | None, "`base` is the reference, `tuned` the artifact, as in eval/summary.json"]
    seconds: Annotated[float, "that it took", "s"]
    passed: Annotated[bool | None, "whether the artifact answers as the model does; null where that cannot be seen"]
    why: Annotated[str, "what decided, in words"]


@dataclass(frozen=True, kw_only=True)
class Artifact(Sealed):
    """export/<format>/verify.json: what an artifact was made from, and whether it answers as that does."""

    version: Annotated[int, "1"]
    format: Annotated[str, "`merged`, `gguf-q8_0`, ..."]
    weights: Annotated[str, "`tuned`, `base` or `step-<n>`"]
    key: Annotated[str, "a hash of base, weights and format; equal means it is not made again"]
    bytes: Annotated[int, "of its files", "bytes"]
    modules: Annotated[str, "what was put into the base model, in words"]
    logits_difference: Annotated[
        float | None, "the greatest between the base with its adapter and the merged model, both in fp32", "nats"
    ] = None
    seconds: Annotated[
        float | None, "that writing it took, with the merging where no artifact `merged` was there", "s"
    ] = None
    peak_memory_gb: Annotated[
        float | None,
        "the most memory that gemtune, or a child of it, held meanwhile; on Linux; elsewhere at most",
        "10⁹ bytes",
    ] = None
    verification: Annotated[Verification | None, "below; null until it has been verified"] = None

    @property
    def doubt(self) -> str:
        """Why it is not known to answer as the tuned model does; "" where it is."""
        if self.weights != "tuned":
            return f"made of {self.weights}, not of the tuned model"
        if self.verification is None:
            return "not verified"
        if self.verification.passed is None:
            return f"not shown to answer as the tuned model does: {self.verification.why}"
        return "" if self.verification.passed else f"answers otherwise than the tuned model: {self.verification.why}"

    @classmethod
    def move(cls) -> str:
        return "run `gemtune export` again"
