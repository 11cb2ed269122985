"""Bytes of instructions for all lengths of a model: ours in the published encoding, step by step, and compact.

The steps are FlightLLM's (arXiv 2401.03868): one file for every length, stage and core; then one for a range of
lengths (buckets of 16 tokens in decode and 128 in prefill), shared by cores with equal shapes; then the LD or ST of one
transfer over eight channels as one instruction. The counts are those of executed programs, not estimates: a prefill's
are linear in the rows of its last block, so three lengths of a block give all.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import INSTRUCTION_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import CLASS_INDEX, CLASSES, WORD_BITS, published
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_compile import CoreText, prefill_registers, registers_of
from mixflight.mapping.core_network import Network

DECODE_BUCKET, PREFILL_BUCKET = 16, 128
WORD_BYTES = 4
SEQUENCED = 3
"""SYS operations before this one go to a queue; those from it on exist in the compact encoding only."""


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of instructions of lengths 1 ... ``max_context``, both stages, all cores.

    ``unshared``, ``bucketed``, ``shared`` (by equal cores), ``merged`` (transfers): in the published encoding.
    ``compact``: distinct compact texts with their constants. ``files_of``: by stage, whose files each core uses.
    """

    max_context: int
    unshared: int
    bucketed: int
    shared: int
    merged: int
    compact: int
    files_of: dict[str, tuple[int, ...]]


def storage_of(
    decode: tuple[Network, tuple[CoreText, ...]], prefill: tuple[Network, tuple[CoreText, ...]], machine: CoreMachine,
    max_context: int,
) -> Storage:  # fmt: skip
    """The accounting of both stages."""
    unshared = bucketed = shared = merged = compact = 0
    files_of: dict[str, tuple[int, ...]] = {}
    for stage, (network, texts) in (("decode", decode), ("prefill", prefill)):
        lengths = np.arange(1, max_context + 1)
        files = bucket_lengths(stage, max_context)
        seen: dict[tuple[int, ...], int] = {}
        owners = []
        for core, text in enumerate(texts):
            plain, wide = _bytes_by_length(stage, text, network, machine, max_context)
            unshared += int(plain[lengths].sum())
            bucketed += int(plain[files].sum())
            compact += INSTRUCTION_BYTES * len(text.text.stream) + WORD_BYTES * len(text.text.constants)
            key = tuple(plain[files].tolist())
            if key not in seen:
                seen[key] = core
                shared += int(plain[files].sum())
                merged += int(wide[files].sum())
            owners.append(seen[key])
        files_of[stage] = tuple(owners)
    return Storage(max_context=max_context, unshared=unshared, bucketed=bucketed, shared=shared, merged=merged,
                   compact=compact, files_of=files_of)  # fmt: skip


def bucket_lengths(stage: str, max_context: int) -> NDArray[np.int64]:
    """The lengths that have a file."""
    bucket = DECODE_BUCKET if stage == "decode" else PREFILL_BUCKET
    return np.arange(bucket, max_context + bucket, bucket).clip(max=max_context)


def _bytes_by_length(
    stage: str, text: CoreText, network: Network, machine: CoreMachine, max_context: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes in the published encoding by length, with a transfer an instruction a channel, and merged."""
    lengths = np.arange(max_context + 1)
    found = np.zeros((2, max_context + 1), np.int64)
    if stage == "decode":
        tile = machine.mv_columns
        for full in range((max_context - 1) // tile + 1):
            at = msgspec.structs.replace(network, context=full * tile + 1)
            bytes_ = _bytes(text, registers_of(text, at, machine))
            found[:, full * tile + 1 : (full + 1) * tile + 1] = np.array(bytes_)[:, None]
        return found[0], found[1]
    block, channels = machine.mm_rows, text.cache.channels
    for full in range((max_context - 1) // block + 1):
        values = prefill_registers(text, msgspec.structs.replace(network, tokens=full * block + 1), machine)
        base, group, both = (
            np.array(
                _bytes(
                    text,
                    values
                    | {
                        "LAST_ROWS": channels * groups,
                        "LAST_GROUPS": groups,
                        "LAST_BLOCKS": blocks,
                    },
                )
            )
            for groups, blocks in ((1, 1), (2, 1), (1, 2))
        )
        rows = lengths[full * block + 1 : (full + 1) * block + 1] - full * block
        groups, blocks = -(-rows // channels), -(-rows // 16)
        part = base[:, None] + (group - base)[:, None] * (groups - 1) + (both - base)[:, None] * (blocks - 1)
        found[:, full * block + 1 : (full + 1) * block + 1] = part
    return found[0], found[1]


def _bytes(text: CoreText, values: dict[str, int]) -> tuple[int, int]:
    hits = text.sequencer.executed({Register[name]: value for name, value in values.items()})
    stream = text.text.stream
    plain = merged = 0
    for kind in CLASSES:
        words = published().instructions[kind].words * WORD_BITS // 8
        count = hits[stream.kinds == CLASS_INDEX[kind]]
        if kind == "SYS":
            count = count[stream.tables["SYS"]["operation"] < SEQUENCED]
        merged += words * int(count.sum())
        if kind in ("LD", "ST"):
            count = count * np.where(stream.tables[kind]["wide"] == 1, text.sequencer.channels, 1)
        plain += words * int(count.sum())
    return plain, merged
