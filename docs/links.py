"""Whether every link within a built site leads somewhere."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Links(HTMLParser):
    """The links of a page and the places in it that can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag links to and its name."""
        for key, value in attrs:
            if key in ("href", "src") and value:
                self.links.add(value)
            elif key in ("id", "name") and value:
                self.places.add(value)


def dead_links(site: Path) -> list[str]:
    """``PAGE: LINK`` of every link in ``site`` whose file or anchor is not there; other sites are not asked."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path.resolve()] = found = Links()
        found.feed(path.read_text())
    dead = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are from the site's root, wherever that is
            continue
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            lost = anchor and target in pages and anchor not in pages[target].places
            if not target.exists() or lost:
                dead.append(f"{path.relative_to(site.resolve())}: {link}")
    return dead
