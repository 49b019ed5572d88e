"""Suppressions: what was taken down does not come back, nor does what resembles it take its place."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from headrace.filters.contract import TextBatch
from headrace.filters.signals.minhash import MinHash
from headrace.pipeline.build import Built
from headrace.pipeline.errors import InputError
from headrace.pipeline.stages.duplicates import Duplicates
from headrace.pipeline.store import Store
from headrace.pipeline.suppressions import (
    Suppression,
    SuppressionNames,
    in_force,
    suppress,
    suppress_all,
    text_digest,
    withdraw,
)
from headrace.pipeline.verify import verify
from headrace.pipeline.why import why
from tests.commands import headrace
from tests.test_duplicates import edited, jaccard, minhash, rows, run, words, write


def pages() -> dict[str, str]:
    random = np.random.default_rng(4)
    base = words(random, 100)
    near = {f"near{n}": " ".join(edited(random, base, 2)) for n in range(3)}
    return {"down": " ".join(base), **near, "other": " ".join(words(random, 100))}


def corpus_names(built: Built) -> set[str]:
    urls = pq.read_table(built.store.part_path(built.corpus, 0), columns=["url"]).column(0).to_pylist()
    return {url.rpartition("/")[2] for url in urls} - {"only"}


def test_it_does_not_come_back_and_what_resembles_it_is_held(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", pages())
    before = run(folder, minhash(survivor="longest"))
    store = before.store
    suppress(store, "url", "https://www.x.org/down/", "asked by the owner")
    after = run(folder, minhash(survivor="longest"))
    assert corpus_names(after) == {"other"}
    (fate,) = why(store, "http://x.org/down")
    assert (fate.step, fate.reason) == ("suppress verdicts", "suppressed")
    assert fate.evidence == {"what": "url", "value": "x.org/down", "reason": "asked by the owner"}
    found = rows(after)
    assert {found[f"near{n}"].reason for n in range(3)} == {"held_for_review"}
    assert {found[f"near{n}"].survivor for n in range(3)} == {"down"}
    assert found["down"].kept is None
    told = headrace("clusters", after.path("corpus"), "--held", "--json").json
    assert (told["num_held"], len(told["largest"])) == (3, 1)
    assert told["largest"][0]["text"].split()[:3] == pages()["down"].split()[:3]
    plain = run(folder, minhash(verify="none"))
    assert corpus_names(plain) == {"other"}
    assert verify(store.root).ok


def similar(text: str, others: list[str]) -> list[float]:
    return [jaccard(text, other) for other in others]


def estimates(text: str, others: list[str]) -> list[float]:
    signed = MinHash().measure(TextBatch([text, *others], [""] * (len(others) + 1)))["signature"]
    hashes = np.stack([np.frombuffer(one, "<u8") for one in signed])
    return list((hashes[1:] == hashes[0]).mean(axis=1))


@pytest.mark.parametrize("verify", ["estimate", "jaccard"])
def test_however_many_were_taken_down_all_are_compared(verify: str, tmp_path: Path) -> None:
    """`most` counts survivors: pages of one template fill each other's buckets, and the last is asked as the first.

    Copies at other addresses are held, the same ones and those with a word changed.
    """
    random = np.random.default_rng(5)
    template, facts = [words(random, 20) for _ in range(5)], [words(random, 3) for _ in range(4)]
    pages = [
        [word for part, fact in zip(template, (*chosen, ""), strict=True) for word in (*part, fact)]
        for chosen in product(*facts)
    ]
    down = {f"{n}": {"text": " ".join(page), "url": f"http://gone.org/{n}"} for n, page in enumerate(pages)}
    copies = {f"copy{n}": " ".join(page) for n, page in enumerate(pages)}
    near = {f"near{n}": " ".join(edited(random, page, 1)) for n, page in enumerate(pages)}
    suppress(Store.open(tmp_path / "store"), "domain", "gone.org", "asked")
    step = minhash(verify=verify, similarity=0.9, most=1, rows=2)
    found = rows(run(write(tmp_path / "in", down), step, b=write(tmp_path / "b", {**copies, **near})))
    for number in range(len(pages)):
        assert (found[f"copy{number}"].reason, found[f"copy{number}"].survivor) == ("held_for_review", f"{number}")
    alike = similar if verify == "jaccard" else estimates
    for name, text in near.items():
        likest = max(alike(text, [one["text"] for one in down.values()]))
        assert (found[name].reason == "held_for_review") == (likest >= 0.9), name


def test_every_kind_of_thing_can_be_taken_down(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", pages())
    cases = {
        "domain": ("http://sub.x.org/", set()),
        "text": (text_digest(pages()["other"].replace(" ", "\n")), {"down", "near0", "near1", "near2"}),
        "payload": (sha256(pages()["other"].encode()).hexdigest().upper(), {"down", "near0", "near1", "near2"}),
    }
    for number, (what, (value, left)) in enumerate(cases.items()):
        store = Store.open(tmp_path / f"store{number}")
        suppress(store, what, "x.org" if what == "domain" else value, "gone")  # type: ignore[arg-type]
        built = run(folder, "", store=f"store{number}")
        assert corpus_names(built) == left, what


def test_records_are_withdrawn_and_not_erased(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    one = suppress(store, "domain", "Example.org", "asked")
    assert suppress(store, "domain", "www.example.org", "asked") == one
    withdraw(store, one.name, "it was a mistake")
    assert in_force(store) == []
    assert len(list((tmp_path / "store" / "suppressions").glob("*.json"))) == 2
    again = suppress(store, "domain", "example.org", "asked again")
    assert [record.name for record in in_force(store)] == [again.name]


def test_what_was_withdrawn_can_be_given_again(tmp_path: Path) -> None:
    """With the same words and date, however often; each record stays to be read."""
    store = Store.open(tmp_path / "store")
    names = []
    for _ in range(3):
        one = suppress(store, "domain", "example.org", "asked", "2026-11-25")
        assert suppress(store, "domain", "example.org", "asked", "2026-11-25") == one
        assert [record.name for record in in_force(store)] == [one.name]
        names += [one.name, withdraw(store, one.name, "it was a mistake").name]
        assert in_force(store) == []
    assert len({*names}) == 6
    assert SuppressionNames.load(store.root / "suppressions.json").names == tuple(sorted(names))
    assert verify(store.root).ok


def test_a_list_with_a_wrong_value_adds_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with pytest.raises(InputError, match="it has 32 hexadecimal digits"):
        suppress_all(store, [("domain", "example.org"), ("doc_id", "12")], "asked")
    assert in_force(store) == []


def test_records_without_a_withdrawal_have_the_names_that_they_had() -> None:
    one = Suppression(what="domain", value="example.org", reason="asked")
    assert one.name == "40fb1caeef3eba8c"
    assert b"again" not in one.render()


def test_records_are_named_in_one_file(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: suppress(store, "domain", f"x{n}.org", "asked"), range(20)))
    made.append(withdraw(store, made[0].name, "it was a mistake"))
    path = store.root / "suppressions.json"
    assert SuppressionNames.load(path).names == tuple(sorted(one.name for one in made))
    assert verify(store.root).ok
    (store.root / "suppressions" / f"{made[3].name}.json").rename(tmp_path / "aside.json")
    (finding,) = verify(store.root).findings
    assert (finding.path, finding.where) == ("suppressions.json", "names")
    assert f"{made[3].name!r} is named and not there" in finding.what
    path.unlink()
    run(write(tmp_path / "in", pages()), "")
    assert made[3].name not in SuppressionNames.load(path).names
    assert len(SuppressionNames.load(path).names) == 20


def test_the_order_of_records_is_in_no_key_and_other_stores_know_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", pages())
    values = [("url", "x.org/down"), ("url", "x.org/other")]
    keys = []
    for number, order in enumerate((values, values[::-1])):
        store = Store.open(tmp_path / f"s{number}")
        for what, value in order:
            suppress(store, what, value, "gone")  # type: ignore[arg-type]
        keys.append(run(folder, "", store=f"s{number}").corpus.key)
    assert keys[0] == keys[1]
    assert "other" in corpus_names(run(folder, "", store="third"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--url", "nothing"], "'nothing' is no URL"),
        (["--domain", "co.uk"], "no domain that somebody owns"),
        (["--doc-id", "12"], "it has 32 hexadecimal digits"),
        (["--url", "x.org/a", "--domain", "x.org"], "give one of --url"),
        ([], "give one of --url"),
    ],
)
def test_values_that_cannot_be_are_refused(options: list[str], complaint: str, tmp_path: Path) -> None:
    ran = headrace("suppress", "add", "--store", tmp_path / "store", "--reason", "r", *options)
    assert ran.status != 0
    assert complaint in ran.err


def test_the_commands_add_list_check_and_withdraw(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", pages())
    built = run(folder, "")
    store = ["--store", built.store.root]
    added = headrace(
        "suppress", "add", *store, "--url", "http://x.org/down", "--reason", "asked", "--date", "2026-11-25", "--json"
    )
    assert added.status == 0, added.err
    (listed,) = headrace("suppress", "list", *store, "--json").json["suppressions"]
    assert (listed["what"], listed["value"], listed["date"]) == ("url", "x.org/down", "2026-11-25")
    checked = headrace("suppress", "check", *store, "--json")
    assert checked.status == 1
    assert [one["url"] for one in checked.json["held"]] == ["http://x.org/down"]
    assert "down" not in corpus_names(run(folder, ""))
    removed = headrace("suppress", "remove", added.json["name"], *store, "--reason", "mistake", "--json")
    assert removed.status == 0, removed.err
    assert "down" in corpus_names(run(folder, ""))
    (tmp_path / "page").write_text(pages()["down"])
    payload = headrace("suppress", "add", *store, "--payload-file", tmp_path / "page", "--reason", "asked", "--json")
    assert payload.json["what"] == "payload"
    checked = headrace("suppress", "check", *store, "--json")
    assert [(one["url"], one["what"]) for one in checked.json["held"]] == [("http://x.org/down", "payload")]
    assert "no suppression in force" in headrace("suppress", "remove", "abc", *store, "--reason", "x").err


def test_only_steps_that_compare_with_what_was_taken_down_are_made_anew_for_it() -> None:
    stage = Duplicates(column="minhash.signature", reason="near_duplicate")
    assert stage.resources() == {}
    assert stage.model_copy(update={"suppressed": True, "verify": "none"}).resources() == {}
    assert stage.model_copy(update={"suppressed": True}).resources() == {"taken_down": "2"}
