"""The tokenizer of an exported model, as transformers loads it: `tokenizer.json` and what is special in it.

A text that is encoded begins with `<|endoftext|>`, as every document does in training; `add_special_tokens=False`
leaves it out. Signs that an objective wrote beyond the vocabulary are special tokens: `<|mask|>`, or `<|sign_0|>` and
so on, in the objective's order.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.pipeline.errors import InputError
from headrace.pipeline.vocabulary import END_OF_TEXT, Vocabulary
from headrace.trainer.objectives.contract import Objective

MASK = "<|mask|>"


def sign_names(objective: Objective) -> tuple[str, ...]:
    """Return how the signs of an objective are written; one sign of an objective that looks ahead is its mask."""
    if objective.num_signs == 1 and objective.sight != "causal":
        return (MASK,)
    return tuple(f"<|sign_{number}|>" for number in range(objective.num_signs))


def write_tokenizer(vocabulary: Vocabulary, signs: Sequence[str], sequence_length: int, folder: Path) -> None:
    """Write a tokenizer into a folder.

    Args:
        vocabulary: the tokenizer of the corpus.
        signs: what follows its last id.
        sequence_length: tokens that the model was trained to see at once.
        folder: where to.

    Raises:
        InputError: the tokenizer has a sign already, so that ids would not be the model's.
    """
    from tokenizers import AddedToken, Tokenizer, processors

    tokenizer = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.add_special_tokens([AddedToken(sign, special=True, normalized=False) for sign in signs])
    ids = [tokenizer.token_to_id(sign) for sign in signs]
    if ids != list(range(vocabulary.size, vocabulary.size + len(signs))):
        raise InputError(f"the tokenizer has a token that is called as a sign of the objective: {', '.join(signs)}")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A {END_OF_TEXT} $B",
        special_tokens=[(END_OF_TEXT, vocabulary.end_of_text)],
    )
    special: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)
    if MASK in signs:
        special["mask_token"] = MASK
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": sequence_length,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **special,
    }
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
