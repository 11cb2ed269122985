"""Blocking of a matrix operator for the buffers of a systolic array."""

from collections.abc import Iterator

import msgspec

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.array import Array
from mixflight.arch.commands import MatrixCommand
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Zero
from mixflight.arch.pe import passes
from mixflight.arch.stationary_pipeline import visit_steps
from mixflight.mapping.homes import FP32_BYTES, operand_in_dram, vector_in_dram
from mixflight.workloads.operators import Operator


def matrix_command(operator: Operator, accelerator: Accelerator) -> MatrixCommand:
    """The array command of a matrix operator: the blocking with the least time, then the least traffic.

    Candidates are powers of two of a tile's rows and columns; the slab of k is the longest that fits. An array that can
    split its rows does so where that needs less time. Time is estimated as the longer of the array's cycles and the
    DRAM's; the engine times the choice tile by tile.
    """
    operator = on_dense_array(operator)
    weight, act = operator.weight, operator.act
    assert weight is not None
    assert act is not None
    element = accelerator.array.element
    group = element.group_of(weight, operator.k)
    act_bytes = operator.m * _row_bytes(operator)
    acts_from_dram = operand_in_dram(operator.count * act_bytes, accelerator)
    fixed = MatrixCommand(
        operator=operator.name, kind=operator.kind, layers=operator.layers, macs=operator.macs, count=operator.count,
        m=operator.m, n=operator.n, k=operator.k, group=group,
        passes=passes(element, weight, act, operator.name),
        zero=zero_of(operator), weight=weight, act=act, scaled=weight.kind == "int" or element.scales_floats,
        split=1, causal_step=operator.causal_step, causal_on_n=operator.kind == "qk",
        m_block=0, n_block=0, k_slab=0, weights_resident=False, acts_held=False,
        acts_from_dram=acts_from_dram,
        results_to_dram=vector_in_dram(operator.count * operator.m * operator.n, accelerator),
        weight_bytes=(operator.weight_bytes + operator.kv_read_bytes) // operator.count, act_bytes=act_bytes,
        kv=operator.kind != "linear",
    )  # fmt: skip
    ways = [_replace(fixed, {"split": split}) for split in {1, accelerator.array.split}]
    blocked = [blocking for way in ways for blocking in _blockings(way, accelerator)]
    if not blocked:
        raise InputError(
            f"the buffers must hold one slab of a {accelerator.array.rows}x{accelerator.array.cols} tile, "
            f"in operator {operator.name!r} on {accelerator.name}"
        )
    return min(blocked, key=lambda command: _cost(command, accelerator))


def on_dense_array(operator: Operator) -> Operator:
    """The product that an array without sparse support runs in place of a sparse one; dense ones stay as they are.

    Weights that are not kept are expanded to zeros and multiplied: all MACs, compressed traffic. Attention skips the
    blocks that a mask leaves out, because each is a tile that is not issued: a product of the mean width of all rows.
    """
    if operator.share == 1:
        return operator
    dense = {"density": 1.0, "keep_n": 0, "keep_m": 0}
    if operator.kind == "linear":
        return msgspec.structs.replace(operator, **dense)
    wide = "n" if operator.kind == "qk" else "k"
    other = operator.k if operator.kind == "qk" else operator.n
    mean = max(1, -(-operator.macs // (operator.count * operator.m * other)))
    return msgspec.structs.replace(operator, **dense, causal_step=0, **{wide: mean})


def _row_bytes(operator: Operator) -> int:
    """Stored bytes of one row of the [m, k] operand; probabilities of ``av`` have one scale a row."""
    assert operator.act is not None
    return -(-operator.act.row_bits(operator.k) // 8)


def zero_of(operator: Operator) -> Zero:
    """What the lanes correct: a constant code offset is an integer zero point. Scales and minima of cached values lie
    along k and fold into the probabilities on the SFU."""
    assert operator.weight is not None
    if operator.kind == "av":
        return "none"
    return "int4" if operator.weight.offset else operator.weight.zero


def _powers(step: int, extent: int) -> Iterator[int]:
    size = step
    while size < extent:
        yield size
        size *= 2
    yield size


def _blockings(command: MatrixCommand, accelerator: Accelerator) -> Iterator[MatrixCommand]:
    buffers = accelerator.buffers
    tile_rows, tile_cols = accelerator.array.tile(command.split)
    sizes = (buffers.weight_kib, buffers.act_kib, buffers.output_kib)
    weight_half, act_half, output_half = (kib * 1024 // 2 for kib in sizes)
    bytes_per_weight = command.weight_bytes / (command.n * command.k)
    bytes_per_act = command.act_bytes / (command.m * command.k)
    one_row_block = command.m <= tile_rows
    for m_block in (tile_rows,) if command.causal_step else _powers(tile_rows, command.m):
        for n_block in (tile_cols,) if one_row_block else _powers(tile_cols, command.n):
            rows, cols = min(m_block, command.m), min(n_block, command.n)
            single_tile = m_block == tile_rows and n_block == tile_cols
            # Operands that are on chip already (another product's results, weights of the block before) bring no slab.
            longest = int(weight_half / (cols * bytes_per_weight)) if bytes_per_weight else command.k
            if command.acts_from_dram:
                longest = min(longest, int(act_half / (rows * bytes_per_act)))
            if longest < command.k and not single_tile and rows * cols * FP32_BYTES > output_half:
                continue
            k_slab = _slab(command, longest, whole_groups=not single_tile)
            if k_slab < 1:
                continue
            changes = {
                "m_block": m_block, "n_block": n_block, "k_slab": k_slab,
                "weights_resident": command.weight_bytes <= weight_half and k_slab == command.k,
                "acts_held": k_slab == command.k,
            }  # fmt: skip
            yield _replace(command, changes)


def _slab(command: MatrixCommand, longest: int, whole_groups: bool) -> int:
    """The slab of k: as few as fit ``longest``, of nearly equal length, so that none is too short to hide a load.

    A slab ends with a group; only a tile that stays in the array (not ``whole_groups``) may stop within one. 0: no
    slab fits.
    """
    if longest >= command.k:
        return command.k
    step = command.group if whole_groups or longest >= command.group else 1
    longest -= longest % step
    if longest < 1:
        return 0
    even = -(-command.k // -(-command.k // longest))
    return -(-even // step) * step


def _replace(command: MatrixCommand, changes: dict[str, int]) -> MatrixCommand:
    return msgspec.structs.replace(command, **changes)


def dram_bytes(command: MatrixCommand) -> tuple[int, int]:
    """Bytes that all ``count`` products read from and write to DRAM, edge blocks counted in full."""
    row_blocks = -(-command.m // command.m_block)
    col_blocks = -(-command.n // command.n_block)
    weights = command.weight_bytes * (1 if command.weights_resident else row_blocks)
    acts = command.act_bytes * (1 if command.acts_held else col_blocks) if command.acts_from_dram else 0
    results = command.m * command.n * FP32_BYTES if command.results_to_dram else 0
    return command.count * (weights + acts), command.count * results


def _array_steps(command: MatrixCommand, array: Array) -> int:
    """Cycles of the PEs for one product, the lanes' time left out."""
    tokens, cols = array.tile(command.split)
    col_tiles = -(-command.n // cols)
    if array.dataflow == "output-stationary":
        return -(-command.m // tokens) * col_tiles * command.passes * command.k
    full, rest = divmod(command.m, tokens)
    groups = -(-command.k // command.group)
    steps = full * visit_steps(command.group, array.rows, tokens, command.passes)
    if rest:
        steps += visit_steps(command.group, array.rows, rest, command.passes)
    return col_tiles * groups * steps


def _cost(command: MatrixCommand, accelerator: Accelerator) -> tuple[float, int, int, int, int]:
    compute = command.count * _array_steps(command, accelerator.array)
    traffic = sum(dram_bytes(command))
    return max(compute, traffic / accelerator.dram_bytes_per_cycle), compute, command.split, traffic, -command.k_slab
