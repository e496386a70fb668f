"""ONE recipe -> ONE run directory. Start reading here.

    read      read, understand, check and split the rows
    base      find it, read its facts                                  (no weights are loaded)
    data      token ids under the base's tokenizer      -> data/
    probe     a few real micro-batches: time, memory, dtype, threads
    resolve   every "auto" to a value with a reason     -> recipe.resolved.yaml, environment.json
    plan      metric, test, rows, baselines, sealed     -> plan.json
    train     own loop, best checkpoint by validation   -> checkpoints/, model/
    evaluate  both arms and baselines on the holdout    -> evaluation/, verdict.json
    report    for people                                -> report.html, README.md

In: a recipe and a directory. Out: the files above and a ``Run``. Each stage reads what the one
before it left and writes whole or not at all, so ``resume`` goes on where a run was stopped. Must
not know: the command line, terminals.
"""

import importlib.metadata
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fettle.chat.builtin import BUILTIN
from fettle.data.account.account import Prepared
from fettle.errors import IntegrityError, Interrupted, UsageError
from fettle.evaluate.plan import task_metrics
from fettle.models.catalog import RANDOM, STARTER
from fettle.models.check_method import check_method
from fettle.models.inspect_base import described_by, hash_files
from fettle.models.load import MODEL_FILE, find_base
from fettle.models.machine import probe_machine, threads
from fettle.models.random_id import anchored_random
from fettle.recipe.estimate import estimate
from fettle.recipe.load import dump_recipe, load_recipe
from fettle.recipe.recipe import Recipe
from fettle.recipe.resolve import Settings, load_facts, load_settings, resolve
from fettle.records.facts import BaseFacts, MachineFacts
from fettle.records.journal import Journal, Listener, read_events
from fettle.records.outcomes import SCHEMA, Verdict
from fettle.records.run_directory import RunDirectory, read_json, write_atomic, write_json
from fettle.report import write_card, write_report
from fettle.stages.context import Context
from fettle.stages.data import Tokens, data_facts, read_rows, tokenize_rows
from fettle.stages.evaluation import TAMPERED, evaluate_run, load_verdict, void_verdict
from fettle.stages.probing import check_memory, probe_training
from fettle.stages.sealing import seal_plan, sealed_hash
from fettle.stages.tidying import holds_something, is_bug, keep_trace, sweep, take_away
from fettle.stages.training import memory_errors, train_model
from fettle.train.train import TrainingResult
from fettle.version import __version__

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "numpy", "scikit-learn", "sacrebleu")


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    directory: RunDirectory
    verdict: Verdict
    task: str

    def __repr__(self) -> str:
        return (
            f"{self.verdict.headline or self.verdict.verdict}\n"
            f"  model   {self.directory.model}\n"
            f"  report  {self.directory.report}"
        )


def run(recipe: Recipe, directory: Path, listeners: Sequence[Listener] = ()) -> Run:
    """Carry a recipe out in a new directory.

    Args:
        recipe: what is asked for.
        directory: must not hold a run.
        listeners: called with every event.

    Returns:
        The verdict and the paths.

    Raises:
        UsageError: E0110 in use, E0111 the directory holds a run already.
        Interrupted: E0604; ``resume`` goes on.
        FettleError: what the stages say. Before training nothing of value exists yet: the
            directory is taken away again, and the same command can be given with the fix. Only
            after an error of fettle itself recipe, events and log stay, with the trace.
    """
    place = RunDirectory(directory)
    if place.root.exists() and (not place.root.is_dir() or holds_something(place.root)):
        raise UsageError(
            "E0111",
            f"{directory} is there already and is not empty",
            hint=f"choose another directory with --out, or `fettle resume {directory}`",
        )
    made = [path for path in (place.root, *place.root.parents) if not path.exists()]
    place.create()
    with place.locked():
        try:
            write_atomic(place.recipe, dump_recipe(_anchored(recipe)))
            return _carry_out(recipe, place, listeners)
        except Interrupted:
            raise
        except Exception as error:
            begun = place.checkpoints.exists() or place.model.exists()
            if is_bug(error):
                keep_trace(place, error, listeners, begun)
            elif not begun:
                take_away(place.root, made)
            raise


def resume(directory: Path, listeners: Sequence[Listener] = ()) -> Run:
    """Go on with a run that was stopped; a finished run is only reported again.

    Raises:
        UsageError: E0112, there is no run here; E0110 it is in use.
    """
    place = RunDirectory(directory)
    if not place.is_run():
        raise UsageError(
            "E0112",
            f"{directory} holds no run",
            hint="name a directory that `fettle run` made, such as runs/tickets",
        )
    with place.locked():
        return _carry_out(load_recipe(place.recipe), place, listeners)


def plan(recipe: Recipe, listeners: Sequence[Listener] = ()) -> Settings:
    """Everything up to the sealed plan, in a directory that is thrown away: nothing is trained."""
    with tempfile.TemporaryDirectory(prefix="fettle-plan-") as folder:
        place = RunDirectory(Path(folder))
        context = Context(recipe, place, Journal(place.events, listeners))
        context.stop.hint = "nothing was written; give the command again"
        with context.stop.installed():
            return _prepare(context)[3]


def judge_again(directory: Path, listeners: Sequence[Listener] = ()) -> Run:
    """Measure a finished run's model on its holdout again and rewrite verdict and report.

    Rows, plan or account that are not what was written make the verdict ``invalid``.

    Raises:
        UsageError: E0112, there is no trained model here; E0110 it is in use.
    """
    place = RunDirectory(directory)
    if not (place.model / MODEL_FILE).is_file():
        raise UsageError(
            "E0112",
            f"{directory} holds no trained model",
            hint="name a finished run, or a .jsonl file of predictions; a run that was stopped goes"
            f" on with `fettle resume {directory}`",
        )
    with place.locked():
        recipe = load_recipe(place.recipe)
        try:
            return _carry_out(recipe, place, listeners, again=True)
        except IntegrityError as error:
            if error.code not in TAMPERED:
                raise
            context = Context(recipe, place, Journal(place.events, listeners))
            verdict = void_verdict(context, error.message)
            _report(context)
    return Run(place, verdict, str(read_json(place.model / MODEL_FILE)["task"]))


def _carry_out(
    recipe: Recipe, place: RunDirectory, listeners: Sequence[Listener], again: bool = False
) -> Run:
    sweep(place)
    context = Context(recipe, place, Journal(place.events, listeners))
    with context.stop.installed():
        base, prepared, tokens, settings, machine = _prepare(context)
        with threads(settings.threads), _stage(context, "train"):
            training = _train(context, settings, base, prepared, tokens, machine)
        with (
            threads(settings.threads),
            _stage(context, "evaluate"),
            memory_errors(settings),
        ):
            judged = place.verdict.is_file() and place.evaluation.is_dir()
            verdict = (
                load_verdict(place.verdict)
                if judged and not again
                else evaluate_run(
                    context, settings, base, prepared, tokens, training, machine.device
                )
            )
        _report(context)
    return Run(place, verdict, settings.task)


def _report(context: Context) -> None:
    with _stage(context, "report"):
        write_card(context.directory.root)
        write_report(context.directory.root)


def _prepare(
    context: Context,
) -> tuple[BaseFacts, Prepared, Tokens, Settings, MachineFacts]:
    """Everything that is settled before the first step; ends with the plan under seal."""
    # Rows first: a base may be a long download, and a wrong path should not wait for it.
    with _stage(context, "read"):
        rows = read_rows(context)
    with _stage(context, "base"):
        base = _base(context)
        check_method(context.recipe.method, base, rows.task)
        context.journal.emit("base", asdict(base))
    with _stage(context, "data"):
        prepared, tokens = tokenize_rows(context, rows, base)
    with _stage(context, "plan"):
        settings, machine = _settings(context, base, prepared, tokens)
        if not _sealed(context):
            seal_plan(context, settings, prepared, tokens, base)
    return base, prepared, tokens, settings, machine


def _base(context: Context) -> BaseFacts:
    """The base; a resumed run goes on from the very files that it began with.

    Raises:
        IntegrityError: E0907 the weights are others now, E0914 config, tokenizer or template are.
    """
    section = context.recipe.base
    before = _base_of_start(context.directory)
    # A branch of a hub may have moved on since.
    revision = (before or {}).get("revision") or section.revision
    base = find_base(section.model_copy(update={"revision": revision}), context.journal.note)
    named = section.chat_template
    own = (Path(named),) if named and named not in BUILTIN and Path(named).is_file() else ()
    base = replace(base, files_sha256=hash_files((*described_by(Path(base.path)), *own)))
    if before is None:
        return base
    hint = "put the base back as it was, or start a new run with another --out"
    if base.sha256 != before["sha256"]:
        raise IntegrityError(
            "E0907",
            f"the weights of the base {base.id} have changed since this run began",
            where=base.path,
            hint=hint,
        )
    if base.files_sha256 != (before.get("files_sha256") or base.files_sha256):
        raise IntegrityError(
            "E0914",
            f"config, tokenizer or chat template of the base {base.id} have changed since this run"
            " began",
            where=", ".join(map(str, (base.path, *own))),
            why="The rows were read with the files as they were",
            hint=hint,
        )
    return base


def _base_of_start(place: RunDirectory) -> Mapping[str, Any] | None:
    """What was written of the base before anything was made with it; None when nothing was."""
    if place.resolved.is_file():
        return load_facts(place.resolved.read_text(encoding="utf-8"))["base"]
    if not (place.data / "manifest.json").is_file():
        return None
    said = [event for event in read_events(place.events) if event.get("event") == "base"]
    return said[-1] if said else None


def _sealed(context: Context) -> bool:
    """Whether the plan is fixed. A kill between its file and its note leaves it open."""
    place = context.directory
    begun = place.checkpoints.is_dir() or place.model.is_dir()
    return place.plan.is_file() and (begun or sealed_hash(context) is not None)


def _settings(
    context: Context, base: BaseFacts, prepared: Prepared, tokens: Tokens
) -> tuple[Settings, MachineFacts]:
    """Resolve once; a resumed run reads its settings back and does not probe again."""
    place = context.directory
    if place.resolved.is_file():
        machine = MachineFacts(**read_json(place.environment)["machine"])
        return load_settings(place.resolved.read_text(encoding="utf-8")), machine
    machine = probe_machine(place.root)
    data = data_facts(prepared, tokens)
    metric = task_metrics(prepared.judged_as, context.recipe.evaluate.metric).primary
    settings = resolve(context.recipe, data, base, machine, metric)
    cost = probe_training(settings, base, prepared, tokens, machine)
    if cost is not None:
        settings = resolve(context.recipe, data, base, machine, metric, cost)
        check_memory(estimate(settings, data, cost), machine, settings)
    write_json(place.environment, _environment(machine))
    facts = {
        "base": asdict(base),
        "data": asdict(data) | {"labels": list(data.labels)},
        "machine": asdict(machine),
    }
    write_atomic(place.resolved, settings.dumps(facts))
    context.journal.emit(
        "settings",
        {"values": {key: asdict(setting) for key, setting in settings.settings.items()}},
    )
    if cost is None:
        context.journal.note("the probe did not fit into memory: time and memory are not known")
    else:
        needs = estimate(settings, data, cost)
        said = asdict(needs) | {"speeds": dict(cost.speeds), "compile": settings.compile}
        context.journal.emit("estimate", said)
    return settings, machine


def _train(
    context: Context,
    settings: Settings,
    base: BaseFacts,
    prepared: Prepared,
    tokens: Tokens,
    machine: MachineFacts,
) -> TrainingResult:
    """model/ is written last and whole: where it is, training is over."""
    meta = context.directory.model / MODEL_FILE
    if meta.is_file():
        return TrainingResult(**read_json(meta)["training"])
    return train_model(context, settings, base, prepared, tokens, machine.device)


def _anchored(recipe: Recipe) -> Recipe:
    """The recipe with a local base and template by absolute path: resume may be called anywhere."""
    changes: dict[str, str] = {}
    id, template = recipe.base.id, recipe.base.chat_template
    if id is not None and id.startswith(RANDOM):
        changes["id"] = anchored_random(id)
    elif id is not None and id != STARTER and Path(id).expanduser().is_dir():
        changes["id"] = str(Path(id).expanduser().resolve())
    if template is not None and template not in BUILTIN and Path(template).is_file():
        changes["chat_template"] = str(Path(template).resolve())
    return recipe.model_copy(update={"base": recipe.base.model_copy(update=changes)})


@contextmanager
def _stage(context: Context, name: str) -> Iterator[None]:
    started = time.monotonic()
    context.journal.emit("stage", {"stage": name, "status": "start"})
    yield
    seconds = round(time.monotonic() - started, 2)
    context.journal.emit("stage", {"stage": name, "status": "done", "seconds": seconds})


def _environment(machine: MachineFacts) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "schema": SCHEMA,
        "packages": {"fettle": __version__, "python": platform.python_version()} | versions,
        "platform": platform.platform(),
        "machine": asdict(machine),
    }
