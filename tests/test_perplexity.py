"""Perplexity is CCNet's: its normalization and its formula without any model, its scores with a small one of each."""

import gzip
import io
import math
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters.contract import TextBatch
from headrace.filters.laws import check_signal
from headrace.filters.libraries import MissingLibraryError, library_version
from headrace.filters.models import ModelFileError
from headrace.filters.signals import perplexity
from headrace.filters.signals.perplexity import Perplexity, Scored, normalize, score_sentences
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.views import make_signal
from headrace.pipeline.why import why
from tests.small_store import RECIPE, SENTENCES, build_small
from tests.test_why import rows_of

# ---------------------------------------------------------------------------------------------------- without a model


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ""),
        ("  \u2003 \n", ""),
        ("  Hello WORLD \n", "hello world"),
        ("Crème Brûlée, Ünïcödé", "creme brulee, unicode"),
        ("On 12.5.2020 at \u0663\u0664 and \uff11\uff12", "on 00.0.0000 at 00 and 00"),
        ("\u201eso\u201c \u00abici\u00bb \u300cそこ\u300d \u300aa\u300b", '"so" "ici" "そこ" "a"'),
        ("it\u2019s \u00b4x\u00b4 1\u20132\u2014end\u2026", "it's 'x' 0-0 - end..."),
        ("\u4f60\u597d\uff0c\u4e16\u754c\u3002\uff08\u5417\uff1f\uff09\uff01", "\u4f60\u597d,\u4e16\u754c.(\u5417?)!"),
        (
            "a\uff0eb \uff5e \u3010x\u3011 \u3008y\u3009 5\uff05 \u25ba \u2501 3\u22364\uff1b5\uff1a",
            "a. b ~ [x] <y> 0% - - 0:0;0:",
        ),
        ("one\ntwo\tthree\x85four\x00", "onetwothreefour"),  # control characters go, line feeds among them
        ("\u00bd \u00b2 \ufb01", "\u00bd \u00b2 \ufb01"),  # no compatibility forms
        ("İstanbul", "istanbul"),
        ("한국어", "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"),  # decomposed, as the reference leaves it
    ],
)
def test_a_line_is_normalized_as_ccnet_does(line: str, expected: str) -> None:
    assert normalize(line) == expected


def test_punctuation_is_replaced_as_datatrove_replaces_it() -> None:
    reference = pytest.importorskip("datatrove.utils.perplexity").KenlmModel("folder", "en")
    for code in range(0x3100):
        if not chr(code).isspace() and (text := chr(code).lower()).isprintable() and not text.isdecimal():
            expected = reference.remove_non_printing_char(reference.replace_unicode_punct(perplexity.strip_marks(text)))
            assert normalize(f"a{text}b") == f"a{expected}b"


@given(st.text(max_size=60))
def test_normalizing_is_what_the_pieces_of_it_are(text: str) -> None:
    assert normalize(text) == "".join(map(normalize_inner, text.strip()))


def normalize_inner(character: str) -> str:
    """Return what one character becomes where it stands between others; only a final sigma looks around itself."""
    return normalize(f"|{character}|")[1:-1] if character != "Σ" else "ς"


class Letters:
    """A piece for each word, and -1 for each letter of it and for the end."""

    def cut(self, line: str) -> str:
        return " ".join(line.split())

    def score(self, pieces: str) -> float:
        return -1.0 - sum(map(len, pieces.split()))


def test_the_formula() -> None:
    scored = score_sentences(["One two\nthree", "", "FOUR"], Letters())
    assert scored == Scored(log10_prob=-1.0 - 11 - 1.0 - 1.0 - 4, num_pieces=3, num_ends=3)
    assert scored.perplexity == 10 ** (18 / 6)
    assert score_sentences(["\ud800 a"], Letters()).num_pieces == 2


def test_what_has_no_perplexity() -> None:
    assert Scored(-1.0, 0, 1).perplexity is None
    assert Scored(-1e6, 1, 1).perplexity is None  # more than a float can be
    assert Scored(-math.inf, 1, 1).perplexity is None
    assert Scored(math.nan, 1, 1).perplexity is None


DIGESTS = ("model_sha256", "tokenizer_sha256")


def test_a_recipe_must_name_the_model() -> None:
    with pytest.raises(RecipeError, match="needs the option 'model'"):
        make_signal("perplexity", {})
    with pytest.raises(RecipeError, match=r"option 'unit' = 'page': Input should be 'document' or 'line'"):
        make_signal("perplexity", {**dict.fromkeys(("model", "tokenizer", *DIGESTS), "x"), "unit": "page"})


def test_a_missing_library_says_how_to_get_it() -> None:
    with pytest.raises(MissingLibraryError, match=r"needs no-such-thing, .* pip install 'headrace\[perplexity\]'"):
        library_version("no-such-thing", "nor-this", extra="perplexity", purpose="signal 'perplexity'")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["a\u0301\u0323", "\u0301\u0323", "\u201c", "A\n", "１", "é"])  # noqa: RUF001
def test_hostile_text_takes_no_quadratic_time(part: str) -> None:
    assert score_sentences([part * 500_000], Letters()).num_ends == 1


# ------------------------------------------------------------------------------------------------------- with a model

MISSING_EXTRA = "perplexity's libraries are not installed (pip install 'headrace[perplexity]')"
BOUND = 12.0
PROSE = [sentence.format(topic=topic) for sentence in SENTENCES for topic in ("barley", "oat", "rye", "wheat")]


@pytest.fixture(scope="session")
def signal(tmp_path_factory: pytest.TempPathFactory) -> Perplexity:
    """An instance over a tokenizer that is trained here and an ARPA model that is written here."""
    pytest.importorskip("kenlm", reason=MISSING_EXTRA)
    pytest.importorskip("sentencepiece", reason=MISSING_EXTRA)
    folder = tmp_path_factory.mktemp("models")
    return make_models(folder, PROSE)


def make_models(folder: Path, sentences: list[str], vocab_size: int = 90) -> Perplexity:
    tokenizer, model = folder / "en.sp.model", folder / "en.arpa"
    tokenizer.write_bytes(train_tokenizer(sentences, vocab_size))
    model.write_text(arpa(cutter(tokenizer), sentences), encoding="utf-8")
    return Perplexity(str(model), digest(model), str(tokenizer), digest(tokenizer))


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def train_tokenizer(sentences: list[str], vocab_size: int) -> bytes:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=map(normalize, sentences),
        model_writer=model,
        vocab_size=vocab_size,
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()


def cutter(tokenizer: Path) -> Callable[[str], list[str]]:
    from sentencepiece import SentencePieceProcessor

    pieces: Callable[[str], list[str]] = SentencePieceProcessor(model_file=str(tokenizer)).encode_as_pieces
    return pieces


def arpa(cut: Callable[[str], list[str]], sentences: list[str], discount: float = 0.5) -> str:
    """Write a bigram model with absolute discounting (Ney et al. 1994); an unknown piece counts as seen once."""
    cuts = [["<s>", *cut(normalize(sentence)), "</s>"] for sentence in sentences]
    single = Counter(piece for pieces in cuts for piece in pieces[1:]) + Counter(["<unk>"])
    pairs = Counter(pair for pieces in cuts for pair in pairwise(pieces))
    before, kinds = Counter[str](), Counter[str]()
    for (first, _), count in pairs.items():
        before[first] += count
        kinds[first] += 1
    weights = {first: discount * kinds[first] / count for first, count in before.items()}
    unigrams = {piece: count / single.total() for piece, count in single.items()}
    bigrams = {
        (a, b): (count - discount) / before[a] + weights[a] * unigrams[b] for (a, b), count in sorted(pairs.items())
    }
    lines = ["\\data\\", f"ngram 1={len(unigrams) + 1}", f"ngram 2={len(bigrams)}", "", "\\1-grams:"]
    lines.append(f"0\t<s>\t{math.log10(weights['<s>']):.6f}")
    for piece, probability in sorted(unigrams.items()):
        weight = f"\t{math.log10(weights[piece]):.6f}" if piece in weights else ""
        lines.append(f"{math.log10(probability):.6f}\t{piece}{weight}")
    lines += ["", "\\2-grams:", *(f"{math.log10(value):.6f}\t{a} {b}" for (a, b), value in bigrams.items())]
    return "\n".join([*lines, "", "\\end\\", ""])


class BackOff:
    """A bigram model with back-off weights (Katz 1987), read from ARPA in the plainest way."""

    def __init__(self, text: str) -> None:
        self.tables: dict[int, dict[str, list[float]]] = {1: {}, 2: {}}
        order = 0
        for line in text.splitlines():
            if line.endswith("-grams:"):
                order = int(line[1])
            elif order and "\t" in line:
                probability, words, *weight = line.split("\t")
                self.tables[order][words] = [float(probability), *map(float, weight)]

    def sentence(self, pieces: list[str]) -> float:
        known = ["<s>", *(piece if piece in self.tables[1] else "<unk>" for piece in pieces), "</s>"]
        return sum(self.bigram(*pair) for pair in pairwise(known))

    def bigram(self, before: str, word: str) -> float:
        if (found := self.tables[2].get(f"{before} {word}")) is not None:
            return found[0]
        weight = self.tables[1][before][1:]
        return self.tables[1][word][0] + (weight[0] if weight else 0.0)


def measure(signal: Perplexity, text: str) -> dict[str, Any]:
    return {name: values[0] for name, values in signal.measure(TextBatch([text], [""])).items()}


def expected(signal: Perplexity, sentences: list[str]) -> dict[str, Any]:
    """Return what cc_net's loop gives: one score and one length more than the pieces for each sentence."""
    model, cut = BackOff(Path(signal.model).read_text(encoding="utf-8")), cutter(Path(signal.tokenizer))
    total, length, num_pieces = 0.0, 0, 0
    for sentence in sentences:
        pieces = cut(normalize(sentence))
        total += model.sentence(pieces)
        length += len(pieces) + 1
        num_pieces += len(pieces)
    values = (None, None) if not num_pieces else (10 ** (-total / length), total)
    return dict(
        zip(("perplexity", "log10_prob", "num_pieces", "num_ends"), (*values, num_pieces, len(sentences)), strict=True)
    )


def assert_close(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == (
            value if value is None or isinstance(value, int) else pytest.approx(value, rel=1e-5, abs=6e-5)
        ), name
    assert all(value == round(value, 4) for value in found.values() if value is not None)


TEXTS = [
    *PROSE[:6],
    "\n".join(PROSE),
    "quantum flux capacitor",
    "x",
    "1 2 3",
    "",
    " \n ",
    "\n\nThe mill.\n\n",
    "日本語の文章です。",
    "\x00",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_document_is_one_sentence_and_a_line_is_one_where_asked(signal: Perplexity, text: str) -> None:
    assert_close(measure(signal, text), expected(signal, [text]))
    by_line = replace(signal, unit="line")
    assert_close(measure(by_line, text), expected(by_line, text.split("\n")))


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([*" .,\n\u20191é漢", "the ", "mill ", "stone", "river", "Nobody "]), max_size=30).map(
        "".join
    )
)
def test_scores_are_those_of_the_model(signal: Perplexity, text: str) -> None:
    assert_close(measure(signal, text), expected(signal, [text]))


@pytest.mark.parametrize("text", ["", *PROSE[:4], "\n".join(PROSE), "\u201eCrème\u201c\u2026 \u2014 Brûlée\n7 x"])
def test_datatrove_gives_the_same(signal: Perplexity, text: str) -> None:
    """Its digits differ (a number is one 0), and it rounds to 0.1."""
    reference = pytest.importorskip("datatrove.utils.perplexity").KenlmModel("folder", "en")
    import kenlm
    from sentencepiece import SentencePieceProcessor

    reference._model = kenlm.Model(signal.model)
    reference.tokenizer._model = SentencePieceProcessor(model_file=signal.tokenizer)
    found = measure(signal, text)["perplexity"]
    assert found is None if not text else round(found, 1) == reference.get_perplexity(text)


def test_likely_text_surprises_less(signal: Perplexity) -> None:
    likely, shuffled = measure(signal, PROSE[0]), measure(signal, PROSE[0][::-1])
    assert likely["perplexity"] < shuffled["perplexity"]


def test_lines_are_joined_without_a_space_as_the_reference_joins_them(signal: Perplexity) -> None:
    assert measure(signal, "the mill\nstood") == measure(signal, "the millstood")
    assert measure(signal, "the mill\nstood") != measure(signal, "the mill stood")


def test_a_longer_text_is_measured_at_its_beginning(signal: Perplexity) -> None:
    short = replace(signal, max_chars=20)
    assert measure(short, PROSE[0]) == measure(signal, PROSE[0][:20])


def test_the_laws_of_signals_hold_for_lines_too(signal: Perplexity) -> None:
    check_signal(replace(signal, unit="line"), hostile_bytes=10_000)


@pytest.mark.timeout(100)
@pytest.mark.parametrize("part", ["a", "the mill ", "\n", "x\n", "日", "é", "\ud800", "\u0301\u0323"])
def test_huge_texts_do_not_hang(signal: Perplexity, part: str) -> None:
    for one in (signal, replace(signal, unit="line")):
        measure(one, part * (300_000 // len(part)))


def test_only_the_files_that_are_meant_are_opened(signal: Perplexity, tmp_path: Path) -> None:
    other = replace(signal, model_sha256="0" * 64)
    with pytest.raises(ModelFileError, match=r"en\.arpa has sha256 .*, asked for is 0{64}"):
        other.resources()
    with pytest.raises(ModelFileError, match=r"en\.arpa has sha256"):
        measure(other, "text")
    with pytest.raises(ModelFileError, match=r"no file 'nowhere\.arpa'"):
        replace(signal, model="nowhere.arpa").resources()
    for name, data in (("model", b"\\data\\\nngram 1=x\n"), ("tokenizer", b"no model")):
        broken = tmp_path / name
        broken.write_bytes(data)
        with pytest.raises(ModelFileError, match=rf"{name}: has the right digest and cannot be read as a model"):
            measure(replace(signal, **{name: str(broken), f"{name}_sha256": digest(broken)}), "text")


def test_a_name_leaves_the_place_out(signal: Perplexity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_MODELS", str(Path(signal.model).parent))
    named = replace(signal, model=Path(signal.model).name, tokenizer=Path(signal.tokenizer).name)
    assert measure(named, PROSE[0]) == measure(signal, PROSE[0])
    assert named.resources() == signal.resources()


def test_a_build_measures_and_judges_by_it(signal: Perplexity, tmp_path: Path) -> None:
    options = "\n".join(f"{name} = {value!r}" for name, value in asdict(signal).items() if isinstance(value, str))
    step = (
        f'[[steps]]\nkind = "measure"\n[[steps.signals]]\nname = "perplexity"\n[steps.signals.options]\n{options}\n\n'
    )
    rule = f'    {{ column = "perplexity.perplexity", max = {BOUND}, reason = "surprising" }},\n'
    recipe = RECIPE.replace('[[steps]]\nkind = "rules"', f'{step}[[steps]]\nkind = "rules"').replace(
        "rules = [\n", f"rules = [\n{rule}"
    )
    built = build_small(tmp_path, recipe)
    rows = rows_of(built, "signals:perplexity", "signals")
    values = {str(row["doc_id"]): row["perplexity.perplexity"] for row in rows}
    assert all(isinstance(value, float) and value > 1 for value in values.values())
    fates = [fate for doc_id in values for fate in why(built.store, doc_id) if fate.reason != "same_record"]
    surprising = {fate.doc_id for fate in fates if fate.reason == "surprising"}
    assert surprising == {fate.doc_id for fate in fates if float(str(values[str(fate.doc_id)])) > BOUND}
    assert 0 < len(surprising) < len(fates)


def test_english_surprises_a_model_of_english_least(real_data: Path, tmp_path: Path) -> None:
    """The Declaration of Human Rights in ten languages, under a model of one English novel."""
    pytest.importorskip("kenlm", reason=MISSING_EXTRA)
    pytest.importorskip("sentencepiece", reason=MISSING_EXTRA)
    book = gzip.decompress((real_data / "books" / "ENG18721_Eliot.txt.gz").read_bytes()).decode()
    lines = [line for line in book.split("\n") if len(line) > 40][:2000]
    one = make_models(tmp_path, lines, vocab_size=1000)
    with zipfile.ZipFile(real_data / "languages" / "udhr2.zip") as archive:
        names = {Path(name).stem: name for name in archive.namelist()}
        texts = {code: archive.read(names[code]).decode() for code in LANGUAGES}
    found = {code: measure(one, text)["perplexity"] for code, text in texts.items()}
    assert min(found, key=found.__getitem__) == "eng"
    assert all(found[code] > 1.2 * found["eng"] for code in LANGUAGES if code != "eng")


LANGUAGES = ("eng", "deu", "fra", "nld", "ron", "rus", "spa", "ita", "fin", "tur")
