from command_line import document, refusal

RUN = ("sensitivity", "--model", "llama2-7b", "--prefill", 16, "--decode", 2)
PAIR = ("--arch", "mixpe-w4a8:w4a8g128", "--gpu", "h100:w4a16g128")


def test_rows_conclusion_and_figure(tmp_path):
    path = tmp_path / "tornado.svg"
    found = document(*RUN, *PAIR, "--figure", path)
    [conclusion] = found["conclusions"]
    assert conclusion["flipped_by"] == [row["parameter"] for row in found["rows"] if row["flips"]]
    assert conclusion["ratio"] == found["rows"][0]["base"]
    first = found["rows"][0]
    svg = path.read_text()
    assert f"{first['parameter']} ({first['of']}): {first['base']:.3g}" in svg
    assert "the conclusion flips" in svg


def test_bad_input_is_one_line(tmp_path):
    assert "sensitivity must have at least two machines, not 0" in refusal(*RUN)
    assert "--metric must be one of" in refusal(*RUN, *PAIR, "--metric", "joy")
    assert "--figure must come with two machines" in refusal(*RUN, *PAIR, "--gpu", "a100:fp16", "--figure", "f.svg")
