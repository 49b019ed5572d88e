"""URLs in parts, block lists and words: as datatrove's filter and tldextract have them, on whatever URL there is."""

import gzip
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters import hash_sets, public_suffixes, url_lists
from headrace.filters.contract import SIGNALS, TextBatch
from headrace.filters.hash_sets import contains, hash_strings, open_set
from headrace.filters.models import ModelFileError
from headrace.filters.public_suffixes import list_path
from headrace.filters.rules import parse_rule
from headrace.filters.signals.url import Url
from headrace.filters.subwords import Subwords
from headrace.filters.url_lists import UrlListError, find_list, load_hashes, load_words
from headrace.filters.url_rules import URL_RULES
from headrace.filters.urls import split_url
from headrace.pipeline.build import build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.recipe import load_recipe
from headrace.pipeline.registry import make_registered
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns
from headrace.pipeline.walk import BuildOptions
from headrace.pipeline.why import why
from tests.making import RECIPE, make_crawl, write_recipe

LISTS = {
    "domain": ["bad.com", "bad.co.uk", "sub.good.com", "10.0.0.1", "Caps.com", "# bad.org", "localhost", ""],
    "url": ["http://good.com/page", "good.org/page?b=1&a=2", "#http://good.com/other"],
    "word": ["porn", "two words", "#slut"],
    "soft_word": ["sex", "nude", "Suck"],
    "subword": ["call girl", "xvideos", "#hot"],
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("lists")
    for kind, entries in LISTS.items():
        (folder / f"mine_{kind}.txt").write_text("\n".join(entries))
    return tuple(f"{kind}:{folder}/mine_{kind}.txt" for kind in LISTS)


@pytest.fixture(scope="module")
def parity() -> Iterator[Any]:
    for library in ("datatrove", "tldextract", "ahocorasick", "fasteners"):
        pytest.importorskip(library)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        yield import_module("benchmarks.url_parity")


@pytest.fixture(scope="module")
def reference(parity: Any) -> Any:
    entries = {kind: [entry for entry in LISTS[kind] if entry] for kind in LISTS}
    return parity.reference_filter(
        use_integrated_lists=False,
        extra_domains=entries["domain"],
        extra_urls=entries["url"],
        banned_words=entries["word"],
        soft_banned_words=entries["soft_word"],
        banned_subwords=entries["subword"],
    )


@pytest.fixture(scope="module")
def extract(parity: Any) -> Any:
    return parity.reference_extractor()


def measure(signal: Url, *urls: str) -> dict[str, Sequence[Any]]:
    return dict(signal.measure(TextBatch([""] * len(urls), urls)))


def one(signal: Url, url: str) -> dict[str, Any]:
    return {name: values[0] for name, values in measure(signal, url).items()}


HOSTS = ["bad.com", "www.bad.com", "bad.co.uk", "sub.good.com", "a.sub.good.com", "good.org", "caps.com", "Caps.com"]
ADDRESSES = ["10.0.0.1", "010.0.0.1", "256.1.1.1", "[::1]", "[::1", "[1]", "[1.2.3.4]"]
ODD_HOSTS = ["localhost", "com", "co.uk", "www.ck", "a.b.ck", "x.XN--P1AI", ".", "city.kawasaki.jp", "x.kawasaki.jp"]
OTHER_HOSTS = ["münchen.de", "公司.cn", "a.xn--55qx5d.cn", ""]
WORDS = ["porn", "Porn", "sex", "nude", "suck", "call", "girl", "call-girl", "xvideos", "page", "twowords", "slut"]
MARKS = [*"/?#@:.-[] \t\n\0。．é\u0130\u017f\ud800", "//", "http:", "%20", "80"]  # noqa: RUF001 - wide dots
SCHEMES = ["http://", "https://", "HTTP://", "//", "", "ht!tp://", "mailto:", "ftp://user:pw@", "data:text/html,"]
HUGE = ["a", ".", "a.", "//", "@", ":", "[", "xn--a.", "%", "?", "é.", "/a", "callgir", "porn/", "。", "ck."]
urls = st.builds(
    lambda scheme, host, rest: scheme + host + "".join(rest),
    st.sampled_from(SCHEMES),
    st.sampled_from([*HOSTS, *ADDRESSES, *ODD_HOSTS, *OTHER_HOSTS]),
    st.lists(st.sampled_from([*HOSTS, *WORDS, *MARKS, *MARKS]), max_size=12),
)


@settings(max_examples=1500)
@given(urls.filter(bool))
def test_decisions_and_reasons_are_those_of_datatrove(parity: Any, reference: Any, lists: Any, url: str) -> None:
    theirs = parity.reference_reasons(reference, parity.reference_documents([url]))
    assert parity.our_reasons(Url(lists=lists), [url]) == theirs


@settings(max_examples=1500)
@given(st.one_of(urls, st.text(max_size=40)))
def test_hosts_are_split_as_tldextract_splits_them(extract: Any, url: str) -> None:
    found, expected = split_url(url), extract(url)
    assert found.domain == expected.top_domain_under_public_suffix
    assert found.suffix == expected.suffix
    assert found.is_ip == bool(expected.ipv4 or expected.ipv6)
    if found.domain:
        assert found.host.removeprefix(".") == expected.fqdn.removeprefix(".")


def test_every_public_suffix_is_found_in_unicode_and_in_ascii(extract: Any) -> None:
    text = list_path().read_text(encoding="utf-8").partition("// ===BEGIN PRIVATE DOMAINS===")[0]
    suffixes = [line.split()[0].lstrip("!") for line in text.splitlines() if line and not line.startswith("//")]
    assert len(suffixes) > 5000
    for suffix in suffixes:
        in_ascii = ".".join(
            label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in suffix.split(".")
        )
        for name in (suffix.replace("*", "any"), in_ascii.replace("*", "any")):
            for url in (f"http://a.b.{name}/", f"http://{name}"):
                assert split_url(url).suffix == extract(url).suffix, url


def test_the_list_is_read_offline_and_its_absence_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_path().name == "effective_tld_names.dat.txt"
    assert len(Url(lists=()).resources()["public_suffix_list"]) == 64
    monkeypatch.setattr(public_suffixes, "find_spec", lambda name: None)
    with pytest.raises(ModelFileError, match="pip install tld"):
        list_path()


def test_parts() -> None:
    values = one(Url(lists=()), "https://me@WWW.Example.Co.UK:99999/a//b/ü?q=é&x#f/g")
    assert values == {
        "host": "www.example.co.uk",
        "domain": "example.co.uk",
        "suffix": "co.uk",
        "is_ip_host": False,
        "url_bytes": 53,
        "query_bytes": 6,
        "num_path_segments": 3,
    }
    assert one(Url(lists=()), "http://[2001:db8::1]:80/")["host"] == "[2001:db8::1]"
    assert one(Url(lists=()), "http://8.8.8.8/")["is_ip_host"] is True
    assert one(Url(lists=()), "a\ud800.com")["host"] == "a\ufffd.com"
    assert one(Url(lists=()), "/only/a/path")["host"] is None


def test_no_url_is_null_in_every_column_and_passes(parity: Any, lists: Any) -> None:
    values = measure(Url(lists=lists), "", "http://bad.com/", "")
    assert all(column[0] is None and column[2] is None and column[1] is not None for column in values.values())
    assert parity.our_reasons(Url(lists=lists), ["", "http://bad.com/"]) == [None, "domain"]


def test_columns_are_those_of_the_lists_kinds(lists: Any) -> None:
    assert [column.name for column in Url(lists=()).columns][-1] == "num_path_segments"
    assert [column.name for column in Url(lists=lists[2:3]).columns][-1] == "num_banned_words"
    names = {f"url.{column.name}" for column in Url().columns}
    assert {parse_rule(rule).column for rule in URL_RULES["url"]} <= names


def test_names_of_lists(lists: Any, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "phishing.txt.gz", "wb") as file:
        file.write(b"\xef\xbb\xbfbad.com\r\n  other.com \r\n\r\n# none.com")
    values = measure(
        Url(lists=(*lists, f"domain:{tmp_path}/phishing.txt.gz")),
        *("http://bad.com/", "http://other.com", "http://x.sub.good.com", "http://sub.good.com", "http://none.com"),
    )
    assert values["domain_lists"] == ["mine_domain,phishing", "phishing", "", "", ""]
    assert values["host_lists"] == ["mine_domain,phishing", "phishing", "", "mine_domain", ""]


def test_canonical_looks_behind_how_a_url_is_written(lists: Any) -> None:
    written = ("http://x.sub.good.com/", "http://10.0.0.1/", "http://localhost/", "http://CAPS.com", "http://BAD.com/")
    exact, canonical = (measure(Url(lists=lists, canonical=canonical), *written) for canonical in (False, True))
    assert exact["host_lists"] == exact["domain_lists"] == [""] * 5
    assert canonical["host_lists"] == ["mine_domain"] * 5
    assert canonical["domain_lists"] == ["", "", "", "mine_domain", "mine_domain"]
    pages = (
        "https://www.GOOD.org:443/page/?a=2&b=1#x",
        "http://good.com/page",
        "http://good.com/pages",
        "good.com/page",
    )
    assert measure(Url(lists=lists), *pages)["url_lists"] == ["", "mine_url", "", ""]
    assert measure(Url(lists=lists, canonical=True), *pages)["url_lists"] == ["mine_url", "mine_url", "", "mine_url"]
    words = [one(Url(lists=lists, canonical=canonical), "http://a.com/Porn-SEX-nude") for canonical in (False, True)]
    assert [value["num_banned_words"] for value in words] == [0, 1]
    assert [value["num_soft_banned_words"] for value in words] == [1, 2]


@pytest.mark.parametrize(
    "part", ["a", ".", "a.", "//", "@", ":", "[", "xn--a.", "%", "?", "é.", "/a", "callgir", "porn/", "。", "ck."]
)
@pytest.mark.timeout(100)
def test_a_huge_url_of_one_part_does_not_hang(lists: Any, part: str) -> None:
    url = part * (2_000_000 // len(part))
    for canonical in (False, True):
        for scheme in ("", "http://", "http://["):
            one(Url(lists=lists, canonical=canonical), scheme + url)


@given(
    st.lists(st.text("abAB1", min_size=1, max_size=12), max_size=6), st.lists(st.text("abAB1", max_size=30), max_size=8)
)
def test_subwords_are_those_that_a_search_finds(words: list[str], texts: list[str]) -> None:
    assert Subwords(words).count(texts) == [sum(word in text for word in set(words)) for text in texts]


def test_a_set_is_made_once_and_never_trusted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def strings() -> Iterator[bytes]:
        made.append(1)
        return iter([b"b", b"a", b"b", b"c"])

    key = "ab" * 32
    members = open_set("few", key, strings)
    assert len(members) == 3
    assert contains(members, hash_strings([b"c", b"d", b"a"])).tolist() == [True, False, True]
    assert open_set("few", key, strings).tolist() == members.tolist()
    assert len(made) == 1
    (path,) = (home / ".cache" / "headrace" / "lists").iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:-8], whole + b"\0", whole[:-1] + bytes([whole[-1] ^ 1]), b"x" + whole[1:]):
        made.clear()
        path.unlink()  # and not cut short in place: it is mapped
        path.write_bytes(damaged)
        assert open_set("few", key, strings).tolist() == members.tolist()
        assert made == [1]
        assert path.read_bytes() == whole
    path.with_name(f"few-{key[:15]}c.hashes").write_bytes(whole)  # of another key under a name that fits
    open_set("few", f"{key[:15]}c{key[16:]}", strings)
    assert len(made) == 2
    assert len(open_set("none", key, list)) == 0
    assert contains(open_set("none", key, list), hash_strings([b"a"])).tolist() == [False]


def test_a_folder_that_cannot_be_written_is_no_obstacle(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_text("a file stands where the folder should be")
    assert len(open_set("few", "cd" * 32, lambda: [b"a"])) == 1
    monkeypatch.setattr(hash_sets.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert len(open_set("few", "cd" * 32, lambda: [b"a"])) == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["domian:datatrove"], r"'domian:datatrove' is no list \(did you mean 'domain'\?\); write KIND:SOURCE"),
        (["datatrove"], "write KIND:SOURCE"),
        (["domain:datatrov"], r"no built-in list 'datatrov' \(did you mean 'datatrove'\?\)"),
        (["domain:list.txt"], r"a file is written with a slash, as in domain:./list.txt"),
        (["domain:/a/x.txt", "domain:/b/x.gz"], "two lists are called domain:x"),
        (["word:/a/.txt"], "goes by its file's name"),
    ],
)
def test_names_that_cannot_be(names: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_registered(SIGNALS, "url", {"lists": names})


def test_options_come_from_recipes(lists: Any) -> None:
    assert make_registered(SIGNALS, "url", {"lists": list(lists), "canonical": True}) == Url(lists, canonical=True)
    with pytest.raises(RecipeError, match="option 'lists'"):
        make_registered(SIGNALS, "url", {"lists": "domain:datatrove"})


def test_files_that_cannot_be_read_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(kind: str, name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UrlListError) as error:
            one(Url(lists=(f"{kind}:{tmp_path}/{name}",)), "http://a.com/")
        assert str(tmp_path / name) in str(error.value)
        return str(error.value)

    assert "one a line" in refused("domain", "hosts.txt", b"# comment here\n0.0.0.0 bad.com\n")
    assert "one a line" in refused("word", "utf16.txt", "porn".encode("utf-16"))
    assert "cannot be read" in refused("domain", "short.gz", gzip.compress(b"bad.com\n" * 9)[:-9])
    assert "cannot be read" in refused("domain", "none.gz", b"bad.com\n")
    assert "over 4,194,304 bytes" in refused("url", "long.txt", b"x" * (9 << 20))
    with pytest.raises(UrlListError, match="No such file"):
        Url(lists=(f"domain:{tmp_path}/absent.txt",)).resources()


def test_a_list_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("bad.com")
    before = find_list(f"domain:{path}")
    path.write_text("other.com\n")
    with pytest.raises(UrlListError, match="has changed"):
        load_hashes(before)
    assert len(load_hashes(find_list(f"domain:{path}"))) == 1
    resources = Url(lists=(f"domain:{path}",)).resources()
    assert resources["domain:mine"] == find_list(f"domain:{path}").sha256 != before.sha256


def test_lists_that_are_not_here_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_lists, "_assets_folder", lambda: tmp_path)
    (tmp_path / "banned_words.txt").write_text("other")
    with pytest.raises(UrlListError, match=r"sha256 [0-9a-f]{64}, the list word:datatrove has 7aae.*pip install"):
        find_list("word:datatrove")
    monkeypatch.undo()
    monkeypatch.setattr(url_lists, "find_spec", lambda name: None)
    with pytest.raises(UrlListError, match=r"headrace\[interop\].*datatrove==0.10.1"):
        find_list("domain:datatrove")


def test_words_are_those_that_datatrove_reads(parity: Any) -> None:
    from datatrove.pipeline.filters import url_filter

    for kind, name in (("word", "banned_words"), ("soft_word", "soft_banned_words"), ("subword", "banned_subwords")):
        assert load_words(find_list(f"{kind}:datatrove")) == url_filter.get_list(
            url_filter.ASSETS_PATH, f"{name}.txt", set()
        )


def test_a_recipe_drops_listed_hosts_and_names_the_list(tmp_path: Path) -> None:
    crawl, path = make_crawl(tmp_path / "crawl", num_files=1, pages_per_file=5), tmp_path / "copies.txt"
    path.write_text("copy.example.org\n")
    signal = f'{{ name = "url", options = {{ lists = ["domain:{path}"] }} }}'
    rule = '{ column = "url.host_lists", in = [""], on_null = "keep", reason = "subdomain" }'
    text = RECIPE.replace('["gopher_quality", "c4"]', f'["gopher_quality", "c4", {signal}]')
    recipe = write_recipe(tmp_path, text.replace("rules = [", f"rules = [{rule}, "))
    options = BuildOptions({"web": str(crawl / "*.warc.gz")})
    build(load_recipe(str(recipe)), Store.open(tmp_path / "store"), make_engine(1), options)
    (table,) = (tmp_path / "store" / "artifacts" / "rules").glob("*/verdicts-*.parquet")
    (dropped,) = (row for row in read_columns(table, ["doc_id", "kept", "reason"]).to_pylist() if not row["kept"])
    assert dropped["reason"] == "subdomain"
    (fate,) = why(Store.open(tmp_path / "store"), dropped["doc_id"])
    failed = fate.failed[0]
    assert (failed.column, failed.value) == ("url.host_lists", "copies")


@pytest.mark.slow
def test_real_urls_with_the_integrated_lists(
    parity: Any, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datatrove.pipeline.filters import url_filter

    monkeypatch.setattr(url_filter, "cached_assets_path", lambda **names: str(tmp_path))
    paths = sorted((real_data / "crawl").rglob("*.warc.gz"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, while the lists are unpacked
        made = parity.compare(parity.archive_urls(paths)[::5], parity.listed_urls(seed=1)[::5])
        comparisons = list(islice(made, 2))
    for comparison in comparisons:
        assert comparison.same_reason == comparison.documents > 20_000, comparison
