"""The main job on real crawls: nothing lost, nothing hangs, and each document's fate can be followed to its bytes."""

from pathlib import Path

import pytest

from headrace.pipeline.build import Built, build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.recipe import load_recipe
from headrace.pipeline.refetch import refetch
from headrace.pipeline.store import Store
from headrace.pipeline.verify import verify
from headrace.pipeline.walk import BuildOptions
from headrace.pipeline.why import why
from tests.making import recompress


def web_en(glob: Path, store: Path, workers: int = 2, sample: float | None = None) -> Built:
    options = BuildOptions({"web": str(glob)}, sample=sample)
    return build(load_recipe("web-en"), Store.open(store), make_engine(workers), options)


@pytest.fixture(scope="module")
def archives(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """`web-en` over archives as they came: WARC, ARC, WET, WAT, lz4, and malformed ones."""
    return web_en(real_data / "crawl" / "archives" / "**" / "*", tmp_path_factory.mktemp("archives"))


def test_every_byte_of_malformed_archives_is_accounted_for(archives: Built, real_data: Path) -> None:
    files = [path for path in (real_data / "crawl" / "archives").rglob("*") if path.is_file()]
    read = archives.manifests["documents"].ledger
    assert read.input.bytes == sum(path.stat().st_size for path in files)
    assert set(read.gaps) <= {"garbage", "padding", "truncated", "corrupt_gzip", "corrupt_lz4", "unreadable_file"}
    assert {"truncated", "bad_length", "not_a_document", "http_status", "not_html"} <= set(read.dropped)
    assert archives.corpus.rows > 0


def test_a_store_of_real_archives_verifies(archives: Built) -> None:
    report = verify(archives.store.root)
    assert report.ok
    assert not report.stray


@pytest.fixture(scope="module")
def pages(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """`web-en` over a tenth of the pages."""
    return web_en(real_data / "crawl" / "pages-web.warc.gz", tmp_path_factory.mktemp("pages"), sample=0.1)


def test_a_recompressed_copy_gives_the_same_corpus(pages: Built, real_data: Path, tmp_path: Path) -> None:
    copy = recompress(real_data / "crawl" / "pages-web.warc.gz", tmp_path / "copy" / "pages.warc.gz", level=1)
    again = web_en(copy, tmp_path / "store", workers=1, sample=0.1)
    assert again.corpus.content == pages.corpus.content
    assert again.manifests["tokens"].content == pages.manifests["tokens"].content


def test_why_follows_documents_to_their_records(pages: Built) -> None:
    import pyarrow.parquet as pq

    paths = Path(pages.path("documents")).parent.glob("documents-*.parquet")
    ids = [doc_id for path in paths for doc_id in pq.read_table(path, columns=["doc_id"])["doc_id"].to_pylist()]
    for doc_id in sorted(ids)[:10]:
        (fate,) = why(pages.store, doc_id)
        assert refetch(pages.store, fate).same
