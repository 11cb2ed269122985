"""The accelerator as Amaranth components, one a file; Verilog emission, synthesis and the Verilator harness."""
