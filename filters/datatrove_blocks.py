"""datatrove's filters opened without the network: which there are, their options, and the files that they need.

Some filters download when they first run. Here nothing is downloaded: the file must be on this machine, it is named in
`block_resources` by its digest, and where it is absent the error says which and where. Random filters are refused,
since what they keep depends on the order of documents.
"""

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, field
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from unicodedata import unidata_version

from headrace.filters.models import digest_of, find_model
from headrace.filters.plugins import PluginError

REFUSED: Mapping[str, str] = {
    "LambdaFilter": "it takes a function, and a recipe has no code; write a signal of your own (docs/extending.md)",
    "SamplerFilter": "it draws at random, so what it keeps depends on the order of documents; `--sample` does not",
}
_NO_OPTIONS = ("self", "exclusion_writer", "batch_size")
_PROBE = "The mill stands by the river, and it has been there for a long time.\n" * 3


def block_names(refuse: str = "") -> list[str]:
    """Return the names of datatrove's filters that can be signals, in alphabetical order; none without datatrove.

    Raises:
        PluginError: `refuse` is a filter that cannot be one, or there is no datatrove to have it.
    """
    if find_spec("datatrove") is None:
        if refuse:
            raise PluginError("datatrove is not installed; it comes with headrace[interop]")
        return []
    if refuse in REFUSED:
        raise PluginError(REFUSED[refuse])
    return sorted(name for name in _block_classes() if name not in REFUSED)


@cache
def _block_classes() -> dict[str, type[Any]]:
    from datatrove.pipeline import filters
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from loguru import logger

    logger.disable("datatrove")  # it tells the terminal what it unpacks
    found = {name: item for name, item in vars(filters).items() if isinstance(item, type)}
    return {name: item for name, item in found.items() if issubclass(item, BaseFilter) and item is not BaseFilter}


def block_options(name: str) -> list[tuple[str, Any, Field[Any]]]:
    """Return name, type and default of each parameter that a recipe can give, as `make_dataclass` takes them."""
    init = _block_classes()[name].__init__
    hints = get_type_hints(init)
    options: list[tuple[str, Any, Field[Any]]] = []
    for parameter in inspect.signature(init).parameters.values():
        if parameter.name not in _NO_OPTIONS:
            required = parameter.default is inspect.Parameter.empty
            kind = _meant(hints.get(parameter.name, type(parameter.default)))
            kind = kind | None if parameter.default is None else kind
            options.append((parameter.name, kind, field() if required else field(default=parameter.default)))
    return options


def _meant(kind: Any) -> Any:
    """Return the type that an annotation means: `tuple[X]` stands for any number of X there, Iterable for words."""
    if kind is Iterable:
        return tuple[str, ...]
    origin, arguments = get_origin(kind), tuple(map(_meant, get_args(kind)))
    if origin is Iterable:
        return tuple[str, ...]
    if origin is tuple:
        return GenericAlias(tuple, (*arguments, ...) if len(arguments) == 1 else arguments)
    if origin is list:
        return GenericAlias(list, arguments)
    return Union[arguments] if origin in (Union, UnionType) else kind  # noqa: UP007 - of a tuple of types


def open_block(name: str, options: Mapping[str, Any]) -> Any:
    """Return a filter that is ready to judge, tried on a short text.

    Raises:
        PluginError: it needs a file or a library that is not here, or refuses its options.
        ModelFileError: a language model is not here.
    """
    files = block_files(name, options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the libraries of datatrove deprecate
            block = _block_classes()[name](**options)
            if adapt := _ADAPT.get(name):
                adapt(block, files)
            block.filter_batch([_probe()])
    except Exception as error:
        defaults = {option: default.default for option, _, default in block_options(name)}
        given = {option: value for option, value in options.items() if value != defaults[option]}
        raise PluginError(f"datatrove's {name} cannot be used with {given or 'its defaults'}: {error}") from error
    return block


def _probe() -> Any:
    from datatrove.data import Document

    return Document(text=_PROBE, id="", metadata={"url": "https://example.org/"})


def block_resources(name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the version of each library and the digest of each file that can change what a filter decides."""
    files = {f"datatrove:{key}": digest_of(path) for key, path in block_files(name, options).items()}
    return {"datatrove": version("datatrove"), "unicode": unidata_version, **_libraries(name), **files}


@cache
def _libraries(name: str) -> dict[str, str]:
    """Return the versions of what a filter says it needs; where it cuts words, of every tokenizer that is installed."""
    cuts = {"language", "filter_mode"}.intersection(option for option, _, _ in block_options(name))
    wanted = [line for line in requires("datatrove") or () if cuts and 'extra == "multilingual"' in line]
    names = [_distribution_name(line) for line in wanted]
    for cls in _block_classes()[name].__mro__:
        needed = vars(cls).get("_requires_dependencies", ())
        names += [item[1] if isinstance(item, tuple) else item for item in needed]
    return {name: found for name in sorted(names) if (found := _version(name))}


def _distribution_name(requirement: str) -> str:
    end = next((i for i, character in enumerate(requirement) if not (character.isalnum() or character in "-_.")), None)
    return requirement[:end]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def block_files(name: str, options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files that a filter would download, by what it calls them; raises PluginError where one is absent."""
    find = _FILES.get(name)
    return find(options) if find else {}


def _language_files(options: Mapping[str, Any]) -> dict[str, Path]:
    if options["backend"] != "ft176":
        raise PluginError(
            f"LanguageFilter with backend = {options['backend']!r} downloads its model, and nothing is downloaded; "
            "the signal `language` takes a model file by path"
        )
    return {"model": find_model("lid.176.ftz")}


def _classifier_files(options: Mapping[str, Any]) -> dict[str, Path]:
    url = options["model_url"]
    if not Path(url).is_file():
        raise PluginError(f"model_url = {url!r} is no file here, and nothing is downloaded; fetch it and name the file")
    return {"model": Path(url)}


def _bad_words_files(options: Mapping[str, Any]) -> dict[str, Path]:
    from datatrove.pipeline.filters import c4_filters

    if options["keep_fraction"]:
        raise PluginError("keep_fraction draws at random, so what is kept depends on the order of documents: use 0")
    language = options["default_language"]
    url = c4_filters._EN_BADWORDS_URL if language == "en" else c4_filters._BADWORDS_URL + language
    known = language in c4_filters._BADWORDS_LANGS
    return {"bad words": _cached("c4_badwords", url.partition("://")[2].replace("/", "_"), url)} if known else {}


def _frequency_files(options: Mapping[str, Any]) -> dict[str, Path]:
    from datatrove.pipeline.filters.unigram_log_probs import UNIGRAM_DOWNLOAD

    return {"unigrams": _cached("unigram_logprob_filter", "unigram_freq.csv", UNIGRAM_DOWNLOAD)}


def _cached(folder: str, file: str, url: str) -> Path:
    """Return where datatrove keeps a file that it downloaded before."""
    from huggingface_hub import cached_assets_path

    path = Path(cached_assets_path(library_name="datatrove", namespace="filters", subfolder=folder)) / file
    complete = path.with_name(f"{file}.completed")
    if not path.is_file() or (folder == "c4_badwords" and not complete.exists()):
        raise PluginError(
            f"it reads {path}, which it would download from {url}, and nothing is downloaded here; put the file there "
            f"(and an empty {complete.name} beside it, which is how datatrove knows that it is whole)"
        )
    return path


def _give_language_model(block: Any, files: Mapping[str, Path]) -> None:
    block.model._model = _load_fasttext(files["model"])


def _give_classifier(block: Any, files: Mapping[str, Path]) -> None:
    block._model = _load_fasttext(files["model"])
    known = [label.removeprefix("__label__") for label in block._model.labels]
    for label, _ in block.keep_labels or block.remove_labels or ():
        if label not in known:
            raise ValueError(f"the model has no label {label!r}; it has {', '.join(known)}")


def _load_fasttext(path: Path) -> Any:
    from fasttext.FastText import _FastText

    return _FastText(str(path))


def _stay_offline(block: Any, files: Mapping[str, Path]) -> None:
    from tldextract import TLDExtract

    block.tldextractor = TLDExtract(cache_dir=None, suffix_list_urls=())  # the list that came with the library


_FILES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Path]]] = {
    "LanguageFilter": _language_files,
    "FastTextClassifierFilter": _classifier_files,
    "C4BadWordsFilter": _bad_words_files,
    "UnigramLogProbFilter": _frequency_files,
}
_ADAPT: Mapping[str, Callable[[Any, Mapping[str, Path]], None]] = {
    "LanguageFilter": _give_language_model,
    "FastTextClassifierFilter": _give_classifier,
    "URLFilter": _stay_offline,
}
