"""Duplicates: against a plain walk over all documents, in any order and any number of parts, by every policy."""

import hashlib
import json
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from headrace.filters.contract import TextBatch
from headrace.filters.lsh import choose_bands
from headrace.filters.signals.minhash import MinHash
from headrace.pipeline.build import Built, build
from headrace.pipeline.dedup.pairs import SHINGLES, Compared, pair_up, remembered
from headrace.pipeline.dedup.ranking import parse_date
from headrace.pipeline.engines import InlineEngine, make_engine
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.schema import PAIRS
from headrace.pipeline.stages.buckets import Buckets
from headrace.pipeline.store import Store
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.tables import write_table
from headrace.pipeline.verify import verify
from headrace.pipeline.walk import BuildOptions

HEAD = """
name = "duplicates"
[[sources]]
name = "a"
reader = "jsonl"
extractor = "plain"
[[sources]]
name = "b"
reader = "jsonl"
extractor = "plain"
[[steps]]
kind = "measure"
signals = ["minhash", "digest", "gopher_quality"]
"""
CUT = '\n[[steps]]\nkind = "cut"\n'
VOCABULARY = [f"{a}{b}{c}" for a in "bdfglmnprst" for b in "aeiou" for c in ("l", "n", "r", "st", "m")]


@dataclass(frozen=True)
class Row:
    """What became of a document, known by its name."""

    name: str
    kept: bool | None
    reason: str | None
    survivor: str | None
    cluster: str | None
    cluster_size: int | None
    evidence: Mapping[str, Any]


def words(random: np.random.Generator, number: int) -> list[str]:
    return [str(word) for word in random.choice(VOCABULARY, number)]


def edited(random: np.random.Generator, text: Sequence[str], number: int) -> list[str]:
    """Return a copy with some words replaced by new ones."""
    copy = list(text)
    for place in random.choice(len(copy), number, replace=False):
        copy[place] = unique(int(random.integers(1 << 30)))
    return copy


def unique(number: int) -> str:
    """Return a word for a number, in letters: all numbers are one word to near-duplicates."""
    letters = ""
    while number:
        number, letter = divmod(number, 20)
        letters += "bcdfghjklmnpqrstvwxz"[letter]
    return f"q{letters}q"


def families(seed: int, number: int) -> dict[str, str]:
    """Return texts by name: families of a text and its edited copies, which lie close and far."""
    random = np.random.default_rng(seed)
    texts = {}
    for family in range(number):
        base = words(random, 80)
        texts[f"{family}.0"] = " ".join(base)
        for copy in range(random.integers(0, 5)):
            texts[f"{family}.{copy + 1}"] = " ".join(edited(random, base, int(random.integers(0, 9))))
    return texts


def write(folder: Path, texts: Mapping[str, Any], files: int = 1) -> Path:
    """Write documents as JSON lines; each has an address that is its name."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, text in texts.items():
        more = text if isinstance(text, dict) else {"text": text}
        lines.append(json.dumps({"id": name, "url": f"http://x.org/{name}", **more}))
    for number in range(files):
        (folder / f"{number:03d}.jsonl").write_text("\n".join(lines[number::files]) + "\n")
    return folder


def run(folder: Path, steps: str, *, store: str = "store", workers: int = 1, b: Path | None = None) -> Built:
    recipe = parse_toml(Recipe, HEAD + steps + CUT, "duplicates.toml")
    nothing = write(folder.parent / "nothing", {"only": "a document of its own that resembles no other one at all"})
    globs = {"a": f"{folder}/*.jsonl", "b": f"{b or nothing}/*.jsonl"}
    options = BuildOptions(globs=globs)
    return build(recipe, Store.open(folder.parent / store), make_engine(workers), options)


def minhash(**keys: object) -> str:
    return '[[steps]]\nkind = "minhash"\n' + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def rows(built: Built, label: str = "minhash 2") -> dict[str, Row]:
    """Return what the verdicts after a step say, by the documents' names."""
    step = next(step for step in built.lock.steps if step.label == f"{label} verdicts")
    manifest = built.store.artifact_folder(step.stage, step.key)
    verdicts = [row for path in sorted(manifest.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    names = {row["doc_id"]: row["url"].rpartition("/")[2] for row in documents(built)}
    found = {}
    for row in verdicts:
        evidence = json.loads(row["evidence"] or "{}")
        told = (row["kept"], row["reason"], names.get(row["survivor"]), row["cluster"], row["cluster_size"], evidence)
        found[names[row["doc_id"]]] = Row(names[row["doc_id"]], *told)
    return found


def documents(built: Built) -> list[dict[str, Any]]:
    manifest = built.manifests["documents"]
    paths = [built.store.part_path(manifest, part) for part in range(len(manifest.parts))]
    return [row for path in paths for row in pq.read_table(path, columns=["doc_id", "url", "text"]).to_pylist()]


def kept(found: Mapping[str, Row]) -> set[str]:
    return {name for name, row in found.items() if row.kept}


def jaccard(a: str, b: str, n: int = 5) -> float:
    left, right = ({tuple(text.split()[i : i + n]) for i in range(len(text.split()) - n + 1)} for text in (a, b))
    return len(left & right) / len(left | right)


def walk(built: Built, similar: Any) -> dict[str, str | None]:
    """Return each document's survivor: a plain walk in the order of ids, comparing with all kept that share a band."""
    texts = {row["doc_id"]: row["text"] for row in documents(built)}
    ids = sorted(texts)
    signed = MinHash().measure(TextBatch([texts[one] for one in ids], [""] * len(ids)))["signature"]
    buckets: dict[tuple[int, bytes], list[int]] = {}
    survivors: dict[str, str | None] = {}
    for number, signature in enumerate(signed):
        if signature is None:
            continue
        bands = [(band, signature[64 * band : 64 * band + 64]) for band in range(14)]
        met = {other for band in bands for other in buckets.get(band, ())}
        scores = {other: similar(signed[other], signature, texts[ids[other]], texts[ids[number]]) for other in met}
        best = max(scores, key=lambda other: (scores[other] or -1, -other), default=None)
        survivors[ids[number]] = None if best is None or scores[best] is None else ids[best]
        if survivors[ids[number]] is None:
            for band in bands:
                buckets.setdefault(band, []).append(number)
    return survivors


def estimate_of(a: bytes, b: bytes, *_: str) -> float | None:
    share = float(np.equal(np.frombuffer(a, "<u8"), np.frombuffer(b, "<u8")).mean())
    return share if share >= 0.7 else None


def jaccard_of(_: bytes, __: bytes, a: str, b: str) -> float | None:
    found = jaccard(a, b)
    return found if found >= 0.7 else None


@pytest.mark.parametrize(("verify", "similar"), [("estimate", estimate_of), ("jaccard", jaccard_of)])
def test_survivors_are_those_of_a_plain_walk(verify: str, similar: Any, tmp_path: Path) -> None:
    built = run(write(tmp_path / "in", families(1, 150), files=3), minhash(verify=verify))
    expected = walk(built, similar)
    found = rows(built)
    names = {row["doc_id"]: row["url"].rpartition("/")[2] for row in documents(built)}
    assert {names[one]: other and names[other] for one, other in expected.items()} == {
        name: row.survivor for name, row in found.items()
    }
    removed = [row for row in found.values() if row.survivor]
    assert len(removed) > 100
    for row in removed:
        assert found[row.survivor or ""].kept
        assert (row.reason, row.cluster) == ("near_duplicate", found[row.survivor or ""].cluster)


def test_with_verification_nothing_is_removed_that_does_not_resemble_its_survivor(tmp_path: Path) -> None:
    texts = families(2, 150)
    found = rows(run(write(tmp_path / "in", texts), minhash(verify="jaccard", similarity=0.8)))
    for row in found.values():
        if row.survivor:
            true = jaccard(texts[row.name], texts[row.survivor])
            assert true >= 0.8
            assert row.evidence == {"jaccard": round(true, 4)}


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_a_threshold_chooses_bands_that_need_not_use_all_hashes(threshold: float, tmp_path: Path) -> None:
    """Candidates are those of a plain comparison of bands; estimates are of all hashes."""
    texts = families(5, 20)
    built = run(write(tmp_path / "in", texts), minhash(threshold=threshold, verify="none"))
    bands, length = choose_bands(threshold, 112)
    assert bands * length < 112
    signed = MinHash().measure(TextBatch(list(texts.values()), [""] * len(texts)))["signature"]
    hashes = np.stack([np.frombuffer(one, "<u8") for one in signed if one is not None])
    cut = hashes[:, : bands * length].reshape(len(hashes), bands, length)
    met = (cut[:, None] == cut[None]).all(axis=-1).any(axis=-1)
    while not np.array_equal(met, joined := (met.astype(int) @ met) > 0):
        met = joined
    expected = {frozenset(np.array(list(texts))[row].tolist()) for row in met if row.sum() > 1}
    found = rows(built)
    clusters = {row.cluster for row in found.values()} - {None}
    assert {frozenset(name for name, row in found.items() if row.cluster == one) for one in clusters} == expected
    for row in found.values():
        if row.survivor:
            left, right = (signed[list(texts).index(name)] for name in (row.name, row.survivor))
            share = float(np.equal(np.frombuffer(left, "<u8"), np.frombuffer(right, "<u8")).mean())
            assert row.evidence == {"estimated_jaccard": round(share, 4)}


def test_clusters_are_named_by_their_smallest_id_and_know_their_size(tmp_path: Path) -> None:
    built = run(write(tmp_path / "in", families(3, 40)), minhash())
    found = rows(built)
    ids = {row["url"].rpartition("/")[2]: row["doc_id"] for row in documents(built)}
    members: dict[str, list[str]] = {}
    for row in found.values():
        if row.cluster:
            members.setdefault(row.cluster, []).append(row.name)
    for cluster, names in members.items():
        assert cluster == min(ids[name] for name in names)
        assert {found[name].cluster_size for name in names} == {len(names)}
        assert sum(bool(found[name].kept) for name in names) == 1


def test_order_parts_partitions_and_workers_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = families(4, 60)
    usual = rows(run(write(tmp_path / "in", texts), minhash(verify="jaccard")))
    shuffled = dict(np.random.default_rng(1).permutation(list(texts.items())).tolist())
    steps = minhash(verify="jaccard") + "[sharding]\ntask_mebibytes = 1\n"
    big = {f"big{n}": "word " * 150_000 for n in range(9)}  # of two equal runs, so that there are several parts
    alone = rows(run(write(tmp_path / "x" / "in", {**texts, **big}), minhash(verify="jaccard")))
    for partitions, workers in ((1, 1), (2, 2), (7, 1)):
        monkeypatch.setattr(Buckets, "num_partitions", lambda *_, n=partitions: n)
        built = run(write(tmp_path / f"{partitions}" / "in", {**shuffled, **big}, files=6), steps + "", workers=workers)
        assert len(built.manifests["documents"].parts) > 3
        assert len(built.manifests["buckets"].parts) == partitions
        assert rows(built) == alone
    assert {name: row for name, row in alone.items() if name not in big} == usual


def test_findings_and_pairs_are_the_same_however_many_are_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their ids are more than Arrow puts into one array, where many million documents have duplicates."""
    texts = families(4, 40)
    folder, again = write(tmp_path / "in", texts, files=2), write(tmp_path / "b", texts)
    made = [run(folder, minhash(verify="jaccard"), b=again, store="one")]
    monkeypatch.setattr("headrace.pipeline.doc_ids.ROWS_AT_ONCE", 7)
    made.append(run(folder, minhash(verify="jaccard"), b=again, store="two"))
    one, two = (
        [(part.files["findings"].content, part.files["pairs"].content) for part in built.manifests[role].parts]
        for built, role in ((built, "findings:duplicates") for built in made)
    )
    assert one == two
    assert made[0].manifests["findings:duplicates"].rows > 30
    assert made[0].manifests["findings:distinct"].content == made[1].manifests["findings:distinct"].content


def test_template_pages_are_not_duplicates(tmp_path: Path) -> None:
    """2,000 pages that share four fifths of their words word for word, and differ in the facts between."""
    random = np.random.default_rng(6)
    boilerplate = [words(random, 16) for _ in range(5)]
    pages = {}
    for number in range(2000):
        facts = [[unique(20 * number + 4 * place + word) for word in range(4)] for place in range(5)]
        pages[f"{number}"] = " ".join(
            word for pair in zip(boilerplate, facts, strict=True) for part in pair for word in part
        )
    truth = jaccard(pages["0"], pages["1"])
    assert 0.3 < truth < 0.8
    folder = write(tmp_path / "in", pages)
    assert len(kept(rows(run(folder, minhash(verify="jaccard", similarity=0.8))))) == 2001
    assert len(kept(rows(run(folder, minhash(verify="estimate", similarity=0.8))))) == 2001
    assert len(kept(rows(run(folder, minhash(verify="none"))))) < 1900, "without verification they are chained"


def test_chains_do_not_join_what_is_not_alike(tmp_path: Path) -> None:
    """Each text is the one before with three words changed: neighbours are alike, the ends have nothing in common."""
    random, text, chain = np.random.default_rng(7), None, {}
    for number in range(100):
        text = words(random, 100) if text is None else [*text[3:], *(unique(3 * number + place) for place in range(3))]
        chain[f"{number}"] = " ".join(text)
    assert jaccard(chain["0"], chain["1"]) > 0.9
    assert jaccard(chain["0"], chain["99"]) == 0
    folder = write(tmp_path / "in", chain)
    found = rows(run(folder, minhash(verify="jaccard")))
    assert all(jaccard(chain[row.name], chain[row.survivor]) >= 0.7 for row in found.values() if row.survivor)
    assert 8 < len(kept(found)) < 60
    assert len(kept(rows(run(folder, minhash(verify="none"))))) <= 3


def dated(texts: Mapping[str, str], dates: Iterable[str | None]) -> dict[str, Any]:
    return {name: {"text": text, "date": date} for (name, text), date in zip(texts.items(), dates, strict=True)}


def alike(*lengths: int) -> dict[str, str]:
    """Return texts that resemble each other, of growing length, called 0, 1, ..."""
    base = words(np.random.default_rng(8), 300)
    return {f"{number}": " ".join(base[:length]) for number, length in enumerate(lengths)}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"survivor": "longest"}, "3"),
        ({"survivor": "shortest"}, "0"),
        ({"survivor": "newest"}, "1"),
        ({"survivor": "oldest"}, "2"),
        ({"survivor": "highest", "by": "gopher_quality.num_words"}, "3"),
        ({"survivor": "lowest", "by": "gopher_quality.num_words"}, "0"),
        ({"survivor": "longest", "prefer": ["b"]}, "4"),
        ({"survivor": "longest", "prefer": ["a", "b"]}, "3"),
    ],
)
def test_the_survivor_is_the_one_that_is_asked_for(keys: dict[str, Any], expected: str, tmp_path: Path) -> None:
    dates = ["2020-01-01T00:00:00Z", "Wed, 25 Nov 2026 10:00:00 GMT", "19991231235959", None]
    texts = alike(280, 284, 288, 292, 290)
    folder = write(tmp_path / "in", dated({name: texts[name] for name in "0123"}, dates))
    other = write(tmp_path / "b", dated({"4": texts["4"]}, ["2021-01-01"]))
    assert kept(rows(run(folder, minhash(**keys), b=other))) == {expected}


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2013-05-20T12:34:56Z", 1369053296),
        ("20130520T123456+0200", 1369046096),
        ("20130520", 1369008000),
        ("2013-W21-1", 1369008000),
        (" 20130520123456\n", 1369053296),
        ("Mon, 20 May 2013 12:34:56 GMT", 1369053296),
        ("1369053296", None),  # seconds since 1970, which are no year, month, day and time
        ("2013052012345", None),
        ("201305201234", None),
        ("Mon, 20 May 2013 12:34:56 +9999999999999", None),
        ("20 May 20130000000000000000 12:00:00 GMT", None),
        ("Mon, 99999999999999999999 May 2013 12:00:00 GMT", None),
        ("20 May 2013 99999999999999999999:00:00 GMT", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates_are_of_three_forms_or_none(date: str, expected: int | None) -> None:
    assert parse_date(date) == expected


def test_the_first_is_the_one_with_the_smallest_id(tmp_path: Path) -> None:
    built = run(write(tmp_path / "in", alike(280, 282, 284, 286, 288)), minhash())
    ids = {row["url"].rpartition("/")[2]: row["doc_id"] for row in documents(built)}
    assert kept(rows(built)) - {"only"} == {min((name for name in ids if name != "only"), key=lambda name: ids[name])}


def test_other_scopes_are_not_compared(tmp_path: Path) -> None:
    texts = alike(280, 282)
    folder, other = write(tmp_path / "in", {"0": texts["0"]}), write(tmp_path / "b", {"1": texts["1"]})
    assert len(kept(rows(run(folder, minhash(), b=other)))) == 1
    assert kept(rows(run(folder, minhash(scope=["source"]), b=other))) == {"0", "1"}
    assert kept(rows(run(folder, minhash(scope=["source", "gopher_quality.num_words"]), b=other))) == {"0", "1"}


LATER = '[[steps]]\nkind = "measure"\nsignals = ["c4"]\n[[steps]]\nkind = "rules"\nname = "late"\nrules = [RULE]\n'


def test_what_a_later_rule_drops_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    """Also where a step after the duplicates' measures what the rule is about."""
    folder = write(tmp_path / "in", alike(280, 284, 288, 292))
    step = minhash(survivor="longest")
    assert kept(rows(run(folder, step))) == {"3", "only"}
    rule = '{ column = "gopher_quality.num_words", max = 286, reason = "long" }'
    built = run(folder, step + LATER.replace("RULE", rule))
    found = rows(built)
    assert found["0"].survivor == found["2"].survivor == found["3"].survivor == "1"
    corpus = pq.read_table(built.store.part_path(built.corpus, 0)).column("url").to_pylist()
    assert corpus == ["http://x.org/1"]
    every = '{ column = "c4.num_lines", max = 0, reason = "all" }'
    assert kept(rows(run(folder, step + LATER.replace("RULE", every)))) == {"3", "only"}


def test_what_is_measured_without_what_a_later_step_finds_is_not_asked_beforehand(tmp_path: Path) -> None:
    """Repeats are found among the documents that are left, so what is measured without them comes after."""
    folder = write(tmp_path / "in", alike(280, 284, 288, 292))
    measured = '[[steps]]\nkind = "measure"\nsignals = ["NAME"]\nview = "VIEW"\n'
    later = '[[steps]]\nkind = "substrings"\nwords = 10\n' + measured.replace("NAME", "fineweb").replace("VIEW", "c4")
    later = '[[steps]]\nkind = "measure"\nsignals = ["c4"]\n' + later
    later += measured.replace("NAME", "gopher_quality").replace("VIEW", "substrings")
    rules = [f'{{ column = "{name}", max = 286 }}' for name in ("gopher_quality@substrings.num_words", "c4.num_lines")]
    built = run(
        folder, minhash(survivor="longest") + later + '[[steps]]\nkind = "rules"\nrules = [' + ", ".join(rules) + "]"
    )
    assert kept(rows(built)) == {"3", "only"}
    labels = [step.label for step in built.lock.steps]
    assert labels.index("measure fineweb@c4") < labels.index("minhash 2") < labels.index("substrings 4")
    assert labels.index("substrings 4") < labels.index("measure gopher_quality@substrings")
    assert built.corpus.rows == 1, "the other has too many words when none of them is said again"


def test_exact_duplicates_are_found_by_digests(tmp_path: Path) -> None:
    texts = {"0": "One text,  of words.", "1": "One text, of\nwords.", "2": "one text, of words.", "3": "", "4": " "}
    folder = write(tmp_path / "in", texts)
    step = '[[steps]]\nkind = "exact"\nsurvivor = "longest"\n'
    found = rows(run(folder, step), "exact 2")
    assert kept(found) == {"0", "2", "only", "3", "4"} & set(found)
    assert (found["1"].reason, found["1"].survivor) == ("exact_duplicate", "0")
    by_url = {
        f"{number}": {"text": f"text {number}", "url": url}
        for number, url in enumerate(("http://x.org/a", "https://www.x.org/a/", "http://x.org/b"))
    }
    built = run(write(tmp_path / "urls" / "in", by_url), '[[steps]]\nkind = "exact"\ncolumn = "digest.url"\n')
    assert built.manifests["findings:duplicates"].rows == 2


def test_exact_duplicates_are_found_by_payload(tmp_path: Path) -> None:
    """Equal bytes are told apart from equal texts; a column of other documents' facts is refused."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in (("a", b"One text."), ("b", b"One text."), ("c", b"\xef\xbb\xbfOne text.")):
        (folder / f"{name}.txt").write_bytes(data)
    text = 'name = "p"\n[[sources]]\nname = "a"\nreader = "text"\nextractor = "plain"\n'
    text += '[[steps]]\nkind = "exact"\ncolumn = "payload_digest"\n[[steps]]\nkind = "cut"\n'
    recipe = parse_toml(Recipe, text, "recipe.toml")
    built = build(recipe, Store.open(tmp_path / "store"), InlineEngine(), BuildOptions(globs={"a": f"{folder}/*"}))
    corpus = pq.read_table(built.store.part_path(built.corpus, 0)).to_pylist()
    assert {row["text"] for row in corpus} == {"One text."}
    digests = {hashlib.sha256(data).hexdigest() for data in (b"One text.", b"\xef\xbb\xbfOne text.")}
    assert len(corpus) == 2
    assert {row["payload_digest"] for row in corpus} == digests
    assert verify(built.store.root).ok
    wrong = parse_toml(Recipe, text.replace("payload_digest", "url"), "recipe.toml")
    with pytest.raises(RecipeError, match="column 'url' is no digest"):
        build(wrong, built.store, InlineEngine(), BuildOptions(globs={"a": f"{folder}/*"}))


def test_texts_without_shingles_are_no_duplicates(tmp_path: Path) -> None:
    texts = {"0": "word", "1": "word", "2": "one two three four", "3": "one two three four", "4": ""}
    found = rows(run(write(tmp_path / "in", texts), minhash()))
    assert kept(found) == set(found)


def test_pairs_are_remembered_by_their_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other thresholds, rules, bands and addresses read no text for pairs that were compared before."""
    asked: list[int] = []
    original = MinHash.shingle_sets

    def counted(self: MinHash, batch: TextBatch) -> Any:
        asked.append(len(batch))
        return original(self, batch)

    monkeypatch.setattr(MinHash, "shingle_sets", counted)
    texts = families(9, 60)
    folder = write(tmp_path / "in", texts)
    first = run(folder, minhash(verify="jaccard", similarity=0.7))
    assert sum(asked) > 50
    asked.clear()
    second = run(folder, minhash(verify="jaccard", similarity=0.85))
    assert sum(asked) < 60, "texts whose survivor went"
    moved = write(tmp_path / "moved", {f"m{name}": text for name, text in texts.items()})
    asked.clear()
    third = run(moved, minhash(verify="jaccard", similarity=0.7))
    assert sum(asked) < 120
    fresh = run(folder, minhash(verify="jaccard", similarity=0.85), store="fresh")
    assert fresh.corpus.content == second.corpus.content != first.corpus.content
    assert third.manifests["findings:duplicates"].rows > 50
    damaged = sorted(first.store.root.glob("artifacts/duplicates/*/pairs-*.parquet"))
    for path in damaged:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[: len(data) // 2])
    other = run(folder, minhash(verify="jaccard", similarity=0.8))
    assert other.corpus.content == run(folder, minhash(verify="jaccard", similarity=0.8), store="fresh").corpus.content


def test_pairs_of_all_builds_are_put_together_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other contents and shingles are left out; a pair is held in 16 bytes, besides the contents."""
    monkeypatch.setattr("headrace.pipeline.doc_ids.ROWS_AT_ONCE", 100)
    store, random = Store.open(tmp_path), np.random.default_rng(7)
    contents = np.unique(random.integers(0, 1 << 63, (60, 2), dtype=np.uint64), axis=0)
    sums: dict[tuple[int, int], int] = {}
    for number, shingles in enumerate(["these", "these", "others"]):
        left, right = random.integers(0, 60, (2, 500))
        made = Compared.none(contents).extended(pair_up(left, right), left + right, left + right + 1)
        folder = store.root / "artifacts" / "duplicates" / f"{number}"
        folder.mkdir(parents=True)
        write_table(folder / "pairs-0.parquet", PAIRS, made.to_batches(), {SHINGLES: shingles}, row_group_bytes=4096)
        if shingles == "these":
            pairs = zip(np.minimum(left, right).tolist(), np.maximum(left, right).tolist(), strict=True)
            sums |= {(one, other): one + other for one, other in pairs}
    some = contents[::2]
    found = remembered(store, "these", some)
    halves = {(one // 2, other // 2): total for (one, other), total in sums.items() if not one % 2 and not other % 2}
    assert dict(zip(found.pairs.tolist(), found.shared.tolist(), strict=True)) == {
        one << 32 | other: total for (one, other), total in halves.items()
    }
    assert np.array_equal(found.total, found.shared + 1)
    assert found.find(np.array([*found.pairs[:2], 59 << 32 | 59], np.uint64)).tolist() == [0, 1, -1]
    assert found.pairs.nbytes + found.shared.nbytes + found.total.nbytes == 16 * len(found)
    assert len(remembered(store, "these", contents[:0])) == 0


@pytest.mark.parametrize("number", [200_000])
def test_a_bucket_of_equal_signatures_is_walked_once(number: int) -> None:
    """All in all bands: a quadratic step would take days."""
    from headrace.pipeline.dedup.buckets import Buckets as Found
    from headrace.pipeline.dedup.candidates import Arranged
    from headrace.pipeline.dedup.resolving import Resolver, resolve_components

    found = Found(np.tile(np.arange(number, dtype=np.uint64), 14), np.full(14, number, np.uint32))
    everyone = np.arange(number)
    signatures = np.broadcast_to(np.arange(112, dtype=np.uint64), (number, 112)).copy()
    arranged = Arranged.of(found, everyone, everyone, 128, 0)
    resolved = Resolver(arranged, signatures, 0.7, 128, 0).by_estimate()
    assert (resolved.survivors[0], set(resolved.survivors[1:].tolist()), resolved.num_crowded) == (-1, {0}, 0)
    assert set(resolve_components(found, everyone, everyone, signatures).survivors[1:].tolist()) == {0}
    random = np.random.default_rng(1).integers(0, 1 << 61, (number, 112), dtype=np.uint64)
    unlike = Resolver(arranged, random, 0.7, 128, 0).by_estimate()
    assert (unlike.survivors == -1).all()
    assert unlike.num_crowded == number - 128


@pytest.mark.parametrize("number", [50_000])
def test_a_bucket_of_documents_that_were_taken_down_is_walked_once(number: int) -> None:
    """As many were taken down, in one bucket, as have equal hashes elsewhere: each is held by its equal."""
    from headrace.pipeline.dedup.buckets import Buckets as Found
    from headrace.pipeline.dedup.candidates import Arranged
    from headrace.pipeline.dedup.resolving import Resolver

    everyone = np.arange(2 * number)
    found = Found(everyone.astype(np.uint64), np.array([2 * number], np.uint32))
    arranged = Arranged.of(found, everyone, everyone, 128, number)
    hashes = np.random.default_rng(2).integers(0, 1 << 61, (number, 112), dtype=np.uint64)
    resolved = Resolver(arranged, np.concatenate([hashes, hashes]), 0.7, 128, number).by_estimate()
    assert np.array_equal(resolved.survivors, np.append(np.full(number, -1), np.arange(number)))
    assert set(resolved.similarities[number:].tolist()) == {1.0}
    equal = np.broadcast_to(hashes[0], hashes.shape)
    changed = equal.copy()
    changed[:, 0] = np.arange(number)
    resolved = Resolver(arranged, np.concatenate([equal, changed]), 0.7, 128, number).by_estimate()
    assert set(resolved.survivors[number:].tolist()) == {0}


def test_what_was_taken_down_is_compared_within_its_scope_alone() -> None:
    from headrace.pipeline.dedup.buckets import Buckets as Found
    from headrace.pipeline.dedup.candidates import Arranged
    from headrace.pipeline.dedup.resolving import Resolver

    everyone = np.arange(4)  # the first was taken down, the third and fourth are of another scope
    found = Found(np.array([0, 1, 2, 3], np.uint64), np.array([2, 2], np.uint32))
    arranged = Arranged.of(found, everyone, everyone, 128, 1)
    signatures = np.broadcast_to(np.arange(112, dtype=np.uint64), (4, 112)).copy()
    assert Resolver(arranged, signatures, 0.7, 128, 1).by_estimate().survivors.tolist() == [-1, 0, -1, 2]


@pytest.mark.parametrize("distinct", [100_000, 1 << 62])
def test_a_range_takes_the_memory_that_it_is_planned_for(distinct: int) -> None:
    """Of band entries and of occurrences, whether many are equal or none is."""
    from headrace.pipeline.dedup.buckets import Buckets as Found
    from headrace.pipeline.dedup.entries import Entries
    from headrace.pipeline.dedup.occurrences import STORED, find_repeats
    from headrace.pipeline.stages.buckets import BYTES_OF_ENTRY
    from headrace.pipeline.stages.repeats import BYTES_OF_OCCURRENCE

    random, everyone = np.random.default_rng(5), np.ones(100_000, dtype=bool)
    keys = [np.sort(random.integers(0, distinct, 100_000, dtype=np.uint64)) for _ in range(4)]
    ids = random.integers(0, distinct, (100_000, 2), dtype=np.uint64)
    units = []
    for own in keys:
        units.append(np.zeros(100_000, STORED))
        units[-1]["hash"], units[-1]["row"] = own, np.arange(100_000)
    parts = [(Entries(own, np.arange(100_000, dtype=np.uint32)), everyone) for own in keys]
    for find, planned in (
        (lambda: Found.find(parts), BYTES_OF_ENTRY),
        (lambda: find_repeats([(own, everyone, ids) for own in units], "first"), BYTES_OF_OCCURRENCE),
    ):
        tracemalloc.start()
        find()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert planned / 2 < peak / 400_000 < planned
