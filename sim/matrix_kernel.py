"""The compiled loop of the matrix engine: blocks of one command through double-buffered loads, array and stores."""

from typing import Any

from numba import njit


@njit(cache=True)
def matrix_cycles(
    count: int, m: int, n: int, k: int, m_block: int, n_block: int, k_slab: int, rows: int, cols: int,
    group: int, passes: int, period: int, tail: int, causal_step: int, causal_on_n: bool,
    weights_resident: bool, acts_held: bool, weight_bytes: float, act_bytes: float, result_bytes: float,
    bytes_per_cycle: float, latency: float,
) -> Any:  # fmt: skip
    """Cycles of ``count`` products back to back.

    ``weight_bytes``, ``act_bytes`` and ``result_bytes`` are a product's off-chip bytes of each operand, 0 for what
    stays on chip. Step i is a slab of a block: its load starts when the DRAM is free and step i-2 has left its half
    of the buffer; it is computed when loaded and when the array is free; a block's results are stored when its last
    slab has drained (``tail`` cycles), after the load that was next. A tile advances a group every ``period`` cycles.

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
    tokens = m // causal_step if causal_step > 0 else 0
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
                    n_end = n - tokens + last_token + 1
                else:
                    k_end = k - tokens + last_token + 1
            block_group = group if group < k_end else k_end
            for n0 in range(0, n_end, n_block):
                nb = min(n_block, n_end - n0)
                tiles = -(-mb // rows) * -(-nb // cols)
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
                    if ks % block_group == 0:
                        steps = float(tiles * (ks // block_group) * max(period, passes * block_group))
                        if group > block_group:
                            steps = float(tiles * passes * ks)
                    else:
                        steps = float(tiles * passes * ks)
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
