"""Steps of recipes: what each kind says, as strict TOML; `docs/format.md` has them as a table."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headrace.filters.lsh import choose_bands
from headrace.filters.named_rules import Tables, compose_rules
from headrace.filters.rules import Rule
from headrace.pipeline.dedup.ranking import Policy
from headrace.pipeline.dedup.resolving import Verify
from headrace.pipeline.views import RAW, signal_id

NAME = r"^[a-z][a-z0-9_-]*$"
SIGNAL_NAME = r"^[a-z][a-z0-9_]*$"


class Section(BaseModel):
    """A table of a recipe: frozen, strict in types, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True, allow_inf_nan=False)


class SignalSpec(Section):
    """A signal with options; a bare name stands for one without. `as` is what it is called in this recipe."""

    name: str
    as_: str | None = Field(default=None, alias="as", pattern=SIGNAL_NAME)
    options: dict[str, Any] = {}

    @property
    def called(self) -> str:
        """The name that columns of this signal begin with."""
        return self.as_ or self.name


class MeasureStep(Section):
    """Measures signals on a view: `raw`, or the text without the spans of a signal measured before."""

    kind: Literal["measure"]
    signals: list[str | SignalSpec] = Field(min_length=1)
    view: str = RAW


class RulesStep(Section):
    """Drops documents by rules, in order; the first that a document fails names the reason.

    Rules are those of named sets, then own ones; `by` gives labels bounds of their own, `set` changes single keys.
    """

    kind: Literal["rules"]
    name: str | None = Field(default=None, pattern=NAME)
    sets: list[str] = []
    rules: list[Rule] = []
    by: Tables = {}
    set: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check_rules(self) -> "RulesStep":
        if not self.composed():
            raise ValueError("a step of rules has none; give sets, rules, or both")
        return self

    def composed(self) -> list[Rule]:
        """Return the rules that the step asks, in order; raises RuleError where they do not fit together."""
        return compose_rules(self.sets, self.rules, self.by, self.set)

    def with_rules(self, rules: list[Rule]) -> "RulesStep":
        """Return the same step with these rules and no others."""
        return self.model_copy(update={"sets": [], "rules": rules, "by": {}, "set": {}})


class DuplicatesStep(Section):
    """What steps that drop duplicates share: among which documents they are looked for, and which survives.

    `scope` are columns: documents of other values in them are never compared. `against` are names of indexes of earlier
    corpora: what those hold is dropped before. `survivor` is the policy, `by` the column
    of `highest` and `lowest`; documents of an earlier source of `prefer` survive those of later and of other ones.
    """

    scope: list[str] = []
    against: list[str] = []
    survivor: Policy = "first"
    by: str | None = None
    prefer: list[str] = []

    @model_validator(mode="after")
    def _column_where_it_is_needed(self) -> Self:
        if (self.by is not None) != (self.survivor in ("highest", "lowest")):
            raise ValueError(
                'survivor = "highest" and "lowest" are by a column of numbers, and no other policy is: '
                'give both, as in survivor = "highest", by = "quality.score", or neither'
            )
        return self


class ExactStep(DuplicatesStep):
    """Drops documents whose digests in a column are equal, but for one."""

    kind: Literal["exact"]
    column: str = "digest.text"


class MinHashStep(DuplicatesStep):
    """Drops near-duplicates: documents that share a band of MinHash values, and resemble each other as `verify` tells.

    Bands, rows or both are given, or chosen for the `threshold`, a Jaccard similarity. With `verify = "none"` clusters
    are all documents that bands connect; else one is dropped only for a survivor that it resembles by `similarity`.
    """

    kind: Literal["minhash"]
    signal: str = "minhash"
    bands: int | None = Field(default=None, ge=1)
    rows: int | None = Field(default=None, ge=1)
    threshold: float | None = Field(default=None, gt=0, lt=1)
    verify: Verify = "estimate"
    similarity: float = Field(default=0.7, gt=0, le=1)
    most: int = Field(default=128, ge=1)

    @model_validator(mode="after")
    def _one_way_to_bands(self) -> Self:
        if self.threshold is not None and (self.bands, self.rows) != (None, None):
            raise ValueError("bands and rows are given, or chosen for a threshold; give one of both")
        return self

    def shape(self, num_hashes: int) -> tuple[int, int]:
        """Return bands and rows of a band for signatures of so many hashes.

        Of bands and rows one is enough; where neither they nor a threshold are given, a band has FineWeb's 8 rows.
        """
        if self.threshold is not None:
            return choose_bands(self.threshold, num_hashes)
        rows = self.rows or (8 if self.bands is None else max(1, num_hashes // self.bands))
        return self.bands or max(1, num_hashes // rows), rows


class BestStep(Section):
    """Keeps the best `share` of the documents that are left, by a column of numbers; see `stages.threshold`."""

    kind: Literal["best"]
    column: str
    share: float = Field(gt=0, le=1)
    best: Literal["highest", "lowest"] = "highest"
    ties: Literal["keep", "drop"] = "keep"
    on_null: Literal["keep", "drop"] = "drop"
    reason: str = Field(default="not_among_the_best", min_length=1)


class EvaluationSet(Section):
    """An evaluation set: its name, the glob of its files, and which fields of its records are looked for.

    `records` leads to the records of a JSON file that is no list, `id` is the field that names an item; see
    `contamination.items`.
    """

    name: str = Field(pattern=NAME)
    path: str
    fields: list[str] = Field(default=["text"], min_length=1)
    records: str = ""
    id: str = ""


class DecontaminateStep(Section):
    """Measures how much of evaluation items documents hold, by n-grams of words; rules and `cut` read what it writes.

    The columns begin with `as` and, on another view than `raw`, `@view`. An n-gram of more than `max_documents`
    documents is common and has no weight. Items of fewer than `n` words, but `min_words` at least, are looked for
    whole.
    """

    kind: Literal["decontaminate"]
    sets: list[EvaluationSet] = Field(min_length=1)
    as_: str = Field(default="contamination", alias="as", pattern=SIGNAL_NAME)
    view: str = RAW
    n: int = Field(default=13, ge=1, le=64)
    min_words: int = Field(default=8, ge=1)
    max_documents: int = Field(default=10, ge=1)

    @property
    def id(self) -> str:
        """What columns begin with."""
        return signal_id(self.as_, self.view)

    @model_validator(mode="after")
    def _one_of_each_name(self) -> Self:
        names = [one.name for one in self.sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two evaluation sets share a name: {', '.join(sorted(names))}")
        return self


class RepeatsStep(Section):
    """What steps that look for repeated text share: what is called how, on which view, and whether the first stays.

    They write a side table, whose columns begin with `as`; rules and `cut` read it.
    """

    as_: str | None = Field(default=None, alias="as", pattern=SIGNAL_NAME)
    view: str = RAW
    keep: Literal["first", "none"] = "first"

    kind: str

    @property
    def id(self) -> str:
        """What columns begin with."""
        return signal_id(self.as_ or self.kind, self.view)


class SubstringsStep(RepeatsStep):
    """Finds every run of at least `words` words that occurs elsewhere in the corpus."""

    kind: Literal["substrings"]
    words: int = Field(default=50, ge=2, le=10_000)


class LinesStep(RepeatsStep):
    """Finds lines, or paragraphs, that occur elsewhere: in the corpus, or in their part of it alone.

    Those of fewer than `min_characters` are left alone, counted as they are compared.
    """

    kind: Literal["lines"]
    unit: Literal["line", "paragraph"] = "line"
    scope: Literal["global", "part"] = "global"
    min_characters: int = Field(default=1, ge=1)


class BloomStep(RepeatsStep):
    """Finds paragraphs, or lines, most of whose n-grams were said before, by a Bloom filter; see `stages.bloom`."""

    kind: Literal["bloom"]
    unit: Literal["line", "paragraph"] = "paragraph"
    n: int = Field(default=20, ge=1)
    threshold: float = Field(default=0.8, gt=0, le=1)
    expected: int = Field(default=100_000_000, ge=1)
    false_positives: float = Field(default=0.01, gt=0, lt=1)
    keep: Literal["first"] = "first"


class CutStep(Section):
    """Writes the corpus; `edits` are columns of spans, which remove text or put something in its place.

    `metadata` are columns of numbers, flags and labels that go into the corpus's `metadata`, each under a name.
    """

    kind: Literal["cut"]
    edits: list[str] = []
    metadata: dict[Annotated[str, Field(pattern=NAME)], str] = {}

    @field_validator("metadata")
    @classmethod
    def _leaves_parents(cls, metadata: dict[str, str]) -> dict[str, str]:
        if "parent" in metadata:
            raise ValueError("metadata: 'parent' says which work a document is part of; call it otherwise")
        return metadata


class TokenizeStep(Section):
    """Tokenizes the corpus, with the `tokenizer.json` at a path or with a byte-level BPE trained on the corpus.

    With `text` the texts are kept beside their tokens, for what reads both.
    """

    kind: Literal["tokenize"]
    tokenizer: str | None = None
    text: bool = False
    vocab_size: int = Field(default=32_768, ge=257)
    train_mebibytes: int = Field(default=1024, ge=1)


Step = Annotated[
    MeasureStep
    | RulesStep
    | ExactStep
    | MinHashStep
    | DecontaminateStep
    | SubstringsStep
    | LinesStep
    | BloomStep
    | BestStep
    | CutStep
    | TokenizeStep,
    Field(discriminator="kind"),
]
