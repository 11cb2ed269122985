"""Random programs whose tokens suffice and no more, with what they leave behind: to hold a core's RTL against.

    random_program   memories with sensible numbers, instructions whose operands exist, tokens where classes meet
    RandomProgram    text, what the host writes, memories before, the whole core after; ``save`` writes files

Operands are finite, scales exist, slots hold what is read, and tokens are where instructions meet and hardly anywhere
else (:mod:`~mixflight.sim.core_values.random_maker`), so a unit that ends, or begins, too early changes bytes.
The last instructions store the windows that were worked on, so memories alone show everything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixflight.arch.compact import LINE_BYTES, codes
from mixflight.arch.control_constants import ControlConstants
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES, Ints, Stream
from mixflight.mapping.core_image import Octets
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.core_values import random_corners as corners
from mixflight.sim.core_values import random_products as products
from mixflight.sim.core_values import random_transfers as transfers
from mixflight.sim.core_values import random_vectors as vectors
from mixflight.sim.core_values.host_files import save_job
from mixflight.sim.core_values.random_maker import ACT_WINDOW, GLOBAL_WINDOW, Draft, Maker, fill, nothing
from mixflight.sim.core_values.random_memory import END
from mixflight.sim.core_values.random_text import text_of
from mixflight.sim.core_values.state import CoreState

Way = Callable[[Maker], None]

_WAYS: dict[str, tuple[Way, ...]] = {
    "transfer": (transfers.load, transfers.load, transfers.store), "linear": (products.linear_slot, products.product),
    "keys": (products.keys_slot, products.product), "values": (products.values_slot, products.product),
    "vector": (vectors.vector, vectors.vector, vectors.embed),
    "attention": (vectors.append, vectors.probabilities, vectors.softmax), "barrier": (Maker.barrier,),
    "causal": (vectors.causal,), "sparse": (products.sparse_slot, products.product),
    "matrix": (products.linear_slot, products.keys_slot, products.values_slot, *[products.matrix_product] * 3),
    "tiles": (*[corners.slot] * 3, corners.cells_by_channel, *[corners.product] * 4), "lengths": (corners.vector,),
    "moves": (corners.load, corners.store), "successive": (corners.successive, corners.successive, vectors.causal),
    "meeting": (corners.meeting,), "loops": (corners.repeated,), "whole": (),
}  # fmt: skip
DECODE_FAMILIES = ("transfer", "linear", "keys", "values", "vector", "attention", "barrier")
FAMILIES = tuple(_WAYS)
"""What instructions are drawn from: transfers of vectors; loads of a slot and its MV; MISC on vectors; the cache's
quantisation and cells; tokens from everyone to everyone; MISC on successive tokens, N:M weights and MM, which plain
decode steps do not have. Of corners: products, vectors and transfers of the smallest and largest sizes at the edges of
buffers and memories; successive tokens so; instructions that only wait; loops, and operands that the sequencer
computes; with ``whole`` all of the global buffer first."""
TRIES = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomProgram:
    """``registers`` by number, ``constants`` of MISC; ``hbm`` and ``ddr`` before the run; ``after`` the core behind it.

    ``instructions`` as the queues get them; tokens are in the text. ``words`` is the constants that it fetches.
    """

    text: Stream
    words: Ints
    registers: dict[int, int]
    constants: ControlConstants
    hbm: list[Octets]
    ddr: list[Octets]
    instructions: list[Primitive]
    after: CoreState

    def save(self, folder: Path) -> None:
        """The run as files (``host_files``), and ``after.npz``: the whole core behind it."""
        save_job(folder, text=self.text, words=self.words, registers=self.registers,
                 constants=self.constants, hbm=self.hbm, ddr=self.ddr[0])  # fmt: skip
        after = self.after
        held: dict[str, Any] = {f"channel{number}": data for number, data in enumerate(after.hbm)}
        held |= {name: getattr(after, name) for name in ("vector", "act", "act_scales", "weight", "scale")}
        np.savez_compressed(folder / "after.npz", **held)


def random_program(
    machine: CoreMachine, seed: int, count: int = 60, families: Sequence[str] = DECODE_FAMILIES, windows: str = "low"
) -> RandomProgram:  # fmt: skip
    """A program of about ``count`` instructions that compute or move something, drawn from ``families``; its windows
    lie in one of ``PLACES``."""
    check_families(families)
    if "sparse" in families and not machine.kept:
        raise InputError(f"programs with N:M weights must be of a machine that takes them, not {machine.name}")
    maker = Maker(machine, seed, matrices="matrix" in families, windows=windows)
    prepare(maker, families)
    draw(maker, count, families)
    return finished(maker, sequenced="loops" in families)


def check_families(families: Sequence[str]) -> None:
    """No families, or one that there is not, are an InputError."""
    if not families or any(name not in FAMILIES for name in families):
        raise InputError(f"families must be among {', '.join(FAMILIES)}, not {', '.join(families)}")


def prepare(maker: Maker, families: Sequence[str]) -> None:
    """What comes before everything that is drawn from ``families``."""
    if "whole" in families:
        corners.prologue(maker)
    fill(maker)


def finished(maker: Maker, *, sequenced: bool = False) -> RandomProgram:
    """The program, its windows stored and DONE behind it; ``sequenced``: with loops around what is repeated."""
    _dump(maker)
    maker.add("SYS", nothing("SYS") | {"operation": codes("SYS", "operation")["done"]},
              wait=[kind for kind in CLASSES if kind != "SYS" and maker.of_class[kind]])  # fmt: skip
    text, words = text_of(maker, sequenced=sequenced)
    return RandomProgram(
        text=text, words=words, registers=maker.registers, constants=maker.constants, hbm=maker.hbm, ddr=maker.ddr,
        instructions=[_primitive(item, number) for number, item in enumerate(maker.drafts)], after=maker.state,
    )  # fmt: skip


def draw(maker: Maker, count: int, families: Sequence[str]) -> None:
    """About ``count`` more instructions that compute or move something."""
    before, families = len(maker.drafts), [name for name in families if _WAYS[name]]
    for _ in range(TRIES * count):
        if len(maker.drafts) - before >= count:
            return
        family = families[int(maker.rng.integers(len(families)))]
        if family == "barrier" and maker.chance(0.8):
            continue
        ways = _WAYS[family]
        ways[int(maker.rng.integers(len(ways)))](maker)


def _dump(maker: Maker) -> None:
    """Store the windows behind the results."""
    windows = (("global", maker.windows.vector, GLOBAL_WINDOW, 0),
               ("act", maker.windows.act, ACT_WINDOW, GLOBAL_WINDOW * LINE_BYTES))  # fmt: skip
    for buffer, line, lines, at in windows:
        size = lines * LINE_BYTES // maker.shape.channels
        maker.must("ST", maker.move(buffer, END - 0x10000 + at, size, line=line))


def _primitive(item: Draft, number: int) -> Primitive:
    tokens = [tuple(kind for kind in CLASSES if kind in names) for names in (item.wait, item.release)]
    return Primitive(item.kind, number, tokens[0], tokens[1], item.fields)
