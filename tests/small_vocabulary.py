"""A byte-level vocabulary that knows a few words."""

from headrace.pipeline.vocabulary import END_OF_TEXT, Vocabulary

TEXT = "the quick brown fox, naïvely: 12 dogs"


def make_vocabulary(size: int) -> Vocabulary:
    """Return one of so many ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 5 + ["the dogs and the foxes of the browns"] * 5, trainer)
    found = Vocabulary(tokenizer, tokenizer.get_vocab_size(), tokenizer.token_to_id(END_OF_TEXT))
    assert found.size == size
    return found
