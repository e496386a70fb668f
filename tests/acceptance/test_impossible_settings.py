"""Settings and bases that can't be: refused with both numbers, exit 2, and nothing left behind."""

import json
from pathlib import Path

import pytest
from tests.command import Command, assert_one_error, tiny_base, write_tickets

pytestmark = pytest.mark.slow

# name: --set values, code, what stands in the message
SETTINGS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "rank 0": (("method.rank=0",), "E0205", ("0", "at least 1")),
    "negative rate": (("train.learning_rate=-0.1",), "E0205", ("-0.1", "above 0")),
    "a rank for full": (("method.type=full", "method.rank=8"), "E0220", ("8", "full")),
    "virtual tokens": (("method.type=prefix_tuning",), "E0221", ("prefix_tuning",)),
    "epochs": (("train.epochs=50", "train.max_steps=3"), "E0222", ("50", "3")),
    "steps": (("train.epochs=3", "train.max_steps=4", "train.batch_size=8"), "E0222", ("3", "4")),
    "batch": (("train.batch_size=5000",), "E0223", ("5,000", "training rows")),
    "target": (("method.target_modules=[qq]",), "E0516", ("'qq'", "q_proj")),
    "rank": (("method.rank=64",), "E0530", ("64", "32")),
    "blocks": (("method.type=last_n", "method.layers=9"), "E0532", ("9", "2 blocks")),
    "option": (("method.type=loha", "method.options={rr: 1}"), "E0534", ("'rr'", "rank_dropout")),
}


@pytest.fixture
def fettle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "decoder")


@pytest.mark.parametrize(("values", "code", "words"), SETTINGS.values(), ids=SETTINGS)
def test_impossible_settings(
    fettle: Command,
    base: Path,
    tmp_path: Path,
    values: tuple[str, ...],
    code: str,
    words: tuple[str, ...],
) -> None:
    data = write_tickets(tmp_path / "x.csv")
    options = [word for value in values for word in ("--set", value)]
    outcome = fettle("run", data, "--base", base, *options)
    assert_one_error(outcome, code, 2)
    for word in words:
        assert word in outcome.err
    assert not (tmp_path / "runs").exists(), "something was left behind"


def test_a_base_with_too_few_rows_for_its_tokenizer(fettle: Command, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base")
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    rows = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    document["added_tokens"].append({"id": rows, "content": "refund", **flags})
    path.write_text(json.dumps(document), encoding="utf-8")
    outcome = fettle("run", write_tickets(tmp_path / "x.csv"), "--base", folder)
    assert_one_error(outcome, "E0538", 2)
    assert f"ids up to {rows}" in outcome.err
    assert f"{rows} rows" in outcome.err
    assert not (tmp_path / "runs").exists()
