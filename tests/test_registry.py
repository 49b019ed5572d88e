"""Readers, extractors and signals by name: what is misspelt or of another type is named with what would be right."""

from typing import Any

import pytest

from headrace.filters.contract import signal_classes
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.extract import extractor_classes, make_extractor
from headrace.pipeline.readers.contract import make_reader, reader_classes
from headrace.pipeline.repair import make_repairer, repairer_classes
from headrace.pipeline.views import make_signal
from tests.signal_examples import example_options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"favour_precision": True}, r"no option 'favour_precision'; did you mean 'favor_precision'"),
        ({"favor_precision": "yes"}, r"option 'favor_precision' = 'yes': Input should be a valid boolean"),
        ({"max_bytes": 1.5}, r"option 'max_bytes' = 1.5: Input should be a valid integer"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_extractor("trafilatura", options)


def test_names_are_checked() -> None:
    with pytest.raises(RecipeError, match=r"no extractor 'trafilature'; did you mean 'trafilatura'"):
        make_extractor("trafilature", {})
    with pytest.raises(RecipeError, match=r"no reader 'wrac'; did you mean 'warc'"):
        make_reader("wrac", {})


def test_arrays_become_tuples() -> None:
    signal = make_signal("gopher_quality", {"stop_words": ["the", "of"]})
    assert signal.stop_words == ("the", "of")  # type: ignore[attr-defined]  # a field of this signal


def test_everything_can_be_made_without_options_or_with_an_example_s() -> None:
    for name in reader_classes():
        assert make_reader(name, {}).resources() is not None
    for name in extractor_classes():
        assert make_extractor(name, {}).resources() is not None
    for name in repairer_classes():
        assert make_repairer(name, {}).resources() is not None
    for name in signal_classes():
        assert make_signal(name, example_options(name)).resources() is not None
