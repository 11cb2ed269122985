"""The reference executor of compact programs: what a core computes, byte by byte (``arch/core_execution.md``)."""
