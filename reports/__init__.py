"""From results to tables, figures and one self-contained page; measured data with its provenance.

A document is what a run found, as data in one JSON file. Pages, figures, their tables as CSV and timelines are
functions of a document: the same values give the same bytes. GPU measurements lie here as they were recorded, with
the script that took them.
"""
