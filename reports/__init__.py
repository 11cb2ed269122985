"""From results to tables, figures and one self-contained page; measured data with its provenance."""
