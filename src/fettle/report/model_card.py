"""README.md of a run: the model card, in Hugging Face's form.

In: a run directory (its files alone). Out: README.md in it, with YAML front matter, the verdict,
its limits, and code that loads the model with stock transformers and peft.
Must not know: models, HTML.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fettle.records.run_directory import RunDirectory, write_atomic
from fettle.report import design_sections, evidence, sections, sentences, words
from fettle.report.contents import SPLITS, Contents, mapping, number, read_contents
from fettle.report.markdown import markdown_environment
from fettle.report.tables import Table, shown_value
from fettle.report.words import plain
from fettle.version import __version__

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")
PACKAGES = ("fettle", "torch", "transformers", "peft", "tokenizers", "python")


def write_card(directory: Path) -> Path:
    """Write the model card of a run from the files in its directory.

    Args:
        directory: the run directory; verdict.json must be there.

    Returns:
        The path of the card.

    Raises:
        UsageError: E0120, the run has no verdict.json yet.
        IntegrityError: E0901, verdict.json can't be read back.
        MachineError: E0401, the card can't be written.

    Example:
        >>> write_card(Path("runs/tickets"))  # doctest: +SKIP
        PosixPath('runs/tickets/README.md')
    """
    contents = read_contents(directory)
    path = RunDirectory(directory).card
    write_atomic(path, render_card(contents))
    return path


def render_card(contents: Contents) -> str:
    """The card as text."""
    environment = markdown_environment()
    return environment.get_template("model_card.md.jinja").render(_values(contents))


def front_matter(contents: Contents) -> str:
    """The YAML block that the hub reads."""
    task = contents.task
    facts = mapping(contents.facts.get("base"))
    fields: dict[str, Any] = {}
    licence = facts.get("licence")
    if isinstance(licence, str) and licence:
        known = LICENCE_ID.fullmatch(licence.lower())
        fields["license"] = licence.lower() if known else "other"
        if not known:
            fields["license_name"] = plain(licence)[:100]
    base = _base_id(contents)
    if _from_hub(contents):
        fields["base_model"] = base
    fields["library_name"] = "peft" if contents.is_adapter else "transformers"
    fields["pipeline_tag"] = (
        "text-classification" if task in ("classify", "regress") else "text-generation"
    )
    fields["tags"] = ["fettle", *([_method(contents)] if contents.is_adapter else [])]
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def _method(contents: Contents) -> str:
    return str(contents.value("method.type") or ("lora" if contents.is_adapter else "full"))


def _base_id(contents: Contents) -> str:
    found = mapping(contents.verdict.get("base")).get("id")
    return str(found or mapping(contents.facts.get("base")).get("id") or "")


def _from_hub(contents: Contents) -> bool:
    """Whether the base came from the hub, which gives a commit; models/x is a folder as well."""
    base = mapping(contents.verdict.get("base"))
    return bool(base.get("revision") and HUB_ID.fullmatch(_base_id(contents)))


def _values(contents: Contents) -> dict[str, Any]:
    verdict = contents.verdict
    style = words.verdict_style(verdict)
    facts = mapping(contents.facts.get("base"))
    extra = mapping(verdict.get("extra"))
    labels = mapping(contents.model_meta).get("labels")
    if not isinstance(labels, list):
        labels = mapping(extra.get("confusion")).get("labels")
    labels = list(labels) if isinstance(labels, list) else []
    baseline_table, _, not_beaten = sections.baselines(contents)
    base = _base_id(contents)
    parts = evidence.slices(contents)
    return {
        "front_matter": front_matter(contents),
        "name": contents.root.resolve().name,
        "task": contents.task,
        "multi_label": bool(mapping(contents.model_meta).get("multi_label")),
        "scale": mapping(mapping(contents.model_meta).get("scale")) or {"mean": 0.0, "spread": 1.0},
        "is_adapter": contents.is_adapter,
        # A card is published: no folders.
        "base": (base if _from_hub(contents) else Path(base).name) or "not recorded",
        "base_is_local": bool(base) and not _from_hub(contents),
        "licence": str(facts.get("licence") or ""),
        "method": _method(contents),
        "labels": labels,
        "verdict_word": style.word,
        "meaning": style.meaning,
        "headline": words.headline(verdict),
        "reason": str(verdict.get("reason") or ""),
        "sentence": sentences.main_sentence(contents),
        "measured": sentences.measured(contents),
        "kept": sentences.guard_sentence(verdict) if contents.verdict.get("primary") else "",
        "twins": sentences.twins_change(verdict, evidence.alpha_of(contents)),
        "worse": parts.worse if parts else "",
        "in_plain_words": [
            *sentences.explained(contents),
            *sentences.power_sentences(verdict),
            *([looks] if (looks := sentences.look_sentence(verdict)) else []),
        ],
        "untested": sentences.untested(contents),
        "counts": [
            (name, f"{contents.splits.total[name]:,}")
            for name in SPLITS
            if contents.splits.total[name]
        ],
        "sources": _sources(contents),
        "holdout_sha256": str(mapping(verdict.get("holdout")).get("sha256") or ""),
        "findings": [
            f"{item.count:,} × {item.kind.replace('_', ' ')} ({item.severity})"
            for item in contents.findings
        ],
        "training": _training(contents),
        "metrics": sections.metrics(contents),
        "guards": design_sections.guards(contents)[0],
        "baselines": baseline_table,
        "not_beaten": not_beaten,
        "versions": _versions(contents.environment),
        "fettle_version": __version__,
    }


def _sources(contents: Contents) -> Table | None:
    # Names without folders: a card is published, a home folder is nobody's business.
    rows = [
        (
            Path(str(item.get("path", ""))).name,
            words.count(item.get("num_records")),
            str(item.get("sha256") or "–"),
        )
        for _, item in contents.sources
    ]
    return Table("Sources", ("file", "records", "SHA-256"), rows) if rows else None


def _training(contents: Contents) -> Table | None:
    """Method and training values; paths and data columns stay in the run directory."""
    rows = [
        (item.key, shown_value(item.value))
        for item in contents.resolved.values()
        if item.key.split(".")[0] in ("method", "train", "seed", "task")
    ]
    if contents.steps:
        rows.append(("steps taken", words.count(contents.steps[-1].get("step"))))
    seconds = number(contents.stages.get("train"))
    if seconds is not None:
        rows.append(("training time", words.duration(seconds)))
    return Table("Training", ("what", "value"), rows) if rows else None


def _versions(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions of the packages that matter for loading, wherever the file keeps them."""
    flat = {**environment, **mapping(environment.get("packages"))}
    flat.update(mapping(environment.get("versions")))
    return [(name, flat[name]) for name in PACKAGES if isinstance(flat.get(name), str)]
