"""What a run file says about its data: corpora with weights, and how they become rows."""

from pydantic import BaseModel, ConfigDict, Field


class CorpusWeight(BaseModel):
    """A tokenized corpus and its share of the mixture, relative to the other weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tokens: str
    """Path of the manifest of the token artifact."""
    weight: float = Field(default=1.0, gt=0)


class DataConfig(BaseModel):
    """Section `[data]` of a run file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    corpora: list[CorpusWeight] = Field(min_length=1)
    sequence_length: int = Field(gt=0)
    """Tokens in a row."""
    global_batch: int = Field(gt=0)
    """Rows of a step, over all ranks."""
    heldout: float = Field(default=0.01, ge=0, lt=1)
    """Share of the split keys that is held out."""
