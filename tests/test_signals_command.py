"""`headrace signals`: what can be measured, told to people and to programs."""

import json

import pytest

from headrace.filters.contract import signal_classes
from tests.commands import headrace
from tests.signal_examples import example


def test_every_signal_is_listed_with_its_columns_options_and_source() -> None:
    listed = {item["name"]: item for item in headrace("signals", "--json").json["signals"]}
    assert set(signal_classes()) <= set(listed)
    for name, cls in signal_classes().items():
        item = listed[name]
        columns = [(column["id"], column["kind"]) for column in item["columns"]]
        assert columns == [(f"{name}.{column.name}", column.kind) for column in example(name).columns]
        assert all(column["doc"] for column in item["columns"])
        assert (item["version"], item["module"]) == (cls.version, cls.__module__)
        assert item["what"]
        assert item["source"]
        assert item["from"].startswith("headrace ")
    assert {"name": "n_grams", "type": "int", "default": 5} in listed["minhash"]["options"]
    out = headrace("signals").out
    assert all(name in out for name in signal_classes())


def test_one_signal_is_shown_with_all_about_it() -> None:
    shown = headrace("signals", "gopher_quality")
    assert shown.status == 0
    for word in ("gopher_quality.num_words", "stop_words", "version", "arXiv"):
        assert word in shown.out
    assert headrace("signals", "gopher_quality", "--json").json["name"] == "gopher_quality"


def test_filters_of_datatrove_are_shown_by_name() -> None:
    pytest.importorskip("datatrove", reason="datatrove is in headrace[interop]")
    (option,) = headrace("signals", "datatrove:RegexFilter", "--json").json["options"]
    assert option == {"name": "regex_exp", "type": "str"}
    assert "must be given" in headrace("signals", "datatrove:RegexFilter").out


def test_a_name_that_nothing_has_suggests_the_near_miss() -> None:
    ran = headrace("signals", "gopher_qualty", "--json")
    assert ran.status == 1
    assert "did you mean 'gopher_quality'" in json.loads(ran.out)["error"]
    assert "no module 'nowhere.at_all'" in headrace("signals", "--plugin", "nowhere.at_all").err
