"""A model for the library transformers: by its own classes where they compute the same, else with code beside it.

    FOLDER/config.json, generation_config.json, model*.safetensors      the model
    FOLDER/modeling_headrace.py                                         its code, where it is none of transformers' own
    FOLDER/tokenizer.json, tokenizer_config.json, special_tokens_map.json
    FOLDER/README.md                                                    where it comes from

Before the folder has its name, the model is loaded from it and its logits are compared with ours.
"""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from headrace.pipeline.errors import InputError, IntegrityError
from headrace.pipeline.store import writing
from headrace.pipeline.vocabulary import Vocabulary
from headrace.trainer.attention.layouts import LAYOUTS
from headrace.trainer.attention.seen import Seen
from headrace.trainer.exports.hf_classes import Choice, choose_class, class_config, class_tensors
from headrace.trainer.exports.hf_tokenizer import MASK, sign_names, write_tokenizer
from headrace.trainer.model import Transformer
from headrace.trainer.objectives.contract import Objective, Sight

DType = Literal["float32", "bfloat16", "float16"]
CODE = Path(__file__).with_name("modeling_headrace.py")
MODULE = "modeling_headrace"
CARD = "README.md"
TOLERANCE = 1e-4
"""Largest difference of a logit in float32, as a share of the largest logit where that is above 1."""


@dataclass(frozen=True)
class ExportedModel:
    """What was written.

    Attributes:
        architecture: name of the class that loads it.
        obstacles: why it is none of transformers' own; none where it is.
        largest_difference: of a logit from ours, in float32, on random tokens.
    """

    path: str
    architecture: str
    obstacles: tuple[str, ...]
    dtype: str
    parameters: int
    largest_difference: float


@dataclass(frozen=True)
class ModelToExport:
    """A trained model, and what it was trained with."""

    model: Transformer
    objective: Objective
    vocabulary: Vocabulary
    sequence_length: int

    @property
    def sight(self) -> Sight:
        """What a position sees."""
        return self.objective.sight

    @property
    def choice(self) -> Choice:
        """The class that it is exported as."""
        return choose_class(self.model.config, self.sight)


def export_model(trained: ModelToExport, out: Path, card: str, dtype: DType = "float32") -> ExportedModel:
    """Write a model, its tokenizer and its card into a folder, which must not be there yet.

    Args:
        trained: the model, on the CPU.
        out: the folder.
        card: contents of README.md.
        dtype: of the parameters that are written.

    Raises:
        InputError: the folder is there, transformers is not installed, or the tokenizer and the model do not fit.
        IntegrityError: what was written does not compute what the model does.
    """
    require_transformers()
    if out.exists():
        raise InputError(f"{out}: is there already; name a new folder")
    known = trained.vocabulary.size + trained.objective.num_signs
    if known != trained.model.config.vocab_size:
        raise InputError(
            f"the model has {trained.model.config.vocab_size} ids, but its tokenizer and objective have {known}; name "
            "the tokens that it was trained on"
        )
    aside = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
    with writing(out), _quiet_transformers():
        aside.mkdir(parents=True)
        try:
            difference = _write(trained, aside, dtype)
            write_tokenizer(trained.vocabulary, sign_names(trained.objective), trained.sequence_length, aside)
            (aside / CARD).write_text(card, encoding="utf-8")
            aside.rename(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    count = sum(parameter.numel() for parameter in trained.model.parameters())
    return ExportedModel(str(out), trained.choice.name, trained.choice.obstacles, dtype, count, difference)


def require_transformers() -> None:
    """Raise `InputError` where the library is not installed."""
    if find_spec("transformers") is None:
        raise InputError("the package transformers is not installed; install the extra: pip install 'headrace[hf]'")


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the library's progress bars and advice off the terminal."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _write(trained: ModelToExport, folder: Path, dtype: DType) -> float:
    """Write the model; return the largest difference of a logit of what can be loaded, in float32."""
    choice = trained.choice
    kind = _class_of(choice)
    model = _theirs(trained, choice, kind)
    difference = _compare(trained.model, trained.sight, model)
    model.generation_config = _generation_config(trained)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    if choice.is_own:
        shutil.copyfile(CODE, folder / CODE.name)
    else:
        _tell_older_versions(folder / "config.json", trained.model.config.rope_theta)
    loaded = kind.from_pretrained(folder)
    _require_same(model, loaded)
    return difference


def _tell_older_versions(path: Path, rope_theta: float) -> None:
    """Write the base of the rotary angles where versions of transformers before 5, and other programs, look for it."""
    config = json.loads(path.read_text(encoding="utf-8")) | {"rope_theta": rope_theta}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _class_of(choice: Choice) -> Any:
    import transformers

    if not choice.is_own:
        return getattr(transformers, choice.name)
    from headrace.trainer.exports import modeling_headrace

    return getattr(modeling_headrace, choice.name)


def _theirs(trained: ModelToExport, choice: Choice, kind: Any) -> Any:
    """Return the model as an object of the class that is to load it, with copies of its parameters."""
    config = trained.model.config
    tensors = {name: tensor.detach().cpu().float().clone() for name, tensor in trained.model.state_dict().items()}
    end = trained.vocabulary.end_of_text
    common: dict[str, Any] = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": None}
    # Without a padding id in the model: its embedding would not be trained, and `<|endoftext|>` begins every document.
    if MASK in sign_names(trained.objective):
        common["mask_token_id"] = trained.vocabulary.size
    if choice.is_own:
        made = kind.config_class(model=config.model_dump(mode="json"), sight=trained.sight, **common)
        made.max_position_embeddings = trained.sequence_length
        made.auto_map = {
            "AutoConfig": f"{MODULE}.HeadraceConfig",
            "AutoModelForMaskedLM" if trained.sight == "bidirectional" else "AutoModelForCausalLM": (
                f"{MODULE}.{choice.name}"
            ),
        }
    else:
        made = kind.config_class(**class_config(choice, config, trained.sequence_length), **common)
        tensors = class_tensors(config, tensors)
    model = kind(made).float().eval()
    missing, unknown = model.load_state_dict(tensors, strict=False)
    if unknown or [name for name in missing if not (config.tie_embeddings and name == "lm_head.weight")]:
        raise IntegrityError(f"{choice.name}: parameters do not fit: {', '.join([*missing, *unknown][:4])}")
    model.tie_weights()
    return model


def _generation_config(trained: ModelToExport) -> Any:
    from transformers import GenerationConfig

    end = trained.vocabulary.end_of_text
    return GenerationConfig(bos_token_id=end, eos_token_id=end, pad_token_id=end)


@torch.no_grad()
def _compare(ours: Transformer, sight: Sight, theirs: Any) -> float:
    """Return the largest difference of logits on random tokens; raise `IntegrityError` where it is too large."""
    length = 48
    tokens = torch.randint(ours.config.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
    seen = Seen.of(torch.zeros(2, length, dtype=torch.int32), "bidirectional" if sight == "bidirectional" else "causal")
    training = ours.training
    layout = LAYOUTS["mask"](seen, ours.patterns)
    expected: Tensor = ours.eval().logits(ours(tokens, seen.positions, layout))
    ours.train(training)
    difference = float((theirs(input_ids=tokens).logits - expected).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:
        raise IntegrityError(f"{type(theirs).__name__} gives logits that differ by {difference:.2g} from the model's")
    return difference


def _require_same(written: Any, loaded: Any) -> None:
    """Raise `IntegrityError` where what was loaded are not the parameters that were written."""
    expected, found = dict(written.state_dict()), dict(loaded.state_dict())
    for name in sorted({*expected, *found}):
        if name not in expected or name not in found or not torch.equal(expected[name], found[name]):
            raise IntegrityError(f"{type(written).__name__} cannot be loaded as it was written: {name} differs")
