"""Exported models: each is loaded by transformers and gives our logits; its tokenizer gives the stream's ids."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers
from torch import Tensor

from headrace.pipeline.errors import InputError, IntegrityError
from headrace.pipeline.vocabulary import Vocabulary
from headrace.trainer.attention.layouts import LAYOUTS
from headrace.trainer.attention.seen import Seen
from headrace.trainer.exports import hf
from headrace.trainer.exports.hf import ModelToExport, export_model
from headrace.trainer.exports.hf_classes import choose_class
from headrace.trainer.model import Transformer, build_model
from headrace.trainer.model_config import ModelConfig
from headrace.trainer.objectives.causal import Causal
from headrace.trainer.objectives.contract import Sight
from tests.small_vocabulary import TEXT, make_vocabulary
from tests.test_variants import SHAPE, VARIANTS

VOCABULARY = 280
LENGTH = 64


@dataclass(frozen=True)
class Seeing(Causal):
    """An objective of which only the sight and the number of signs are asked."""

    name: ClassVar[str] = "seeing"
    sight: Sight = "causal"
    num_signs: int = 0


CAUSAL = Seeing()
MASKED = Seeing(sight="bidirectional", num_signs=1)
PREFIX = Seeing(sight="prefix")


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return make_vocabulary(VOCABULARY)


@pytest.fixture(autouse=True)
def modules_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep copies of code that is loaded out of the user's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def trained(vocabulary: Vocabulary, objective: Seeing = CAUSAL, **variant: Any) -> ModelToExport:
    """Return a model whose parameters are all far from where they begin."""
    vocab_size = VOCABULARY + objective.num_signs
    model = build_model(ModelConfig(**{**SHAPE, "vocab_size": vocab_size, **variant}), seed=1)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        for experts in model.experts():
            experts.bias.normal_(generator=torch.Generator().manual_seed(7))
            if experts.balance == "loss":
                experts.bias.zero_()
    return ModelToExport(model, objective, vocabulary, LENGTH)


def ours(model: Transformer, tokens: Tensor, sight: Sight, visible: Tensor | None = None, **more: Any) -> Tensor:
    seen = Seen.of(torch.zeros(tokens.shape, dtype=torch.int32), sight, visible)
    with torch.no_grad():
        return model.logits(model(tokens, seen.positions, LAYOUTS["mask"](seen, model.patterns), **more))


def load(folder: Path, masked: bool = False) -> Any:
    kind: Any = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    return kind.from_pretrained(folder, trust_remote_code=(folder / "modeling_headrace.py").exists()).eval()


def greedy(loaded: Any, text: Tensor, count: int) -> Tensor:
    given = {"attention_mask": torch.ones_like(text), "eos_token_id": None}
    made: Tensor = loaded.generate(text, max_new_tokens=count, do_sample=False, **given)
    return made


def some_tokens(vocab_size: int = VOCABULARY, rows: int = 2, length: int = 40) -> Tensor:
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(3))


CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "untied": ("LlamaForCausalLM", {"tie_embeddings": False}),
    "all heads": ("LlamaForCausalLM", {"num_kv_heads": 4, "rope_theta": 500.0, "norm_eps": 1e-3}),
    "one head": ("LlamaForCausalLM", {"num_kv_heads": 1}),
    "standardized": ("LlamaForCausalLM", {"standardize_weights": True}),
    "window": ("MistralForCausalLM", {"attention": "sliding", "window": 4}),
    "some windows": ("MinistralForCausalLM", {"attention": "sliding", "window": 4, "global_every": 2}),
    "qk norm": ("Qwen3ForCausalLM", {"qk_norm": True, "tie_embeddings": False}),
    "qk norm, some windows": (
        "Qwen3ForCausalLM",
        {"qk_norm": True, "attention": "sliding", "window": 5, "global_every": 3},
    ),
    "qk norm, windows": ("Qwen3ForCausalLM", {"qk_norm": True, "attention": "sliding", "window": 5}),
    "experts": ("MixtralForCausalLM", {"num_experts": 4}),
    "experts, window": ("MixtralForCausalLM", {"num_experts": 4, "attention": "sliding", "window": 4}),
    "experts, qk norm": ("Qwen3MoeForCausalLM", {"num_experts": 4, "qk_norm": True, "experts_per_token": 1}),
    "experts, qk norm, window": (
        "Qwen3MoeForCausalLM",
        {"num_experts": 4, "qk_norm": True, "attention": "sliding", "window": 4},
    ),
}


@pytest.mark.parametrize("name", CLASSES)
def test_llama_and_its_relatives_are_loaded_by_their_own_classes(
    name: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    kind, variant = CLASSES[name]
    given = trained(vocabulary, **variant)
    exported = export_model(given, tmp_path / "out", "# card\n")
    assert (exported.architecture, exported.obstacles) == (kind, ())
    assert not (tmp_path / "out" / "modeling_headrace.py").exists()
    loaded = load(tmp_path / "out")
    assert type(loaded) is getattr(transformers, kind)
    tokens = some_tokens()
    expected = ours(given.model, tokens, "causal")
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).logits, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.3
    assert json.loads((tmp_path / "out" / "config.json").read_text())["rope_theta"] == given.model.config.rope_theta


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_loaded_and_gives_our_logits(name: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    given = trained(vocabulary, **VARIANTS[name])
    exported = export_model(given, tmp_path / "out", "# card\n")
    loaded, tokens = load(tmp_path / "out"), some_tokens(length=70)
    assert type(loaded).__name__ == exported.architecture
    conditions = torch.tensor([2, 1]) if name == "conditional" else None
    expected = ours(given.model, tokens, "causal", conditions=conditions)
    more = {} if conditions is None else {"conditions": conditions}
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens, **more).logits, expected, rtol=1e-4, atol=1e-4)
        padded = torch.cat((torch.full((2, 3), 5), tokens), dim=1)
        mask = torch.ones_like(padded)
        mask[:, :3] = 0
        after_padding = loaded(padded, attention_mask=mask, **more).logits[:, 3:]
    if exported.obstacles:  # transformers' own classes count the places of padding, unless told otherwise
        torch.testing.assert_close(after_padding, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "sliding", "linear", "value residual", "unet", "block sparse", "experts"])
def test_what_is_loaded_generates_what_our_model_would(name: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    given = trained(vocabulary, **VARIANTS[name])
    export_model(given, tmp_path / "out", "# card\n")
    loaded, text = load(tmp_path / "out"), some_tokens(rows=1, length=7)
    made = greedy(loaded, text, 12)
    for _ in range(12):
        text = torch.cat((text, ours(given.model, text, "causal")[:, -1:].argmax(-1)), dim=1)
    assert made.tolist() == text.tolist()


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_that_sees_both_sides_is_eurobert_or_ours(tied: bool, vocabulary: Vocabulary, tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "EuroBertForMaskedLM": {},
        "HeadraceForMaskedLM": {"norm": "layer", "attention": "sliding", "window": 5},
    }
    for kind, variant in kinds.items():
        given = trained(vocabulary, MASKED, tie_embeddings=tied, **variant)
        assert export_model(given, tmp_path / kind, "# card\n").architecture == kind
        loaded, tokens = load(tmp_path / kind, masked=True), some_tokens(VOCABULARY + 1)
        with torch.no_grad():
            made = loaded(tokens).logits
        torch.testing.assert_close(made, ours(given.model, tokens, "bidirectional"), rtol=1e-4, atol=1e-4)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
        assert tokenizer.mask_token_id == loaded.config.mask_token_id == VOCABULARY
        fill = transformers.pipeline("fill-mask", model=loaded, tokenizer=tokenizer)
        assert len(fill("the quick <|mask|> fox")) == 5


def test_a_prompt_is_seen_from_both_sides_where_it_was_in_training(vocabulary: Vocabulary, tmp_path: Path) -> None:
    given = trained(vocabulary, PREFIX)
    exported = export_model(given, tmp_path / "out", "# card\n")
    assert exported.obstacles == ("an objective with a visible prefix",)
    loaded, text = load(tmp_path / "out"), some_tokens(rows=1, length=9)
    made = greedy(loaded, text, 5)
    visible = torch.zeros(1, 14, dtype=torch.bool)
    visible[:, :9] = True
    expected = ours(given.model, made, "prefix", visible)[0, 8:-1].argmax(-1)
    assert made[0, 9:].tolist() == expected.tolist()
    with pytest.raises(ValueError, match="leave use_cache on"):
        loaded.generate(text, max_new_tokens=5, use_cache=False)


def test_obstacles_are_named() -> None:
    told = choose_class(ModelConfig(**SHAPE, norm="layer", activation="gelu", attention="linear"), "causal")
    assert told.obstacles == ("norm = 'layer'", "activation = 'gelu'", "attention = 'linear'")
    shared = ModelConfig(**SHAPE, num_experts=4, shared_expert=True, balance="bias")
    assert choose_class(shared, "causal").obstacles == ("shared_expert = True", "balance = 'bias'")


def test_the_tokenizer_gives_what_the_stream_gives(vocabulary: Vocabulary, tmp_path: Path) -> None:
    signs = Seeing(num_signs=2)
    export_model(trained(vocabulary, signs), tmp_path / "out", "# card\n")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    plain = vocabulary.encode_batch([TEXT])[0].tolist()
    assert tokenizer(TEXT).input_ids == [vocabulary.end_of_text, *plain]
    assert tokenizer(TEXT, add_special_tokens=False).input_ids == plain
    assert tokenizer.decode(plain) == TEXT
    assert tokenizer.convert_tokens_to_ids(["<|sign_0|>", "<|sign_1|>"]) == [VOCABULARY, VOCABULARY + 1]
    assert {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} == {vocabulary.end_of_text}
    assert tokenizer.model_max_length == LENGTH
    assert len(tokenizer) == VOCABULARY + 2


def test_parameters_are_written_in_the_type_that_is_asked_for(vocabulary: Vocabulary, tmp_path: Path) -> None:
    given = trained(vocabulary, norm="layer")
    exported = export_model(given, tmp_path / "out", "# card\n", "bfloat16")
    assert exported.dtype == "bfloat16"
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        made = loaded(some_tokens()).logits.float()
    expected = ours(given.model, some_tokens(), "causal")
    assert (made - expected).abs().mean() < 0.05 * expected.std()


def test_nothing_is_left_of_an_export_that_fails(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = trained(vocabulary)
    with pytest.raises(InputError, match="is there already"):
        export_model(given, tmp_path, "# card\n")
    with pytest.raises(InputError, match="the model has 280 ids, but its tokenizer and objective have 281"):
        export_model(replace(given, objective=MASKED), tmp_path / "out", "# card\n")
    right = hf.class_tensors

    def wrong(*arguments: Any) -> dict[str, Tensor]:
        return {name: tensor * 1.01 for name, tensor in right(*arguments).items()}

    monkeypatch.setattr(hf, "class_tensors", wrong)
    with pytest.raises(IntegrityError, match="LlamaForCausalLM gives logits that differ by"):
        export_model(given, tmp_path / "out", "# card\n")
    monkeypatch.setattr(hf, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"headrace\[hf\]"):
        export_model(given, tmp_path / "out", "# card\n")
    assert not [path for path in tmp_path.iterdir() if path.name != "modules"]


def test_the_code_beside_the_weights_needs_torch_and_transformers_alone() -> None:
    import ast

    tree = ast.parse(hf.CODE.read_text(encoding="utf-8"))
    roots = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert roots == {"types", "typing", "torch", "transformers"}
