"""What the help of each command shows last: commands that can be copied, at most 58 columns wide."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "fetch": ("mixflight fetch smollm2", "mixflight fetch --list"),
    "models": ("mixflight models", "mixflight models --json"),
    "archs": ("mixflight archs", "mixflight archs --json"),
    "recipes": (
        "mixflight recipes",
        "mixflight recipes --check",
        "mixflight recipes --simulate --only k8v4 \\\n    --arch mixpe-w4a8",
    ),
    "trace": (
        "mixflight trace smollm2",
        "mixflight trace smollm2 --prefill 128 --decode 128 \\\n    -o trace.parquet",
        "mixflight trace llama2-7b --recipe w4a8g128 --json",
        ("mixflight trace llama2-7b --recipe w4a8g128 \\\n"
         "    --prefill 512 --export scalesim -o layers.csv"),
    ),
    "compile": (
        "mixflight compile --arch flightllm-u280 \\\n    --model smollm2 -o build/prog",
        ("mixflight compile --arch flightllm-u280 --count-only \\\n"
         "    --model llama2-7b --recipe flightllm"),
    ),
    "simulate": (
        "mixflight simulate --arch mixpe-w4a8 --model smollm2 \\\n    --prefill 128 --decode 128",
        "mixflight simulate --arch int8 --model llama2-7b \\\n    --recipe w8a8 --prefill 128 --decode 128 --explain",
        "mixflight simulate --arch mixpe-w4a8 --model smollm2 \\\n    --prefill 16 --decode 4 --timeline timeline.json",
    ),
    "compare": (
        "mixflight compare --arch mixpe-w4a8 --arch int8 \\\n    --model smollm2",
        "mixflight compare --arch mixpe-w4a8:w4a8g128 \\\n    --gpu h100:w4a16g128 --model llama2-7b",
        "mixflight compare --arch mine.toml --arch int8 \\\n    --model model.gguf -o run",
    ),
    "gpu": ("mixflight gpu", "mixflight gpu --validate"),
    "rtl": (
        "mixflight rtl mixpe-array --rows 8 --cols 8 -o out",
        "mixflight rtl mixpe-array --arch mixpe-w4a8-split \\\n    --rows 8 --cols 8 -o out",
        "mixflight rtl csd-chain -o out",
    ),
    "synth": (
        "mixflight synth mixpe-array --rows 4 --cols 4 \\\n    --lanes 2 --target xcup",
        "mixflight synth mixpe-w4a8-pe --target osu018",
    ),
    "verify": (
        "mixflight verify mixpe-w4a8-pe",
        "mixflight verify mixpe-array --rows 4 --cols 4 \\\n    --lanes 2 --zero f16-min",
        "mixflight verify --json",
    ),
    "generate": (
        'mixflight generate --model smollm2 --tokens 16 \\\n    --prompt "The capital of France is"',
        'mixflight generate --model smollm2 --tokens 2 \\\n    --prompt "Hello" --layers 1 --backend rtl',
    ),
    "evaluate": (
        "mixflight evaluate --model smollm2 --recipe k8v4",
        "mixflight evaluate --model smollm2 --recipe k8v4 \\\n    --reference",
    ),
    "demo": ("mixflight demo -o build/demo",),
    "report": (
        "mixflight report run",
        "mixflight report build/demo -o report.html",
        "mixflight report build/demo --figures figures",
        "mixflight report build/demo --gpu h200 --sweep out",
    ),
    "reproduce": (
        "mixflight reproduce mixpe --mode published",
        "mixflight reproduce flightllm --mode corrected",
    ),
    "sweep": (
        "mixflight sweep mixpe -o out --jobs 2",
        "mixflight sweep mixpe -o out --resume",
    ),
    "advise": (
        ("mixflight advise --model llama2-7b \\\n"
         '    --recipe flightllm --target "tokens_per_s>=60" \\\n'
         '    --limit "power_w<=40" --device u280'),
    ),
    "power": ("mixflight power", "mixflight power --validate"),
    "prices": (
        "mixflight prices", "mixflight prices 45nm-literature",
        "mixflight prices --operands smollm2 \\\n    --pe shift-add-4x8 -o mine.toml",
    ),
    "sensitivity": (
        "mixflight sensitivity --arch mixpe-w4a8 --arch int8 \\\n    --model llama2-7b --recipe w4a8g128",
    ),
    "doctor": ("mixflight doctor", "mixflight doctor --json"),
    "schema": ("mixflight schema", "mixflight schema simulate"),
}  # fmt: skip
