# amaranth: UnusedElaboratable=no
"""Packed codes through the emitted widening unit against golden: every width, padding, stalls; the rate it states."""

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.widen import CODE_BITS, PORT_QUANTA
from mixflight.rtl.bench_systolic_array import packer
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.harness import Job, build_model, run_jobs
from mixflight.rtl.lint import lint
from mixflight.rtl.widen import Widen
from mixflight.sim.golden.widen import widened

LANES = 16
WORD_BYTES = LANES * PORT_QUANTA // 8


def _job(unit, runs, stall, seed=0):
    """``runs`` of (bits, signed, beats, bytes) as a job."""
    run, word = packer(unit.run.payload.shape()), packer(unit.word.payload.shape())
    beats = {"run": [run({"bits": bits, "signed": int(signed), "beats": count}) for bits, signed, count, _ in runs],
             "word": []}
    for *_, octets in runs:
        words = octets.reshape(-1, WORD_BYTES)
        beats["word"] += [word({"data": int.from_bytes(bytes(row), "little"), "last": int(i == len(words) - 1)})
                          for i, row in enumerate(words)]
    return Job(beats=beats, counts={"out": sum(count for _, _, count, _ in runs)}, stall=stall, seed=seed)


def _runs(random, widths, counts, padding=0):
    runs = []
    for bits, count in zip(widths, counts, strict=True):
        words = -(-count * LANES * bits // (8 * WORD_BYTES)) + padding
        runs.append((bits, bool(random.integers(2)), count, random.integers(0, 256, words * WORD_BYTES, np.uint8)))
    return runs


def _expected(runs):
    return b"".join(widened(octets, bits=bits, signed=signed, codes=count * LANES).tobytes()
                    for bits, signed, count, octets in runs)


def test_codes_of_every_width_through_the_emitted_unit():
    random = np.random.default_rng(0)
    unit = Widen(lanes=LANES)
    text = emit_verilog(unit, "widen")
    assert lint(text, top="widen") == []
    many = [_runs(random, random.choice(CODE_BITS, 12).tolist(), random.integers(1, 20, 12).tolist(), padding)
            for padding in (0, 1, 3)]
    steady = [_runs(random, [bits], [200]) for bits in CODE_BITS]
    cases = [(runs, stall) for runs in many
             for stall in ({}, {"run": 0.5, "word": 0.3, "out": 0.3}, {"word": 0.8}, {"out": 0.8})]
    cases += [(runs, {}) for runs in steady]
    results = run_jobs(build_model(text, top="widen"),
                       [_job(unit, runs, stall, seed) for seed, (runs, stall) in enumerate(cases)])
    for (runs, _), result in zip(cases, results, strict=True):
        assert result.finished and not result.protocol_errors
        assert b"".join(word.to_bytes(LANES, "little") for word in result.outputs["out"]) == _expected(runs)
    for bits, result in zip(CODE_BITS, results[-len(CODE_BITS):], strict=True):
        cycles = result.output_cycles["out"]
        assert cycles[-1] - cycles[0] <= 199 * max(bits, PORT_QUANTA) / PORT_QUANTA + 1


def test_golden_by_hand():
    assert widened(np.array([0b11100100], np.uint8), bits=2, signed=False, codes=4).tolist() == [0, 1, 2, 3]
    assert widened(np.array([0b11100100], np.uint8), bits=2, signed=True, codes=4).tolist() == [0, 1, 254, 255]
    assert widened(np.array([0xB1, 0x02], np.uint8), bits=5, signed=True, codes=2).tolist() == [0xF1, 0xF5]
    with pytest.raises(InputError, match="packed codes must have 2, 3, 4, 5, 8 bits, not 6"):
        widened(np.zeros(8, np.uint8), bits=6, signed=False, codes=1)
    with pytest.raises(InputError, match="3 codes of 8 bits must lie in 2 bytes"):
        widened(np.zeros(2, np.uint8), bits=8, signed=False, codes=3)


def test_refusals():
    with pytest.raises(InputError, match="lanes must be at least 1, not 0, in a widening unit"):
        Widen(lanes=0)
