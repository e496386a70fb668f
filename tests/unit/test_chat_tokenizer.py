"""Loading, special tokens as text, saving: what needs no transformers."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.chat_cases import CONTROL, write_tokenizer
from tests.tiny import CHATML, SPECIAL_TOKENS, tiny_tokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import models

from fettle.chat.tokenizer import Tokenizer
from fettle.errors import BaseModelError, DataError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Tokenizer.load(tiny_tokenizer(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def llama2(tmp_path_factory):
    return Tokenizer.load(write_tokenizer(tmp_path_factory.mktemp("llama2"), "llama2"))


def test_a_directory_without_tokenizer_json_says_how_to_make_one(tmp_path):
    with pytest.raises(BaseModelError, match=r"no tokenizer\.json") as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.code == "E0560"
    assert "save_pretrained" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"\x80\x04pickle"),
        ("tokenizer_config.json", b"[1]"),
        ("tokenizer_config.json", b"[" * 100_000),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"1": "x"}}'),
        ("chat_template.jinja", b"\xff\xfe"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content):
    tiny_tokenizer(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BaseModelError, match=name) as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.code == "E0561"


def test_the_template_is_found_wherever_a_base_keeps_it(tmp_path):
    tiny_tokenizer(tmp_path, chat_template=None)
    assert Tokenizer.load(tmp_path).chat_template is None
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "json"}))
    assert Tokenizer.load(tmp_path).chat_template == "json"
    tiny_tokenizer(tmp_path, chat_template="config")
    assert Tokenizer.load(tmp_path).chat_template == "config"
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "listed"},
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokenizer.load(tmp_path).chat_template == "listed"
    (tmp_path / "chat_template.jinja").write_text("jinja\n")
    assert Tokenizer.load(tmp_path).chat_template == "jinja\n"


def test_named_tokens_of_the_tiny_tokenizer(tiny):
    assert (tiny.bos_token, tiny.eos_token, tiny.pad_token) == SPECIAL_TOKENS[:3]
    assert tiny.special_tokens == SPECIAL_TOKENS
    assert tiny.chat_template == CHATML
    assert tiny.unk_id is None
    assert not tiny.adds_bos


def test_pad_falls_back_to_eos(llama2):
    assert llama2.pad_token is None
    assert llama2.pad_id == llama2.eos_id
    assert llama2.adds_bos


def test_the_older_map_names_tokens_that_the_config_does_not(tmp_path):
    tiny_tokenizer(tmp_path)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|pad|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    named = {"eos_token": {"content": "<|eos|>"}, "bos_token": "<new>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(named))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.eos_token == "<|eos|>"
    assert tokenizer.encode("a<new>", add_special_tokens=False)[-1] == tokenizer.bos_id
    assert tokenizer.vocab_size == 287


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_every_text_comes_back(tiny, text):
    ids = tiny.encode_plain(text)
    assert tiny.decode(ids, skip_special_tokens=False) == text
    assert max(ids, default=0) < tiny.vocab_size


@settings(deadline=None)
@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, " ", "a", "\n", "<|", "|>", "é"]), max_size=12))
def test_special_tokens_in_a_users_text_are_text(tiny, parts):
    text = "".join(parts)
    ids = tiny.encode_plain(text)
    assert not any(tiny.is_added(index) for index in ids)
    assert tiny.decode(ids, skip_special_tokens=False) == text


@settings(deadline=None)
@given(st.lists(st.sampled_from([*CONTROL, "</s>", " ", "the", "\n", "Straße"]), max_size=12))
def test_special_tokens_in_a_users_text_are_text_for_sentencepiece(llama2, parts):
    text = "".join(parts)
    before, after = llama2.affixes
    ids = llama2.encode_plain(text, add_special_tokens=True)
    assert (before, after) == ([llama2.bos_id], [])
    assert ids[0] == llama2.bos_id
    assert not any(llama2.is_added(index) for index in ids[1:])


def test_a_unigram_piece_that_spells_a_control_token_is_taken_apart(tmp_path):
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((c, -5.0) for c in "</s>ab")]
    backend = Backend(models.Unigram(pieces, unk_id=0))
    backend.add_special_tokens(["<unk>", "</s>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert backend.model.tokenize("</s>")[0].id == 1
    assert tokenizer.encode_plain("a</s>b") == [6, 2, 3, 4, 5, 7]


def test_a_control_token_that_can_not_be_spelled_is_refused(tmp_path):
    backend = Backend(models.WordLevel({"<unk>": 0, "#": 1, "a": 2}, unk_token="<unk>"))
    backend.add_special_tokens(["#"])
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="can't be told apart") as caught:
        Tokenizer.load(tmp_path).encode_plain("a#")
    assert caught.value.code == "E0707"


def test_saving_keeps_one_template_only(tmp_path, tiny):
    tiny.save_into(tmp_path, "{{ 'new' }}")
    assert (tmp_path / "chat_template.jinja").read_text() == "{{ 'new' }}"
    assert "chat_template" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    again = Tokenizer.load(tmp_path)
    assert again.chat_template == "{{ 'new' }}"
    assert again.encode("a <|eos|>", False) == tiny.encode("a <|eos|>", False)


def test_saving_without_a_template_keeps_the_bases_own(tmp_path, tiny):
    tiny.save_into(tmp_path, None)
    assert Tokenizer.load(tmp_path).chat_template == CHATML
