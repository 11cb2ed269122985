"""The accelerator as Amaranth components, one a file; Verilog emission, synthesis and the Verilator harness.

Components go from a PE to arrays, function units and a whole core; ``tops`` names those that can be emitted. Emitted
text is a pure function of parameters and so is hashed and cached with what was measured of it: counts by Yosys, cells
and switching in open libraries, runs under Verilator. Only ``arch`` is imported: what hardware must compute comes from
the contract there, so that simulator and hardware are two implementations that tests hold against each other.
"""
