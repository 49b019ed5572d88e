"""The thresholds of FineWeb's filters as rules, in the order in which datatrove 0.10.1's blocks check them.

Each group stands for one block with its defaults as FineWeb uses it (C4 without terminal punctuation, FineWeb's own
rules on the text that C4 leaves), and each reason is the block's own word for it. Groups stand in FineWeb's order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

FINEWEB_RULES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "language": ({"column": "language.en_score", "min": 0.65, "min_open": True, "reason": "language"},),
    "gopher_repetition": (
        {"column": "gopher_repetition.num_chars", "min": 1, "reason": "empty"},
        {"column": "gopher_repetition.dup_para_frac", "max": 0.3, "reason": "dup_para_frac"},
        {"column": "gopher_repetition.dup_para_char_frac", "max": 0.2, "reason": "dup_para_char_frac"},
        {"column": "gopher_repetition.dup_line_frac", "max": 0.3, "reason": "dup_line_frac"},
        {"column": "gopher_repetition.dup_line_char_frac", "max": 0.2, "reason": "dup_line_char_frac"},
        *(
            {
                "column": f"gopher_repetition.top_{n}_gram_char_frac",
                "max": limit,
                "on_null": "keep",  # a text of fewer words has no n-gram, and is not judged by it
                "reason": f"top_{n}_gram",
            }
            for n, limit in _TOP.items()
        ),
        *(
            {"column": f"gopher_repetition.dup_{n}_gram_char_frac", "max": limit, "reason": f"duplicated_{n}_n_grams"}
            for n, limit in _REPEATED.items()
        ),
    ),
    "gopher_quality": (
        {"column": "gopher_quality.num_non_symbol_words", "min": 50, "reason": "gopher_short_doc"},
        {"column": "gopher_quality.num_non_symbol_words", "max": 100_000, "reason": "gopher_long_doc"},
        {"column": "gopher_quality.mean_word_length", "min": 3, "reason": "gopher_below_avg_threshold"},
        {"column": "gopher_quality.mean_word_length", "max": 10, "reason": "gopher_above_avg_threshold"},
        {"column": "gopher_quality.hash_ratio", "max": 0.1, "reason": "gopher_too_many_hashes"},
        {"column": "gopher_quality.ellipsis_ratio", "max": 0.1, "reason": "gopher_too_many_ellipsis"},
        {"column": "gopher_quality.bullet_line_frac", "max": 0.9, "reason": "gopher_too_many_bullets"},
        {"column": "gopher_quality.ellipsis_line_frac", "max": 0.3, "reason": "gopher_too_many_end_ellipsis"},
        {"column": "gopher_quality.alpha_word_frac", "min": 0.8, "reason": "gopher_below_alpha_threshold"},
        {"column": "gopher_quality.num_stop_words", "min": 2, "reason": "gopher_enough_stop_words"},
    ),
    "c4": (
        {"column": "c4.has_lorem_ipsum", "in": [False], "reason": "lorem_ipsum"},
        {"column": "c4.has_curly_bracket", "in": [False], "reason": "curly_bracket"},
        {"column": "c4.num_sentences", "min": 5, "reason": "too_few_sentences"},
    ),
    "fineweb": (
        {"column": "fineweb@c4.num_lines", "min": 1, "reason": "empty"},
        {"column": "fineweb@c4.line_punct_ratio", "min": 0.12, "reason": "line_punct_ratio"},
        {"column": "fineweb@c4.short_line_ratio", "max": 0.67, "reason": "short_line_ratio"},
        {"column": "fineweb@c4.char_dup_ratio", "max": 0.01, "reason": "char_dup_ratio"},
        {"column": "fineweb@c4.new_line_ratio", "max": 0.3, "reason": "list_ratio"},
    ),
}
