"""What datatrove 0.10.1's `URLFilter` decides as rules over the signal `url`, in the order in which it checks.

The group stands for the block with its defaults (two soft words drop a page, one does not), and each reason is the
block's own word for it. The block refuses documents without a URL; here they pass, since nothing speaks against them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_NOT_LISTED = {"in": [""], "on_null": "keep"}

URL_RULES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "url": (
        {"column": "url.domain_lists", **_NOT_LISTED, "reason": "domain"},
        {"column": "url.host_lists", **_NOT_LISTED, "reason": "subdomain"},
        {"column": "url.url_lists", **_NOT_LISTED, "reason": "url"},
        {"column": "url.num_banned_words", "max": 0, "on_null": "keep", "reason": "hard_blacklisted"},
        {"column": "url.num_soft_banned_words", "max": 1, "on_null": "keep", "reason": "soft_blacklisted"},
        {"column": "url.num_banned_subwords", "max": 0, "on_null": "keep", "reason": "blacklisted_subword"},
    ),
}
