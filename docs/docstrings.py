"""Docstrings as Markdown: what Sphinx's roles name is set as code, examples at a prompt are a block of code, and
brackets side by side are no link."""

import re
from typing import Any

from griffe import Class, Extension, Object

ROLE = re.compile(r":(?:func|class|data|mod|meth|attr):`~?([^`]+)`")
CODE = re.compile(r"(```.*?```|``.*?``|`.*?`)", re.DOTALL)
PROMPT = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
"""Lines from a prompt on, to the next empty line."""


class AsMarkdown(Extension):
    """Changes every docstring as it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of ``obj``."""
        if obj.docstring is not None:
            fields = fields_of(obj) if isinstance(obj, Class) else ""
            obj.docstring.value = as_markdown(obj.docstring.value) + fields


def fields_of(kind: Class) -> str:
    """The fields of a class of values as Python has them; "" of others."""
    lines = [
        f"{name}: {item.annotation}" + ("" if item.value is None else f" = {item.value}")
        for name, item in kind.attributes.items()
        if not name.startswith("_") and item.annotation is not None and "property" not in item.labels
        and item.docstring is None
    ]  # fmt: skip
    return "\n\n```python\n{}\n```".format("\n".join(lines)) if lines else ""


def as_markdown(text: str) -> str:
    """The docstring ``text`` as Markdown; indented blocks are left as they are."""
    examples = PROMPT.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
    parts = CODE.split(ROLE.sub(r"`\1`", examples))
    return "".join(part if index % 2 else escaped(part) for index, part in enumerate(parts))


def escaped(text: str) -> str:
    """``text`` without code spans, where ``[a][b]`` is no link to ``b``."""
    lines = text.split("\n")
    return "\n".join(line if line.startswith("    ") else line.replace("][", "]\\[") for line in lines)
