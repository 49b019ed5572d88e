"""A small tokenizer and small models, untrained but sure of themselves, for what is asked of any model."""

from functools import cache
from typing import Any

import torch

from headrace.pipeline.vocabulary import END_OF_TEXT, Vocabulary
from headrace.trainer.evaluation.requests import Encoder
from headrace.trainer.evaluation.scorer import Scorer
from headrace.trainer.model import Transformer, build_model
from headrace.trainer.model_config import ModelSection
from tests.making import article

LENGTH = 48


@cache
def vocabulary() -> Vocabulary:
    """Return a byte-level tokenizer of 400 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([article(seed) for seed in range(20)], trainer)
    return Vocabulary(tokenizer, tokenizer.get_vocab_size(), tokenizer.token_to_id(END_OF_TEXT))


def model(num_signs: int = 0, **options: Any) -> Transformer:
    """Return a model with weights that are far from uniform."""
    section = ModelSection.model_validate({"num_layers": 2, "width": 32, "num_heads": 4, **options})
    made = build_model(section.resolve(vocabulary().size + num_signs), seed=5)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.25, generator=generator)
    return made


def scorer(length: int = LENGTH, **options: Any) -> Scorer:
    """Return what scores with such a model."""
    return Scorer(model(**options), Encoder(vocabulary(), length), batch_tokens=256)
