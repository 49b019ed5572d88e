"""Repair at extraction: what ftfy repairs and nothing else, in linear time, recorded, and the same when read again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.pipeline.build import Built
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.extract import Dropped, Extracted, make_extractor
from headrace.pipeline.readers.contract import Record
from headrace.pipeline.refetch import refetch
from headrace.pipeline.repair import RepairingExtractor, make_repairer, repairer_classes
from headrace.pipeline.stages.read import Read, SourceConfig
from headrace.pipeline.why import why
from tests.commands import headrace
from tests.small_store import RECIPE, SENTENCES, build_small, small_recipe, write_inputs
from tests.test_extract import iter_pages, make_page

REPAIR = RECIPE.replace('extractor = "plain"', 'extractor = "plain"\nrepair = "ftfy"')
MENDED = "Der Müller geht über die Brücke, “sagt” man."
FIXERS = "unescape_html fix_latin_ligatures fix_character_width uncurl_quotes fix_line_breaks remove_terminal_escapes"
EVERYTHING = dict.fromkeys((*FIXERS.split(), "remove_control_chars"), True)


def misread(text: str, encoding: str = "sloppy-windows-1252", times: int = 1) -> str:
    import ftfy  # noqa: F401 - makes the sloppy encodings known

    for _ in range(times):
        text = text.encode().decode(encoding)
    return text


def reference(text: str, options: dict[str, Any]) -> str:
    import ftfy

    switches = {name: on for name, on in asdict(make_repairer("ftfy", options)).items() if name != "max_passes"}  # type: ignore[call-overload]  # a protocol of dataclasses
    config = ftfy.TextFixerConfig(**switches, fix_surrogates=False, normalization=None)
    return ftfy.fix_text(text, config=config)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("encoding", ["latin-1", "sloppy-windows-1252", "macroman"])
def test_misread_text_is_read_right(encoding: str, times: int) -> None:
    repaired = make_repairer("ftfy", {}).repair(f"fine\n{misread(MENDED, encoding, times)}\nfine, too: é\n")
    assert repaired.text == f"fine\n{MENDED}\nfine, too: é\n"
    assert repaired.counts["segments"] == repaired.counts["fix_encoding"] == 1
    assert 0 < repaired.counts["characters"] <= len(misread(MENDED, encoding, times))


@pytest.mark.parametrize(
    "text",
    ["", "plain", MENDED, "ﬁne, “quoted” ｗｉｄｅ\u2028 &amp; \x1b[1mbold", "e\u0301", "日本語。", "Привет"],  # noqa: RUF001 - the point
)
def test_what_is_no_damage_stays(text: str) -> None:
    repaired = make_repairer("ftfy", {}).repair(text)
    assert (repaired.text, repaired.counts) == (text, {})


def test_every_fixer_has_its_switch_and_its_name() -> None:
    text = "&eacute; ﬁ ａ “b” \u2028 \x1b[1mc\x07"  # noqa: RUF001 - the point
    repaired = make_repairer("ftfy", EVERYTHING).repair(text)
    assert repaired.text == 'é fi a "b" \n c'
    assert set(repaired.counts) == {"segments", "characters", *EVERYTHING}
    assert make_repairer("ftfy", {"fix_encoding": False}).repair(misread("é")).counts == {}
    with pytest.raises(RecipeError, match="did you mean 'uncurl_quotes'"):
        make_repairer("ftfy", {"uncurl_quote": True})
    with pytest.raises(RecipeError, match="no repair 'fftfy'; did you mean 'ftfy'"):
        make_repairer("fftfy", {})


fragments = st.one_of(
    st.sampled_from(["é", "ß ", "“x”", "Привет", "😀", "à la ", "…", "\u00a0", "한국", "ελ"]).flatmap(
        lambda text: st.builds(
            misread,
            st.just(text),
            st.sampled_from(["latin-1", "sloppy-windows-1252", "cp437", "sloppy-windows-1251"]),
            st.integers(0, 2),
        )
    ),
    st.sampled_from(
        ["the ", "\n", "Ã ", "&amp;amp;lt;", "ﬁ", "ア", "\x1b[1m", "\x07", "À\x80", "\ufffd", "í\xa0½í\xb8\x80"]
    ),
    st.text("ÃÂâ€ƒ™œðŸ\x80\x9d ", max_size=4),
)


@settings(max_examples=300)
@given(st.lists(fragments, max_size=8).map("".join), st.sampled_from([{}, EVERYTHING]))
def test_texts_are_repaired_as_ftfy_repairs_them(text: str, options: dict[str, Any]) -> None:
    repaired = make_repairer("ftfy", options).repair(text)
    assert repaired.text == (text if "unfinished" in repaired.counts else reference(text, options))


@pytest.mark.parametrize("repairer", repairer_classes().values(), ids=lambda cls: str(cls.name))
@pytest.mark.parametrize(
    "text",
    [
        "Ã" + "ƒ" * 100_000,  # each pass of ftfy undoes one character of this
        "ж Ãƒ" + "Æ\u2019" * 50_000,
        "À\x80" * 50_000,  # on which ftfy's decoder is quadratic
        "&" + "amp;" * 25_000,
        "Ã©х" * 30_000,  # noqa: RUF001 - the point
        "\x1b[" + "1" * 100_000,
        "a\n" * 50_000,
    ],
    ids=range(7),
)
@pytest.mark.timeout(60)
def test_hostile_text_takes_no_quadratic_time(repairer: type[Any], text: str) -> None:
    for options in ({}, EVERYTHING):
        repaired = repairer(**options).repair(text)
        assert repaired == repairer(**options).repair(text)
        if "unfinished" in repaired.counts:
            assert repaired.text == text


def test_a_line_that_is_given_up_is_left_and_counted() -> None:
    lines = ["Ã" + "ƒ" * 2000, misread("é")]
    repaired = make_repairer("ftfy", {}).repair("\n".join(lines))
    assert repaired.text == f"{lines[0]}\né"
    assert (repaired.counts["unfinished"], repaired.counts["segments"]) == (1, 1)


def extract(payload: str, **values: Any) -> Extracted | Dropped:
    repairing = RepairingExtractor(make_extractor("plain", {}), make_repairer("ftfy", {"remove_control_chars": True}))
    return repairing.extract(make_page(payload.encode(), kind="text", **values))


def test_what_a_repair_did_stands_in_the_metadata() -> None:
    assert extract("plain", metadata={"title": "t"}) == Extracted("plain", "t", {"title": "t"})
    found = extract(f"a\n{misread('é')}", metadata={"title": misread("ö"), "name": "n"})
    counts = {"characters": 2, "fix_encoding": 1, "segments": 1, "title": 1}
    assert found == Extracted("a\né", "ö", {"title": "ö", "name": "n", "repair": counts})
    assert extract("\x07") == Dropped("empty")
    assert extract("a", fault="truncated") == Dropped("truncated", {"kind": "text"})
    nul = extract("À\x80b")  # which is how Java writes U+0000
    assert isinstance(nul, Extracted)
    assert nul.text == "b"


def build_damaged(folder: Path, recipe: str = REPAIR) -> Built:
    write_inputs(folder / "inputs")
    lines = [SENTENCES[0].format(topic="Gerste"), misread("Früher, als die Mühle noch ging, kam das Öl von hier.")]
    (folder / "inputs" / "gerste.txt").write_text("\n".join(lines))
    return build_small(folder, recipe)


def fate_of(built: Built, part: str) -> Any:
    (found,) = [
        fate
        for path in sorted(Path(built.path("documents")).parent.glob("documents-*.parquet"))
        for doc_id in ids_of(path)
        for fate in why(built.store, doc_id)
        if part in (fate.text or "")
    ]
    return found


def ids_of(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    ids: list[str] = pq.read_table(path, columns=["doc_id"])["doc_id"].to_pylist()
    return ids


def test_a_build_repairs_tells_and_reads_again(tmp_path: Path) -> None:
    built = build_damaged(tmp_path)
    fate = fate_of(built, "Gerste")
    assert "Früher, als die Mühle noch ging, kam das Öl von hier." in fate.text
    assert fate.metadata["repair"] == {"characters": 43, "fix_encoding": 1, "segments": 1}
    assert "repair" not in fate_of(built, "millet").metadata
    assert refetch(built.store, fate).same is True
    resources = built.manifests["documents"].resources
    assert resources["repair:ftfy"] == "1"
    assert resources["ftfy"]
    shown = headrace("why", fate.doc_id, "--store", built.store.root)
    assert "repaired" in shown.out
    assert "fix_encoding=1" in shown.out
    told = headrace("why", fate.doc_id, "--store", built.store.root, "--refetch", "--json").json["documents"][0]
    assert told["metadata"]["repair"]["segments"] == 1
    assert told["refetched"]["same"] is True


def test_a_repair_is_part_of_the_key_and_no_repair_leaves_it(tmp_path: Path) -> None:
    plain = SourceConfig(name="web", reader="warc", extractor="plain")
    assert set(json.loads(plain.model_dump_json())) == {
        "name",
        "reader",
        "reader_options",
        "extractor",
        "extractor_options",
    }
    repairing = plain.model_copy(update={"repair": "ftfy", "repair_options": {"uncurl_quotes": True}})
    keys = {Read(sources=(source,)).task([]).key for source in (plain, repairing)}
    assert len(keys) == 2
    task = Read(sources=(repairing,)).task([])
    assert Read.of(task) == Read(sources=(repairing,))
    assert Read(sources=(plain,)).resources().keys().isdisjoint({"ftfy", "repair:ftfy"})


def test_a_recipe_names_a_repair() -> None:
    recipe = small_recipe(
        REPAIR.replace('repair = "ftfy"', 'repair = "ftfy"\nrepair_options = { uncurl_quotes = true }')
    )
    assert [source.repair for source in recipe.sources] == [None, "ftfy"]
    assert recipe.sources[1].repair_options == {"uncurl_quotes": True}
    with pytest.raises(RecipeError, match=r"repair_options are given, but no repair; say which"):
        small_recipe(RECIPE.replace('reader = "text"', 'reader = "text"\nrepair_options = { uncurl_quotes = true }'))
    with pytest.raises(RecipeError, match=r"unknown key 'sources.1.repairs'; did you mean 'repair'"):
        small_recipe(RECIPE.replace('reader = "text"', 'reader = "text"\nrepairs = "ftfy"'))


def repaired_pages(path: Path) -> dict[str, tuple[str, str, dict[str, int]]]:
    """Return text, mended text and counts of the pages that a repair changes, by URL."""
    extractor, repairer = make_extractor("resiliparse", {}), make_repairer("ftfy", {})
    found = {}
    for page in iter_pages(path):
        outcome = extractor.extract(page)
        if isinstance(outcome, Extracted) and (done := repairer.repair(outcome.text)).counts:
            found[page.url] = (outcome.text, done.text, dict(done.counts))
    return found


@pytest.mark.parametrize("name", ["mixed", "news", "wikipedia"])
def test_real_pages_are_repaired_as_ftfy_repairs_them(name: str, real_data: Path) -> None:
    from ftfy.badness import badness

    pages = repaired_pages(real_data / "crawl" / f"pages-{name}.warc.gz")
    assert bool(pages) == (name == "news")
    for before, after, counts in pages.values():
        assert "unfinished" not in counts
        assert after == reference(before, {})
        assert badness(after) < badness(before)


def test_records_are_not_touched() -> None:
    record = make_page(misread("é").encode(), kind="text")
    assert isinstance(record, Record)
    assert record.payload == misread("é").encode()
