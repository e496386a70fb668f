"""ONE recipe -> ONE run directory. Start reading here.

    read      read, understand, check and split the rows
    base      find it, read its facts                                  (no weights are loaded)
    data      token ids under the base's tokenizer      -> data/
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
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fettle.chat.builtin import BUILTIN
from fettle.data.account import Prepared
from fettle.errors import IntegrityError, Interrupted, UsageError
from fettle.evaluate.plan import task_metrics
from fettle.models.catalog import STARTER
from fettle.models.load import MODEL_FILE, find_base
from fettle.models.machine import probe_machine
from fettle.recipe.load import dump_recipe, load_recipe
from fettle.recipe.recipe import Recipe
from fettle.recipe.resolve import Settings, load_facts, load_settings, resolve
from fettle.records.facts import BaseFacts, MachineFacts
from fettle.records.journal import Journal, Listener
from fettle.records.outcomes import SCHEMA, Verdict
from fettle.records.run_directory import RunDirectory, read_json, write_atomic, write_json
from fettle.report import write_card, write_report
from fettle.stages.context import Context
from fettle.stages.data import Tokens, data_facts, read_rows, tokenize_rows
from fettle.stages.evaluation import evaluate_run, load_verdict, seal_plan, sealed_hash
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
            directory is taken away again, and the same command can be given with the fix.
    """
    place = RunDirectory(directory)
    if place.root.exists() and (not place.root.is_dir() or any(place.root.iterdir())):
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
        except Exception:
            if not (place.checkpoints.exists() or place.model.exists()):
                _take_away(place.root, made)
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

    Raises:
        UsageError: E0112, there is no trained model here; E0110 it is in use.
    """
    place = RunDirectory(directory)
    if not (place.model / MODEL_FILE).is_file():
        raise UsageError(
            "E0112",
            f"{directory} holds no trained model",
            hint=f"name a finished run; one that was stopped goes on with `fettle resume"
            f" {directory}`",
        )
    with place.locked():
        return _carry_out(load_recipe(place.recipe), place, listeners, again=True)


def _carry_out(
    recipe: Recipe, place: RunDirectory, listeners: Sequence[Listener], again: bool = False
) -> Run:
    _sweep(place)
    context = Context(recipe, place, Journal(place.events, listeners))
    with context.stop.installed():
        base, prepared, tokens, settings, machine = _prepare(context)
        with _stage(context, "train"):
            training = _train(context, settings, base, prepared, tokens, machine)
        with _stage(context, "evaluate"), memory_errors(settings):
            judged = place.verdict.is_file() and place.evaluation.is_dir()
            verdict = (
                load_verdict(place.verdict)
                if judged and not again
                else evaluate_run(
                    context, settings, base, prepared, tokens, training, machine.device
                )
            )
        with _stage(context, "report"):
            write_card(place.root)
            write_report(place.root)
    return Run(place, verdict, settings.task)


def _prepare(
    context: Context,
) -> tuple[BaseFacts, Prepared, Tokens, Settings, MachineFacts]:
    """Everything that is settled before the first step; ends with the plan under seal."""
    # Rows first: a base may be a long download, and a wrong path should not wait for it.
    with _stage(context, "read"):
        rows = read_rows(context)
    with _stage(context, "base"):
        base = _base(context)
        context.journal.emit("base", asdict(base))
    with _stage(context, "data"):
        prepared, tokens = tokenize_rows(context, rows, base)
    with _stage(context, "plan"):
        settings, machine = _settings(context, base, prepared, tokens)
        if not _sealed(context):
            seal_plan(context, settings, prepared, base)
    return base, prepared, tokens, settings, machine


def _base(context: Context) -> BaseFacts:
    """The base; a resumed run goes on from the very weights that it began with.

    Raises:
        IntegrityError: E0907, they are others now.
    """
    section, place = context.recipe.base, context.directory
    if not place.resolved.is_file():
        return find_base(section, context.journal.note)
    before = load_facts(place.resolved.read_text(encoding="utf-8"))["base"]
    # A branch of a hub may have moved on since.
    pinned = section.model_copy(update={"revision": before["revision"] or section.revision})
    base = find_base(pinned, context.journal.note)
    if base.sha256 != before["sha256"]:
        raise IntegrityError(
            "E0907",
            f"the weights of the base {base.id} have changed since this run began",
            where=base.path,
            hint="put the base back as it was, or start a new run with another --out",
        )
    return base


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
    metric = task_metrics(prepared.task, context.recipe.evaluate.metric).primary
    settings = resolve(context.recipe, data, base, machine, metric)
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
    if id is not None and id != STARTER and Path(id).expanduser().is_dir():
        changes["id"] = str(Path(id).expanduser().resolve())
    if template is not None and template not in BUILTIN and Path(template).is_file():
        changes["chat_template"] = str(Path(template).resolve())
    return recipe.model_copy(update={"base": recipe.base.model_copy(update=changes)})


def _sweep(place: RunDirectory) -> None:
    """Remove what a killed process left half-written, under its temporary names."""
    for path in place.root.glob(".*.*-*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _take_away(root: Path, made: Sequence[Path]) -> None:
    """Undo the making of a run directory: its content, and the folders that were made for it."""
    for path in list(root.iterdir()):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for folder in made:
        if any(folder.iterdir()):
            return
        folder.rmdir()


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
