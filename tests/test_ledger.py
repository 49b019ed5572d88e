"""Law 2: what came in is what went somewhere, or nothing is committed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.pipeline.errors import LedgerError
from headrace.pipeline.schema import Ledger, Tally

COUNTS = st.integers(0, 2**60)
TALLIES = st.builds(Tally, records=COUNTS, bytes=COUNTS)
REASONS = st.sampled_from(["short", "language", "same_record", "é"])


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Draw a ledger that adds up."""
    kept, merged, expanded, passed = (draw(TALLIES) for _ in range(4))
    dropped = draw(st.dictionaries(REASONS, TALLIES, max_size=3))
    gaps = draw(st.dictionaries(REASONS, COUNTS, max_size=2))
    total = sum(dropped.values(), kept + merged + expanded + passed)
    return Ledger(
        input=total + Tally(bytes=sum(gaps.values())),
        kept=kept,
        dropped=dropped,
        merged=merged,
        expanded=expanded,
        passed=passed,
        gaps=gaps,
        output=draw(TALLIES),
        edits=draw(st.dictionaries(REASONS, st.integers(-(2**60), 2**60), max_size=2)),
    )


@given(ledgers(), ledgers())
def test_ledgers_that_add_up_add_up_together(one: Ledger, other: Ledger) -> None:
    one.check("one")
    (one + other).check("both")


@given(ledgers(), ledgers(), ledgers())
def test_addition_is_associative_and_commutative_with_a_zero(a: Ledger, b: Ledger, c: Ledger) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Ledger() == a


@given(ledgers(), st.sampled_from(["input", "kept", "merged", "expanded", "passed"]), st.integers(1, 9), st.booleans())
def test_whatever_is_lost_or_found_is_named(ledger: Ledger, field: str, amount: int, records: bool) -> None:
    change = Tally(records=amount) if records else Tally(bytes=amount)
    wrong = ledger.model_copy(update={field: getattr(ledger, field) + change})
    with pytest.raises(LedgerError, match="the ledger of this part does not add up"):
        wrong.check("this part")


@given(ledgers(), REASONS, st.integers(1, 9))
def test_a_reason_too_many_is_named(ledger: Ledger, reason: str, amount: int) -> None:
    dropped = ledger.model_copy(update={"dropped": {**ledger.dropped, reason + "!": Tally(records=amount)}})
    gaps = ledger.model_copy(update={"gaps": {**ledger.gaps, reason + "!": amount}})
    for wrong in (dropped, gaps):
        with pytest.raises(LedgerError):
            wrong.check("it")


@given(ledgers())
def test_output_and_edits_are_no_ends(ledger: Ledger) -> None:
    other = ledger.model_copy(update={"output": Tally(), "edits": {}})
    other.check("it")


def test_a_gap_is_bytes_and_no_record() -> None:
    Ledger(input=Tally(bytes=5), gaps={"garbage": 5}).check("it")
    with pytest.raises(LedgerError, match=r"1 records and 5 bytes came in, 0 records and 5 bytes are accounted for"):
        Ledger(input=Tally(records=1, bytes=5), gaps={"garbage": 5}).check("it")


@pytest.mark.parametrize(
    "fields",
    [
        {"input": {"records": -1}},
        {"gaps": {"x": -1}},
        {"kept": {"records": 1.5}},
        {"kept": {"records": "1"}},
        {"lost": {"records": 1}},
        {"kept": {"records": 1, "pages": 1}},
    ],
)
def test_what_is_no_count_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Ledger.model_validate(fields)


@given(ledgers())
def test_a_ledger_survives_json(ledger: Ledger) -> None:
    assert Ledger.model_validate_json(ledger.model_dump_json()) == ledger
