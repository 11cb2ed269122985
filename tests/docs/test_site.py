"""What the site's own code does: links as the repository has them, docstrings as Markdown, dead links found."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture
def site(monkeypatch):
    pytest.importorskip("mkdocs")
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(str(DOCS))
    import docstrings
    import links
    import pages

    yield pages, links, docstrings
    for name in ("pages", "links", "docstrings"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("link", "home", "page", "expected"), [
    ("docs/sweeps.md", "README.md", "index.md", "sweeps.md"),
    ("sim/DEVIATIONS.md", "README.md", "index.md", "explanation/deviations.md"),
    ("../LICENSE", "docs/licences.md", "licences.md", "licence.md"),
    ("../explanation/deviations.md", "docs/how-to/model.md", "how-to/model.md", "../explanation/deviations.md"),
    ("docs/who-says-what.md#decode", "README.md", "index.md", "who-says-what.md#decode"),
    ("#below", "README.md", "index.md", "#below"),
    ("https://ui.perfetto.dev", "docs/tutorial.md", "tutorial.md", "https://ui.perfetto.dev"),
    ("../tests/x.py", "docs/licences.md", "licences.md", "../tests/x.py"),
])  # fmt: skip
def test_links_of_the_repository_become_links_of_the_site(link, home, page, expected, site):
    assert site[0].target(link, home, page) == expected


def test_everything_beside_the_code_exists_and_is_a_page(site):
    members = site[0].MEMBERS
    assert len(members) == len(set(members.values()))
    for name in members:
        assert (DOCS.parent / name).is_file()
    assert "arch/decisions/0005-rows-split.md" in members
    numbers = [Path(name).name[:4] for name in members if name.startswith("arch/decisions/")]
    assert len(numbers) == len(set(numbers))


def test_the_reference_names_every_command_and_module(site):
    from mixflight.cli.examples import EXAMPLES

    text = site[0].command_line()
    for name, examples in EXAMPLES.items():
        assert f"\n## {name}\n" in text
        assert examples[0] in text
    assert "::: mixflight.rtl.systolic_array\n" in site[0].package("rtl")


def test_dead_links_are_found(site, tmp_path):
    (tmp_path / "a.html").write_text('<h1 id="top">x</h1><a href="b.html#here">b</a><a href="#top">t</a><img src="gone.png">')
    (tmp_path / "b.html").write_text('<a href="a.html">a</a><a href="a.html#lost">c</a><a href="https://x.org/y">o</a>')
    assert site[1].dead_links(tmp_path) == ["a.html: b.html#here", "a.html: gone.png", "b.html: a.html#lost"]


def test_docstrings_become_markdown(site):
    said = site[2].as_markdown(":func:`a.b` gives ``x[i][j]`` of x[i][j]\n\n    y[i][j]")
    assert said == "`a.b` gives ``x[i][j]`` of x[i]\\[j]\n\n    y[i][j]"


def test_examples_at_a_prompt_are_blocks_of_code(site):
    said = site[2].as_markdown("What it is.\n\n>>> x[i][j] = '''a\n... b'''\n>>> x\n(2, 1)\n\nMore.")
    assert said == "What it is.\n\n```pycon\n>>> x[i][j] = '''a\n... b'''\n>>> x\n(2, 1)\n```\n\nMore."
