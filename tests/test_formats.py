"""The corpus opens as it is, in other people's software."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from headrace.pipeline.build import Built, build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.recipe import load_recipe
from headrace.pipeline.store import Store
from headrace.pipeline.walk import BuildOptions
from tests.making import make_crawl, write_recipe


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("formats")
    crawl = make_crawl(folder / "crawl", num_files=2)
    recipe = load_recipe(str(write_recipe(folder)))
    return build(recipe, Store.open(folder / "store"), make_engine(1), BuildOptions({"web": str(crawl / "*.warc.gz")}))


@pytest.fixture(scope="module")
def folder(built: Built) -> Path:
    return Path(built.path("corpus")).parent


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_duckdb(folder: Path, rows: list[dict[str, Any]]) -> None:
    import duckdb

    query = f"select doc_id, text, origin.offset from '{folder}/*.parquet' order by doc_id"
    found = duckdb.sql(query).fetchall()
    expected = [(row["doc_id"], row["text"], row["origin"]["offset"]) for row in rows]
    assert found == sorted(expected)


def test_polars(folder: Path, rows: list[dict[str, Any]]) -> None:
    import polars

    frame = polars.scan_parquet(f"{folder}/*.parquet").select("doc_id", "text", "metadata").collect()
    assert frame["doc_id"].to_list() == [row["doc_id"] for row in rows]
    assert frame["text"].to_list() == [row["text"] for row in rows]


def test_datasets(folder: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    import datasets

    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    dataset = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert dataset["text"][:] == [row["text"] for row in rows]
    assert dataset[0]["origin"]["uri"] == rows[0]["origin"]["uri"]


def test_datatrove(folder: Path, rows: list[dict[str, Any]]) -> None:
    import importlib.metadata  # noqa: F401 - datatrove 0.10.1 uses it without importing it

    from datatrove.pipeline.readers import ParquetReader

    reader = ParquetReader(str(folder), glob_pattern="*.parquet", text_key="text", id_key="doc_id")
    documents = list(reader.run(None, 0, 1))
    assert [document.id for document in documents] == [row["doc_id"] for row in rows]
    assert [document.text for document in documents] == [row["text"] for row in rows]
