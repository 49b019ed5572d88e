"""The card of an exported model: what it is, what it was trained on and how, what was measured, how to load it.

Everything in it is read from the run's record and log, and from the manifests of its corpora; what they do not know is
said to be unknown.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from headrace.pipeline.schema import Manifest
    from headrace.pipeline.store import Store
    from headrace.trainer.exports.hf import ModelToExport
    from headrace.trainer.saved_model import SavedModel

LICENCE_KEYS = ("license", "licence")
"""Keys of a document's metadata that name its licence."""

SHOWN_LICENCES = 12
SHOWN_EVALUATIONS = 10
OF_INTEREST = ("learning_rate", "schedule", "betas", "weight_decay")
"""Of the optimizer, what is told even where it is the default."""

WITHOUT_FATES = frozenset(
    {
        *("measure", "distinct", "bands", "buckets", "duplicates", "threshold"),
        *("classifier", "tokenizer", "given_tokenizer"),
        *("encode", "tokenize"),
    }
)
"""Stages that leave decisions to the verdicts after them, that make a model, and that drop nothing."""


def model_card(saved: "SavedModel", trained: "ModelToExport") -> str:
    """Return the card as Markdown, with the front matter that model hubs read."""
    parts = (
        _front_matter(trained),
        _summary(saved, trained),
        _loading(trained),
        "## Data",
        *(_corpus(saved, number) for number in range(len(saved.stream.corpora))),
        _training(saved, trained),
        _evaluation(saved),
        _provenance(saved),
    )
    return "\n\n".join(parts) + "\n"


def _front_matter(trained: "ModelToExport") -> str:
    tag = "fill-mask" if trained.sight == "bidirectional" else "text-generation"
    return f"---\nlibrary_name: transformers\npipeline_tag: {tag}\ntags:\n- headrace\n---"


def _summary(saved: "SavedModel", trained: "ModelToExport") -> str:
    config = trained.model.config
    count = sum(parameter.numel() for parameter in trained.model.parameters())
    kinds = {"causal": "predicts next tokens", "bidirectional": "fills in masks", "prefix": "goes on from a prompt"}
    words = (
        f"A language model that {kinds[trained.sight]}: {count:,} parameters, {config.num_layers} layers of width "
        f"{config.width}, {config.num_heads} heads, a vocabulary of {config.vocab_size:,}. It saw "
        f"{saved.checkpoint.state['tokens']:,} tokens in {saved.checkpoint.step:,} steps. It is a base model: it was "
        "not taught to follow instructions, nor kept from repeating what its data says."
    )
    return f"# {_line(saved.record.run.run.name)}\n\n{words}"


def _loading(trained: "ModelToExport") -> str:
    own, masked = trained.choice.is_own, trained.sight == "bidirectional"
    auto = "AutoModelForMaskedLM" if masked else "AutoModelForCausalLM"
    trust = ", trust_remote_code=True" if own else ""
    use = (
        'logits = model(**tokenizer("Some text", return_tensors="pt")).logits'
        if masked
        else 'ids = model.generate(**tokenizer("Some text", return_tensors="pt"), max_new_tokens=50)\n'
        "print(tokenizer.decode(ids[0], skip_special_tokens=True))"
    )
    code = (
        f"from transformers import AutoTokenizer, {auto}\n\n"
        'folder = "."  # where this file lies\n'
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        f"model = {auto}.from_pretrained(folder{trust})\n{use}"
    )
    why = (
        f"The class is `{trained.choice.name}` in `modeling_headrace.py`, since transformers' own have not: "
        f"{', '.join(f'`{one}`' for one in trained.choice.obstacles)}."
        if own
        else f"The class is transformers' own `{trained.choice.name}`."
    )
    return (
        f"## Use\n\n```python\n{code}\n```\n\n{why} A text begins with `<|endoftext|>`, as documents did in training; "
        f"the tokenizer writes it. Training saw at most {trained.sequence_length:,} tokens at once."
    )


# ------------------------------------------------------------------------------------------------------------- data


def _corpus(saved: "SavedModel", number: int) -> str:
    """Return what is known of a corpus: its size, where it came from, what was dropped, its licences."""
    from headrace.pipeline.ancestry import ancestry

    corpus, planned = saved.stream.corpora[number], saved.record.run.data.corpora[number]
    facts = {
        "documents": f"{corpus.tokens.rows:,}",
        "tokens": f"{int(corpus.tokens.facts['tokens']):,}",
        "held out": f"{saved.record.run.data.heldout:.2%}",
        "weight": planned.weight,
        "epochs": planned.epochs,
        "content id": f"`{corpus.tokens.content}`",
    }
    parts = [f"### {_line(saved.stream.names[number])}", _facts(facts)]
    if corpus.reader is not None:
        return "\n\n".join([*parts, "The corpus was read from elsewhere, without the manifests that it was made from."])
    chain = ancestry(corpus.tokens, corpus.store)
    sources = [_source(one) for item in chain if item.stage == "read" for one in item.config.get("sources", [])]
    if sources:
        parts.append("Sources: " + "; ".join(sources) + ".")
    rows = [row for item in chain for row in _step(item)]
    if rows:
        parts.append(_table(("step", "in", "kept", "dropped because of"), rows))
    rules = [_rule(rule) for item in chain if item.stage == "rules" for rule in item.config.get("rules", [])]
    if rules:
        parts.append("Rules that a document had to keep:\n\n" + "\n".join(f"- {rule}" for rule in rules))
    parts.append(_licences(chain, corpus.store))
    return "\n\n".join(parts)


def _source(source: Mapping[str, Any]) -> str:
    extractor = f", extracted by {source['extractor']}" if source.get("extractor") else ""
    return _line(f"{source.get('name')} ({source.get('reader')}{extractor})")


def _step(manifest: "Manifest") -> Iterator[tuple[str, ...]]:
    """Yield a row for a step that decides or writes."""
    ledger = manifest.ledger
    if manifest.stage in WITHOUT_FATES or not ledger.input.records:
        return
    reasons = sorted(ledger.dropped.items(), key=lambda item: (-item[1].records, item[0]))
    told = ", ".join(f"{reason} ({tally.records:,})" for reason, tally in reasons if reason != "verdict")
    yield manifest.name, f"{ledger.input.records:,}", f"{ledger.kept.records:,}", told


def _rule(rule: Mapping[str, Any]) -> str:
    bounds = {key: value for key, value in rule.items() if key not in ("column", "reason")}
    told = ", ".join(f"{key} {json.dumps(value)}" for key, value in bounds.items())
    return f"`{_line(str(rule.get('column', rule.get('reason', '')))).replace('`', '')}`: {_line(told)}"


def _licences(chain: "Sequence[Manifest]", store: "Store") -> str:
    found = count_licences(chain, store)
    if not found:
        return "Licences: no document's metadata names one; texts keep those of their authors."
    rows = [(_line(name), f"{count:,}") for name, count in found.most_common(SHOWN_LICENCES)]
    rest = sum(found.values()) - sum(count for _, count in found.most_common(SHOWN_LICENCES))
    return _table(("licence", "documents"), [*rows, *([("others", f"{rest:,}")] if rest else [])])


def count_licences(chain: "Sequence[Manifest]", store: "Store") -> Counter[str]:
    """Return how many documents of a corpus name which licence in their metadata; none where none does."""
    from headrace.pipeline.tables import read_batches

    found: Counter[str] = Counter()
    for manifest in chain:
        for part in manifest.parts if manifest.stage == "cut" else ():
            path = store.artifact_folder(manifest.stage, manifest.key) / part.files[manifest.table].name
            for batch in read_batches(path, ["metadata"]):
                found.update(_licence(text) for text in batch.column("metadata").to_pylist())
    unknown = found.pop("", 0)
    return found + Counter({"not named": unknown}) if found else found


def _licence(text: str | None) -> str:
    metadata = json.loads(text) if text and any(key in text for key in LICENCE_KEYS) else None
    named = [metadata[key] for key in LICENCE_KEYS if metadata.get(key)] if isinstance(metadata, dict) else []
    return str(named[0]) if named else ""


# --------------------------------------------------------------------------------------------- training, evaluation


def _training(saved: "SavedModel", trained: "ModelToExport") -> str:
    from headrace.trainer.model_config import ModelConfig

    run, state = saved.record.run, saved.checkpoint.state
    batch = run.data.global_batch
    rows = " rows, then ".join(str(one.rows) for one in batch)
    options = f" ({_told(run.objective)})" if run.objective else ""
    optimizer = run.optimizer.model_dump(mode="json")
    chosen = {key: value for key, value in optimizer.items() if key in OF_INTEREST}
    facts = {
        "steps": f"{saved.checkpoint.step:,} of {run.run.steps:,}",
        "tokens": f"{state['tokens']:,}",
        "objective": f"{run.run.objective}{options}",
        "batch": f"{rows} rows of {trained.sequence_length:,} tokens, packed by `{run.data.packing}`",
        "optimizer": _told(chosen | _unusual(optimizer, type(run.optimizer))),
        "seed": run.run.seed,
        "model": _told(_unusual(state["model"], ModelConfig)),
        "computed on": ", ".join(f"{key} {value}" for key, value in state["environment"].items() if value is not None),
    }
    return "## Training\n\n" + _facts(facts)


def _unusual(values: Mapping[str, Any], section: "type[BaseModel]") -> dict[str, Any]:
    """Return those values of a section that are not its defaults."""
    usual = {key: field.get_default(call_default_factory=True) for key, field in section.model_fields.items()}
    return {key: value for key, value in values.items() if json.dumps(value) != json.dumps(usual.get(key), default=str)}


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items())


def _evaluation(saved: "SavedModel") -> str:
    from headrace.trainer.metrics import read_metrics

    log = read_metrics(saved.folder / "metrics.jsonl") if saved.folder is not None else []
    log = [record for record in log if record["step"] <= saved.checkpoint.step]
    measured = [record for record in log if "eval_loss" in record]
    parts = ["## Evaluation"]
    if log:
        parts.append(f"Training loss of step {log[-1]['step']:,}: {log[-1]['loss']:.4f} nats a target.")
    if not measured:
        parts.append("The log has no measurement on held-out documents.")
        return "\n\n".join(parts)
    rows = [
        (f"{record['step']:,}", f"{record['eval_loss']:.4f}", f"{record['bits_per_byte']:.4f}")
        for record in measured[-SHOWN_EVALUATIONS:]
    ]
    parts.append("On documents of the same corpora that were held out of training and of the tokenizer's training:")
    parts.append(_table(("step", "loss (nats a target)", "bits a byte"), rows))
    return "\n\n".join(parts)


def _provenance(saved: "SavedModel") -> str:
    facts = {
        "plan of the run": f"`{saved.record.plan}`",
        "stream": f"`{saved.record.stream.get('plan')}`",
        "checkpoint": f"`{saved.checkpoint.path.name}`",
    }
    told = (
        "Every batch can be made again from the plan and the corpora: `headrace trace RUN --step N` names the "
        "documents of a step and the bytes that they were read from."
    )
    return f"## Provenance\n\n{_facts(facts)}\n\n{told}"


# --------------------------------------------------------------------------------------------------------- markdown


def _facts(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value not in (None, ""))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _line(text: str) -> str:
    return " ".join(text.split())
