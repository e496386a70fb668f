"""Raw rows -> what they mean: layout, task and the columns that matter.

In: rows of any files, and the columns that the user named. Out: a ``Layout`` with the reason for
it, and an ambiguity for every other reading that was plausible, naming the option that decides.
Must not know: files, tokens.

Names decide first, values second: a column called "category" is a label, and so is a nameless one
with few distinct short values.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fettle.data.meaning.profile import Profile, profile_columns
from fettle.data.meaning.times import TIMES, time_hint
from fettle.data.reading import names
from fettle.errors import DataError, UsageError
from fettle.recipe.recipe import DataSection, Task
from fettle.records.rows import RawRow

LayoutName = Literal["text_label", "prompt_completion", "alpaca", "messages", "sharegpt", "text"]
TASK_OF_LAYOUT: Mapping[LayoutName, Task] = {
    "text_label": "classify",
    "prompt_completion": "chat",
    "alpaca": "chat",
    "messages": "chat",
    "sharegpt": "chat",
    "text": "text",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows are read."""

    name: LayoutName
    task: Task
    columns: Mapping[str, str]
    """Role to column. Roles: text, label, prompt, completion, context, messages, system, tools,
    group, time, split."""
    reason: str
    ambiguities: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    """Speakers of this data whose role differs from the usual reading of their name."""
    multi_label: bool = False
    """classify: any number of labels may apply to a row."""
    separator: str | None = None
    """What stands between two labels in one text; None where lists hold them."""

    def to_json(self) -> dict[str, Any]:
        """The mapping as data/manifest.json holds it."""
        return {
            "name": self.name,
            "task": self.task,
            "columns": dict(self.columns),
            "reason": self.reason,
            "ambiguities": list(self.ambiguities),
            "roles": dict(self.roles),
            "multi_label": self.multi_label,
            "separator": self.separator,
        }


def detect(rows: Sequence[RawRow], options: DataSection, task: Task | None) -> Layout:
    """Find out what the rows mean.

    Args:
        rows: raw rows; malformed ones are passed over.
        options: columns and layout that the user named; they always win.
        task: the user's task, or None.
    Raises:
        UsageError: E0134 a named column does not exist, E0135 layout and task contradict.
        DataError: E0330 when no layout fits, with the columns seen.
    """
    return _Detector(rows, options, task).run()


class _Detector:
    """Tries the layouts in order; the first that fits wins."""

    def __init__(self, rows: Sequence[RawRow], options: DataSection, task: Task | None) -> None:
        self.options = options
        self.profiles = profile_columns(rows)
        self.task = task
        if options.layout is not None:
            implied = TASK_OF_LAYOUT[options.layout]
            fits = task == "regress" and options.layout == "text_label"
            if task is not None and task != implied and task != "text" and not fits:
                raise UsageError(
                    "E0135",
                    f"the layout {options.layout} is for the task {implied}, not {task}",
                    hint=f"--task {implied}, or another data.layout",
                )
            self.task = task or implied
        self.ambiguities: list[str] = []
        self.common: dict[str, str] = {}

    def run(self) -> Layout:
        self._find_common()
        named = self.options
        chosen = (named.text, named.label, named.prompt, named.completion, named.messages)
        if {"chosen", "rejected"} <= set(self.profiles) and not any(chosen):
            raise self._nothing_fits()
        tries: list[Callable[[], Layout | None]]
        if named.layout is not None:
            tries = [self._of_layout(named.layout)]
        elif named.messages is not None:
            tries = [self._messages]
        elif named.completion is not None or named.prompt is not None:
            tries = [self._pair]
        elif named.label is not None or named.label_separator is not None:
            tries = [self._text_label]
        elif self.task == "text":
            tries = [self._text]
        elif self.task in ("classify", "regress"):
            tries = [self._text_label]
        elif self.task == "chat":
            tries = [self._messages, self._alpaca, self._pair, self._two_texts]
        else:
            tries = [self._messages, self._alpaca, self._pair, self._text_label,
                     self._two_texts, self._text]  # fmt: skip
        for attempt in tries:
            layout = attempt()
            if layout is not None:
                self._check_separator(layout)
                return layout
        raise self._nothing_fits()

    def _check_separator(self, layout: Layout) -> None:
        if self.options.label_separator is None or layout.multi_label:
            return
        raise UsageError(
            "E0135",
            f"data.label_separator is for rows with several labels, not for the task {layout.task}",
            hint="--task classify, or leave data.label_separator out",
        )

    def _of_layout(self, name: LayoutName) -> Callable[[], Layout | None]:
        table: dict[LayoutName, Callable[[], Layout | None]] = {
            "text_label": self._text_label,
            "prompt_completion": lambda: self._pair() or self._two_texts(),
            "alpaca": self._alpaca,
            "messages": self._messages,
            "sharegpt": self._messages,
            "text": self._text,
        }
        return table[name]

    # Columns that any layout may have.

    def _find_common(self) -> None:
        named = self.options
        chosen = {"group": named.group, "time": named.time, "split": named.split_column}
        for role, column in chosen.items():
            if column is not None:
                self.common[role] = self._named(column, role)
        if "split" not in self.common:
            for profile in self._by_name(names.SPLIT):
                sides = {names.split_of(value) for value in profile.values}
                if profile.complete and None not in sides and "train" in sides and len(sides) > 1:
                    self.common["split"] = profile.name
                    self.ambiguities.append(
                        f'the column "{profile.name}" says where rows belong and is followed;'
                        " to cut anew instead, leave that column out of the file"
                    )
                    break
        if "group" not in self.common:
            for profile in self._by_name(names.GROUP):
                if 1 < profile.num_distinct < 0.9 * profile.num_filled:
                    self.ambiguities.append(
                        f'rows share values of "{profile.name}";'
                        f" --group {profile.name} keeps them on one side of the split"
                    )
                    break
        if not {"time", "split"} & set(self.common) and not self.options.eval:
            self.ambiguities.extend(time_hint(self._by_name(TIMES)))

    # Layouts.

    def _messages(self) -> Layout | None:
        if self.options.messages is not None:
            column = self._named(self.options.messages, "messages")
            profile = self.profiles[column]
        else:
            found = [p for p in self.profiles.values() if p.turns > 0.5 * max(p.num_filled, 1)]
            if not found:
                return None
            ranked = [p for p in self._by_name(names.MESSAGES) if p in found]
            profile = (ranked or found)[0]
            if len(found) > 1:
                others = ", ".join(f'"{p.name}"' for p in found if p is not profile)
                self.ambiguities.append(
                    f"{others} could be the conversation too; --messages names the column"
                )
        columns = {"messages": profile.name}
        self._add_optional(columns, ("system", names.SYSTEM), ("tools", ("tools", "functions")))
        name: LayoutName = "messages" if "role" in profile.turn_keys else "sharegpt"
        keys = "/".join(sorted(profile.turn_keys)) or "role/content"
        roles: dict[str, str] = {}
        reason = f'"{profile.name}" holds lists of turns ({keys})'
        if profile.speakers and profile.speakers <= {"user", "system"}:
            roles["system"] = "assistant"
            reason += '; its speaker "system" answers the user, so it is read as the assistant'
        return self._layout(name, columns, reason, roles)

    def _alpaca(self) -> Layout | None:
        instruction = self._first(names.INSTRUCTION)
        context = self._first(names.INSTRUCTION_INPUT)
        completion = self._first(("output", "response", "completion", "answer"))
        if instruction is None or context is None or completion is None:
            return None
        columns = {"prompt": instruction, "context": context, "completion": completion}
        self._add_optional(columns, ("system", names.SYSTEM))
        self._mention_labels(columns)
        return self._layout("alpaca", columns, _named_as(columns))

    def _pair(self) -> Layout | None:
        prompt = self._chosen(self.options.prompt, "prompt")
        completion = self._chosen(self.options.completion, "completion")
        by_name = prompt is None and completion is None
        if prompt is None:
            prompt = self._free_text(names.PROMPT, excluding={completion})
        if completion is None:
            completion = self._free_text(names.COMPLETION, excluding={prompt})
        if prompt is None or completion is None or prompt == completion:
            return None
        if by_name and (exact := self._best_pair()) is not None:
            prompt, completion = exact
        if by_name and self.task is None and self._label_wins(prompt, completion):
            return None
        columns = {"prompt": prompt, "completion": completion}
        for context in self._by_name(names.CONTEXT):
            if context.name not in columns.values() and context.is_free_text:
                columns["context"] = context.name
                break
        self._add_optional(columns, ("system", names.SYSTEM))
        profile = self.profiles[completion]
        if self.task is None and profile.is_label_like and self.options.completion is None:
            self.ambiguities.append(
                f'"{completion}" has only {profile.num_distinct} short values, so that the rows'
                f" could be classified; --task classify --text {prompt} --label {completion}"
            )
        self._mention_labels(columns)
        self._mention_other_texts(columns)
        return self._layout("prompt_completion", columns, _named_as(columns))

    def _label_wins(self, prompt: str, completion: str) -> bool:
        """Text and label by exact name beat a pair that only one of its sides names well."""
        text, label = (
            self._first(("text", "sentence", "tweet", "utterance")),
            self._first(("label", "category", "class", "intent", "sentiment")),
        )
        if text is None or label is None or not self.profiles[label].is_label_like:
            return False
        return prompt == text and self.profiles[completion].is_label_like

    def _text_label(self) -> Layout | None:
        label = self._chosen(self.options.label, "label")
        text = self._chosen(self.options.text, "text")
        taken = {text, *self.common.values()}
        how_label, how_text = "named by you", "named by you"
        if label is None:
            find = self._find_number if self.task == "regress" else self._find_label
            label, how_label = find(taken)
        if label is None:
            return None
        if text is None:
            text, how_text = self._find_text({label, *self.common.values()})
        if text is None:
            return None
        profile = self.profiles[label]
        several, separator = self._several(profile)
        is_number = self._is_number(profile, several)
        count = f"{self._num_labels(profile, separator) if several else profile.num_distinct}"
        meaning = f"{count} labels, any number a row" if several else f"{count} classes"
        meaning = "a number" if is_number else meaning
        reason = f'text="{text}" ({how_text}), label="{label}" ({how_label}, {meaning})'
        if profile.multiple > 0.02 and not several and not is_number:
            self.ambiguities.append(
                f'some values of "{label}" look like several labels in one cell; each such value'
                ' is taken for a class of its own; --set data.label_separator="," (or what stands'
                " between them) takes them apart"
            )
        long = [
            p.name
            for p in self.profiles.values()
            if p.is_free_text and p.mean_length > 30 and p.name not in (text, label)
        ]
        if long and self.task is None and self.options.label is None:
            self.ambiguities.append(
                f"{_quoted([text, *long])} are all free text, so that the rows could be prompts and"
                f" answers; --task chat --prompt {long[0]} --completion {text} decides"
            )
        layout = self._layout("text_label", {"text": text, "label": label}, reason)
        if is_number:
            return replace(layout, task="regress")
        return replace(layout, multi_label=several, separator=separator)

    def _several(self, profile: Profile) -> tuple[bool, str | None]:
        """Whether rows have any number of labels, and what stands between them in a text."""
        if self.task == "regress":
            return False, None
        separator = self.options.label_separator
        return separator is not None or profile.listed > 0.5, separator

    def _num_labels(self, profile: Profile, separator: str | None) -> int:
        if separator is None or profile.listed > 0.5:
            return len(profile.items)
        parts = {part.strip() for value in profile.values for part in value.split(separator)}
        return len(parts - {""})

    def _is_number(self, profile: Profile, several: bool) -> bool:
        """The user's task decides; else numbers of many different values are no classes."""
        if self.task is not None or several:
            return self.task == "regress"
        found = f'"{profile.name}" holds numbers, {profile.num_distinct} different ones'
        if profile.is_number:
            self.ambiguities.append(
                f"{found}, and they are predicted as numbers; --task classify takes each of them"
                " for a class"
            )
        elif profile.numeric > 0.9 and profile.fractional > 0:
            self.ambiguities.append(
                f"{found}, and each is taken for a class; --task regress predicts the number"
            )
        return profile.is_number

    def _find_number(self, taken: set[str | None]) -> tuple[str | None, str]:
        numeric = [
            profile
            for profile in self.profiles.values()
            if profile.name not in taken and profile.numeric > 0.5 and profile.num_distinct > 1
        ]
        named = [p for p in self._by_name(names.NUMBER) if p in numeric]
        free = [p for p in numeric if "id" not in names.normal(p.name).split("_")]
        free.sort(key=lambda p: -p.num_distinct)
        ranked = named or free or numeric
        if not ranked:
            return None, ""
        if len(ranked) > 1:
            self.ambiguities.append(
                f'"{ranked[0].name}" is taken for the number, but'
                f" {_quoted([p.name for p in ranked[1:]])} could be it too;"
                f" --label {ranked[1].name} decides"
            )
        return ranked[0].name, "by its name" if named else "a column of numbers"

    def _find_label(self, taken: set[str | None]) -> tuple[str | None, str]:
        named = [
            profile
            for profile in self._by_name(names.LABEL)
            if profile.name not in taken and not profile.is_free_text and profile.num_distinct > 0
        ]
        valued = [
            profile
            for profile in self.profiles.values()
            if (profile.is_label_like or profile.is_label_list) and profile.name not in taken
        ]
        # Words are likelier classes than numbers, more classes likelier than a flag.
        valued.sort(key=lambda p: (p.numeric > 0.9, p.num_distinct == 2, -p.mean_length))
        if named:
            plausible = [p for p in named if p.is_label_like or p.is_label_list] or named
            exact = [p for p in plausible if names.normal(p.name) in names.LABEL]
            best, how = (exact or plausible)[0], "by its name"
            others = [p.name for p in (exact or plausible)[1:]]
        elif valued:
            best, how = valued[0], "few distinct short values"
            others = [p.name for p in valued[1:]]
            if not others and not best.name.isdecimal() and self.options.label is None:
                self.ambiguities.append(
                    f'"{best.name}" is taken for the label by its values alone; --label decides'
                )
        else:
            return None, ""
        if others and self.options.label is None:
            self.ambiguities.append(
                f'"{best.name}" is taken for the label, but {_quoted(others)} could be it too;'
                f" --label {others[0]} decides"
            )
        return best.name, how

    def _find_text(self, taken: set[str | None]) -> tuple[str | None, str]:
        named = [
            p
            for p in self._by_name(names.TEXT)
            if p.name not in taken and p.num_filled and not p.is_identifier and p.turns == 0
        ]
        if named:
            free = [p for p in named if p.is_free_text] or named
            others = [p.name for p in free[1:]]
            if others and self.options.text is None:
                self.ambiguities.append(
                    f'"{free[0].name}" is taken for the text, but {_quoted(others)} could be it'
                    f" too; --text {others[0]} decides"
                )
            return free[0].name, "by its name"
        free = [p for p in self.profiles.values() if p.name not in taken and p.is_text_like]
        free.sort(key=lambda p: -p.mean_length)
        if not free:
            return None, ""
        long = [p.name for p in free[1:] if p.is_free_text and p.mean_length > 20]
        if long:
            self.ambiguities.append(
                f'"{free[0].name}" is taken for the text, being the longest, but {_quoted(long)}'
                f" could be it too; --text {long[0]} decides"
            )
        return free[0].name, "the longest text"

    def _two_texts(self) -> Layout | None:
        taken = set(self.common.values())
        free = [p for p in self.profiles.values() if p.is_free_text and p.name not in taken]
        if len(free) < 2:
            return None
        prompt = self._free_text(names.PROMPT, excluding=set())
        completion = self._free_text(names.COMPLETION, excluding={prompt})
        if prompt is None and completion is None and len(free) > 2:
            return None
        if completion is None:
            completion = max(
                (p for p in free if p.name != prompt and (prompt or p is not free[0])),
                key=lambda p: p.mean_length,
            ).name
        if prompt is None:
            prompt = next(p.name for p in free if p.name != completion)
        self.ambiguities.append(
            f'"{prompt}" and "{completion}" are both free text; they are read as prompt and answer.'
            f" --prompt and --completion decide, or --task text --text {completion}"
        )
        columns = {"prompt": prompt, "completion": completion}
        self._mention_labels(columns)
        return self._layout("prompt_completion", columns, "two columns of free text")

    def _text(self) -> Layout | None:
        text = self._chosen(self.options.text, "text")
        how = "named by you"
        if text is None:
            text, how = self._find_text(set(self.common.values()))
        if text is None:
            return None
        return self._layout("text", {"text": text}, f'text="{text}" ({how}), no label or answer')

    # Help.

    def _layout(
        self,
        name: LayoutName,
        columns: Mapping[str, str],
        reason: str,
        roles: Mapping[str, str] | None = None,
    ) -> Layout:
        return Layout(
            name=name,
            task="text" if self.task == "text" and name == "text" else TASK_OF_LAYOUT[name],
            columns={**columns, **self.common},
            reason=reason,
            ambiguities=tuple(self.ambiguities),
            roles=dict(roles or {}),
        )

    def _named(self, name: str, role: str) -> str:
        """A column that the user named, or its 0-based index in the first file."""
        if name in self.profiles:
            return name
        columns = list(self.profiles)
        if name.isdecimal() and int(name) < len(columns):
            return columns[int(name)]
        near = difflib.get_close_matches(name, columns, n=1, cutoff=0.4)
        folded = [column for column in columns if names.normal(column) == names.normal(name)]
        nearest = next(iter(folded or near), None)
        option = {"split": "split-column"}.get(role, role)
        raise UsageError(
            "E0134",
            f"there is no column '{name}' for --{option}",
            where=f"columns: {', '.join(columns[:30])}",
            hint=f"--{option} {nearest}" if nearest else f"--{option} with one of those columns",
        )

    def _chosen(self, name: str | None, role: str) -> str | None:
        return None if name is None else self._named(name, role)

    def _by_name(self, wanted: Sequence[str]) -> list[Profile]:
        """Columns whose name is one of these, in the order of ``wanted``; then those that hold one
        of these as a word."""
        taken = set(self.common.values())
        exact: list[tuple[int, Profile]] = []
        partial: list[tuple[int, Profile]] = []
        for profile in self.profiles.values():
            if profile.name in taken:
                continue
            name = names.normal(profile.name)
            if name in wanted:
                exact.append((wanted.index(name), profile))
            elif words := [w for w in name.split("_") if w in wanted and w not in ("set", "type")]:
                partial.append((min(map(wanted.index, words)), profile))
        return [p for group in (exact, partial) for _, p in sorted(group, key=lambda x: x[0])]

    def _first(self, wanted: Sequence[str]) -> str | None:
        """The first column whose whole name is one of these."""
        for profile in self._by_name(wanted):
            if names.normal(profile.name) in wanted:
                return profile.name
        return None

    def _free_text(self, wanted: Sequence[str], excluding: set[str | None]) -> str | None:
        """A column by name that is not a label or an identifier by its values."""
        found = [
            p
            for p in self._by_name(wanted)
            if p.name not in excluding and p.num_filled and not p.is_identifier and p.turns == 0
        ]
        exact = [p for p in found if names.normal(p.name) in wanted]
        free = [p for p in exact or found if p.is_free_text]
        chosen = free or exact
        return chosen[0].name if chosen else None

    def _best_pair(self) -> tuple[str, str] | None:
        for prompt, completions in names.PAIRS:
            if (found := self._first((prompt,))) is None:
                continue
            for completion in completions:
                other = self._first((completion,))
                if other is not None and not self.profiles[found].is_identifier:
                    return found, other
        return None

    def _add_optional(self, columns: dict[str, str], *wanted: tuple[str, Sequence[str]]) -> None:
        for role, candidates in wanted:
            found = self._first(candidates)
            if found is not None and found not in columns.values():
                columns[role] = found

    def _mention_labels(self, columns: Mapping[str, str]) -> None:
        if self.task is not None:
            return
        labels = [
            p.name
            for p in self._by_name(names.LABEL)
            if p.is_label_like
            and p.name not in columns.values()
            and names.normal(p.name) in names.LABEL
        ]
        labels.sort(key=lambda name: -self.profiles[name].num_distinct)
        if labels:
            self.ambiguities.append(
                f"the rows could also be classified by {_quoted(labels)};"
                f" --task classify --text {columns['prompt']} --label {labels[0]} decides"
            )

    def _mention_other_texts(self, columns: Mapping[str, str]) -> None:
        others = [
            p.name
            for p in self.profiles.values()
            if p.is_free_text
            and p.mean_length > 30
            and p.turns == 0
            and p.name not in columns.values()
        ]
        if others and self.options.prompt is None and self.options.completion is None:
            self.ambiguities.append(
                f"{_quoted(others)} hold free text too and are not used;"
                " --prompt and --completion decide"
            )

    def _nothing_fits(self) -> DataError:
        seen = "; ".join(profile.describe() for profile in list(self.profiles.values())[:20])
        wanted = {
            "classify": "a text and a label; name them with --text and --label",
            "regress": "a text and a column of numbers; name them with --text and --label",
            "chat": "a prompt and an answer, or a conversation; name them with --prompt and"
            " --completion, or --messages",
            "text": "a text; name it with --text",
        }
        default = (
            "name the columns: --text and --label to classify, --prompt and --completion or"
            " --messages to chat, or --task text --text"
        )
        if {"chosen", "rejected"} <= set(self.profiles):
            default = (
                "these look like preference pairs; to learn the preferred texts"
                " --task text --text chosen, or with a column of prompts --completion chosen"
            )
        return DataError(
            "E0330",
            "can't tell what the columns mean"
            + (f" for the task {self.task}" if self.task else ""),
            where=f"columns: {seen}" if seen else "no readable rows",
            hint=wanted.get(self.task or "", default),
        )


def _named_as(columns: Mapping[str, str]) -> str:
    return ", ".join(f'{role}="{column}"' for role, column in columns.items()) + " by name"


def _quoted(columns: Sequence[str]) -> str:
    shown = ", ".join(f'"{column}"' for column in columns[:4])
    return shown + (f" and {len(columns) - 4} more" if len(columns) > 4 else "")
