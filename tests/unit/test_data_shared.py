"""Real files: each is read whole and understood, or asks a clear question."""

import time
from pathlib import Path
from typing import Any

import pytest

from fettle.data.meaning.detect import detect
from fettle.data.prepare import prepare
from fettle.data.reading.read import read
from fettle.errors import DataError
from fettle.recipe.recipe import DataSection

TEXT_INTENT = {"text": "text", "label": "intent"}
NAMELESS = {"text": "0", "label": "1"}
TWEETS = {"text": "2", "label": "1"}


@pytest.mark.parametrize(
    ("path", "num_records", "name", "columns"),
    [
        ("banking77/train.csv", 10_003, "text_label", {"text": "text", "label": "category"}),
        ("semeval2017_twitter_sentiment/twitter-2013train-A.tsv", 9_684, "text_label", TWEETS),
        ("semeval2017_twitter_sentiment/twitter-2016test-A.tsv.gz", 20_632, "text_label", TWEETS),
        ("semeval2017_twitter_sentiment/twitter-2016train-A.tsv", 6_000, "text_label", TWEETS),
        ("semeval2017_twitter_sentiment/twitter-2017test-A.gold.txt", 12_284, "text_label", TWEETS),
        ("bitext_customer_support/Bitext_Sample_Customer_Support_Training_Dataset.csv", 4_514,
         "prompt_completion", {"prompt": "instruction", "completion": "response"}),
        ("hwu64_fold1/rasa_train_RasaNlu_Merged_KFold_1_2018_03_22-13_01_25_169.json", 9_960,
         "text_label", TEXT_INTENT),
        ("hwu64_fold1/watson_format/intents/WatsonNluIntentsMerged_2018_03_22-13_01_25_169.csv",
         9_960, "text_label", NAMELESS),
        ("clinc150/data_full.json", 23_700, "text_label", {**NAMELESS, "split": "split"}),
        ("medquad/medquad.jsonl.gz", 16_407, "prompt_completion",
         {"prompt": "question", "completion": "answer"}),
        ("goemotions/dev.tsv", 5_426, "text_label", NAMELESS),
        ("gsm8k/test.jsonl", 1_319, "prompt_completion",
         {"prompt": "question", "completion": "answer"}),
        ("taskmaster4/data", 1_500, "sharegpt", {"messages": "utterances"}),
        ("fastchat_format_sample", 500, "sharegpt", {"messages": "conversations"}),
        ("gpteacher_roleplay", 1_923, "alpaca",
         {"prompt": "instruction", "context": "input", "completion": "response"}),
        ("e2e_nlg/devset.csv", 4_672, "prompt_completion", {"prompt": "mr", "completion": "ref"}),
        ("legal_plain_english_tosdr", 361, "prompt_completion",
         {"prompt": "original_text", "completion": "reference_summary"}),
        ("tweeteval_sentiment/val_text.txt", 2_000, "text", {"text": "text"}),
    ],
)  # fmt: skip
def test_real_files(
    shared: Path, path: str, num_records: int, name: str, columns: dict[str, str]
) -> None:
    section = DataSection(path=[str(shared / "data" / path)])
    result = read(section.path, section)
    assert len(result.rows) == num_records
    assert not any(row.malformed for row in result.rows)
    layout = detect(result.rows, section, None)
    assert (layout.name, dict(layout.columns)) == (name, columns)


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("bitext_customer_support/Bitext_Sample_Customer_Support_Training_Dataset.csv",
         "--task classify --text instruction --label intent"),
        ("mts_dialog/Main-Dataset/MTS-Dialog-TrainingSet.csv",
         "--task chat --prompt dialogue --completion section_text"),
        ("goemotions/dev.tsv", "several labels"),
        ("clinc150/data_full.json", '"split"'),
        ("multidogo/airline/dev.tsv", "--group conversationId"),
    ],
)  # fmt: skip
def test_real_files_that_can_be_read_in_two_ways(shared: Path, path: str, question: str) -> None:
    section = DataSection(path=[str(shared / "data" / path)])
    layout = detect(read(section.path, section).rows, section, None)
    assert question in "\n".join(layout.ambiguities)


def test_preference_pairs_are_refused_with_a_way_out(shared: Path) -> None:
    path = str(shared / "data" / "hh_rlhf_harmless_test" / "harmless-base_test.jsonl.gz")
    with pytest.raises(DataError, match="can't tell what the columns mean") as caught:
        prepare(DataSection(path=[path]), None, 0)
    assert "preference pairs" in caught.value.hint


def counts(shared: Path, *paths: str, **options: Any) -> dict[str, int]:
    section = DataSection(path=[str(shared / "data" / path) for path in paths], **options)
    return prepare(section, None, 0).counts()


def test_splits_of_real_files(shared: Path) -> None:
    test = str(shared / "data" / "banking77" / "test.csv")
    banking = counts(shared, "banking77/train.csv", eval=[test])
    assert (banking["holdout"], banking["quarantine"]) == (3080, 11)
    clinc = counts(shared, "clinc150/data_full.json")
    assert clinc == {"train": 15_095, "validation": 3_100, "holdout": 5_500, "quarantine": 5}


def test_ten_thousand_rows_take_seconds(shared: Path) -> None:
    start = time.process_time()
    counts(shared, "banking77/train.csv")
    # With every check, suspected label errors among them: on a quiet core about 10 s.
    assert time.process_time() - start < 40
