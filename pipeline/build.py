"""Builds: a recipe walked step by step, each made from what the earlier ones left in the store.

A walk yields what it plans before it needs it: `build` makes each, `plan` only looks whether it is there. The keys of a
step follow from the contents of earlier ones, so a plan ends at the first step that would run: what comes after depends
on what that gives, and may well be found unchanged.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.filters.rules import Rule
from headrace.pipeline.artifacts import Planned, Watcher, ignore_progress, make, manifest_path
from headrace.pipeline.dedup.membership import SUPPRESSIONS
from headrace.pipeline.dedup.planning import (
    bloom_stages,
    duplicate_stages,
    earlier_stage,
    find_indexes,
    measure_stages,
    repeat_stages,
)
from headrace.pipeline.engines import Engine
from headrace.pipeline.errors import InputError
from headrace.pipeline.fitting import check_steps
from headrace.pipeline.lock import Lock, LockedInput, LockedStep, explain_change
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
from headrace.pipeline.store import Store, replace, writing
from headrace.pipeline.stored_models import pin_models
from headrace.pipeline.suppressions import as_config
from headrace.pipeline.tables import read_columns
from headrace.pipeline.views import roles_of_columns
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


@dataclass(frozen=True)
class Built:
    """What a build made: manifests by role, the lock, and where both lie."""

    manifests: Mapping[str, Manifest]
    lock: Lock
    lock_path: Path
    store: Store

    @property
    def corpus(self) -> Manifest:
        """The corpus."""
        return self.manifests["corpus"]

    def path(self, role: str) -> str:
        """Return the path of a manifest."""
        return manifest_path(self.manifests[role], self.store)


class _Walker:
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
                    cut = Cut(edits=tuple(step.edits), row_group_bytes=size)
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
            yield from self._one(f"{label} earlier", "verdicts", earlier_stage(step, bands, duplicates))
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

        Those about what only a later step can find among the documents that are left are not asked beforehand.
        """
        later = self.recipe.steps[number:]
        rules = tuple(rule for step in later if isinstance(step, RulesStep) for rule in step.composed())
        for step in later if rules else ():
            if isinstance(step, MeasureStep):
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
        yield from self._one("encode", "encoded", Encode())
        yield from self._one("tokenize", "tokens", Shuffle())


def build(
    recipe: Recipe,
    store: Store,
    engine: Engine,
    options: BuildOptions = BuildOptions(),
    *,
    locked: Lock | None = None,
    watch: Watcher = ignore_progress,
) -> Built:
    """Build a recipe: make what is missing, in order, and write the lock.

    Raises:
        InputError: a source has no files, or one of them cannot be read.
        RecipeError: the steps do not fit together, or name a model that the store has not.
        LockError: `locked` does not name what would be built.
        TaskError: a task failed; what was finished is kept.
    """
    walker = _Walker(recipe, store, options)
    steps: dict[str, LockedStep] = {}
    walk = walker.walk()
    try:
        planned = _next(walk, None)
        while planned is not None:
            for item in planned if locked else ():
                _check_locked(locked, item, options)
            manifests = make(planned, engine, watch)
            for item, manifest in zip(planned, manifests, strict=True):
                if locked:
                    locked.check_content(item.label, manifest)
                steps[item.label] = LockedStep.of(item, manifest)
            done, planned = planned, _next(walk, manifests)
            if locked and _is_reading(done) and not _is_reading(planned):
                locked.check(done[0])
    finally:
        engine.close()
    lock = Lock(recipe=recipe.name, options=options.as_config(), inputs=walker.inputs(), steps=tuple(steps.values()))
    path = lock_path(store, recipe, options)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        replace(path, lock.render())
    return Built(walker.upstream, lock, path, store)


def _check_locked(lock: Lock | None, planned: Planned, options: BuildOptions) -> None:
    # with a limit the reading grows task by task: only its last key is in the lock, and is checked when it has ended
    if lock is not None and not (_is_reading([planned]) and options.limit is not None):
        lock.check(planned)


def _is_reading(planned: Sequence[Planned] | None) -> bool:
    return planned is not None and planned[0].label == "read"


def _next(walk: Walk, manifests: Sequence[Manifest] | None) -> Sequence[Planned] | None:
    try:
        return next(walk) if manifests is None else walk.send(manifests)
    except StopIteration:
        return None


@dataclass(frozen=True)
class PlannedStep:
    """A step as `plan` shows it."""

    label: str
    tasks: int
    cached: int
    why: str


def plan(recipe: Recipe, store: Store, options: BuildOptions = BuildOptions()) -> list[PlannedStep]:
    """Return the steps up to the first that would run, with what is there and why the rest is not."""
    walker = _Walker(recipe, store, options)
    path = lock_path(store, recipe, options)
    last = Lock.load(path) if path.exists() else None
    walk, shown = walker.walk(), []
    planned = _next(walk, None)
    while planned is not None:
        missing = [len(item.missing()) for item in planned]
        shown += [_show(item, absent, last) for item, absent in zip(planned, missing, strict=True)]
        paths = [store.find_manifest(item.stage.name, item.key) for item in planned]
        manifests = [Manifest.load(path) for path in paths if path is not None]
        if any(missing) or len(manifests) < len(planned) or not all(map(store.is_linked, manifests)):
            break
        planned = _next(walk, manifests)
    return shown


def _show(planned: Planned, missing: int, last: Lock | None) -> PlannedStep:
    total = len(planned.tasks)
    if not missing:
        why = "made before"
    elif last is None or (known := last.step(planned.label)) is None:
        why = "never made in this store"
    elif known.key == planned.key:
        why = "its files are gone from the store"
    else:
        why = explain_change(known, planned)
    return PlannedStep(planned.label, total, total - missing, why)


def lock_path(store: Store, recipe: Recipe, options: BuildOptions) -> Path:
    """Return where the lock of a recipe lies in a store."""
    return store.root / "locks" / options.lock_name(recipe.name)
