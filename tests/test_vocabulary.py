"""What is known of a vocabulary's tokens beside their ids."""

import re
from itertools import pairwise

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from headrace.pipeline.vocabulary import END_OF_TEXT, Vocabulary

TEXTS = [
    "The quick brown foxes don't jump; déjà vu, naïve Straße.",
    "Привет, мир! 42 dogs\nbarked 1999.",
    "你好世界 ok",
] * 20


@pytest.mark.parametrize("size", [256, 280, 340])
def test_tokens_of_a_word_are_known_to_join(size: int) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=size + 1, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet)
    )
    vocabulary = Vocabulary(tokenizer, tokenizer.get_vocab_size(), tokenizer.token_to_id(END_OF_TEXT))
    joins = vocabulary.word_joins()
    assert not joins[vocabulary.end_of_text].any()
    for text in TEXTS[:3]:
        (ids,) = vocabulary.encode_batch([text])
        begins = [0, *(place for place in range(1, len(ids)) if not (joins[ids[place], 0] & joins[ids[place - 1], 1]))]
        words = [ids[one:two].tolist() for one, two in pairwise([*begins, len(ids)])]
        read = [tokenizer.decode(word) for word in words]
        assert "".join(read) == text, "no character is cut"
        unspaced = "[\u4e00-\u9fff]"
        bare = [re.sub(rf"[^\w]|{unspaced}", "", word) for word in read]
        assert [word for word in bare if word] == re.findall(rf"(?:(?!{unspaced})\w)+", text)
        assert all(
            len(word) == 1 or len(what) == 1
            for word, what in zip(words, read, strict=True)
            if re.search(unspaced, what)
        )
