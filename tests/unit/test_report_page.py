"""The report page: complete, self-contained, and safe with any text in it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_fixture import write_chat_run, write_classify_run

from fettle.errors import IntegrityError, UsageError
from fettle.report import write_report

VOID = {"meta", "wbr", "br", "link", "img", "input", "hr"}
FORBIDDEN = re.compile(
    r"\bproves?\b|\bproven\b|\bproof\b|significan|probability that|no difference\b", re.IGNORECASE
)


class Page(HTMLParser):
    """The structure of a page; complains about tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def classify(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = write_classify_run(tmp_path_factory.mktemp("runs") / "tickets")
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = write_chat_run(tmp_path_factory.mktemp("runs") / "support")
    return write_report(run).read_text(encoding="utf-8")


def test_the_verdict_comes_first_with_its_figures(classify: str) -> None:
    page = Page(classify)
    first = page.text.index("Improved")
    assert first < page.text.index("Baselines on the same")
    assert "accuracy 58.3 % → 91.0 % (+32.7 points, 95 % CI 29.2 to 36.2, p < 0.001" in page.text
    assert "What was not tested" in page.text
    assert "nothing else was tested" in page.text


def test_sections_stand_in_the_promised_order(classify: str) -> None:
    sections = [attrs["id"] for tag, attrs in Page(classify).tags if tag == "section"]
    assert sections == [
        "verdict", "pairs", "guards", "design", "metrics", "baselines", "classes", "confidence",
        "rows", "training", "data", "recipe", "reproduce",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["classify", "chat"])
def test_the_page_loads_nothing_and_runs_nothing(name: str, request: pytest.FixtureRequest) -> None:
    page = Page(request.getfixturevalue(name))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "form", "image"}
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    for _, attrs in page.tags:
        assert not [key for key in attrs if key.startswith("on")]
        for key in ("href", "xlink:href", "src"):
            assert (attrs.get(key) or "#").startswith("#")


@pytest.mark.parametrize("name", ["classify", "chat"])
def test_the_page_is_accessible(name: str, request: pytest.FixtureRequest) -> None:
    page = Page(request.getfixturevalue(name))
    figures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert figures
    assert all(attrs["role"] == "img" and len(attrs["aria-label"] or "") > 20 for attrs in figures)
    assert all(attrs.get("scope") in {"col", "row"} for tag, attrs in page.tags if tag == "th")
    ids = [attrs["id"] for tag, attrs in page.tags if "id" in attrs and tag not in {"path"}]
    sections = [name for name in ids if name in {"verdict", "data", "rows", "recipe"}]
    assert len(sections) == len(set(sections)) == 4
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert dict(page.tags)["html"]["lang"] == "en"


@pytest.mark.parametrize("name", ["classify", "chat"])
def test_wording_claims_no_more_than_the_evidence(
    name: str, request: pytest.FixtureRequest
) -> None:
    assert FORBIDDEN.findall(Page(request.getfixturevalue(name)).text) == []


def test_no_figure_keeps_a_colour_of_its_own(classify: str) -> None:
    for figure in re.findall(r"<svg.*?</svg>", classify, flags=re.DOTALL):
        assert "var(--" in figure
        assert re.findall(r"(?:fill|stroke): #\w+", figure) == []


def test_the_data_account_adds_up(classify: str) -> None:
    text = Page(classify).text
    assert "Every one of the 10,003 input rows" in text
    assert "8,031 982 976 14 10,003" in text
    assert "d0d0d0d0" in text


def test_many_classes_get_a_heat_map_and_few_a_table(tmp_path: Path, classify: str) -> None:
    few = write_report(write_classify_run(tmp_path / "three", 3, 90)).read_text(encoding="utf-8")
    assert "Confusion of 77 classes" in classify
    assert "Confusion of 3 classes" not in few
    assert few.count('style="--share:') == 9
    assert classify.count('style="--share:') == 0
    assert "The ten weakest classes" in classify


def test_twenty_rows_each_way_with_all_four_texts(classify: str, chat: str) -> None:
    for page in (classify, chat):
        assert "Most improved (20)" in page
    assert "Most worsened (20)" in classify
    assert classify.count('<article class="row">') == 40
    assert "Only the 120 rows that both models answered" in chat
    assert "Loss per holdout row" in chat


def test_an_unbeaten_baseline_stands_in_the_verdict(tmp_path: Path) -> None:
    run = write_classify_run(tmp_path / "run", 3, 240, 0.60, 0.63, "no_clear_difference")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "A cheap baseline is not beaten: TF-IDF + logistic regression" in page.text
    assert "That is not evidence that the models are equal" in page.text


HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "</div></section></style></html><!-- \" ' --> ]]> &amp; {{ 7 * 7 }} {% raw %}",
    "\u202eright to left\u202c \u05d0\u05d1\u05d2 \u0627\u0644\u0639",
    "lone \ud800 surrogate, \x00 nul, \x1b[31m escape, \ufffe",
    "$\\frac{$ not mathematics _^ 漢字 🙂",
    "x" * 200_000,
)


def _with_hostile_texts(run: Path) -> None:
    """Put hostile texts into every place that data can reach."""
    folder = run / "evaluation"
    for arm in ("base", "tuned"):
        path = folder / f"predictions.{arm}.jsonl"
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for place, record in enumerate(records):
            if record["prediction"] is not None:
                record["prediction"] = HOSTILE[place % len(HOSTILE)] + arm
            record["reference"] = HOSTILE[(place + 1) % len(HOSTILE)]
        path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    path = run / "data" / "rows.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for place, record in enumerate(records):
        record.pop("messages", None)
        record["text"] = HOSTILE[place % len(HOSTILE)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    verdict = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    labels = verdict["extra"]["confusion"]["labels"]
    for place in range(min(len(labels), len(HOSTILE))):
        labels[place] = verdict["extra"]["per_class"][place]["label"] = HOSTILE[place]
    for place, item in enumerate(verdict["baselines"]):
        item["name"] = HOSTILE[(place + 3) % len(HOSTILE)]
    verdict["reason"] = HOSTILE[0]
    verdict["headline"] = HOSTILE[1]
    (run / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    for name, key in (("findings", "evidence"), ("splits", "reason"), ("splits", "source")):
        path = run / "data" / f"{name}.jsonl"
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for place, record in enumerate(records[:50]):
            record[key] = HOSTILE[place % len(HOSTILE)]
        path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    run = write_classify_run(tmp_path / "run", 77, 300)
    _with_hostile_texts(run)
    text = write_report(run).read_bytes().decode("utf-8")
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert "script" not in names
    assert "img" not in names
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", text) is None
    assert "\u2400" in page.text
    # Text that runs the other way can't turn what stands beside it.
    assert all("dir" in attrs for _, attrs in page.tags if attrs.get("class") == "text")
    assert "more characters in the run" in page.text
    assert len(text) < 3_000_000


def test_the_page_stays_small_with_3000_rows(tmp_path: Path) -> None:
    path = write_report(write_classify_run(tmp_path / "run", 77, 3000, 0.3, 0.5))
    assert path.stat().st_size < 1_000_000


def test_the_page_is_the_same_every_time(tmp_path: Path) -> None:
    run = write_chat_run(tmp_path / "run", 40, 20)
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


@pytest.mark.parametrize("damage", ["missing", "empty", "torn", "binary"])
@pytest.mark.parametrize("writer", [write_classify_run, write_chat_run])
def test_other_files_may_be_missing_or_damaged(tmp_path: Path, writer, damage: str) -> None:
    run = writer(tmp_path / "run", num_rows=40)
    kept = {"verdict.json", "report.html"}
    files = [path for path in run.rglob("*") if path.is_file() and path.name not in kept]
    assert len(files) == 12
    for path in files:
        if damage == "missing":
            path.unlink()
        else:
            content = {"empty": b"", "torn": path.read_bytes()[:-9], "binary": b"\xff\x00\x80{["}
            path.write_bytes(content[damage])
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "Improved" in page.text
    if damage != "empty":
        assert "Parts that could not be shown" in page.text
    if damage == "missing":
        # Without predictions there are no rows to show, so rows.jsonl is not looked for.
        assert page.text.count("is not there:") == 11


def test_missing_inputs_are_said_where_they_would_stand(tmp_path: Path) -> None:
    run = write_classify_run(tmp_path / "run", 3, 40)
    (run / "data" / "rows.jsonl").unlink()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "data/rows.jsonl is not there" in page.text
    assert "(this row is not in data/rows.jsonl)" in page.text


def test_a_verdict_without_figures_is_shown(tmp_path: Path) -> None:
    run = write_classify_run(tmp_path / "run", 3, 30)
    verdict = {
        "schema": 1,
        "verdict": "invalid",
        "reason": "the plan was changed.",
        "primary": None,
    }
    (run / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "Invalid" in page.text
    assert "The plan was changed." in page.text
    assert "There is no primary comparison" in page.text


def test_no_verdict_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="E0120") as caught:
        write_report(tmp_path)
    assert caught.value.hint == f"fettle resume {tmp_path}"


@pytest.mark.parametrize("content", ["[1]", "{", ""])
def test_a_damaged_verdict_is_an_integrity_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "verdict.json").write_text(content)
    with pytest.raises(IntegrityError, match="E0901"):
        write_report(tmp_path)
