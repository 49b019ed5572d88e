"""Text as it is: of text files, JSON lines, WET and other conversions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from headrace.pipeline.extract import TEXT_KINDS, Dropped, Extracted, finish, register
from headrace.pipeline.readers.contract import Record


@register
@dataclass(frozen=True)
class PlainExtractor:
    """Takes records of the kinds `text` and `conversion` whose payload is UTF-8."""

    name: ClassVar[str] = "plain"
    version: ClassVar[int] = 1

    max_bytes: int = 64 << 20

    def resources(self) -> Mapping[str, str]:
        """Nothing beyond Python."""
        return {}

    def extract(self, record: Record) -> Extracted | Dropped:
        """Return the text of a record, or why it has none."""
        if record.kind not in TEXT_KINDS:
            return Dropped("not_a_document", {"kind": record.kind})
        if record.fault:
            return Dropped(record.fault, {"kind": record.kind})
        if len(record.payload) > self.max_bytes:
            return Dropped("too_large", {"bytes": len(record.payload)})
        try:
            text = record.payload.decode("utf-8-sig")
        except UnicodeDecodeError:
            return Dropped("undecodable", {"charset": "utf-8"})
        return finish(record, text, record.metadata.get("title", ""))
