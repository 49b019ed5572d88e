"""Whereabouts: an origin whose file is gone or changed says so, and names another place of the record where it can."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline.hashing import digest_range
from headrace.pipeline.origins import Origin, local_path
from headrace.pipeline.store import Store
from headrace.pipeline.whereabouts import Standing, Whereabouts
from tests.commands import Ran, headrace
from tests.making import RUN_FILE, make_crawl, recompress, write_recipe

URL = "https://example.org/3"


class House:
    """A folder with a crawl, a store and commands over them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.crawl = folder, make_crawl(folder / "crawl", num_files=1)
        write_recipe(folder)

    def build(self, glob: str = "crawl/*.gz", *words: str) -> Ran:
        ran = headrace(
            "build",
            self.folder / "small.toml",
            "--store",
            self.folder / "store",
            "--source",
            f"web={self.folder}/{glob}",
            "--workers",
            1,
            "--json",
            *words,
        )
        assert ran.status == 0, ran.err
        return ran

    def why(self) -> Any:
        (found,) = headrace("why", URL, "--store", self.folder / "store", "--json").json["documents"]
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def assert_readable(place: dict[str, Any]) -> None:
    path = local_path(place["uri"])
    assert path
    with path.open("rb") as file:
        assert digest_range(file, place["offset"], place["length"]) == place["digest"]


def test_a_good_place_needs_no_words(house: House) -> None:
    ran = house.build()
    fate = house.why()
    assert (fate["note"], fate["found_at"], ran.json["lost_files"]) == (None, None, [])


def test_a_file_that_is_gone_is_told_and_its_copy_found_once_a_build_saw_it(house: House) -> None:
    house.build()
    old = house.why()["origin"]["uri"]
    house.crawl.rename(house.folder / "moved")
    lost = house.why()
    assert (lost["note"].split(";")[0], lost["found_at"]) == (f"{old} is gone", None)
    assert "build once from where it is now" in lost["note"]
    again = house.build("moved/*.gz")
    assert again.json["lost_files"] == [str(local_path(old))]
    assert "note: parts of an earlier build are used again" in again.err
    found = house.why()
    assert found["origin"]["uri"] == old
    assert found["found_at"] == {**found["origin"], "uri": (house.folder / "moved" / "crawl-00.warc.gz").as_uri()}
    assert "the same bytes are at" in found["note"]
    assert_readable(found["found_at"])
    out = headrace("why", URL, "--store", house.folder / "store").out
    assert found["found_at"]["uri"] in out


def test_a_recompressed_file_is_found_by_the_record(house: House) -> None:
    """The corpus is the old one, part by part; the other reading knows where the record lies in other bytes."""
    first = house.build()
    run = house.folder / "run.toml"
    run.write_text(RUN_FILE.format(tokens=first.json["tokens_manifest"]))
    assert headrace("train", run, "--out", house.folder / "run").status == 0
    recompress(house.crawl / "crawl-00.warc.gz", house.folder / "again" / "crawl-00.warc.gz", 1)
    shutil.rmtree(house.crawl)
    second = house.build("again/*.gz")
    assert second.json["manifest"] == first.json["manifest"]
    assert second.json["lost_files"] == [str(house.crawl / "crawl-00.warc.gz")]
    ran = headrace("trace", house.folder / "run", "--step", 1, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["documents"]
    for piece in ran.json["documents"]:
        assert piece["origin"]["uri"] == (house.crawl / "crawl-00.warc.gz").as_uri()
        assert piece["found_at"]["uri"] == (house.folder / "again" / "crawl-00.warc.gz").as_uri()
        assert "the same record, in other bytes, is at" in piece["note"]
        assert_readable(piece["found_at"])
    assert "is gone; the same record" in ran.err
    shown = headrace("trace", house.folder / "run", "--step", 1).out
    assert "again/crawl-00.warc.gz" in shown
    assert "crawl/crawl-00.warc.gz" not in shown


def test_a_file_that_changed_is_told(house: House) -> None:
    house.build()
    path = house.crawl / "crawl-00.warc.gz"
    whole = path.read_bytes()
    path.write_bytes(bytes(1000) + whole)
    assert "has changed since it was read; no other place" in house.why()["note"]
    path.write_bytes(whole)  # another time of change, the same bytes
    assert house.why()["note"] is None


def test_a_file_that_another_one_replaced_is_told(house: House) -> None:
    """The store remembers the newer file under the old name; that its size and time are right says nothing."""
    house.build()
    before = headrace("why", URL, "--store", house.folder / "store", "--json").json["documents"][0]
    path = house.crawl / "crawl-00.warc.gz"
    whole = path.read_bytes()
    recompress(path, house.folder / "other.gz", 1)
    shutil.copy(house.folder / "other.gz", path)
    house.build()
    store = Store.open(house.folder / "store")
    (standing,) = Whereabouts(store).look([(before["doc_id"], origin := origin_of(before))])
    assert standing.note
    assert standing.note.startswith(f"{origin.uri} has changed since it was read; the same record")
    assert standing.found_at
    assert_readable(standing.found_at.as_row())
    path.write_bytes(whole)
    assert Whereabouts(store).look([(before["doc_id"], origin)]) == [Standing()]


def test_a_place_that_is_no_local_file_is_left_alone(house: House) -> None:
    house.build()
    store = Store.open(house.folder / "store")
    remote = Origin("https://example.org/x.warc.gz", 0, 10, "0" * 64)
    assert Whereabouts(store).look([(None, remote)]) == [Standing()]


def origin_of(fate: dict[str, Any]) -> Origin:
    return Origin.of(fate["origin"])
