"""Which documents survive: near-duplicate buckets resolved one document after the other, best first.

Documents stand in the order in which they are preferred. Each is compared with the survivors of the buckets it is in:
it is removed in favour of the one it resembles most (of equals, the preferred one) if that is similar enough, and
survives otherwise. So a document is removed only where one that is kept resembles it, and a chain of pairs, each alike,
cannot join what is not alike. A bucket notes its first `most` survivors, which bounds the work to `most` comparisons of
each document in each bucket; documents that found a full bucket are counted. Documents that were taken down come first,
and a bucket notes all of them besides, those that are equal once.
"""

import numpy as np

from headrace.filters.analysis.growing import with_room
from headrace.filters.kernels import kernel

NONE = -1


@kernel(within=True)
def _num_equal(signatures, left, right):  # type: ignore[no-untyped-def]
    count = 0
    for position in range(signatures.shape[1]):
        count += signatures[left, position] == signatures[right, position]
    return count


@kernel()
def known_place(keys, key):  # type: ignore[no-untyped-def]
    """Return where a key stands in ascending keys, -1 if it is not there."""
    place = np.searchsorted(keys, key)
    return place if place < len(keys) and keys[place] == key else np.int64(NONE)


@kernel()
def choose_survivors(  # type: ignore[no-untyped-def]
    first, buckets, slots, signatures, likely, most, num_down, same, threshold, known, values, estimate
):
    """Return for each document the survivor that it is removed for (-1 if it survives itself), and their similarity.

    Args:
        first: Document i is in the buckets `buckets[first[i]:first[i + 1]]`.
        buckets: Numbers of buckets.
        slots: Bucket b notes documents from `slots[b]` to `slots[b + 1]`: all of its members that were taken down, and
            of others `most` or as many as there are.
        signatures: A row for each document.
        likely: Two numbers of equal hashes: a pair with fewer than the first is not similar; a pair whose similarity is
            not known is taken to be similar if it has at least the second. The result is true once none is unknown.
        most: How many survivors a bucket notes.
        num_down: The first so many documents are compared with nothing, and others with all of them in their buckets.
        same: For each document the first of those in the same buckets that may be equal to it, -1 where none is; if its
            hashes are equal, their similarity is 1.
        threshold: The least similarity.
        known: Ascending keys of pairs, `preferred << 32 | other`.
        values: Their similarities.
        estimate: The share of equal hashes is the similarity, and nothing else need be known.

    Returns:
        survivors, similarities, how many documents survived that met a full bucket, and the keys of unknown pairs.
    """
    num_documents, num_hashes = len(first) - 1, signatures.shape[1]
    survivors, similarities = np.full(num_documents, NONE, np.int64), np.zeros(num_documents, np.float64)
    noted, filled = np.empty(slots[-1], np.uint32), np.zeros(len(slots) - 1, np.int64)
    down = np.zeros(len(slots) - 1, np.int64)  # of those that are noted
    compared = np.full(num_documents, NONE, np.int64)
    unknown, num_unknown, num_full = np.empty(1024, np.uint64), np.int64(0), np.int64(0)
    for document in range(num_documents):
        best, highest, full = np.int64(NONE), -1.0, False
        like = np.int64(same[document])
        if 0 <= like < document and _num_equal(signatures, like, document) == num_hashes:
            if document < num_down:
                continue
            best, highest = like, 1.0
        for place in range(first[document], first[document + 1] if document >= num_down and best < 0 else 0):
            bucket = buckets[place]
            full |= filled[bucket] - down[bucket] == most
            for slot in range(slots[bucket], slots[bucket] + filled[bucket]):
                other = np.int64(noted[slot])
                if compared[other] == document:
                    continue
                compared[other] = document
                equal = _num_equal(signatures, other, document)
                if equal < likely[0]:
                    continue
                similarity = equal / num_hashes
                if not estimate:
                    key = (np.uint64(other) << np.uint64(32)) | np.uint64(document)
                    found = known_place(known, key)
                    similarity = values[found] if found >= 0 else (2.0 if equal >= likely[1] else -1.0)
                    if found < 0:
                        unknown = with_room(unknown, num_unknown, 1)
                        unknown[num_unknown] = key
                        num_unknown += 1
                if similarity >= threshold and (similarity > highest or (similarity == highest and other < best)):
                    best, highest = other, similarity
        survivors[document] = best
        if best >= 0:
            similarities[document] = highest
            continue
        num_full += full
        for place in range(first[document], first[document + 1]):
            bucket = buckets[place]
            if document < num_down or filled[bucket] - down[bucket] < most:
                noted[slots[bucket] + filled[bucket]] = document
                filled[bucket] += 1
                down[bucket] += document < num_down
    return survivors, similarities, num_full, unknown[:num_unknown]


@kernel()
def choose_by_components(members, starts, num_documents):  # type: ignore[no-untyped-def]
    """Return for each document the first of its connected component, -1 for that one itself.

    Args:
        members: Documents bucket by bucket; those of one bucket are connected.
        starts: Where each bucket begins in them, and last where they end.
        num_documents: How many there are.
    """
    parents = np.arange(num_documents)
    for bucket in range(len(starts) - 1):
        low = np.int64(members[starts[bucket]])
        while parents[low] != low:
            parents[low] = parents[parents[low]]
            low = parents[low]
        for place in range(starts[bucket] + 1, starts[bucket + 1]):
            high = np.int64(members[place])
            while parents[high] != high:
                parents[high] = parents[parents[high]]
                high = parents[high]
            parents[max(low, high)] = min(low, high)
            low = min(low, high)
    survivors = np.full(num_documents, NONE, np.int64)
    for document in range(num_documents):  # parents come before their children
        parents[document] = parents[parents[document]]
        if parents[document] != document:
            survivors[document] = parents[document]
    return survivors
