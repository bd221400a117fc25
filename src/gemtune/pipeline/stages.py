"""The stages of a run: each a function that reads a directory and writes a directory. This is the Python API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.errors import CheckError, RowError, RunError, memory_errors
from gemtune.files import REPLIES, JsonObject, sha256_of_text, writable, write_jsonl
from gemtune.hardware import empty_cache
from gemtune.pipeline.distilling import distill, distils, require_rows
from gemtune.pipeline.inputs import conversations_of, with_images, without_answers
from gemtune.pipeline.job import Job
from gemtune.pipeline.launching import in_workers
from gemtune.pipeline.orders import Progress, Work
from gemtune.pipeline.requirements import (
    foreseen,
    require_formats,
    require_metric,
    require_one_process,
    require_parts,
    require_settings,
    require_trackers,
)
from gemtune.pipeline.resume import (
    begin,
    finished_training,
    has_its_rows,
    refuse_another_recipe,
    refuse_other_tokens,
    sources_gone,
    start_again,
)
from gemtune.pipeline.tuned_models import model_named, weights_called, weights_key
from gemtune.preparation.prepare import prepared
from gemtune.reporting.alarms import alarm_lines, alarms
from gemtune.reporting.report import write_report

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from gemtune.artifact_files import Artifact
    from gemtune.rendering.renderer import Example
    from gemtune.runs import Run
    from gemtune.training.batch_contract import Finding

_LESS_TRAINING = "lower train.max_length, or set quantize: nf4"
_LESS_GENERATION = "lower evaluate.max_new_tokens, or give shorter rows"
_LESS_EXPORT = "close other programs: an artifact is verified with the model in fp32"
_LESS_PROMPT = "give a shorter prompt, or lower evaluate.max_new_tokens"

_Asked = tuple[list[Conversation], str | None]

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
def prepare(job: Job) -> JsonObject:
    """Rows -> data/: conversations by part, then their token tables. Returns the data manifest.

    Whatever can be refused is refused before the run is written to.
    """
    return _prepare(job, lambda result: None)


def _prepare(job: Job, judge: Callable[[Run], None]) -> JsonObject:
    """`prepare`; `judge` may refuse the new data with its tables before they take the place of the run's."""
    from gemtune.models.hub import tokenizer_fingerprint
    from gemtune.rendering.tokenising import write_tables

    refuse_another_recipe(job)
    require_rows(job.recipe)
    _ = job.task
    family, key = job.family, tokenizer_fingerprint(job.folder)
    rows, tokens = (partial(lambda what, done: job.tick(what, done, 0), what) for what in ("rows", "tokens"))
    with prepared(job.recipe, job.run, rows, partial(refuse_other_tokens, job, "data")) as result:
        refuse = partial(refuse_other_tokens, job, "tokens")
        write_tables(result, lambda: job.renderer, family, job.task, job.recipe, key, tokens, refuse)
        if job.recipe.evaluate.metric is not None:
            require_metric(job, result)
        require_parts(job, result)
        judge(result)
        if job.fresh:
            start_again(job.run)
            job.fresh = False
        job.accept()
    return job.run.prepared_data().to_json()


def _own_rows(job: Job) -> JsonObject:
    """The data manifest of a run: the one it was begun with, wherever its sources are now; else a prepared one."""
    refuse_another_recipe(job)
    if not has_its_rows(job):
        return prepare(job)
    job.accept()
    return job.run.prepared_data().to_json()


def _training_rows(job: Job, judge: Callable[[Run], None]) -> JsonObject:
    """The data manifest to train on: a source that changed since the run began is refused, one that is gone is not."""
    refuse_another_recipe(job)
    gone = sources_gone(job) if has_its_rows(job) else None
    if gone is None:
        return _prepare(job, judge)
    job.say(f"{gone}; the run goes on with the rows that it has")
    return _own_rows(job)


@_locked
@memory_errors(_LESS_TRAINING)
def check(job: Job, model: PreTrainedModel | None = None) -> list[Finding]:
    """The batch contract; CheckError when a clause does not hold."""
    require_settings(job)
    _own_rows(job)
    findings = _findings(job, job.run, model if model is not None else job.base_model())
    job.run.note("check", [str(finding) for finding in findings])
    _refuse_broken(findings)
    job.run.note("checked", _check_key(job))
    return findings


def _findings(job: Job, run: Run, model: PreTrainedModel) -> list[Finding]:
    """The batch contract of a run's data, which need not be in the job's run yet."""
    from gemtune.models.families import config_of
    from gemtune.training.batch_contract import check_batches, check_forward
    from gemtune.training.loss import labelled_loss

    vocab_size = config_of(job.folder).get_text_config().vocab_size
    findings = check_batches(run, job.renderer, job.recipe.train.max_length, vocab_size)
    loss_of = partial(labelled_loss, features=job.image_features(model, run.data))
    return [*findings, check_forward(run, model, loss_of)]


def _refuse_broken(findings: Sequence[Finding]) -> None:
    broken = [finding for finding in findings if not finding.holds]
    if broken:
        raise CheckError("; ".join(str(finding) for finding in broken))


def _check_key(job: Job) -> str:
    """Key of a passed check: unchanged tokens and base model need no new one."""
    return sha256_of_text(job.run.prepared_data().token_lengths.key, weights_key(job, "base"))


@_locked
def plan(job: Job) -> JsonObject:
    """Memory and time of this recipe on this machine and elsewhere."""
    from gemtune.models.families import config_of
    from gemtune.rendering.token_table import ExampleTable
    from gemtune.training.planner import ModelShape, forecast

    require_settings(job)
    _own_rows(job)
    shape, table = ModelShape.of(config_of(job.folder)), ExampleTable(job.run.table("train"))
    return forecast(job.recipe, shape, table, job.device, job.precision, job.workers)


@_locked
@memory_errors(_LESS_TRAINING)
def train(job: Job, progress: Callable[[JsonObject], None] = lambda line: None) -> JsonObject:
    """Data -> adapter/ (or model/): checked, then trained from the newest whole checkpoint on."""
    run = job.run
    require_one_process()
    require_settings(job)
    require_trackers(job.recipe)
    # A run that is begun again keeps what it has until the new model is loaded and holds the contract on the new data.
    model = job.base_model() if job.fresh and run.manifest.get("trained_on") else None
    _training_rows(job, lambda result: _refuse_broken(_findings(job, result, model) if model is not None else []))
    for line in alarm_lines(run):
        job.say(line)
    if finished := finished_training(job):
        job.say(f"{run.root} is already trained.")
        return finished.to_json()
    for sentence in foreseen(job):
        job.say(sentence)
    is_checked = run.manifest.get("checked") == _check_key(job)
    if model is None and (job.works_alone or not is_checked):
        model = job.base_model()
    if not is_checked:
        check(job, model)
    if job.works_alone:
        return _train(job, progress, model)
    model = None  # every worker loads its own
    empty_cache(job.device)
    training: JsonObject = in_workers(job, _train, progress)
    return training


@memory_errors(_LESS_TRAINING)
def _train(job: Job, progress: Progress, model: PreTrainedModel | None = None) -> JsonObject:
    """`train` from where the data is prepared and checked, in the only process or in each of several."""
    from gemtune.pipeline.decisions import decide, encode_images
    from gemtune.training import ranks
    from gemtune.training.run import train as run_training

    data = job.run.prepared_data().to_json()
    setup = decide(job, model if model is not None else job.base_model(), data)
    if setup.image_features:
        encode_images(job, setup.image_features)
    ranks.once(lambda: begin(job, data))
    training = run_training(setup, progress=progress, say=job.say)
    if setup.image_features:
        ranks.once(setup.image_features.evict)
    return training


@_locked
@memory_errors(_LESS_GENERATION)
def evaluate(job: Job, names: Sequence[str] = ("base", "tuned"), data: str | None = None) -> JsonObject | None:
    """Replies and scores of base, tuned or `step-N` on the test part or a file; the summary when both are there.

    Rows of a file without answers are answered, and not scored.
    """
    from gemtune.evaluation.evaluate import require_rows, write_replies_beside
    from gemtune.evaluation.summary import summarise

    recipe, run, folder = job.recipe, job.run, job.run.evaluation(data)
    refuse_another_recipe(job)
    for name in names:
        weights_key(job, name)  # what cannot be asked is found before anything is written
    if not data:
        _own_rows(job)
    conversations, unanswered = _asked(job, data)
    if not conversations:
        move = next((f"{alarm.headline}; " for alarm in alarms(run)), "")
        raise RunError(f"{run.data}: no test row to evaluate on; {move}give rows of a file, --data FILE")
    other = names[-1] if names[-1] != "base" else "tuned"
    for name in {"base", other} - set(names):
        require_rows(folder, name, conversations)
    if job.works_alone:
        _answer(job, lambda line: None, names, data, (conversations, unanswered))
    else:
        in_workers(job, _answer, names=list(names), data=data)
    if unanswered:
        job.say(f"{unanswered}: these rows have no answers, so the replies in {folder.root} are not scored.")
        return None
    write_replies_beside(folder, conversations, job.task)
    if not all(folder.replies(name).exists() for name in ("base", other)):
        return None
    return summarise(folder, recipe, job.task, other).to_json()


def _asked(job: Job, data: str | None) -> _Asked:
    """What is asked: rows of a file, or of the test part; and why they are not scored, where they have no answers."""
    from gemtune.evaluation.evaluate import evaluation_rows

    if data:
        unanswered = without_answers(job, data)
        return conversations_of(job, data, answered=unanswered is None), unanswered
    part, limit = job.run.part("test"), job.recipe.evaluate.limit
    return evaluation_rows(part, job.renderer, job.task, job.recipe, limit), None


@memory_errors(_LESS_GENERATION)
def _answer(job: Job, progress: Progress, names: Sequence[str], data: str | None, asked: _Asked | None = None) -> None:
    """The replies of models by name, in the only process or in each of several."""
    from gemtune.evaluation.evaluate import write_replies

    conversations, unanswered = asked or _asked(job, data)
    for name in names:
        write_replies(
            job.run.evaluation(data).replies(name),
            conversations,
            key=weights_key(job, name),
            model=partial(model_named, job, name),
            renderer=job.renderer,
            task=job.task,
            recipe=job.recipe,
            progress=partial(_tick, job, f"{name} replies", len(conversations)),
            features_for=job.image_features,
            answered=unanswered is None,
        )


# Work that a job's workers share out among them, by the name that an order has for it.
SHARED: dict[str, Work] = {work.__name__: work for work in (_train, _answer)}


@_locked
@memory_errors(_LESS_EXPORT)
def export(job: Job, formats: Sequence[str], checkpoint: str = "best", limit: int | None = None) -> list[Artifact]:
    """Weights -> export/<format>/: made whole, then verified in its own runtime on up to `limit` rows of test.

    `checkpoint` is base, best, last or a step. One that does not answer as the model stays, and says so.
    """
    from gemtune.exporting.formats import PAGE, formats_of
    from gemtune.exporting.verify import PROMPTS
    from gemtune.pipeline.exports import write_artifacts
    from gemtune.pipeline.web_page import require_page, write_page

    names = formats_of(formats)
    require_page(job, formats)
    refuse_another_recipe(job)
    name = weights_called(job, checkpoint)
    weights_key(job, name)  # what is not there is found before anything is written
    _own_rows(job)
    artifacts = write_artifacts(job, names, name, limit or PROMPTS)
    if PAGE in formats:
        write_page(job)
    return artifacts


@_locked
@memory_errors(_LESS_EXPORT)
def web(job: Job, assets: Path | None = None) -> tuple[Artifact, Path]:
    """The tuned model as a static page, export/web/, that answers in the visitor's browser, and its artifact.

    `assets` is a folder with the packages of the page's engine, where they are not to be fetched from npm.
    """
    from gemtune.exporting.formats import PAGE
    from gemtune.pipeline.web_page import GGUF, require_page, write_page

    require_page(job, [PAGE])
    [artifact] = export(job, [GGUF])
    return artifact, write_page(job, assets)


def report(job: Job) -> Path:
    """The run directory -> report.html and report.md."""
    with job.run.lock_if_free():
        return write_report(job.run)


@_locked
def run(job: Job, progress: Callable[[JsonObject], None] = lambda line: None) -> Path:
    """Everything, from rows to the report; what is done already is not done again."""
    from gemtune.kernels.native import release_memory
    from gemtune.pipeline.web_page import require_page

    require_formats(job.recipe)
    require_page(job, job.recipe.export)
    if distils(job.recipe) and not (has_its_rows(job) and sources_gone(job)):  # its rows are kept, and paid for once
        distill(job)
    training = train(job, progress)
    release_memory()
    has_weights = training["best_step"] is not None  # null: it diverged before any were good
    if has_weights and job.run.prepared_data().token_lengths.test.rows:
        evaluate(job)
    if has_weights and job.recipe.export:
        export(job, job.recipe.export)
    return report(job)


@_locked
def examples(job: Job, part: str, count: int) -> list[tuple[Conversation, Example]]:
    """The first `count` conversations of a part with their examples."""
    _own_rows(job)
    conversations = list(islice(read_conversations(job.run.part(part)), count))
    rendered = zip(conversations, job.renderer.examples(conversations), strict=True)
    return [(conversation, example) for conversation, example in rendered if not isinstance(example, RowError)]


@memory_errors(_LESS_GENERATION)
def answer_file(job: Job, source: str, output: str | None, name: str = "tuned") -> Path:
    """Answers every row of a file, one {"reply": ...} a line in the same order, and returns the path written."""
    from gemtune.evaluation.generate import replies

    target = Path(output or Path(source).with_suffix(".replies.jsonl"))
    if target.resolve() == Path(source).resolve():
        raise RunError(f"{target}: the replies would take the place of the rows; give another --output")
    if target.is_dir():
        raise RunError(f"{target}: a folder, wanted a file for the replies; give another --output")
    writable(target.resolve().parent, REPLIES)  # before the work, not after it
    conversations = conversations_of(job, source, answered=False)
    model = model_named(job, name)
    progress = partial(_tick, job, "replies", len(conversations))
    answered = replies(model, job.renderer, conversations, job.recipe.evaluate, progress, job.image_features)
    write_jsonl(target, ({"reply": reply.text} for reply in answered))
    return target


def generate(job: Job, prompt: str, name: str = "tuned", images: Sequence[str] = (), page: int | None = None) -> str:
    """The reply of `base`, `tuned` or `step-N` to a prompt, and to image files in front of it."""
    return "".join(stream_reply(job, prompt, name, images, page))


def stream_reply(
    job: Job, prompt: str | None, name: str = "tuned", images: Sequence[str] = (), page: int | None = None
) -> Iterator[str]:
    """Yields the reply to one prompt, and to images in front of it, piece by piece."""
    from gemtune.evaluation.generate import stream

    if not prompt or prompt.isspace():
        raise RunError("nothing to answer; give a prompt, or --input FILE")
    conversation = with_images(job, job.task.asked(prompt), images, page)
    with memory_errors(_LESS_PROMPT):
        yield from stream(model_named(job, name), job.renderer, conversation, job.recipe.evaluate, job.image_features)


def _tick(job: Job, what: str, total: int, done: int) -> None:
    job.tick(what, done, total)
