"""What a host writes before a run, as files: for harnesses that are not Python."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from mixflight.arch.compact import compact
from mixflight.arch.control_constants import ControlConstants
from mixflight.arch.isa import Ints, Stream, to_bytes
from mixflight.mapping.core_image import Octets


def save_job(
    folder: Path, *, text: Stream, words: Ints, registers: Mapping[int, int], constants: ControlConstants,
    hbm: Sequence[Octets], ddr: Octets,
) -> None:  # fmt: skip
    """Write a run under ``folder``.

    ``program.bin``   the text, 16 bytes an instruction
    ``words.bin``     the constants that FETCH reads, 32 bits each
    ``channelC.bin``  channel C of HBM from address 0; ``ddr.bin`` DDR
    ``host.json``     ``registers`` of the sequencer by number, ``constants`` of MISC (FP32 as their bits)
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.bin").write_bytes(to_bytes(text, compact()))
    np.asarray(words, "<u4").tofile(folder / "words.bin")
    for number, data in enumerate(hbm):
        data.tofile(folder / f"channel{number}.bin")
    ddr.tofile(folder / "ddr.bin")
    host = {"registers": {str(number): value for number, value in sorted(registers.items())},
            "constants": msgspec.to_builtins(constants)}  # fmt: skip
    (folder / "host.json").write_text(json.dumps(host, indent=1) + "\n")
