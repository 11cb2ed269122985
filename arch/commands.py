"""The commands of a program: what the hardware executes and the simulator times."""

import msgspec

from mixflight.arch.formats import Format, Zero


class MatrixCommand(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` products [m, k] x [k, n] on the matrix array, blocked for the buffers.

    The blocks are visited rows first, then columns, then slabs of k; a slab of weights (and of activations, where
    ``acts_from_dram``) is loaded while the one before is computed. ``weights_resident``: all of one product's weights
    fit and are loaded once; ``acts_held``: a row block's activations are loaded once and held over its column blocks.
    ``group`` is the number of k that share a scale (k itself when the scale is per row), ``passes`` how often the array
    visits each pair, ``split`` into how many blocks its rows are split. ``causal_step`` query rows share a token's
    causal limit (0: no mask); the limit is on n when ``causal_on_n`` and on k otherwise. Bytes are of one product,
    off-chip.
    """

    operator: str
    kind: str
    layers: tuple[int, ...]
    macs: int
    count: int
    m: int
    n: int
    k: int
    group: int
    passes: int
    split: int
    zero: Zero
    weight: Format
    act: Format
    scaled: bool
    causal_step: int
    causal_on_n: bool
    m_block: int
    n_block: int
    k_slab: int
    weights_resident: bool
    acts_held: bool
    acts_from_dram: bool
    results_to_dram: bool
    weight_bytes: int
    act_bytes: int
    kv: bool


class VectorCommand(msgspec.Struct, frozen=True, kw_only=True):
    """``vectors`` vectors of ``elements`` elements through the SFU in ``passes`` passes.

    ``causal_step`` > 0: that many vectors share a token's causal limit, the last token sees all ``elements`` and each
    one before an element less.

    ``multiplies``, ``adds`` and ``table_reads`` are counts an element; the bytes are all of the command's, off-chip.
    """

    operator: str
    kind: str
    layers: tuple[int, ...]
    vectors: int
    elements: int
    causal_step: int
    passes: int
    multiplies: int
    adds: int
    table_reads: int
    inputs: int
    outputs: int
    dram_read_bytes: int
    dram_write_bytes: int

    @property
    def lengths(self) -> tuple[range, int]:
        """The vectors' different lengths, and how many vectors have each."""
        if not self.causal_step:
            return range(self.elements, self.elements + 1), self.vectors
        tokens = self.vectors // self.causal_step
        return range(self.elements - tokens + 1, self.elements + 1), self.causal_step

    @property
    def total_elements(self) -> int:
        """Elements of all vectors, masked ones left out."""
        return self.beats(1)

    def beats(self, width: int) -> int:
        """Steps of ``width`` elements that all vectors take; a vector begins with a step of its own."""
        lengths, each = self.lengths

        def up_to(longest: int) -> int:  # of one vector of each length from 1 on
            full, rest = divmod(longest, width)
            return width * full * (full + 1) // 2 + rest * (full + 1)

        return each * (up_to(lengths.stop - 1) - up_to(lengths.start - 1))


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """The commands of one prefill or decode step, in order; each waits for the one before."""

    commands: tuple[MatrixCommand | VectorCommand, ...]
