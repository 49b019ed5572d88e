"""`headrace crawl`: a polite crawl into a WARC file."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.console import INTERRUPTED, Result, as_data, facts
from headrace.progress import counting

Seeds = Annotated[list[str], typer.Argument(metavar="URL...", help="Where to begin; http or https.")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="The archive to write: a new FILE.warc.gz.")]
Pages = Annotated[int, typer.Option(min=1, help="End after so many pages.")]
Depth = Annotated[int, typer.Option(min=0, help="Follow links so far from a URL that was given.")]
Bytes = Annotated[int, typer.Option("--bytes", min=1, help="End after so many bytes were received.")]
Seconds = Annotated[float, typer.Option(min=0, help="End after so many seconds.")]
AnyHost = Annotated[bool, typer.Option("--any-host", help="Follow links to other hosts too.")]
AnyType = Annotated[bool, typer.Option("--any-type", help="Download what is not HTML too.")]
Delay = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Seconds between two requests to a host, where robots.txt does not ask for more.",
        show_default="1.0, and 0 to this machine",
    ),
]
UserAgent = Annotated[str | None, typer.Option(metavar="NAME", help="What the crawler calls itself.")]


def crawl(
    urls: Seeds,
    out: Out,
    pages: Pages = 1000,
    depth: Depth = 10,
    num_bytes: Bytes = 1 << 30,
    seconds: Seconds = 3600.0,
    any_host: AnyHost = False,
    any_type: AnyType = False,
    delay: Delay = None,
    user_agent: UserAgent = None,
) -> Result:
    """Crawl a site into a WARC file; robots.txt and crawl delays are obeyed.

    Interrupted, it leaves the pages it has in a whole file.
    """
    from headrace.pipeline.crawl import DEFAULT_USER_AGENT, CrawlLimits
    from headrace.pipeline.crawl import crawl as crawl_site
    from headrace.pipeline.store import writing

    limits = CrawlLimits(
        pages=pages,
        depth=depth,
        bytes=num_bytes,
        seconds=seconds,
        same_host=not any_host,
        only_html=not any_type,
        delay_seconds=delay,
    )
    with writing(out), counting("pages") as count:
        report = crawl_site(urls, out, limits, user_agent or DEFAULT_USER_AGENT, lambda page: count())

    def show(console: Console) -> None:
        found = as_data(report)
        for name in ("statuses", "skipped", "errors"):
            found[name] = ", ".join(f"{key}: {count}" for key, count in found[name].items()) or None
        console.print(facts(found | {"seconds": round(report.seconds, 1), "ended_by": report.ended_by}))

    return Result(as_data(report), show, INTERRUPTED if report.ended_by == "interrupted" else 0)
