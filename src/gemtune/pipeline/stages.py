"""The stages of a run: each a function that reads a directory and writes a directory. This is the Python API."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial, wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from gemtune.data.conversation import Conversation, Part, read_conversations
from gemtune.data.sources import check_columns, read_rows, source_for
from gemtune.errors import CheckError, DataError, RowError, RunError
from gemtune.files import sha256_of_text, write_jsonl
from gemtune.hardware import device_name, installed_versions, memory_gb
from gemtune.metrics.text import Metric
from gemtune.pipeline.job import Job
from gemtune.pipeline.resume import already_trained, begin, refuse_another_recipe, refuse_other_tokens, start_again
from gemtune.pipeline.tuned_models import model_named, weights_key
from gemtune.preparation.prepare import image_store, prepared
from gemtune.reporting.report import write_report
from gemtune.runs import Run
from gemtune.tasks import metric_of, task_of

if TYPE_CHECKING:
    from gemtune.models.image_features import ImageFeatures

SCORED_IN_TRAINING = 64  # rows of val that are generated at every evaluation when train.best_by is metric


P = ParamSpec("P")
R = TypeVar("R")


def _locked(verb: Callable[Concatenate[Job, P], R]) -> Callable[Concatenate[Job, P], R]:
    """A verb that writes: one process at a time works in a run."""

    @wraps(verb)
    def locked(job: Job, *args: P.args, **kwargs: P.kwargs) -> R:
        with job.run.lock():
            return verb(job, *args, **kwargs)

    return locked


@_locked
def prepare(job: Job) -> dict[str, Any]:
    """Rows -> data/: conversations by part, then their token tables. Returns the data manifest.

    Whatever can be refused is refused before the run is written to.
    """
    from gemtune.models.hub import tokenizer_fingerprint
    from gemtune.rendering.token_table import write_tables

    refuse_another_recipe(job)
    family, key = job.family, tokenizer_fingerprint(job.folder)
    rows, tokens = (partial(lambda what, done: job.tick(what, done, 0), what) for what in ("rows", "tokens"))
    with prepared(job.recipe, job.run, rows, partial(refuse_other_tokens, job, "data")) as result:
        refuse = partial(refuse_other_tokens, job, "tokens")
        write_tables(result, lambda: job.renderer, family, job.task, job.recipe, key, tokens, refuse)
        if job.recipe.evaluate.metric is not None:
            _require_metric(job, result)
        if job.fresh:
            start_again(job.run)
            job.fresh = False
        job.accept()
    return _data_manifest(job)


def _data_manifest(job: Job) -> dict[str, Any]:
    manifest = job.run.data_manifest()
    if manifest is None:
        raise RunError(f"{job.run.data}: no prepared rows; `gemtune prepare RECIPE.yaml` writes them")
    return manifest


@_locked
def check(job: Job, model: Any = None) -> list[Any]:
    """The batch contract; CheckError when a clause does not hold."""
    from transformers import AutoConfig

    from gemtune.training.batch_contract import check_batches, check_forward
    from gemtune.training.trainer import labelled_loss

    _require_settings(job)
    prepare(job)
    vocab_size = AutoConfig.from_pretrained(job.folder).get_text_config().vocab_size
    findings = check_batches(job.run, job.renderer, job.recipe.train.max_length, vocab_size)
    model = model if model is not None else job.base_model()
    findings.append(check_forward(job.run, model, partial(labelled_loss, features=job.image_features(model))))
    job.run.note("check", [str(finding) for finding in findings])
    broken = [finding for finding in findings if not finding.holds]
    if broken:
        raise CheckError("; ".join(str(finding) for finding in broken))
    job.run.note("checked", _check_key(job))
    return findings


def _check_key(job: Job) -> str:
    """What a check that held need not be made again for: the same tokens and the same base model."""
    return sha256_of_text(_data_manifest(job)["lengths"]["key"], weights_key(job, "base"))


@_locked
def plan(job: Job) -> dict[str, Any]:
    """Memory and time of this recipe on this machine and elsewhere."""
    from transformers import AutoConfig

    from gemtune.rendering.token_table import ExampleTable
    from gemtune.training import planner as planning
    from gemtune.training.batching import order

    _require_settings(job)
    prepare(job)
    recipe, table = job.recipe, ExampleTable(job.run.table("train"))
    batches = order(table.weights, batch_size=recipe.train.batch_size, epochs=recipe.train.epochs, seed=0)
    batches = batches[: recipe.train.max_steps]
    tokens = int(sum(table.lengths[rows].sum() for rows in batches))
    labelled = float(table.labelled.sum() / max(1, table.lengths.sum()))
    shape = planning.Shape.of(AutoConfig.from_pretrained(job.folder))
    micro, _ = planning.choose_micro_tokens(recipe, shape, job.device, job.precision)
    micro = max(micro, int(table.lengths.max()))
    here = planning.estimate(
        shape,
        recipe,
        device=job.device,
        precision=job.precision,
        micro_tokens=micro,
        tokens=tokens,
        labelled=labelled,
        tflops=planning.sustained_tflops(job.precision, job.device),
    )
    return {
        "model": recipe.model,
        "device": job.device,
        "precision": job.precision,
        "memory_gb": here.memory_gb,
        "free_gb": planning.free_bytes(job.device) / 1e9,
        "steps": len(batches),
        "tokens": tokens,
        "seconds": here.seconds,
        "why": here.why,
        "elsewhere": planning.elsewhere(recipe, tokens, labelled),
    }


@_locked
def train(job: Job, progress: Callable[[dict[str, Any]], None] = lambda line: None) -> dict[str, Any]:
    """Data -> adapter/ (or model/): checked, then trained from the newest whole checkpoint on."""
    from gemtune.kernels.native import compiled
    from gemtune.models.adapters import attach_adapters, train_every_weight
    from gemtune.models.patching import install_kernels
    from gemtune.models.structure import choose_head
    from gemtune.models.token_rows import choose_token_rows
    from gemtune.training.planner import Shape, choose_micro_tokens
    from gemtune.training.run import choose_learning_rate
    from gemtune.training.run import train as run_training
    from gemtune.training.trainer import Prepared

    recipe, run = job.recipe, job.run
    _require_settings(job)
    data = prepare(job)
    if already_trained(job):
        job.say(f"{run.root} is already trained.")
        return dict(run.manifest["training"])
    is_by_metric = recipe.train.best_by == "metric"
    higher_is_better = not is_by_metric or _require_metric(job, run).higher_is_better
    model = job.base_model()
    if run.manifest.get("checked") != _check_key(job):
        check(job, model)
    if recipe.lora:
        named = isinstance(recipe.lora.token_rows, list)
        ids = job.tokenizer.get_vocab() if named else data["lengths"]["token_ids"]
        tokens = run.decide("token_rows", choose_token_rows(recipe.lora, model, ids, job.family))
        rows = [ids[token] for token in tokens]
        settings = (recipe.lora, job.family, rows, recipe.train.seed, recipe.vision.trains)
        model = install_kernels(attach_adapters(model, *settings))
    else:
        train_every_weight(model, job.family, recipe.vision.trains)
    run.decide("learning_rate", choose_learning_rate(recipe))
    run.decide("head", choose_head(model))
    micro = run.decide("micro_tokens", choose_micro_tokens(recipe, Shape.of(model.config), job.device, job.precision))
    functions, why = compiled()
    run.decide("compiled_passes", (functions is not None, why))
    _note_surroundings(job, model)
    special = data["lengths"]["special_ids"]
    features = job.image_features(model)
    prepared = Prepared(model, job.folder, job.family, special, job.device, job.precision, micro, features)
    score = _val_scorer(job) if recipe.train.best_by == "metric" else None
    job.forget_tokenizer()
    if "tensorboard" in recipe.track:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.tensorboard)  # where the Trainer's callback looks
    if features:
        _warm_up(job, features)
    begin(job, data)
    training = run_training(
        *(run, recipe, prepared),
        score=score,
        higher_is_better=higher_is_better,
        progress=progress,
        say=job.say,
    )
    if features:
        features.evict()
    return training


def _warm_up(job: Job, features: ImageFeatures) -> None:
    """Every image of train and val goes through a frozen tower before the first step."""
    from gemtune.rendering.token_table import ExampleTable

    rows = [images for part in ("train", "val") for images in ExampleTable(job.run.table(part)).images()]
    features.warm_up(rows, partial(_tick, job, "images"))


@_locked
def evaluate(job: Job, names: Sequence[str] = ("base", "tuned"), data: str | None = None) -> dict[str, Any] | None:
    """Replies and scores of base, tuned or `step-N` on the test part or a file; the summary when both are there."""
    from gemtune.evaluation.evaluate import answer, evaluated, summarise

    recipe, run = job.recipe, job.run
    if data:
        conversations = _conversations_of(job, data)
        folder = run.eval / Path(data).stem
    else:
        prepare(job)
        conversations = evaluated(run.part("test"), job.renderer, job.task, recipe, recipe.evaluate.limit)
        folder = run.eval
    if not conversations:
        raise RunError(f"{run.data}: no row to evaluate on; raise split.test")
    keys = {name: weights_key(job, name) for name in names}  # a damaged adapter is found before base has answered
    for name, key in keys.items():
        answer(
            folder / f"{name}.jsonl",
            conversations,
            key=key,
            model=partial(model_named, job, name),
            renderer=job.renderer,
            task=job.task,
            recipe=recipe,
            progress=partial(_tick, job, f"{name} replies", len(conversations)),
            features_for=job.image_features,
        )
    other = names[-1] if names[-1] != "base" else "tuned"
    if not (folder / "base.jsonl").exists() or not (folder / f"{other}.jsonl").exists():
        return None
    return summarise(folder, recipe, job.task, other)


def report(job: Job) -> Path:
    """The run directory -> report.html and report.md."""
    return write_report(job.run)


@_locked
def run(job: Job, progress: Callable[[dict[str, Any]], None] = lambda line: None) -> Path:
    """Everything, from rows to the report; what is done already is not done again."""
    from gemtune.kernels.native import release_memory

    train(job, progress)
    release_memory()
    evaluate(job)
    return report(job)


@_locked
def examples(job: Job, part: str, count: int) -> list[tuple[Conversation, Any]]:
    """The first `count` conversations of a part with their examples."""
    prepare(job)
    conversations = list(islice(read_conversations(job.run.part(part)), count))
    rendered = zip(conversations, job.renderer.examples(conversations), strict=True)
    return [(conversation, example) for conversation, example in rendered if not isinstance(example, RowError)]


def answer_file(job: Job, source: str, output: str | None, name: str = "tuned") -> Path:
    """Answers every row of a file, one {"reply": ...} a line in the same order, and returns the path written."""
    from gemtune.evaluation.generate import replies

    conversations = _conversations_of(job, source, answered=False)
    model = model_named(job, name)
    target = Path(output or Path(source).with_suffix(".replies.jsonl"))
    progress = partial(_tick, job, "replies", len(conversations))
    answered = replies(model, job.renderer, conversations, job.recipe.evaluate, progress, job.image_features)
    write_jsonl(target, ({"reply": reply.text} for reply in answered))
    return target


def generate(job: Job, prompt: str, name: str = "tuned", images: Sequence[str] = ()) -> str:
    """The reply of `base`, `tuned` or `step-N` to a prompt, and to image files in front of it."""
    return "".join(stream_reply(job, prompt, name, images))


def stream_reply(job: Job, prompt: str | None, name: str = "tuned", images: Sequence[str] = ()) -> Iterator[str]:
    """Yields the reply to one prompt, and to images in front of it, piece by piece."""
    from gemtune.evaluation.generate import stream

    if not prompt:
        raise RunError("nothing to answer; give a prompt, or --input FILE")
    conversation = _with_images(job, job.task.asked(prompt), images)
    return stream(model_named(job, name), job.renderer, conversation, job.recipe.evaluate, job.image_features)


def _with_images(job: Job, conversation: Conversation, images: Sequence[str]) -> Conversation:
    """A question with image files in front of its last user message; DataError when one cannot be used."""
    if not images:
        return conversation
    parts = tuple(Part(image=str(Path(image).absolute())) for image in images)
    asked, answer = conversation.messages[-2:]
    messages = (*conversation.messages[:-2], replace(asked, parts=(*parts, *asked.parts)), answer)
    folders = [str(Path(image).absolute().parent) for image in images]
    source = job.recipe.data[0].model_copy(update={"images": folders})
    try:
        return image_store(job.run, source).resolve(replace(conversation, messages=messages))
    except RowError as error:
        raise DataError(f"{', '.join(images)}: {error}") from error


def _tick(job: Job, what: str, total: int, done: int) -> None:
    job.tick(what, done, total)


def _conversations_of(job: Job, data: str, answered: bool = True) -> list[Conversation]:
    """The rows of a file as conversations, with answers or without; DataError at the first that cannot be one."""
    source = source_for(job.recipe, data)
    task = task_of(job.recipe, source.layout)
    make = task.conversation if answered else task.question
    store = image_store(job.run, source)
    found: list[Conversation] = []
    for where, row in read_rows(source):
        if answered and not found:
            check_columns(row, task.columns, where)
        try:
            found.append(store.resolve(make(row, where)))
        except RowError as error:
            raise DataError(f"{where}: {error}") from error
    return found


def _require_metric(job: Job, run: Run) -> Metric:
    """The deciding metric; RunError when evaluate.metric is not a score that a right answer gets."""
    from gemtune.evaluation.evaluate import deciding_metric

    known: dict[str, None] = {}
    for conversation in islice(read_conversations(run.part("train")), SCORED_IN_TRAINING):
        known |= dict.fromkeys(job.task.score(conversation, conversation.answer))
    return metric_of(job.task, deciding_metric(job.recipe, job.task, list(known)))


def _require_settings(job: Job) -> None:
    """An error when the recipe asks for a device, layers or tokens that are not there; before anything is written."""
    from gemtune.models.adapters import require_targets
    from gemtune.models.token_rows import require_tokens

    lora = job.recipe.lora
    _ = job.device, job.precision
    if lora and lora.target_modules != "all-linear":
        require_targets(lora.target_modules, job.folder)
    if lora and isinstance(lora.token_rows, list):
        require_tokens(lora.token_rows, job.tokenizer.get_vocab())


def _val_scorer(job: Job) -> Callable[[Any], dict[str, float]]:
    """The task's scores of a model on some of val, with the deciding one as `score`."""
    from gemtune.evaluation.evaluate import corpus_scores, deciding_metric, evaluated
    from gemtune.evaluation.generate import replies

    recipe = job.recipe
    conversations = evaluated(job.run.part("val"), job.renderer, job.task, recipe, SCORED_IN_TRAINING)

    def score(model: Any) -> dict[str, float]:
        was_training = model.training
        model.eval()
        answered = replies(model, job.renderer, conversations, recipe.evaluate, features_for=job.image_features)
        texts = [reply.text for reply in answered]
        model.train(was_training)
        scores = corpus_scores(job.task, conversations, texts)
        return {"score": scores[deciding_metric(recipe, job.task, list(scores))], **scores}

    return score


def _note_surroundings(job: Job, model: Any) -> None:
    """Keeps in the manifest what a reader needs to repeat the run: model, package versions, machine."""
    from gemtune.models.hub import fingerprint

    parameters = list(model.parameters())
    job.run.note(
        "model",
        {
            "name": job.recipe.model,
            "path": str(job.weights_folder),
            "fingerprint": fingerprint(job.weights_folder),
            "parameters": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        },
    )
    job.run.note("versions", {"python": platform.python_version(), **installed_versions()})
    machine = {"name": device_name(job.device), "cores": os.cpu_count(), "memory_gb": round(memory_gb(), 1)}
    job.run.note("device", machine)
