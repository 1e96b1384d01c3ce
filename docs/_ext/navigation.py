"""What makes a site of pages for a code host: navigation from lists of links, titles, figures, links to folders."""

import os
import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

LISTS = ("docs/index", "docs/findings", "benchmarks/README", "docs/api/index")
LINK = re.compile(r"(?m)(?:^- |\| )\[(?P<title>[^\]]+)\]\((?P<page>[^)]+)\.md\)")
PART = re.compile(r"(?m)^## (?P<title>.+)$")


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Each part of such a page becomes a part of the navigation, in the order of its links."""
    if page in LISTS:
        first, *parts = PART.split(source[0])
        trees = [_tree(first, "")] + [_tree(text, title) for title, text in zip(parts[::2], parts[1::2], strict=True)]
        source[0] += "".join(trees)


def add_title(app: Sphinx, page: str, source: list[str]) -> None:
    """A page written by a command may have none: it gets one of its folder and name."""
    if not source[0].startswith("# "):
        source[0] = f"# {' '.join(Path(page).parts[-2:])}\n\n{source[0]}"


def _tree(text: str, caption: str) -> str:
    lines = [f"{link['title']} <{link['page']}>" for link in LINK.finditer(text)]
    options = [f":caption: {caption}"] if caption else []
    return "\n".join(["\n\n```{toctree}", ":hidden:", *options, "", *lines, "```\n"]) if lines else ""


def show_figures(app: Sphinx, page: str, source: list[str]) -> None:
    """A page of conclusions ends with the figures of its folder that it does not show itself."""
    folder = Path(app.srcdir, page).parent
    if page.startswith("analysis/") and page.endswith("README"):
        names = [path.name for path in sorted(folder.glob("*.png")) if f"({path.name})" not in source[0]]
        source[0] += "".join(f"\n\n`{name}`:\n\n![{name}]({name})" for name in names)


def link_folders(app: Sphinx, document: nodes.document) -> None:
    """Links to folders are no pages: they lead to `repository_url` where that is set, else only their text stays."""
    for link in [*document.findall(pending_xref)]:
        folder = Path(os.path.normpath(Path(document["source"]).parent / link["reftarget"]))
        if link["reftype"] == "myst" and folder.is_dir():
            url = f"{app.config.repository_url}/{folder.relative_to(app.srcdir).as_posix()}"
            found = nodes.reference(refuri=url) if app.config.repository_url else nodes.inline()
            found += link.children
            link.replace_self(found)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register them with Sphinx."""
    app.add_config_value("repository_url", "", "env", str)
    app.connect("source-read", add_navigation)
    app.connect("source-read", add_title)
    app.connect("source-read", show_figures)
    app.connect("doctree-read", link_folders)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
