"""`headrace rules --set` with steps `best`: each document is decided as a build of the changed recipe decides it."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from headrace.filters.rules import RuleError
from headrace.pipeline.errors import InputError, StoreError
from headrace.pipeline.funnel import Answer, ask_rules
from headrace.pipeline.lock import Lock
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from tests.commands import headrace
from tests.making import article, page, write_warc

HEAD = """
name = "NAME"

[[sources]]
name = "web"
extractor = "resiliparse"

[[steps]]
kind = "measure"
signals = ["gopher_quality", "c4"]

[[steps]]
kind = "measure"
view = "c4"
signals = ["fineweb", "minhash"]
"""

LENGTH = """
[[steps]]
kind = "rules"
name = "length"
rules = [
    { column = "gopher_quality.num_words", min = 60, reason = "short" },
    { column = "gopher_quality.num_words", max = 400, reason = "long" },
]
"""

BEST_WORDS = """
[[steps]]
kind = "best"
column = "gopher_quality.mean_word_length"
share = 0.4
"""

LATE = """
[[steps]]
kind = "rules"
name = "late"
rules = [{ column = "c4.num_sentences", max = 30, reason = "many" }]
"""

MINHASH = """
[[steps]]
kind = "minhash"
signal = "minhash@c4"
"""

LOWEST = """
[[steps]]
kind = "best"
column = "fineweb@c4.new_line_ratio"
best = "lowest"
share = 0.5
on_null = "keep"
ties = "TIES"
reason = "repeats"
"""

LAST = """
[[steps]]
kind = "rules"
name = "last"
rules = [{ column = "gopher_quality.alpha_word_frac", min = 0.5 }]
"""

CUT = """
[[steps]]
kind = "cut"

[sharding]
task_mebibytes = 1
"""

RECIPES = {
    "plain": [LENGTH, BEST_WORDS, LATE],
    "twice": [LENGTH, BEST_WORDS, LATE, LOWEST, LAST],
    "ties": [LENGTH, LOWEST.replace("TIES", "drop"), LATE, BEST_WORDS],
    "near": [LENGTH, MINHASH, BEST_WORDS, LATE],
    "between": [LENGTH, BEST_WORDS, LATE, MINHASH, LOWEST, LAST],
}

REPEATED = """
[[steps]]
kind = "substrings"
words = 10

[[steps]]
kind = "rules"
rules = [{ column = "substrings.repeated_frac", max = 0.5, on_null = "keep", reason = "said elsewhere" }]
"""

COUNTED = {"counted": [LENGTH, MINHASH, REPEATED, BEST_WORDS], "counted-last": [LENGTH, MINHASH, BEST_WORDS, REPEATED]}
"""Rules that near-duplicates are not asked beforehand, because a later step finds what they are about."""

CHANGES = {
    "stricter": ["gopher_quality.num_words.min=150"],
    "looser": ["gopher_quality.num_words <= 4000", "gopher_quality.num_words >= 1"],
    "both ways": ["gopher_quality.num_words >= 200", "gopher_quality.num_words <= 500"],
    "nothing is left": ["gopher_quality.num_words >= 390", "gopher_quality.num_words <= 391"],
    "nothing changes": ["gopher_quality.num_words >= 60.0", "c4.num_sentences <= 30"],
    "after the first": ["c4.num_sentences <= 12"],
    "before and after": ["c4.num_sentences <= 45", "gopher_quality.num_words.min=30"],
    "another share": ["gopher_quality.mean_word_length.share=0.7"],
    "share and rule": ["gopher_quality.mean_word_length.share = 0.15", "gopher_quality.num_words >= 90"],
    "all of them": ["gopher_quality.mean_word_length.share=1"],
    "undefined": ["gopher_quality.num_words >= 0", "c4.num_sentences <= 60"],
}


@dataclass(frozen=True)
class Corpus:
    """What a build of a recipe decided: what is kept, what went as a near-duplicate, and its thresholds in order."""

    path: Path
    lock: Path
    kept: frozenset[str]
    near_duplicates: frozenset[str]
    thresholds: tuple[dict[str, Any], ...]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three parts of pages of many lengths, among them copies with a line more, the same record, and no prose."""
    folder = tmp_path_factory.mktemp("redeciding")
    sizes = np.random.default_rng(5).integers(3, 60, 90)
    for number in range(3):
        pages = []
        for n in range(30):
            text = article(100 * number + n, int(sizes[30 * number + n]))
            pages.append((f"https://example.org/{number}/{n}", page(f"Page {n}", text)))
        for n in range(0, 30, 4):  # of pages of the next file too, so that survivors lie in other parts
            text = article(100 * ((number + 1) % 3) + n, int(sizes[30 * ((number + 1) % 3) + n]))
            more = "One more sentence stands at the very end of the copy. " * (1 + n % 3)
            pages.append((f"https://copy.example.org/{number}/{n}", page("A copy", f"{text}\n\n{more}")))
        lists = ["\n\n".join([f"word {n}"] * 40) for n in range(4)]
        pages += [(f"https://list.example.org/{number}/{n}", page("List", text)) for n, text in enumerate(lists)]
        pages.append(("https://example.org/0/0", page("Page 0", article(0, int(sizes[0])))))
        pages.append((f"https://example.org/{number}/filler", b"<html><!--" + b"x" * (2 << 20) + b"--></html>"))
        write_warc(folder / "crawl" / f"{number}.warc", pages, compress=False)
    return folder


def build(folder: Path, name: str, *sets: str) -> Corpus:
    """Build a recipe, or a changed copy of it, in the one store that all measurements lie in."""
    ran = headrace(*build_words(folder, name, sets), "--json")
    assert ran.status == 0, ran.err
    store = Store.open(folder / "store")
    found: dict[str, list[dict[str, Any]]] = {"threshold": [], "adopt": [], "cut": []}
    for step in Lock.load(Path(ran.json["lock"])).steps:
        if step.stage in found:
            found[step.stage] += rows(store, step.stage, step.key)
    gone = (row["doc_id"] for row in found["adopt"] if row["reason"] == "near_duplicate")
    kept = (row["doc_id"] for row in found["cut"])
    return Corpus(
        Path(ran.json["manifest"]), Path(ran.json["lock"]), frozenset(kept), frozenset(gone), tuple(found["threshold"])
    )


def build_words(folder: Path, name: str, sets: Sequence[str], command: str = "build") -> list[object]:
    recipe = folder / f"{name}.toml"
    steps = "".join({**RECIPES, **COUNTED}[name]).replace("TIES", "keep")
    recipe.write_text(HEAD.replace("NAME", f"changed-{name}" if sets else name) + steps + CUT)
    words = [command, recipe, "--store", folder / "store", "--source", f"web={folder}/crawl/*.warc"]
    return [*words, *(["--workers", 1] if command == "build" else []), *(w for text in sets for w in ("--set", text))]


def rows(store: Store, stage: str, key: str) -> list[dict[str, Any]]:
    manifest = Manifest.load(store.artifact_folder(stage, key) / "manifest.json")
    return [
        row for part in range(len(manifest.parts)) for row in pq.read_table(store.part_path(manifest, part)).to_pylist()
    ]


@pytest.fixture(scope="module")
def corpora(folder: Path) -> dict[str, Corpus]:
    return {name: build(folder, name) for name in RECIPES}


def ask(corpus: Corpus, *sets: str, **more: Any) -> Answer:
    return ask_rules(corpus.path, sets, num_samples=10_000, lock=corpus.lock, **more)


def test_the_recipes_have_what_there_is_to_decide(folder: Path, corpora: dict[str, Corpus]) -> None:
    """Three parts, near-duplicates across them, undefined values; else the comparisons below would say little."""
    store = Store.open(folder / "store")
    (documents,) = map(Manifest.load, store.manifests("read"))
    assert len(documents.parts) == 3
    for name, corpus in corpora.items():
        assert len(corpus.kept) >= 10, name
        assert (len(corpus.near_duplicates) >= 3) == ("minhash" in "".join(RECIPES[name])), name
    lines = next(
        found for found in map(Manifest.load, store.manifests("measure")) if found.name == "measure fineweb@c4"
    )
    values = [row["fineweb@c4.new_line_ratio"] for row in rows(store, "measure", lines.key)]
    assert None in values
    assert 20 < len(set(values)) < len(values)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", RECIPES)
def test_each_document_is_decided_as_a_build_decides_it(
    folder: Path, corpora: dict[str, Corpus], name: str, change: str
) -> None:
    before, sets = corpora[name], CHANGES[change]
    asked, after = ask(before, *sets), build(folder, name, *sets)
    assert asked.changed
    assert asked.changed.funnel == ask(after).funnel
    refound = {one.step: one.after for one in asked.changed.thresholds}
    for number, row in enumerate(after.thresholds):
        old = before.thresholds[number]
        now = refound.get(labels(name)[number])
        told = old if now is None else {"column": old["column"], **vars(now)}
        assert told == row
    gone = {one.doc_id for one in asked.changed.now_dropped}
    come = {one.doc_id for one in asked.changed.now_kept}
    assert (len(gone), len(come)) == (asked.changed.num_now_dropped, asked.changed.num_now_kept)
    near = before.near_duplicates | after.near_duplicates
    assert ((before.kept - gone) | come) - near == after.kept - near
    assert not come & before.kept


def labels(name: str) -> list[str]:
    """Return the labels of the steps `best`: steps count from 1, and two measure."""
    return [f"best {number}" for number, step in enumerate(RECIPES[name], 3) if 'kind = "best"' in step]


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("change", ["another share", "all of them"])
def test_rules_that_near_duplicates_were_not_asked_beforehand_are_not_asked_again(
    folder: Path, name: str, change: str
) -> None:
    before, sets = build(folder, name), CHANGES[change]
    assert before.near_duplicates
    asked, after = ask(before, *sets), build(folder, name, *sets)
    assert asked.changed
    assert [vars(one.after)["threshold"] for one in asked.changed.thresholds] == [
        row["threshold"] for row in after.thresholds
    ]


def test_the_shares_are_known_without_a_lock_where_one_alone_fits(
    folder: Path, corpora: dict[str, Corpus], tmp_path: Path
) -> None:
    sets = ["gopher_quality.num_words >= 150"]
    told = ask(corpora["plain"], *sets).changed
    shutil.copytree(folder / "store", tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "locks")
    copied = tmp_path / "store" / corpora["plain"].path.relative_to(folder / "store")
    assert ask_rules(copied, sets, num_samples=10_000).changed == told
    store = Store.open(tmp_path / "store")
    for path in store.manifests("threshold"):
        shutil.rmtree(path.parent)
    with pytest.raises(InputError, match=r"best 4: the threshold that it was built with is gone .* build the recipe"):
        ask_rules(copied, sets)
    assert ask_rules(copied).funnel == ask(corpora["plain"]).funnel
    assert ask_rules(copied, ["c4.num_sentences <= 12"]).changed, "nothing before the step changes"


def test_shares_that_cannot_be_told_apart_are_asked_for(folder: Path, tmp_path: Path) -> None:
    """Two shares lead to one threshold, so to one artifact; a lock tells which, and without one a person must."""
    shutil.copytree(folder / "crawl", tmp_path / "crawl")
    usual = build(tmp_path, "plain")
    slightly = build(tmp_path, "plain", "gopher_quality.mean_word_length.share=0.399999")
    assert slightly.path == usual.path
    sets = ["gopher_quality.num_words >= 150"]
    for corpus, share in ((slightly, 0.399999), (usual, 0.4)):
        changed = ask(corpus, *sets).changed
        assert changed
        assert changed.thresholds[0].share == share
    with pytest.raises(
        InputError, match=r"builds with different rules made it, .*changed-plain.lock.*plain.lock.*--lock"
    ):
        ask_rules(usual.path, sets)
    (note,) = ask_rules(usual.path).notes
    assert "those of changed-plain.lock.toml" in note
    shutil.rmtree(tmp_path / "store" / "locks")
    assert "no lock names it" in ask_rules(usual.path).notes[0]
    with pytest.raises(InputError, match=r"the shares 0.399999, 0.4 all led .*--set .*mean_word_length.share=0.399999"):
        ask_rules(usual.path, sets)
    asked = ask_rules(usual.path, [*sets, "gopher_quality.mean_word_length.share=0.4"], num_samples=10_000)
    assert asked.changed == changed


def test_a_build_whose_steps_are_gone_is_not_asked(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "crawl", tmp_path / "crawl")
    whole = build(tmp_path, "plain")
    other = build(tmp_path, "plain", "gopher_quality.mean_word_length.share=0.399999")
    assert other.path == whole.path
    store = Store.open(tmp_path / "store")
    (lost,) = (step for step in Lock.load(other.lock).steps if step.stage == "threshold")
    shutil.rmtree(store.artifact_folder("threshold", lost.key))
    asked = ask_rules(whole.path, ["gopher_quality.num_words >= 150"])
    assert (asked.recipe, asked.lock) == ("plain", str(whole.lock))
    with pytest.raises(StoreError, match=r"the step 'best 4' of the build that .*changed-plain.lock.toml names"):
        ask_rules(whole.path, lock=other.lock)
    (tmp_path / "store" / "locks" / "odd.lock.toml").write_bytes(b"\xff\xfe")
    assert ask_rules(whole.path, lock=whole.lock).recipe == "plain", "a lock that names other things is not read"
    (read,) = store.manifests("read")
    with pytest.raises(StoreError, match="does not name 'read'"):
        ask_rules(read, lock=tmp_path / "store" / "locks" / "odd.lock.toml")


def test_a_step_is_asked_as_the_lock_has_it_not_as_another_build_made_it_first(folder: Path, tmp_path: Path) -> None:
    """Two recipes whose first rules keep the same documents share all that follows; a changed one tells them apart."""
    shutil.copytree(folder / "crawl", tmp_path / "crawl")
    first = build(tmp_path, "twice", "c4.num_sentences <= 1000")
    second = build(tmp_path, "twice", "c4.num_sentences <= 2000")
    assert first.path == second.path
    rule = next(one for one in ask(second).funnel.rules if one.rule == "many")
    assert rule.allowed == "<= 2000"


@pytest.mark.parametrize(
    ("sets", "complaint"),
    [
        (["gopher_quality.mean_word_length >= 4"], r"judged by the step 'best 4' alone.*mean_word_length.share=0.2"),
        (["gopher_quality.num_words.share=0.2"], r"no step `best` reads 'gopher_quality.num_words'"),
        (["gopher_quality.mean_word_lengt.share=0.2"], "did you mean 'gopher_quality.mean_word_length'"),
        (["gopher_quality.mean_word_length.share=1.5"], "'1.5' is no share"),
        (["gopher_quality.mean_word_length.share=nan"], "'nan' is no share"),
        (["gopher_quality.mean_word_length.share=a fifth"], "'a fifth' is no share"),
        (["mean_word_length.share=0.2"], "is no column id"),
        (["gopher_quality.mean_word_length.share="], "'' is no share"),
        (["gopher_quality.mean_word_length.share=0_1"], "'0_1' is no share"),
        (["gopher_quality.mean_word_length.share=0.1"] * 2, "given twice"),
    ],
)
def test_changes_of_steps_that_cannot_be(corpora: dict[str, Corpus], sets: list[str], complaint: str) -> None:
    with pytest.raises(RuleError, match=complaint):
        ask(corpora["plain"], *sets)


def test_build_and_plan_take_the_same_share(folder: Path, corpora: dict[str, Corpus]) -> None:
    words = build_words(folder, "plain", ["gopher_quality.mean_word_length.share=0.123"], "plan")
    (*_, step) = headrace(*words, "--json").json["steps"]
    assert (step["step"], step["cached"]) == ("best 4", 0)
    ran = headrace(*build_words(folder, "plain", ["fineweb.new_line_ratio.share=0.2"], "plan"))
    assert (ran.status, "no step `best` reads" in ran.err) == (1, True)
    ran = headrace(*build_words(folder, "plain", ["gopher_quality.mean_word_length >= 4"], "plan"))
    assert (ran.status, "no rule judges" in ran.err) == (1, True)


def test_the_command_prints_both_thresholds_and_what_only_a_build_can_tell(corpora: dict[str, Corpus]) -> None:
    corpus = corpora["between"]
    ran = headrace("rules", corpus.path, "--lock", corpus.lock, "--set", "gopher_quality.num_words >= 150")
    assert ran.status == 0, ran.err
    changed = headrace(
        "rules", corpus.path, "--lock", corpus.lock, "--set", "gopher_quality.num_words >= 150", "--json"
    ).json["changed"]
    assert [one["step"] for one in changed["thresholds"]] == labels("between")
    lines = [line.split() for line in ran.out.splitlines()]
    for one in changed["thresholds"]:
        for when, found in (("before", one["before"]), ("now", one["after"])):
            figures = [found["documents"], found["threshold"], found["reached"]]
            assert [*one["step"].split(), one["column"], str(one["share"]), when, *map(str, figures)] in lines
        assert one["before"] != one["after"]
    assert "note: minhash 6: near-duplicates count like all others here" in ran.out
    assert "for the threshold of a later step `best` they were found anew" in ran.out
    late = headrace("rules", corpus.path, "--lock", corpus.lock, "--set", "gopher_quality.alpha_word_frac >= 0.9")
    assert "they were found anew" in late.out  # whom a later rule drops leaves the place to the next
    assert (
        "found anew"
        not in headrace(
            "rules", corpora["near"].path, "--lock", corpora["near"].lock, "--set", "c4.num_sentences <= 30"
        ).out
    )
