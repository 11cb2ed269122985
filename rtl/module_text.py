"""Emitted Verilog taken apart: which module instantiates which, and the text of one with what it needs."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

_MODULE = re.compile(r"^module (?P<name>\w+) ?\(.*?^endmodule\n", re.M | re.S)
_INSTANCE = re.compile(r"^  (\w+) (?:\\\S+ |\w+) \($", re.M)
_DECLARATION = re.compile(r"^  (?:in|out)put [^\n]*;\n", re.M)
_HEAD = re.compile(r"module [^;]*;\n")


@dataclass(frozen=True, kw_only=True)
class Modules:
    """The modules of one text: name → text, name → module → how often it instantiates that."""

    texts: Mapping[str, str]
    children: Mapping[str, Mapping[str, int]]

    def below(self, name: str, *, apart: Collection[str] = ()) -> list[str]:
        """``name`` and all modules below it, but none of ``apart`` and nothing that only they need."""
        found: list[str] = []

        def visit(module: str) -> None:
            if module not in found:
                found.append(module)
                for child in self.children[module]:
                    if child not in apart:
                        visit(child)

        visit(name)
        return found

    def depths(self, top: str) -> dict[str, int]:
        """Module → how far below ``top`` it first occurs."""
        found, level = {top: 0}, [top]
        while level:
            level = [child for name in level for child in self.children[name] if child not in found]
            found |= {name: max(found.values()) + 1 for name in level}
        return found

    def totals(self, top: str) -> dict[str, int]:
        """Module → how many of it are in ``top``, itself among them."""
        totals: Counter[str] = Counter()

        def visit(name: str, times: int) -> None:
            totals[name] += times
            for child, count in self.children[name].items():
                visit(child, times * count)

        visit(top, 1)
        return dict(totals)

    def text_of(self, name: str, *, apart: Collection[str] = ()) -> str:
        """The text of ``name`` with what it needs; of modules that are ``apart`` only the ports, as black boxes."""
        inside = self.below(name, apart=apart)
        outside = sorted({child for module in inside for child in self.children[module] if child in apart})
        return "".join([self.texts[module] for module in inside] + [self._box(module) for module in outside])

    def _box(self, name: str) -> str:
        text = self.texts[name]
        head = _HEAD.match(text)
        assert head is not None
        return f"(* blackbox *)\n{head[0]}{''.join(_DECLARATION.findall(text))}endmodule\n"


def read_modules(text: str) -> Modules:
    """The modules of a text of :func:`mixflight.rtl.emit.emit_verilog`; primitives of a device are none."""
    texts = {match["name"]: match[0] for match in _MODULE.finditer(text)}
    children = {name: dict(Counter(kind for kind in _INSTANCE.findall(body) if kind in texts))
                for name, body in texts.items()}
    return Modules(texts=texts, children=children)
