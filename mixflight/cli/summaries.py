"""One line about each command, for the list of them: whole at 80 columns; what a newcomer needs stands first."""

SUMMARIES = {
    "demo": "The whole path on a real model: numbers, Verilog, one page.",
    "doctor": "What is installed, and how to mend what is not.",
    "fetch": "Get a real model file or a cell library into the cache.",
    "models": "List the preset models.",
    "archs": "List the preset accelerators.",
    "recipes": "List, recompute or simulate the methods of compression.",
    "trace": "What a model computes: every operator, MACs and bytes.",
    "simulate": "Time and energy of one model on one machine.",
    "compare": "Machines and GPUs side by side on one model.",
    "sensitivity": "Which price or assumption decides between two machines.",
    "sweep": "A space of designs, and the best of them.",
    "advise": "From a target to a design, step by step.",
    "evaluate": "Perplexity of a recipe beside its bytes and energy.",
    "generate": "A model speaks: golden arithmetic, or a core's Verilog.",
    "rtl": "Write Verilog, a FuseSoC core and a Vivado project.",
    "verify": "Run the Verilog: values and cycles against what was said.",
    "synth": "LUTs, registers and DSPs, or area and energy in cells.",
    "compile": "A model's program and memory image for FlightLLM cores.",
    "report": "One page of a demo, a comparison or a sweep.",
    "reproduce": "Published numbers beside ours.",
    "gpu": "GPU presets, and the errors of their model.",
    "power": "Watts of FPGA boards, by part, beside published boards.",
    "prices": "What an action costs, by which sources.",
    "schema": "JSON Schema of a command's --json document.",
}

FIRST_STEPS = """\b
First steps:
  mixflight doctor
  mixflight simulate --arch mixpe-w4a8 \\
      --model llama2-7b --recipe w4a8g128 \\
      --prefill 128 --decode 128 --explain
  mixflight demo -o build/demo
Each command has examples: mixflight simulate --help"""
