"""``fettle.check`` and ``fettle.restore``: the data alone (no torch)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fettle.api.recipes import Paths, data_name, make_recipe
from fettle.api.tokens import TokenCounts, count_tokens
from fettle.data.account.account import (
    ACCOUNT_FILES,
    LATER_FILES,
    Prepared,
    with_findings,
    write_account,
)
from fettle.data.account.copies import Copy, check_copy_directory, write_copies
from fettle.data.account.earlier import examples_of, find_account, rows_of, sides_of
from fettle.data.account.restore import Restored
from fettle.data.account.restore import restore as restore_rows
from fettle.data.account.updates import compare_sides
from fettle.data.meaning.target_rows import read_target
from fettle.data.prepare import prepare
from fettle.data.preview import preview_rows
from fettle.data.represent.represent import Representation, findings_of, represent
from fettle.errors import UsageError
from fettle.records.rows import Example, Finding
from fettle.report.check_report import CHECK_REPORT, write_check_report

Level = Literal["clean", "warnings", "quarantined", "blocked"]
"""How bad it is: errors remain; rows were set aside; something was noticed; nothing was."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The account of a data set."""

    directory: Path
    prepared: Prepared
    fixed: Path | None = None
    """Where the cleaned copy is."""
    copies: tuple[Copy, ...] = ()
    tokens: TokenCounts | None = None
    """Lengths under a base's tokenizer and template, where one was named."""
    strict: bool = False
    representation: Representation | None = None
    """How the training rows compare with a target, where one was named."""

    @property
    def errors(self) -> int:
        """Findings of severity error that are not waived: rows that can't be used as they are."""
        return len(self.prepared.counting("error"))

    @property
    def warnings(self) -> int:
        """Findings of severity warning that are not waived."""
        return len(self.prepared.counting("warning"))

    @property
    def remaining(self) -> int:
        """Errors that remain, with ``strict`` warnings too.

        In a cleaned copy those of rows that are not in it any more have gone.
        """
        found = self.prepared.counting("error")
        if self.strict:
            found = [*found, *self.prepared.counting("warning")]
        if self.fixed is not None:
            gone = {row_id for _, row_id, _ in self.prepared.quarantined}
            found = [finding for finding in found if finding.row_id not in gone]
        return len(found)

    @property
    def exit_code(self) -> int:
        """3 when errors remain, else 0."""
        return 3 if self.remaining else 0

    @property
    def level(self) -> Level:
        """The outcome in one word."""
        if self.remaining:
            return "blocked"
        if self.prepared.quarantined:
            return "quarantined"
        return "warnings" if self.warnings else "clean"

    @property
    def preview(self) -> str:
        """Three training rows, with what is trained in [[ ]]."""
        return preview_rows(self.prepared.examples["train"])

    def kinds(self) -> dict[str, list[Finding]]:
        """Findings by kind, those that count; the kinds in the order of the alphabet."""
        passed = {(item.row_id, item.kind) for item in self.prepared.waived}
        found: dict[str, list[Finding]] = {}
        for finding in self.prepared.findings:
            if (finding.row_id, finding.kind) not in passed:
                found.setdefault(finding.kind, []).append(finding)
        return dict(sorted(found.items()))

    def reasons(self) -> dict[str, int]:
        """Rows in quarantine by reason."""
        counts: dict[str, int] = {}
        for _, _, reason in self.prepared.quarantined:
            counts[reason] = counts.get(reason, 0) + 1
        return dict(sorted(counts.items()))

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        prepared = self.prepared
        kinds: dict[str, int] = {}
        for finding in prepared.findings:
            kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
        waived: dict[str, int] = {}
        for item in prepared.waived:
            waived[item.kind] = waived.get(item.kind, 0) + 1
        return {
            "level": self.level,
            "task": prepared.task,
            "layout": prepared.layout.to_json(),
            "rows": len(prepared.splits),
            "counts": prepared.counts(),
            "quarantine": self.reasons(),
            "findings": kinds,
            "waived": waived,
            "errors": self.errors,
            "warnings": self.warnings,
            "remaining": self.remaining,
            "repaired": prepared.num_changed,
            "against": None if prepared.against is None else prepared.against.to_json(),
            "tokens": None if self.tokens is None else self.tokens.to_json(),
            "representation": None
            if self.representation is None
            else self.representation.to_json(),
            "directory": str(self.directory),
            "fixed": None
            if self.fixed is None
            else {"directory": str(self.fixed), "files": [c.to_json() for c in self.copies]},
        }


def check(
    source: Paths,
    *,
    out: str | Path | None = None,
    fix: str | Path | None = None,
    against: str | Path | None = None,
    target: str | Path | None = None,
    strict: bool = False,
    workers: int = 1,
    settings: Sequence[str] = (),
    progress: Callable[[str, int], None] | None = None,
    **options: Any,
) -> Checked:
    """Read, understand, check and split; write the account, train nothing.

    Args:
        source: data files or folders, or a recipe.
        out: directory of the account; None = ``checks/<name of the data>``, replaced.
        fix: directory of a cleaned copy in the format of the source, with an account of its own.
        against: an earlier run or account: its rows keep their sides, and the account says which
            rows are new, gone or moved.
        target: a file of inputs that the model will meet; labels are not needed. The training rows
            are compared with it.
        strict: warnings count as errors in ``exit_code``.
        workers: processes for the checks of single rows, where there are many; the result is the
            same. A script that asks for more than one needs ``if __name__ == "__main__":``.
        settings: ``section.key=value`` texts.
        progress: told the name of each step and the number of rows.
        options: the common options; ``base`` names the base whose tokenizer counts.
    Raises:
        UsageError: E0111 a directory is taken, E0140 there is no account, E0143 the copy would lie
            on its source; else as ``prepare`` says.
    """
    recipe = make_recipe(source, settings, **options)
    directory = Path(out) if out is not None else Path("checks") / data_name(recipe)
    if directory.exists() and not _is_account(directory):
        raise UsageError(
            "E0111",
            f"{directory} is there already and holds no account of an earlier check",
            hint="choose another directory with --out",
        )
    if fix is not None:
        check_copy_directory(Path(fix), [*recipe.data.path, *recipe.data.eval], directory)
    earlier = None if against is None else find_account(Path(against))
    pins = None if earlier is None else sides_of(earlier)
    known = () if earlier is None else tuple(examples_of(earlier))
    tell: Mapping[str, Any] = {} if progress is None else {"tell": progress}
    prepared = prepare(recipe.data, recipe.task, recipe.seed, pins, known, workers=workers, **tell)
    tokens = None
    if recipe.base.id is not None:
        prepared, tokens = count_tokens(prepared, recipe)
    representation, rows = None, list[Example]()
    if target is not None:
        rows = read_target(str(target), prepared.layout)
        representation = represent(prepared.examples["train"], rows, recipe.seed)
        prepared = with_findings(prepared, findings_of(representation, str(target)))
    if earlier is not None:
        changes = compare_sides(rows_of(earlier), prepared.splits, str(against))
        prepared = replace(prepared, against=changes)
    write_account(directory, prepared)
    copies = () if fix is None else tuple(write_copies(Path(fix), prepared))
    fixed = None if fix is None else Path(fix)
    found = Checked(directory, prepared, fixed, copies, tokens, strict, representation)
    write_check_report(
        directory,
        prepared,
        lengths=None if tokens is None else tokens.as_lengths(),
        representation=representation,
        target_examples=rows,
        remaining=found.remaining,
    )
    return found


def restore(
    directory: str | Path,
    *,
    rows: Sequence[str] = (),
    kinds: Sequence[str] = (),
    everything: bool = False,
    out: str | Path | None = None,
) -> Restored:
    """Bring rows back from quarantine, and undo repairs: byte for byte as they were.

    Args:
        directory: a run, an account (checks/NAME), or the folder of a cleaned copy.
        rows: row ids.
        kinds: kinds of findings, such as "exact_duplicate".
        everything: every row; the files are then the originals.
        out: a file, or a folder where there are several; None = in the cleaned copy itself, else
            the folder ``<directory>-restored``.
    Raises:
        UsageError: E0140 to E0144.
        IntegrityError: the account was changed, or the source is gone or changed (E0922).
    """
    target = None if out is None else Path(out)
    return restore_rows(Path(directory), list(rows), list(kinds), everything, target)


def _is_account(directory: Path) -> bool:
    """Whether nothing would be lost by replacing the directory."""
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    return not names or set(ACCOUNT_FILES) <= names <= {*ACCOUNT_FILES, *LATER_FILES, CHECK_REPORT}
