"""The page of PEs has the table that the recorded counts give, and says of it what is so."""

from pathlib import Path

from mixflight.arch.cell_counts import cell_counts_named, cell_table
from mixflight.reports.pe_table import pe_cells, pe_table, to_28nm

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "processing-elements.md").read_text()
TEXT = " ".join(PAGE.split())


def test_the_page_has_the_table():
    assert pe_table() in PAGE


def test_a_row_worked_out_by_hand():
    counts = cell_counts_named("mixpe-w4a8-dot-pe")
    cells = pe_cells(counts)
    assert cells[3] == f"{counts.area_um2 / 4:,.0f}"
    assert cells[4] == f"{counts.energy['real'].pj_per_mac * 1000:,.0f}"
    assert cells[12] == f"{counts.product * to_28nm().area * to_28nm().energy * 1e3:,.0f}"


def test_the_words_are_what_the_counts_say():
    shares = {row.name: row.energy["real"].settled_pj_per_mac / row.energy["real"].pj_per_mac
              for row in cell_table().rows if row.energy}  # fmt: skip
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    assert f"it is {shares[least]:.2f} (`{least}`) to {shares[most]:.2f} (`{most}`) of that" in TEXT
    scaling = to_28nm()
    assert f"area x {scaling.area:.4f}, energy x {scaling.energy:.4f}, delay x {scaling.delay:.4f}" in TEXT
    slow, fast = (cell_counts_named(name).delay_ns for name in ("mixpe-w4a16-pe", "mixpe-w4a8-pe"))
    assert f"({slow:.1f} ns against {fast:.1f})" in TEXT
