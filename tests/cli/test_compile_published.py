from command_line import document, refusal

from mixflight.arch.isa import from_bytes, published

COMPILE = ("compile", "--arch", "flightllm-u280", "--model", "smollm2-135m", "--recipe", "w4a8g32", "--encoding",
           "published")  # fmt: skip


def test_files_are_programs_in_the_published_encoding_and_as_large_as_counted(tmp_path):
    told = document(*COMPILE, "--max-context", 130, "-o", tmp_path / "out")
    programs = [item for item in told["files"] if item["what"] == "published program"]
    assert sum(item["bytes"] for item in programs) == told["bytes_total"] == told["storage"]["merged"]
    assert {(item["stage"], item["length"]) for item in programs} == {
        *(("decode", length) for length in (16, 32, 48, 64, 80, 96, 112, 128, 130)), ("prefill", 128), ("prefill", 130),
    }  # fmt: skip
    assert {item["core"] for item in programs} == {
        core for owners in told["storage"]["files_of"].values() for core in owners
    }
    smallest = min(programs, key=lambda item: item["bytes"])
    data = (tmp_path / "out" / smallest["path"]).read_bytes()
    stream = from_bytes(data, smallest["path"], published())
    assert (stream.tables["LD"]["loop_1"][stream.tables["LD"]["length"] > 0] >= 1).all()
    assert len(stream.tables["MV"]["wait"]) > 100


def test_many_bytes_are_written_on_request_only(tmp_path):
    line = refusal("compile", "--arch", "flightllm-u280", "--model", "smollm2-135m", "--recipe", "w4a8g32",
                   "--encoding", "published", "--max-context", 4096, "-o", tmp_path / "out")  # fmt: skip
    assert "must take at most 268,435,456 bytes, not " in line
    assert "--yes" in line
    assert not (tmp_path / "out").exists()
