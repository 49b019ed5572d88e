"""datatrove's filters as signals: they decide what datatrove decides, offline, and keep the laws."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from headrace.filters import datatrove_blocks, laws
from headrace.filters.contract import Signal, TextBatch
from headrace.filters.datatrove_blocks import REFUSED, block_names, block_resources
from headrace.filters.laws import LAWS
from headrace.filters.models import ModelFileError, find_model
from headrace.filters.plugins import PluginError
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.views import make_signal
from tests.making import article
from tests.small_store import RECIPE, build_small

pytest.importorskip("datatrove", reason="datatrove is in headrace[interop]")

OPTIONS: dict[str, dict[str, Any]] = {
    "RegexFilter": {"regex_exp": "mill.*wheel"},
    "GopherQualityFilter": {"stop_words": ["the", "of"], "min_doc_words": 20},
    "GopherRepetitionFilter": {"top_n_grams": [[2, 0.1], [3, 0.2]]},
    "C4QualityFilter": {"filter_no_terminal_punct": False},
    "FineWebQualityFilter": {"stop_chars": [".", "?"], "line_punct_thr": 0.5},
}
WITHOUT_WORDS = ("RegexFilter", "C4ParagraphFilter")
TEXTS = [
    *(article(seed, num_sentences=seed + 1) for seed in range(12)),
    "A line that ends.\n\nhome | about\nPrivacy policy of this site [1].\n" * 5,
    "lorem ipsum dolor sit amet\n" * 10,
    "word " * 300,
    "#tag " * 80,
    "",
]


def measured(signal: Signal, texts: Sequence[str], url: str = "https://example.org/a") -> dict[str, Sequence[Any]]:
    return dict(signal.measure(TextBatch(texts, [url] * len(texts))))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_filter_decides_what_it_decides_in_datatrove(name: str) -> None:
    from datatrove.data import Document
    from datatrove.pipeline import filters

    options = {key: tuple(map(tuple, value)) if key == "top_n_grams" else value for key, value in OPTIONS[name].items()}
    options |= {"stop_chars": tuple(options["stop_chars"])} if "stop_chars" in options else {}
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(TEXTS)]
    passed = {document.id: document.text for document in getattr(filters, name)(**options).run(iter(documents))}
    values = measured(make_signal(f"datatrove:{name}", OPTIONS[name]), TEXTS)
    assert values["kept"] == [str(number) in passed for number in range(len(TEXTS))]
    assert len(set(values["kept"])) == 2
    edited = [passed.get(str(number), text) != text for number, text in enumerate(TEXTS)]
    assert [e for e, kept in zip(values["edited"], values["kept"], strict=True) if kept] == [
        e for e, kept in zip(edited, values["kept"], strict=True) if kept
    ]
    if name == "GopherQualityFilter":
        assert "gopher_short_doc" in values["reason"]
    assert all(reason is None for reason, kept in zip(values["reason"], values["kept"], strict=True) if kept)


def usable_blocks() -> list[Any]:
    params = []
    for name in block_names():
        try:
            signal = make_signal(f"datatrove:{name}", OPTIONS.get(name, {}))
            slow = [pytest.mark.slow] if name == "URLFilter" else []  # unpacks 700 MB of lists
            if not slow:
                signal.resources()
            params.append(pytest.param(signal, id=name, marks=slow))
        except (PluginError, ModelFileError, RecipeError) as error:
            skip = pytest.mark.skip(reason=f"{name}: {str(error).splitlines()[0][:80]}")
            params.append(pytest.param(None, id=name, marks=skip))
    return params


@pytest.mark.parametrize(
    "law", [law for law in LAWS if law is not laws.check_other_process], ids=lambda law: law.__name__
)
@pytest.mark.parametrize("signal", usable_blocks())
def test_a_filter_of_datatrove_keeps_the_laws_of_signals(signal: Signal, law: laws.Law) -> None:
    law(signal)


def test_another_process_decides_the_same() -> None:
    names = ("GopherQualityFilter", "RegexFilter")
    laws.check_other_process_for([make_signal(f"datatrove:{name}", OPTIONS[name]) for name in names])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("datatrove:GopherQuality", {}, "did you mean 'datatrove:GopherQualityFilter'"),
        ("GopherQualityFilter", {}, "did you mean 'datatrove:GopherQualityFilter'"),
        ("datatrove:BaseFilter", {}, "there is no signal 'datatrove:BaseFilter'"),
        ("datatrove:LambdaFilter", {}, "a recipe has no code"),
        ("datatrove:SamplerFilter", {}, "draws at random"),
        (
            "datatrove:GopherQualityFilter",
            {"min_doc_word": 3},
            "no option 'min_doc_word'; did you mean 'min_doc_words'",
        ),
        ("datatrove:GopherQualityFilter", {"min_doc_words": "3"}, "'min_doc_words' = '3'"),
        ("datatrove:GopherQualityFilter", {"exclusion_writer": "/tmp"}, "no option 'exclusion_writer'"),
        ("datatrove:RegexFilter", {}, "needs the option 'regex_exp'"),
    ],
)
def test_what_cannot_be_named_is_refused_by_name(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match="signal") as caught:
        make_signal(name, options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("RegexFilter", {"regex_exp": "("}, "unterminated subpattern"),
        ("GopherQualityFilter", {"language": "xx"}, "'language': 'xx'"),
        ("LanguageFilter", {"backend": "glotlid"}, "nothing is downloaded"),
        (
            "FastTextClassifierFilter",
            {"model_url": "hf://somebody/model.bin"},
            "'hf://somebody/model.bin' is no file here",
        ),
        ("C4BadWordsFilter", {"keep_fraction": 0.1}, "draws at random"),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_document(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PluginError) as caught:
        make_signal(f"datatrove:{name}", options).resources()
    assert message in str(caught.value)


def test_files_that_a_filter_would_download_are_used_where_they_are_and_named_in_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def assets(**names: str) -> Path:
        return tmp_path

    monkeypatch.setattr(huggingface_hub, "cached_assets_path", assets)
    monkeypatch.setattr("datatrove.pipeline.filters.unigram_log_probs.cached_assets_path", assets)
    with pytest.raises(PluginError, match=r"it reads .*unigram_freq.csv, which it would download"):
        make_signal("datatrove:UnigramLogProbFilter", {"logprobs_threshold": -3.5}).resources()
    (tmp_path / "unigram_freq.csv").write_text("word,count\nthe,60\nmill,40\n")
    signal = make_signal("datatrove:UnigramLogProbFilter", {"logprobs_threshold": -3.0})
    assert len(signal.resources()["datatrove:unigrams"]) == 64
    assert measured(signal, ["the mill", "something else"])["kept"] == [True, False]


def test_a_document_that_a_filter_fails_on_has_no_decision() -> None:
    signal = make_signal("datatrove:GopherQualityFilter", {"min_doc_words": None})
    values = measured(signal, ["", article(1)])
    assert (values["kept"][0], values["reason"][0], values["edited"][0]) == (None, "ZeroDivisionError", None)
    assert values["kept"][1] is not None


@pytest.mark.slow
def test_urls_are_judged_offline() -> None:
    pytest.importorskip("tldextract")
    pytest.importorskip("ahocorasick")
    signal = make_signal("datatrove:URLFilter", {"extra_domains": ["example.com"]})
    assert measured(signal, ["x"], "https://www.example.com/")["reason"] == ["domain"]
    assert measured(signal, ["x"], "https://example.org/")["kept"] == [True]
    assert measured(signal, ["x"], "")["kept"] == [None]


def test_the_language_filter_takes_the_model_that_is_pinned() -> None:
    try:
        find_model("lid.176.ftz")
    except ModelFileError as error:
        pytest.skip(str(error))
    signal = make_signal("datatrove:LanguageFilter", {"languages": ["en"]})
    assert measured(signal, [article(1), "Die Mühle steht am Fluss und sie ist sehr alt."])["kept"] == [True, False]
    assert "datatrove:model" in signal.resources()


def test_a_classifier_is_a_file_that_is_here() -> None:
    try:
        path = str(find_model("lid.176.ftz"))
    except ModelFileError as error:
        pytest.skip(str(error))
    options: dict[str, Any] = {"model_url": path, "keep_labels": [["en", 0.5]], "newline_replacement": " "}
    signal = make_signal("datatrove:FastTextClassifierFilter", options)
    values = measured(signal, [article(1), "Die Mühle steht am Fluss und sie ist sehr alt."])
    assert (values["kept"], values["edited"]) == ([True, False], [False, True])
    laws.check_batches(signal)
    with pytest.raises(PluginError, match="the model has no label 'english'"):
        make_signal("datatrove:FastTextClassifierFilter", options | {"keep_labels": [["english", 0.5]]}).resources()


def test_a_file_that_changes_has_another_digest_in_the_same_process(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    digests = []
    for data in (b"one", b"another"):
        path.write_bytes(data)
        digests.append(block_resources("FastTextClassifierFilter", {"model_url": str(path)})["datatrove:model"])
    assert digests == [sha256(b"one").hexdigest(), sha256(b"another").hexdigest()]


def test_without_datatrove_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datatrove_blocks, "find_spec", lambda name: None)
    assert block_names() == []
    with pytest.raises(RecipeError, match=r"datatrove is not installed; it comes with headrace\[interop\]"):
        make_signal("datatrove:GopherQualityFilter", {})
    assert set(REFUSED) == {"LambdaFilter", "SamplerFilter"}


def test_a_recipe_drops_by_a_filter_of_datatrove(tmp_path: Path) -> None:
    signals = 'signals = ["gopher_quality", "c4", { name = "datatrove:RegexFilter", options = { regex_exp = "rye" } }]'
    rule = '    { column = "datatrove:RegexFilter.kept", in = [true], reason = "rye" },\n'
    text = RECIPE.replace('signals = ["gopher_quality", "c4"]', signals, 1)
    text = text.replace("rules = [\n", f"rules = [\n{rule}")
    built = build_small(tmp_path, text)
    assert built.manifests["verdicts"].ledger.passed.records
    dropped = next(step for step in built.lock.steps if step.label == "rules quality")
    assert '"datatrove:RegexFilter.kept"' in dropped.config
    texts = [path.read_text() for path in (tmp_path / "inputs").glob("*.txt")]
    assert not any("rye" in text for text in texts)
    assert built.manifests["signals:datatrove:RegexFilter"].resources["datatrove"] == "0.10.1"
