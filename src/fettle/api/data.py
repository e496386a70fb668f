"""``fettle.check``: the data alone (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fettle.api.recipes import Paths, data_name, make_recipe
from fettle.data.account import ACCOUNT_FILES, Prepared, write_account
from fettle.data.prepare import prepare
from fettle.data.preview import preview_rows
from fettle.errors import UsageError


@dataclass(frozen=True, slots=True)
class Checked:
    """The account of a data set."""

    directory: Path
    prepared: Prepared

    @property
    def errors(self) -> int:
        """Findings of severity error: rows that can't be used as they are."""
        return sum(f.severity == "error" for f in self.prepared.findings)

    @property
    def warnings(self) -> int:
        """Findings of severity warning."""
        return sum(f.severity == "warning" for f in self.prepared.findings)

    @property
    def preview(self) -> str:
        """Three training rows, with what is trained in [[ ]]."""
        return preview_rows(self.prepared.examples["train"])

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        kinds: dict[str, int] = {}
        for finding in self.prepared.findings:
            kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
        return {
            "task": self.prepared.task,
            "layout": self.prepared.layout.to_json(),
            "rows": len(self.prepared.splits),
            "counts": self.prepared.counts(),
            "findings": kinds,
            "errors": self.errors,
            "warnings": self.warnings,
            "directory": str(self.directory),
        }


def check(
    source: Paths,
    *,
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    **options: Any,
) -> Checked:
    """Read, understand, check and split; write the account, train nothing.

    Args:
        source: data files or folders, or a recipe.
        out: directory of the account; None = ``checks/<name of the data>``, replaced.
    """
    recipe = make_recipe(source, settings, **options)
    directory = Path(out) if out is not None else Path("checks") / data_name(recipe)
    if directory.exists() and not _is_account(directory):
        raise UsageError(
            "E0111",
            f"{directory} is there already and holds no account of an earlier check",
            hint="choose another directory with --out",
        )
    prepared = prepare(recipe.data, recipe.task, recipe.seed)
    write_account(directory, prepared)
    return Checked(directory, prepared)


def _is_account(directory: Path) -> bool:
    """Whether nothing would be lost by replacing the directory."""
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    return not names or names == set(ACCOUNT_FILES)
