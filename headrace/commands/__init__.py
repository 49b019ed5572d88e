"""Commands by name, in the order in which `--help` lists them: that of the work; `GROUP NAME` stands in a group."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from headrace.commands.build import build, plan
from headrace.commands.classifier import classifier_train
from headrace.commands.clusters import clusters
from headrace.commands.contamination import contamination
from headrace.commands.crawl import crawl
from headrace.commands.demo import demo
from headrace.commands.diff import diff
from headrace.commands.eval import evaluate
from headrace.commands.export import export
from headrace.commands.generate import generate
from headrace.commands.index import index
from headrace.commands.inspect import inspect
from headrace.commands.models import models
from headrace.commands.recipes import recipes
from headrace.commands.rules import rules
from headrace.commands.signals import signals
from headrace.commands.stream import exposure, stream_check, stream_export
from headrace.commands.suppress import suppress_add, suppress_check, suppress_list, suppress_remove
from headrace.commands.takedown import takedown
from headrace.commands.train import trace, train
from headrace.commands.trial import lr_find, profile
from headrace.commands.verify import verify
from headrace.commands.why import why
from headrace.console import Result

COMMANDS: Mapping[str, Callable[..., Result]] = MappingProxyType(
    {
        "crawl": crawl,
        "build": build,
        "plan": plan,
        "verify": verify,
        "inspect": inspect,
        "why": why,
        "rules": rules,
        "clusters": clusters,
        "contamination": contamination,
        "index": index,
        "diff": diff,
        "lr-find": lr_find,
        "profile": profile,
        "train": train,
        "eval": evaluate,
        "trace": trace,
        "exposure": exposure,
        "generate": generate,
        "export": export,
        "stream check": stream_check,
        "stream export": stream_export,
        "recipes": recipes,
        "signals": signals,
        "models": models,
        "classifier train": classifier_train,
        "takedown": takedown,
        "suppress add": suppress_add,
        "suppress list": suppress_list,
        "suppress remove": suppress_remove,
        "suppress check": suppress_check,
        "demo": demo,
    }
)

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "classifier": "Learn to tell texts apart.",
        "stream": "Look at what a run is given.",
        "suppress": "Take documents down for good.",
    }
)
"""What `--help` says of each group."""
