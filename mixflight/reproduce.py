"""Published studies that can be reproduced: a name and what returns its rows in a mode."""

from collections.abc import Callable

from mixflight.arch.errors import InputError
from mixflight.reproduce_flightllm import rows as flightllm_rows
from mixflight.reproduce_mixpe import rows as mixpe_rows
from mixflight.sim.dram.shuhai import rows as shuhai_rows
from mixflight.sim.peers.reproduce import parse_array
from mixflight.sim.peers.reproduce import rows as peers_rows
from mixflight.sim.peers.workload import BASE, Machine
from mixflight.sim.reproduction import Row

# A study refuses a mode that it does not have.
STUDIES: dict[str, Callable[[str], list[Row]]] = {
    "mixpe": mixpe_rows,
    "flightllm": flightllm_rows,
    "shuhai": shuhai_rows,
    "peers": peers_rows,
}


def reproduce(
    study: str, mode: str, *,
    array: str | None = None, dram_bytes_per_cycle: int | None = None, buffer_kib: int | None = None,
) -> list[Row]:  # fmt: skip
    """The rows of ``study`` in ``mode``. The machine's options are those of the study ``peers``."""
    if study not in STUDIES:
        raise InputError(f"WHAT must be one of {', '.join(STUDIES)}, not {study!r}")
    given = {"--array": array, "--dram-bytes-per-cycle": dram_bytes_per_cycle, "--buffer-kib": buffer_kib}
    used = [name for name, value in given.items() if value is not None]
    if not used:
        return STUDIES[study](mode)
    if study != "peers":
        raise InputError(f"{used[0]} goes with study 'peers', not {study!r}")
    rows, cols = parse_array(array or BASE.shape)
    return peers_rows(mode, Machine(
        rows=rows, cols=cols,
        dram_bytes_per_cycle=BASE.dram_bytes_per_cycle if dram_bytes_per_cycle is None else dram_bytes_per_cycle,
        buffer_kib=BASE.buffer_kib if buffer_kib is None else buffer_kib,
    ))  # fmt: skip
