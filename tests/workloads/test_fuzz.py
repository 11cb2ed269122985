import resource

from fuzz_readers import SLOW, fuzz


def test_mutated_files_are_read_or_refused_in_one_line():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, slowest = fuzz(1500, seed=1)
    assert sum(found.values()) == 1500
    assert len(found) == 14  # each kind of file was read and refused
    assert slowest < SLOW
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes
