"""`docs/signals.md` names every signal with every column, and its recipes can be planned."""

import re
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from headrace.filters.contract import signal_classes
from headrace.filters.models import ModelFileError, find_model
from headrace.filters.signals.redpajama import RedPajama
from headrace.filters.signals.url import Url
from headrace.pipeline.fitting import check_steps
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.strict_toml import parse_toml
from tests.signal_examples import example

PAGE = (Path(__file__).parents[1] / "docs" / "signals.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `(?P<theirs>(?:ccnet|rps)_\w+)` \| `(?P<signal>\w+)\.(?P<column>\w+)` \|", re.MULTILINE)
NUM_ANNOTATIONS = 42  # of RedPajama-v2's README, minhash signatures aside


@pytest.fixture(scope="module")
def signal_table() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        yield import_module("benchmarks.signal_table")


def test_the_table_is_the_printed_one(signal_table: Any) -> None:
    between = PAGE.partition(signal_table.BEGIN)[2].partition(signal_table.END)[0]
    assert between == signal_table.table(), "run python -m benchmarks.signal_table --write"


@pytest.mark.parametrize("name", sorted(signal_classes()))
def test_every_column_is_named(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \|.*$", PAGE, re.MULTILINE)
    for column in example(name).columns:
        assert f"`{column.name}`" in row


def test_every_annotation_of_redpajama_has_a_column() -> None:
    rows = [match.groupdict() for match in _ROW.finditer(PAGE)]
    assert len({row["theirs"] for row in rows}) == len(rows) == NUM_ANNOTATIONS
    for row in rows:
        signal = Url(lists=("domain:datatrove",)) if row["signal"] == "url" else example(row["signal"])
        assert row["column"] in [column.name for column in signal.columns]
    ours = {row["column"] for row in rows if row["signal"] == "redpajama"}
    assert ours == {column.name for column in RedPajama().columns}


@pytest.mark.parametrize("body", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_the_recipes_of_the_page_can_be_planned(tmp_path: Path, body: str) -> None:
    try:
        find_model("lid.176.ftz")
    except ModelFileError:
        pytest.skip("lid.176.ftz is not here")
    (tmp_path / "list").write_bytes(b"entry\n")
    body = re.sub(r'path = "lists/\w+"', f'path = "{tmp_path / "list"}"', body)
    body = body.replace('model = "glotlid.bin", sha256 = "SHA256"', 'model = "lid.176.ftz"')
    body = body.replace("SHA256", sha256(b"entry\n").hexdigest())
    text = f'name = "page"\n[[sources]]\nname = "web"\n\n{body}\n[[steps]]\nkind = "cut"\n'
    check_steps(parse_toml(Recipe, text, "page.toml"))
