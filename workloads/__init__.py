"""From a model file or preset, a recipe and a scenario to the operators an accelerator must run.

Readers map GGUF files and folders of safetensors into memory and give each tensor as its file stores it: codes, scales
and minima, nothing dequantised. A recipe says what compression does to a model, as data. Both meet in the trace: every
operator of a prefill and of each decode step, with its shape, formats, bytes and MACs. Time, energy and hardware are
not known here; of the project only ``arch`` is imported.
"""
