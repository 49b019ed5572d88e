"""Walks: a recipe step by step, each planned over what the earlier ones left in the store.

A walk yields what it plans before it needs it, and is sent the manifests: `build` makes each, `plan` only looks whether
it is there. The keys of a step follow from the contents of earlier ones.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.filters.rules import Rule
from headrace.pipeline.artifacts import Planned
from headrace.pipeline.dedup.membership import SUPPRESSIONS
from headrace.pipeline.dedup.planning import (
    bloom_stages,
    duplicate_stages,
    earlier_stage,
    find_indexes,
    measure_stages,
    repeat_stages,
)
from headrace.pipeline.errors import InputError
from headrace.pipeline.fitting import check_steps
from headrace.pipeline.lock import LockedInput
from headrace.pipeline.plugins import plugin_signals
from headrace.pipeline.raw_files import find_files
from headrace.pipeline.recipe import MEBIBYTE, Recipe
from headrace.pipeline.recipe_steps import (
    BestStep,
    BloomStep,
    CutStep,
    DecontaminateStep,
    ExactStep,
    LinesStep,
    MeasureStep,
    MinHashStep,
    RulesStep,
    SubstringsStep,
    TokenizeStep,
)
from headrace.pipeline.schema import Manifest
from headrace.pipeline.stages.buckets import Buckets
from headrace.pipeline.stages.contamination import (
    Contamination,
    CountEvaluation,
    FindEvaluation,
    IndexEvaluation,
    source_name,
)
from headrace.pipeline.stages.contract import Planning, RawFile, Stage
from headrace.pipeline.stages.cut import Cut
from headrace.pipeline.stages.distinct import Distinct
from headrace.pipeline.stages.judge import Adopt, Rules
from headrace.pipeline.stages.measure import MODEL, Measure
from headrace.pipeline.stages.read import Read, SourceConfig
from headrace.pipeline.stages.repeats import FindRepeats
from headrace.pipeline.stages.suppress import Suppress
from headrace.pipeline.stages.threshold import Threshold, threshold_rule
from headrace.pipeline.stages.tokenize import Encode, Shuffle
from headrace.pipeline.stages.tokenizer import GivenTokenizer, TrainTokenizer
from headrace.pipeline.store import Store
from headrace.pipeline.stored_models import pin_models
from headrace.pipeline.suppressions import as_config
from headrace.pipeline.tables import read_columns
from headrace.pipeline.views import RAW, roles_of_columns
from headrace.pipeline.vocabulary import Vocabulary

SAMPLE_UNIT = 1 << 32

Walk = Generator[Sequence[Planned], Sequence[Manifest], None]


@dataclass(frozen=True)
class BuildOptions:
    """What a command adds to a recipe: globs of sources, a share of the records, a number of documents."""

    globs: Mapping[str, str] = field(default_factory=dict)
    sample: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would build nothing, or is no share."""
        if self.sample is not None and not 0 < self.sample <= 1:
            raise InputError(f"--sample is {self.sample}; it must be a share above 0 and at most 1")
        if self.sample is not None and not self.sample_units:
            raise InputError(f"--sample is {self.sample}, which is no record; the smallest share is {1 / SAMPLE_UNIT}")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit is {self.limit}; it must be 1 document or more")

    @property
    def sample_units(self) -> int | None:
        """The share of the records as a number of 2^32, as records are chosen by it."""
        return None if self.sample is None else round(self.sample * SAMPLE_UNIT)

    def as_config(self) -> dict[str, int | str]:
        """Return those that change what is built, for the lock."""
        options: dict[str, int | str] = {}
        if self.sample is not None:
            options["sample"] = repr(self.sample)
        if self.limit is not None:
            options["limit"] = self.limit
        return options

    def lock_name(self, recipe: str) -> str:
        """Return the file name of the lock: a sampled build does not overwrite the lock of the whole."""
        suffix = "".join(f".{name}-{value}" for name, value in sorted(self.as_config().items()))
        return f"{recipe}{suffix}.lock.toml"


NO_OPTIONS = BuildOptions()


class Walker:
    """Plans the steps of one recipe over one store."""

    def __init__(self, recipe: Recipe, store: Store, options: BuildOptions) -> None:
        self.store, self.options = store, options
        self.recipe, self.models = pin_models(recipe, store)
        check_steps(self.recipe)
        self.files = self._find_files()
        self.upstream: dict[str, Manifest] = {}
        self.measured: list[MeasureStep] = []

    def _find_files(self) -> dict[str, list[RawFile]]:
        names = [source.name for source in self.recipe.sources]
        unknown = sorted(set(self.options.globs) - set(names))
        if unknown:
            raise InputError(f"--source {unknown[0]}=...: the recipe has no such source (it has: {', '.join(names)})")
        files = {}
        for source in self.recipe.sources:
            pattern = self.options.globs.get(source.name, source.glob)
            if not pattern:
                raise InputError(f"source {source.name!r} has no files; give --source {source.name}=GLOB")
            files[source.name] = find_files(source.name, pattern, self.store)
        return files | self._find_tokenizer() | self._find_evaluation_sets()

    def _find_tokenizer(self) -> dict[str, list[RawFile]]:
        """Return the tokenizer that the recipe gives, looked at before hours are spent on what it is to encode."""
        given = [s.tokenizer for s in self.recipe.steps if isinstance(s, TokenizeStep) and s.tokenizer is not None]
        if not given:
            return {}
        files = find_files("tokenizer", given[0], self.store)
        if len(files) > 1:
            raise InputError(f"tokenizer = {given[0]!r} names {len(files)} files; name one tokenizer.json")
        Vocabulary.load(files[0].path)
        return {"tokenizer": files}

    def inputs(self) -> tuple[LockedInput, ...]:
        """Return the raw inputs as the lock names them."""
        return tuple(
            LockedInput(source=name, relative=file.relative, size=file.size, sha256=file.sha256)
            for name, files in self.files.items()
            for file in files
        )

    def _planned(self, label: str, stage: Stage, more: Mapping[str, Manifest] = {}) -> Planned:
        roles = {role: {**self.upstream, **more}[role] for role in stage.inputs()}
        planning = Planning(self.store, roles, self.files)
        return Planned(label, stage, tuple(stage.plan(planning)), planning)

    def _one(self, label: str, role: str, stage: Stage) -> Walk:
        (self.upstream[role],) = yield [self._planned(label, stage)]

    def walk(self) -> Walk:
        """Yield what can be made next; expects the manifests to be sent back."""
        yield from self._read()
        yield from self._find("distinct", Distinct(limit=self.options.limit))
        if entries := as_config(self.store):
            yield from self._find("suppress", Suppress(entries=entries))
        for number, step in enumerate(self.recipe.steps, 1):
            match step:
                case MeasureStep():
                    yield from self._measure(step)
                case RulesStep():
                    rules = tuple(rule.as_config() for rule in step.composed())
                    yield from self._one(f"rules {step.name or number}", "verdicts", Rules(rules=rules))
                case ExactStep() | MinHashStep():
                    yield from self._duplicates(step, number)
                case DecontaminateStep():
                    yield from self._decontaminate(step, number)
                case SubstringsStep() | LinesStep():
                    yield from self._repeats(step, number)
                case BloomStep():
                    found, marked = bloom_stages(step)
                    yield from self._one(f"bloom {number} repeats", "repeats", found)
                    yield from self._one(f"bloom {number}", f"signals:{step.id}", marked)
                case BestStep():
                    yield from self._best(step, number)
                case CutStep():
                    size = self.recipe.sharding.row_group_mebibytes * MEBIBYTE
                    cut = Cut(edits=tuple(step.edits), metadata=step.metadata, row_group_bytes=size)
                    yield from self._one("cut", "corpus", cut)
                case TokenizeStep():
                    yield from self._tokenize(step)

    def _read(self) -> Walk:
        sources = tuple(
            SourceConfig(**source.model_dump(include=set(SourceConfig.model_fields))) for source in self.recipe.sources
        )
        stage = Read(sources=sources, sample=self.options.sample_units, limit=self.options.limit)
        planning = Planning(self.store, {}, self.files)
        tasks = stage.plan_sized(planning, self.recipe.sharding.task_mebibytes * MEBIBYTE)
        if self.options.limit is None:
            (self.upstream["documents"],) = yield [Planned("read", stage, tuple(tasks), planning)]
            self._refuse_no_records()
            return
        seen: set[str] = set()
        for count in range(1, len(tasks) + 1):  # no more tasks than the limit needs, whatever the number of workers
            (self.upstream["documents"],) = yield [Planned("read", stage, tuple(tasks[:count]), planning)]
            newest = Planning(self.store, self.upstream).part_inputs("documents")[-1]
            seen.update(read_columns(self.store.root / newest.path, ["doc_id"]).column("doc_id").to_pylist())
            if len(seen) >= self.options.limit:
                return
        self._refuse_no_records()

    def _refuse_no_records(self) -> None:
        if not self.upstream["documents"].ledger.input.records:
            path = next(file.path for files in self.files.values() for file in files)
            readers = ", ".join(f"{source.name}: {source.reader}" for source in self.recipe.sources)
            raise InputError(f"{path}: no record could be read from this or any other input; readers are {readers}")

    def _find(self, label: str, stage: Stage) -> Walk:
        """Make the findings of a global stage, then the verdicts of each part."""
        role = f"findings:{stage.name}"
        yield from self._one(label, role, stage)
        yield from self._one(f"{label} verdicts", "verdicts", Adopt(findings=stage.name))

    def _best(self, step: BestStep, number: int) -> Walk:
        """Find the threshold among all documents that are left, then judge each part by it as by any rule."""
        stage = Threshold(column=step.column, share=step.share, best=step.best)
        yield from self._one(f"best {number}", "threshold", stage)
        found = self.upstream["threshold"]
        rule = threshold_rule(found, self.store, ties=step.ties, on_null=step.on_null, reason=step.reason)
        yield from self._one(f"best {number} verdicts", "verdicts", Rules(rules=(rule,)))

    def _duplicates(self, step: ExactStep | MinHashStep, number: int) -> Walk:
        """Find duplicates: band keys of each part, buckets of each range of keys, survivors, and then verdicts."""
        label = f"{step.kind} {number}"
        rules = yield from self._rules_after(number)
        suppressed = SUPPRESSIONS in self.upstream
        bands, duplicates = duplicate_stages(step, self.recipe, rules=rules, suppressed=suppressed)
        yield from self._one(f"{label} bands", "bands", bands)
        if step.against:
            self.upstream |= find_indexes(step, bands, self.recipe, self.store)
            yield from self._one(f"{label} earlier", "verdicts", earlier_stage(step, self.recipe, bands, duplicates))
        task_bytes = self.recipe.sharding.task_mebibytes * MEBIBYTE
        partitions = Buckets.num_partitions(Planning(self.store, self.upstream), task_bytes)
        yield from self._one(f"{label} buckets", "buckets", Buckets(partitions=partitions, suppressed=suppressed))
        yield from self._find(label, duplicates)

    def _decontaminate(self, step: DecontaminateStep, number: int) -> Walk:
        """Index the evaluation sets, look for their n-grams, count who has them, and write the side table."""
        label = f"decontaminate {number}"
        sets = tuple(one.model_dump(include={"name", "fields", "records", "id"}) for one in step.sets)
        yield from self._one(f"{label} index", "index", IndexEvaluation(sets=sets, n=step.n, min_words=step.min_words))
        yield from self._one(f"{label} matches", "matches", FindEvaluation(view=step.view))
        yield from self._one(f"{label} counts", "counts", CountEvaluation())
        stage = Contamination(signal=step.id, max_documents=step.max_documents)
        yield from self._one(label, f"signals:{step.id}", stage)

    def _repeats(self, step: SubstringsStep | LinesStep, number: int) -> Walk:
        """Hash the units of all texts, find those that occur again, and write the side table with their spans."""
        label = f"{step.kind} {number}"
        units, marked = repeat_stages(step)
        yield from self._one(f"{label} units", "units", units)
        task_bytes = self.recipe.sharding.task_mebibytes * MEBIBYTE
        partitions = FindRepeats.num_partitions(Planning(self.store, self.upstream), task_bytes)
        yield from self._one(f"{label} repeats", "repeats", FindRepeats(keep=step.keep, partitions=partitions))
        yield from self._one(label, f"signals:{step.id}", marked)

    def _find_evaluation_sets(self) -> dict[str, list[RawFile]]:
        steps = (step for step in self.recipe.steps if isinstance(step, DecontaminateStep))
        sets = [one for step in steps for one in step.sets]
        return {source_name(one.name): find_files(source_name(one.name), one.path, self.store) for one in sets}

    def _rules_after(self, number: int) -> Generator[Sequence[Planned], Sequence[Manifest], tuple[Rule, ...]]:
        """Return the rules of later steps, when all that they read is measured.

        Those about what only a later step can find among the documents that are left, or about the texts without it,
        are not asked beforehand.
        """
        later = self.recipe.steps[number:]
        rules = tuple(rule for step in later if isinstance(step, RulesStep) for rule in step.composed())
        for step in later if rules else ():
            if isinstance(step, MeasureStep) and (step.view == RAW or f"signals:{step.view}" in self.upstream):
                yield from self._measure(step)
        return tuple(rule for rule in rules if roles_of_columns(rule.columns).keys() <= {*self.upstream})

    def _measure(self, step: MeasureStep) -> Walk:
        if step in self.measured:
            return
        self.measured.append(step)
        stages = list(measure_stages(step, plugin_signals(self.recipe.plugins)))
        planned = [self._planned(f"measure {stage.id}", stage, self._model(stage)) for stage in stages]
        manifests = yield planned
        for stage, manifest in zip(stages, manifests, strict=True):
            self.upstream[f"signals:{stage.id}"] = manifest

    def _model(self, stage: Measure) -> dict[str, Manifest]:
        return {MODEL: self.models[stage.id]} if stage.id in self.models else {}

    def _tokenize(self, step: TokenizeStep) -> Walk:
        if step.tokenizer is not None:
            yield from self._one("tokenizer", "tokenizer", GivenTokenizer())
        else:
            stage = TrainTokenizer(
                vocab_size=step.vocab_size,
                max_bytes=step.train_mebibytes * MEBIBYTE,
                heldout=self.recipe.split.heldout,
            )
            yield from self._one("tokenizer", "tokenizer", stage)
        yield from self._one("encode", "encoded", Encode(text=step.text))
        yield from self._one("tokenize", "tokens", Shuffle())
