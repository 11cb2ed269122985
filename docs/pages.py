"""What MkDocs is told beyond the pages in this folder (``hooks`` of ``mkdocs.yml``).

Texts that stand beside the code they speak of, as ``arch/numerics.md``, join the site from where they are: MEMBERS says
as what. Links between them and the pages here, written for the repository, are turned into links of the site. The
reference of the command line is made from its own help, that of each package from its docstrings.
"""

import importlib
import inspect
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parent))
from links import dead_links

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "licence.md",
    "CITATION.cff": "cite.md",
    "arch/numerics.md": "explanation/numerics.md",
    "arch/core_execution.md": "explanation/core-execution.md",
    "sim/DEVIATIONS.md": "explanation/deviations.md",
    **{f"arch/decisions/{path.name}": f"decisions/{path.name}" for path in (ROOT / "arch" / "decisions").glob("*.md")},
}
"""Files of the repository outside ``docs``, and the pages that they are."""

PLAIN = {"LICENSE": "Licence", "CITATION.cff": "How to cite"}
"""Files that are no Markdown, and what their pages are called."""

PACKAGES = ("arch", "workloads", "mapping", "sim", "rtl", "reports", "sweeping", "advising")
"""Packages with a page of reference each; ``mixflight`` itself is written by hand."""

COMMAND_LINE = """Made from the commands' own help. Exit status: 0 done, 1 a check failed, 2 bad input, 130 interrupted.
`mixflight --install-completion` teaches the shell commands, options and the names of presets. Colours go away with
`NO_COLOR`, or where the output is no terminal.
"""

BESIDE_CODE = {page: name for name, page in MEMBERS.items()}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give every decision, and every page that ``mkdocs.yml`` does not name, its place in the navigation."""
    sections = {title: entries for item in config.nav for title, entries in item.items()}
    for entry in sections["Explanation"]:
        if isinstance(entry, dict) and "Decisions" in entry:
            entry["Decisions"] = sorted(page for page in MEMBERS.values() if page.startswith("decisions/"))
    named = set(re.findall(r"[\w/.-]+\.md", str(config.nav)))
    sections["Findings"] += sorted({path.name for path in (ROOT / "docs").glob("*.md")} - named)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose text stands elsewhere or is made."""
    made = {page: text_of(name) for name, page in MEMBERS.items()}
    made["reference/command-line.md"] = command_line()
    made |= {f"reference/packages/{name}.md": package(name) for name in PACKAGES}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the repository has them become links of the site."""
    site = page.file.src_uri
    home = BESIDE_CODE.get(site, f"docs/{site}")
    if site == "reference/documents.md":
        markdown += documents()
    return LINK.sub(lambda link: link[1] + target(link[2], home, site) + link[3], markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site with a link that leads nowhere."""
    dead = dead_links(Path(config.site_dir))
    if dead:
        raise PluginError("links must lead somewhere:\n" + "\n".join(dead))


def target(link: str, home: str, site: str) -> str:
    """Where ``link`` of the repository's file ``home`` leads from the page ``site``; what is no page stays as it is."""
    path, mark, anchor = link.partition("#")
    if not path or ":" in path:
        return link
    found = posixpath.normpath(posixpath.join(posixpath.dirname(home), path))
    page = MEMBERS.get(found, found.removeprefix("docs/") if found.startswith("docs/") else None)
    return link if page is None else os.path.relpath(page, posixpath.dirname(site) or ".") + mark + anchor


def text_of(name: str) -> str:
    """The text of a file outside ``docs``; a plain one as it is set."""
    text = (ROOT / name).read_text()
    return text if name.endswith(".md") else f"# {PLAIN[name]}\n\n```text\n{text}```\n"


def command_line() -> str:
    """The reference of every command, from its own help."""
    import typer
    from typer.cli import get_docs_for_click

    from mixflight.cli.app import command_line as whole
    from mixflight.cli.examples import EXAMPLES

    main: Any = typer.main.get_command(whole())
    parts = ["# Command line", COMMAND_LINE]
    for name, command in sorted(main.commands.items()):
        command.epilog = None
        context = typer.Context(main, info_name="mixflight")
        text = get_docs_for_click(obj=command, ctx=context, indent=1, name=name, title=name, call_prefix="mixflight")
        lines = "\n".join(EXAMPLES[name])
        parts.append(f"{text}\n**Examples**:\n\n```sh\n{lines}\n```\n")
    return "\n\n".join(parts)


def documents() -> str:
    """The documents' forms, with the files that hold them."""
    from mixflight.documents import DOCUMENTS, file_name

    rows = [f"| [`{name}`](../schemas/{file_name(name)}) | {inspect.getdoc(kind)} |"
            for name, kind in DOCUMENTS.items()]  # fmt: skip
    return "\n".join(["", "| form | of |", "|---|---|", *(" ".join(row.split()) for row in rows), ""])


def package(name: str) -> str:
    """The reference of ``mixflight.NAME``: its modules, from their docstrings."""
    folder = ROOT / name if (ROOT / name).is_dir() else ROOT / "mixflight" / name
    about = inspect.getdoc(importlib.import_module(f"mixflight.{name}")) or ""
    parts = [f"# mixflight.{name}\n\n{about}\n"]
    for path in sorted(folder.rglob("*.py")):
        module = ".".join(("mixflight", name, *path.relative_to(folder).with_suffix("").parts))
        if path.name != "__init__.py" and (path.parent / "__init__.py").exists():
            parts.append(f"::: {module}\n")
    return "\n".join(parts)
