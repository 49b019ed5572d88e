"""datatrove's own blocks as FineWeb uses them, called on plain texts: the reference of `benchmarks.filter_parity`.

One thing is not as datatrove has it: its `LanguageFilter` loads lid.176.bin, and is given lid.176.ftz here, the smaller
form of the same model that the `language` signal asks unless told otherwise. So agreement on languages is that of the
code around one model; scores of the two models differ.
"""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from headrace.filters.models import find_model

Judge = Callable[[Any], str | None]


def document(text: str, number: int = 0) -> Any:
    """Return a datatrove document."""
    from datatrove.data import Document

    return Document(text=text, id=str(number))


def reference_judges() -> dict[str, Judge]:
    """Return FineWeb's filters in its order; each gives the reason for a drop, or None, and may edit the document."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    blocks = {
        "language": language_filter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher_quality": GopherQualityFilter(),
        "c4": C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(),
    }
    return {name: _judge(name, block) for name, block in blocks.items()}


def _judge(name: str, block: Any) -> Judge:
    def judge(doc: Any) -> str | None:
        result = block.filter(doc)
        kept, reason = result if isinstance(result, tuple) else (result, name)
        return None if kept else reason

    return judge


def language_filter() -> Any:
    """Return FineWeb's language filter over lid.176.ftz, in place of the lid.176.bin that it would load itself."""
    from datatrove.pipeline.filters import LanguageFilter
    from fasttext.FastText import _FastText

    block = object.__new__(LanguageFilter)  # its __new__ asks for `fasteners`, which only a download needs
    block.__init__("en", language_threshold=0.65)
    block.model._model = _FastText(str(find_model("lid.176.ftz")))
    return block


def minhash_step(folder: Path) -> Any:
    """Return the signature step with FineWeb's settings."""
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from xxhash import xxh64_intdigest

    step = MinhashDedupSignature(output_folder=str(folder))
    step._hash_func = lambda shingle: xxh64_intdigest(shingle.encode())  # xxhash 4 refuses str; xxhash 3 encoded it so
    return step


def reference_signature(step: Any, text: str) -> bytes | None:
    """Return a text's signature as little-endian uint64, or None where it has no shingle."""
    shingles = step.get_shingles(text)
    if not shingles.size:
        return None
    hashes = [value for bucket in step.get_signature(shingles) for value in bucket]
    return struct.pack(f"<{len(hashes)}Q", *hashes)


def reference_dedup(texts: Sequence[str], folder: Path) -> tuple[set[frozenset[int]], list[int]]:
    """Run datatrove's four MinHash stages; return the clusters of two and more texts, and the texts that are kept."""
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
    from loguru import logger

    logger.disable("datatrove")
    signatures, buckets, clusters = (str(folder / name) for name in ("signatures", "buckets", "clusters"))
    first = minhash_step(Path(signatures))
    first.run(_documents(texts))
    for bucket in range(first.config.num_buckets):
        step = MinhashDedupBuckets(input_folder=signatures, output_folder=buckets)
        step.run(rank=bucket, world_size=first.config.num_buckets)
    with redirect_stderr(io.StringIO()):  # its progress bar
        MinhashDedupCluster(input_folder=buckets, output_folder=clusters, save_cluster_id=True).run()
    kept = [int(doc.id) for doc in MinhashDedupFilter(input_folder=clusters).run(_documents(texts))]
    return _read_clusters(Path(clusters) / "000000.clusters"), kept


def _documents(texts: Sequence[str]) -> Iterator[Any]:
    return (document(text, number) for number, text in enumerate(texts))


def _read_clusters(path: Path) -> set[frozenset[int]]:
    members: dict[int, set[int]] = {}
    for number, cluster in struct.iter_unpack("<II", path.read_bytes() if path.exists() else b""):
        members.setdefault(cluster, set()).add(number)
    return {frozenset(numbers) for numbers in members.values()}


def reference_redaction(text: str, email: str, ip: str) -> str:
    """Return the text after datatrove's PIIFormatter with one replacement for each kind."""
    from datatrove.pipeline.formatters import PIIFormatter

    return str(PIIFormatter(email_replacement=email, ip_replacement=ip).format(text))
