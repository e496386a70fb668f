"""What a run prints: sparkline, duration, numbers, plain and live lines."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.train_fixture import BASE, settings

from fettle.progress import BARS, Progress, console, duration, log_file, number, say, sparkline


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (190, "3 min 10 s"),
        (3599.9, "1 h 00 min"),
        (7260, "2 h 01 min"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2e-4, "2e-4"),
        (5.6e-05, "5.6e-5"),
        (0.00052, "5.2e-4"),
        (0.01, "0.01"),
        (0.0, "0"),
        (6.0, "6"),
        (1.5, "1.5"),
        (32, "32"),
        ("lora", "lora"),
    ],
)
def test_numbers_as_people_write_them(value: Any, expected: str) -> None:
    assert number(value) == expected


def test_sparkline_shows_the_whole_course() -> None:
    assert sparkline([]) == ""
    assert sparkline([3.0]) == BARS[0]
    assert sparkline([1.0, 1.0]) == BARS[0] * 2
    assert sparkline([2.0, 1.0]) == BARS[-1] + BARS[0]
    # 19 values: the first ones must not fall out of a line of ten.
    assert sparkline([9.0] * 4 + [1.0] * 15)[0] == BARS[-1]
    falling = sparkline([float(x) for x in range(1000, 0, -1)])
    assert len(falling) == 10
    assert list(falling) == sorted(falling, reverse=True)


@given(st.lists(st.floats(-1e6, 1e6), max_size=60))
def test_sparkline_takes_any_values(values: list[float]) -> None:
    line = sparkline(values)
    assert len(line) == min(10, len(values))
    assert set(line) <= set(BARS)


def step(number: int, total: int = 4, **changes: Any) -> dict[str, Any]:
    return {
        "event": "step",
        "step": number,
        "num_steps": total,
        "loss": 1.0 / number,
        "num_tokens": 100,
        "seconds": 0.5,
        **changes,
    }


def data_event() -> dict[str, Any]:
    return {
        "event": "data",
        "rows": 10_003,
        "task": "classify",
        "layout": {
            "name": "text_label",
            "columns": {"text": "body", "label": "topic"},
            "reason": "topic has 77 values",
            "ambiguities": ["--label decides"],
        },
        "counts": {"train": 8_031, "validation": 982, "holdout": 976, "quarantine": 14},
        "quarantine": {"exact_duplicate": 14},
        "findings": {"exact_duplicate": 14},
        "labels": 77,
        "preview": "example 1\nhello -> [[greeting]]",
    }


def events() -> list[dict[str, Any]]:
    chosen = settings().settings
    values = {
        key: {"value": s.value, "source": s.source, "reason": s.reason} for key, s in chosen.items()
    }
    base = {name: getattr(BASE, name) for name in BASE.__slots__}
    power = {"minimum_detectable_difference": 0.029, "n": 976, "power": 0.8, "discordance": 0.1}
    return [
        {"event": "stage", "stage": "data", "status": "start"},
        {"event": "base", **base},
        data_event(),
        {"event": "settings", "values": values},
        {
            "event": "plan",
            "sha256": "ab" * 32,
            "power": power,
            "said": "976 rows can show 2.9\nmore",
        },
        {"event": "note", "message": "two\nlines"},
        *(step(n) for n in range(1, 5)),
        {
            "event": "validation",
            "step": 4,
            "loss": 0.5,
            "metric": "f1",
            "value": 0.25,
            "best": True,
        },
        {"event": "checkpoint", "step": 4},
        {"event": "verdict", "verdict": "improved", "headline": "IMPROVED"},
    ]


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show = console(quiet=False)
    assert show is not None
    for event in events():
        show(event)
    out, err = capsys.readouterr()
    assert out == "", "talk goes to stderr"
    lines = err.splitlines()
    assert not any(line != line.rstrip() for line in lines)
    assert "\x1b" not in err
    assert "\r" not in err
    text = "\n".join(lines)
    assert "data      10,003 rows · task classify, 77 classes\n" in text
    assert f'{"":<9} layout text_label (text="' in text
    assert "train 8,031 · validation 982 · holdout 976 (sealed) · quarantine 14 (14 exac" in text
    assert "? --label decides" in text
    assert "[[greeting]]" in text
    assert "plan      sealed abababababab; 976 rows can show 2.9\n          more\n" in text
    assert "step 4/4 100 %" in text
    assert "0 s left" not in text
    assert "validate  step 4: loss 0.5000, f1 0.2500 (best so far)" in text
    assert lines[-1] == "verdict   IMPROVED"
    assert sum(line.startswith("train ") for line in lines) == 2, "the first step and the last"


def test_settings_lines_are_readable() -> None:
    lines: list[str] = []
    show = Progress(lines.append)
    chosen = settings(learning_rate=2e-4, max_steps=9).settings
    show(
        {
            "event": "settings",
            "values": {
                key: {"value": s.value, "source": s.source, "reason": s.reason}
                for key, s in chosen.items()
            },
        }
    )
    assert any("train.learning_rate  2e-4" in line and "as you asked" in line for line in lines)
    assert not any("train.epochs" in line for line in lines), "max_steps counts instead"


def test_quiet_says_nothing() -> None:
    assert console(quiet=True) is None


def test_a_reader_that_has_gone_does_not_end_the_work() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        say("lost", stream)
        say("nobody reads this either", stream)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_moving_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    screen = Terminal()
    show = console(quiet=False, stream=screen)
    assert show is not None
    for event in events():
        show(event)
    text = screen.getvalue()
    moving = [part for part in text.split("\r\x1b[2K") if part and not part.endswith("\n")]
    assert len(moving) == 4
    assert max(len(part) for part in moving) < 40, "a wrapped line can't be taken back"
    assert text.endswith("verdict   IMPROVED\n")


@pytest.mark.parametrize("name", ["NO_COLOR", "CI"])
def test_plain_lines_on_a_terminal_on_request(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv(name, "1")
    screen = Terminal()
    show = console(quiet=False, stream=screen)
    assert show is not None
    show(step(1))
    assert "\x1b" not in screen.getvalue()


def test_rate_and_time_left_after_a_resume() -> None:
    lines: list[str] = []
    show = Progress(lines.append)
    show(step(51, 100, seconds=1.0))
    (line,) = lines
    assert "step 51/100  51 %" in line
    assert "100 tokens/s" in line
    assert "49 s left" in line, "the 50 steps of before took no time of this process"


def test_the_log_file_takes_any_text(tmp_path: Path) -> None:
    log = log_file(tmp_path / "log.txt")
    log({"event": "note", "message": "half a pair \ud83d"})
    log({"event": "note", "message": "ä"})
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith("half a pair \\ud83d")
    assert lines[1].endswith(" ä")
