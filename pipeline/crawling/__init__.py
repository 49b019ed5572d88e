"""Parts of the crawler: addresses, links, robots.txt, the wire and the archive."""
