"""The compiled loop of the matrix engine: blocks of one command through double-buffered loads, array and stores."""

from typing import Any

from numba import njit

from mixflight.arch.stationary_pipeline import visit_steps

_visit = njit(visit_steps)


@njit(cache=True)
def _slab_cycles(
    full: int, rest: int, k: int, group: int, codes: int, passes: int, depth: int, tokens: int, rest_tokens: int,
    gap: int, rest_gap: int,
) -> Any:  # fmt: skip
    """Cycles of a slab of ``k`` on ``full`` tiles of ``tokens`` tokens and ``rest`` of ``rest_tokens``.

    ``codes`` of each ``group`` are visited; lanes set the time of a group's end only where groups are whole.
    """
    if k % codes == 0 and codes == group:
        groups = k // group
        each = groups * max(_visit(group, depth, tokens, passes), gap)
        each_rest = groups * max(_visit(group, depth, rest_tokens, passes), rest_gap)
    else:
        each = _visit(k, depth, tokens, passes)
        each_rest = _visit(k, depth, rest_tokens, passes)
    return float(full * each + rest * each_rest)


@njit(cache=True)
def matrix_cycles(
    count: int, m: int, n: int, k: int, m_block: int, n_block: int, k_slab: int, rows: int, cols: int,
    group: int, passes: int, depth: int, tokens: int, rest_tokens: int, gap: int, rest_gap: int, tail: int,
    causal_step: int, causal_on_n: bool,
    weights_resident: bool, acts_held: bool, weight_bytes: float, act_bytes: float, result_bytes: float,
    bytes_per_cycle: float, latency: float,
) -> Any:  # fmt: skip
    """Cycles of ``count`` products back to back.

    ``weight_bytes``, ``act_bytes`` and ``result_bytes`` are a product's off-chip bytes of each operand, 0 for what
    stays on chip. Step i is a slab of a block: its load starts when the DRAM is free and step i-2 has left its half
    of the buffer; it is computed when loaded and when the array is free; a block's results are stored when its last
    slab has drained (``tail`` cycles), after the load that was next.

    A tile has ``rows`` tokens and ``cols`` channels, the last of a block fewer tokens. It takes the codes of a group as
    ``visit_steps`` says of an array of ``depth`` rows, ``tokens`` (``rest_tokens`` in a tile of fewer), or ``gap``
    (``rest_gap``) cycles a group where that is longer.

    Returns (total, array busy, DRAM busy, array waiting for loads) in cycles, of which busy and waiting exclude
    ``tail``, and the bytes of weights loaded, of activations loaded and of results stored: what is loaded again counts
    again, what is masked does not.
    """
    dram = latency
    previous = 0.0
    before = 0.0
    stored = 0.0
    ready = 0.0
    array_busy = 0.0
    dram_busy = 0.0
    waiting = 0.0
    weights_loaded = 0.0
    acts_loaded = 0.0
    results_stored = 0.0
    queries = m // causal_step if causal_step > 0 else 0
    per_weight = weight_bytes / (n * k)
    per_act = act_bytes / (m * k)
    per_result = result_bytes / (m * n)
    for _ in range(count):
        loaded = False
        for m0 in range(0, m, m_block):
            mb = min(m_block, m - m0)
            n_end = n
            k_end = k
            if causal_step > 0:
                last_token = (m0 + mb - 1) // causal_step
                if causal_on_n:
                    n_end = n - queries + last_token + 1
                else:
                    k_end = k - queries + last_token + 1
            block_group = group if group < k_end else k_end
            for n0 in range(0, n_end, n_block):
                nb = min(n_block, n_end - n0)
                col_tiles = -(-nb // cols)
                full = mb // rows * col_tiles
                rest = col_tiles if mb % rows else 0
                for k0 in range(0, k_end, k_slab):
                    ks = min(k_slab, k_end - k0)
                    weights = 0.0
                    if not weights_resident:
                        weights = nb * ks * per_weight
                    elif not loaded:
                        weights = weight_bytes
                        loaded = True
                    acts = 0.0
                    if not acts_held or n0 == 0:
                        acts = mb * ks * per_act
                    weights_loaded += weights
                    acts_loaded += acts
                    load = weights + acts
                    arrived = 0.0
                    if load > 0.0:
                        arrived = max(dram, before) + load / bytes_per_cycle
                        dram = arrived
                        dram_busy += load / bytes_per_cycle
                    if stored > 0.0:
                        dram = max(dram, ready) + stored
                        dram_busy += stored
                        stored = 0.0
                    steps = _slab_cycles(
                        full, rest, ks, group, block_group, passes, depth, tokens, rest_tokens, gap, rest_gap
                    )
                    start = max(previous, arrived)
                    waiting += start - previous
                    before = previous
                    previous = start + steps
                    array_busy += steps
                results_stored += mb * nb * per_result
                stored = mb * nb * per_result / bytes_per_cycle
                ready = previous + tail
    total = previous + tail
    if stored > 0.0:
        total = max(dram, ready) + stored
        dram_busy += stored
    return max(total, dram), array_busy, dram_busy, waiting, weights_loaded, acts_loaded, results_stored
