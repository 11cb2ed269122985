"""The compact program of a block of a prompt on matrices: rows of tokens on MM, everything else as in a chunk.

For machines whose buffers hold the vectors of a block of ``tokens``; residual vectors stay on chip, weights are
streamed once a block from where a decode step finds them. The last block of a prompt is filled up with any token:
causal attention keeps what lies behind out of what lies in front, and the cells that it writes are written again
before they are read. So one text serves every length: a prompt is as many runs as it has blocks, and a register says
whose logits are wanted, if any.
"""

from collections.abc import Sequence

from mixflight.arch.compact import SLOTS
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.core_assembler import Assembler, Register, Text
from mixflight.mapping.core_chunk import ChunkText, chunk_registers, texts_beside
from mixflight.mapping.core_compile import CoreText
from mixflight.mapping.core_memory import PARAMETER_SLOTS, Cache
from mixflight.mapping.core_network import Network
from mixflight.mapping.core_shares import Share

R = Register


class ProductAssembler(Assembler):
    """Writes what a text says of MV for the queue ``products`` of the matrix engine."""

    products = "MM"

    def add(
        self, kind: str, *, wait: Sequence[str] = (), release: Sequence[str] = (), **fields: int | str
    ) -> None:  # fmt: skip
        """One instruction, as :meth:`Assembler.add`; MV, also in its tokens, is the queue of products."""
        kind, *names = (self.products if name == "MV" else name for name in (kind, *wait, *release))
        super().add(kind, wait=names[: len(wait)], release=names[len(wait) :], **fields)


class BlockText(ChunkText):
    """Writes the text of one core for blocks of ``tokens``, whole rows of the cache and at most the rows of an MM."""

    def __init__(
        self, network: Network, machine: CoreMachine, share: Share, cache: Cache, tokens: int,
        names: dict[tuple[str, str], int] | None = None,
    ) -> None:  # fmt: skip
        if tokens > machine.mm_rows:
            raise InputError(f"a block must be at most the {machine.mm_rows} rows of an MM, not {tokens} tokens")
        # the last block may end behind the longest context, but not behind the cache
        super().__init__(network, machine, share, cache, cache.rows * cache.channels, tokens, names)
        self.asm: ProductAssembler = ProductAssembler(names)

    def _end(self) -> None:
        """The logits of row LOGIT_ROW, from 1 on, as in a decode step; 0: none."""
        asm = self.asm
        wanted = len(asm.constants)
        asm.constants += [0] + [1] * self.tokens
        asm.fetch(R.A, wanted, source=R.LOGIT_ROW)
        with asm.loop(0, R.A):
            self._last_token()
            self._hand_over("MV")
            self._normed_input("final_norm", self.network.head, "head_input_quantise", self.head_codes)
            self._logits(self.cache_bytes)
            asm.add("SYS", operation="barrier", wait=["ST"])
            self._hand_over("MM")
        for _ in range(SLOTS):
            asm.add("LD", wait=["MV"])
        for _ in range(PARAMETER_SLOTS):
            asm.add("LD", wait=["MISC"])
        asm.add("SYS", operation="done")

    def _hand_over(self, products: str) -> None:
        """From here on the slots are those of another queue of products."""
        asm = self.asm
        for _ in range(SLOTS):
            asm.add("LD", wait=["MV"])
        asm.products = products
        for _ in range(SLOTS):
            asm.add("MV", release=["LD"])

    def _set_last_row(self, register: Register) -> None:
        self.asm.set(register, -1, source=R.LOGIT_ROW)


def block_texts(
    decode: Sequence[CoreText], network: Network, machine: CoreMachine, tokens: int
) -> tuple[CoreText, ...]:  # fmt: skip
    """The texts of all cores for blocks of ``tokens``, beside those of a decode step, whose memories they share."""
    names: dict[tuple[str, str], int] = {}

    def write(item: CoreText) -> Text:
        return BlockText(network, machine, item.share, item.cache, tokens, names).text()

    return texts_beside(decode, machine, write)


def block_tokens(decode: Sequence[CoreText], network: Network, machine: CoreMachine) -> int:
    """The most tokens of a block that the buffers hold, in whole rows of the cache; an InputError if none."""
    channels = machine.hbm.channels_per_core
    tokens = machine.mm_rows // channels * channels
    while True:
        try:
            block_texts(decode, network, machine, tokens)
        except InputError:
            tokens -= channels
            if tokens < channels:
                raise
        else:
            return tokens


def block_registers(
    item: CoreText, network: Network, machine: CoreMachine, position: int, tokens: int, embedded: int, wanted: int
) -> dict[str, int]:  # fmt: skip
    """What the host writes before a block of ``tokens`` from ``position`` on, whose rows of the embedding lie one
    behind the other, each from a line on, at byte ``embedded`` of DDR; ``wanted``: the row, from 1 on, of the logits,
    0: none."""
    room = item.cache.rows * item.cache.channels
    if position + tokens > room:
        raise InputError(f"a block must end inside the cache of {room} tokens, not at {position + tokens}")
    return chunk_registers(item, network, machine, position, tokens, embedded) | {"LOGIT_ROW": wanted}
