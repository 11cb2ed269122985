"""Docstrings as Markdown: what Sphinx's roles name is set as code, and brackets side by side are no link."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:func|class|data|mod|meth|attr):`~?([^`]+)`")
CODE = re.compile(r"(``.*?``|`.*?`)", re.DOTALL)


class AsMarkdown(Extension):
    """Changes every docstring as it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of ``obj``."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """The docstring ``text`` as Markdown; indented blocks are left as they are."""
    parts = CODE.split(ROLE.sub(r"`\1`", text))
    return "".join(part if index % 2 else escaped(part) for index, part in enumerate(parts))


def escaped(text: str) -> str:
    """``text`` without code spans, where ``[a][b]`` is no link to ``b``."""
    lines = text.split("\n")
    return "\n".join(line if line.startswith("    ") else line.replace("][", "]\\[") for line in lines)
