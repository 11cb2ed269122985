"""The cycle and energy model behind MixPE's published numbers, written again from its description.

    machines     the accelerators, buffers and energy constants of ``machines.toml``
    workloads    the products that the models' layers are turned into
    tiling       the exhaustive search over loop orders and power-of-two tilings, compiled
    energy       counts to static, DRAM, buffer and core energy
    run          a model on an accelerator, each distinct product searched once
    claims       speed-up and energy ratios, and where the two headline figures come from
    printed      what was printed, number by number
    corrections  the speed-up that is left after each correction
    reproduce    the rows of ``mixflight reproduce mixpe --mode published``

Nothing here says what MixPE is worth: ``NOTES.md`` lists what the model leaves out. The source of behaviour is the
authors' simulator (GitHub yuzhang712/mixpe_simulator, commit 769f0c8, and its ancestor clevercool/ANT-Quantization).
"""
