"""``config.json`` of a model folder: its values checked as they are read, and the dimensions that they say.

    Config     the values
    model_of   a Config to the Model of its family, the tying of the head apart
"""

import math
from pathlib import Path
from typing import Any, Literal

from mixflight.arch.errors import InputError
from mixflight.workloads.folder_families import FAMILIES, Family
from mixflight.workloads.model import Model
from mixflight.workloads.packed_weights import Quantiser
from mixflight.workloads.safetensors_reader import read_json

CONFIG = "config.json"
METHODS = ("gptq", "awq", "compressed-tensors", "bitsandbytes", "fp8")
MAX_DIMENSION = 2**31 - 1
_ACTIVATIONS: dict[str, Literal["silu", "relu", "gelu"]] = {
    "silu": "silu", "relu": "relu", "gelu": "gelu", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu",
}  # fmt: skip
# What a Gemma 3 that sees images leaves out of its text_config where it is the library's default.
_GEMMA3_TEXT = {
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 131072, "rope_theta": 1e6, "hidden_activation": "gelu_pytorch_tanh",
}  # fmt: skip
_LAYER_TYPES = ("full_attention", "sliding_attention")


class Config:
    """The values of config.json."""

    def __init__(self, path: Path) -> None:
        self.path, self.table = path, read_json(path)
        self.kind = self.text("model_type", "")
        if self.kind not in FAMILIES:
            raise self.wrong(f"model_type must be one of {', '.join(FAMILIES)}, not {self.kind!r:.40}")
        self.quantised = self.table.get("quantization_config")
        if self.kind == "gemma3":
            inner = self.table.get("text_config")
            if not isinstance(inner, dict):
                raise self.wrong("text_config must be a table")
            self.table = _GEMMA3_TEXT | inner

    @property
    def family(self) -> Family:
        """The row of the model's type."""
        return FAMILIES[self.kind]

    def wrong(self, message: str) -> InputError:
        """The error with the file's name."""
        return InputError(f"{message}: {self.path}")

    def has(self, key: str) -> bool:
        """Whether there is a value that is not null."""
        return self.table.get(key) is not None

    def integer(self, key: str, default: int | None = None, low: int = 1) -> int:
        """An integer of at least ``low``; without a default there must be one."""
        value = self.table.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not low <= value <= MAX_DIMENSION:
            raise self.wrong(f"{key} must be an integer in {low}..{MAX_DIMENSION}, not {value!r:.40}")
        return value

    def number(self, key: str, default: float) -> float:
        """A positive number."""
        value = self.table.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise self.wrong(f"{key} must be a positive number, not {value!r:.40}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """A truth value."""
        value = self.table.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(f"{key} must be true or false, not {value!r:.40}")
        return value

    def text(self, key: str, default: str) -> str:
        """A string."""
        value = self.table.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(f"{key} must be a string, not {value!r:.40}")
        return value

    def activation(self, default: str, *keys: str) -> Literal["silu", "relu", "gelu"]:
        """The activation function under the first of ``keys`` that there is."""
        key = next((key for key in keys if self.has(key)), keys[-1])
        name = self.text(key, default)
        if name not in _ACTIVATIONS:
            raise self.wrong(f"{key} must be one of {', '.join(_ACTIVATIONS)}, not {name!r:.40}")
        return _ACTIVATIONS[name]

    def quantiser(self) -> Quantiser:
        """What quantization_config says of the packing."""
        table = self.quantised
        if table is None:
            return Quantiser()
        method = table.get("quant_method") if isinstance(table, dict) else None
        if method not in METHODS:
            raise self.wrong(f"quant_method must be one of {', '.join(METHODS)}, not {method!r:.40}")
        version = table.get("checkpoint_format", "gptq")
        if method == "gptq" and version not in ("gptq", "gptq_v2"):
            raise self.wrong(f"checkpoint_format must be gptq or gptq_v2, not {version!r:.40}")
        if method == "awq" and table.get("version", "gemm") != "gemm":
            raise self.wrong(f"the version of awq must be gemm, not {table.get('version')!r:.40}")
        return Quantiser(method=method, bits=self._bits(table), zero_less_one=version == "gptq")

    def _bits(self, table: dict[str, Any]) -> int:
        """Bits of a code, if the configuration has one number for all weights, else 0."""
        groups = table.get("config_groups")
        tables = [group.get("weights") for group in _tables(groups)]
        found = [item.get("num_bits") for item in _tables(dict(enumerate(tables)))] or [table.get("bits")]
        bits = found[0]
        return bits if type(bits) is int and 1 <= bits <= 8 and found.count(bits) == len(found) else 0


def _tables(value: Any) -> list[dict[str, Any]]:
    """The values of a table that are tables themselves."""
    return [item for item in value.values() if isinstance(item, dict)] if isinstance(value, dict) else []


def model_of(config: Config, name: str, arrays: int) -> Model:
    """The dimensions of a model called ``name`` whose files hold ``arrays`` arrays; the head is not yet tied."""
    layers = config.integer("n_layer" if config.family.keys == "gpt2" else "num_hidden_layers")
    if layers > arrays:
        raise config.wrong(f"num_hidden_layers must be at most the number of arrays, {arrays}, not {layers}")
    return {"gated": _gated, "opt": _opt, "gpt2": _gpt2}[config.family.keys](config, name, layers)


def _gated(config: Config, name: str, layers: int) -> Model:
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if not config.has("head_dim") and hidden % heads:
        raise config.wrong(f"hidden_size must be a multiple of num_attention_heads: {hidden} is none of {heads}")
    head_dim, family = config.integer("head_dim", hidden // heads), config.family
    if head_dim % 2:
        raise config.wrong(f"the head size must be even for rotary embeddings, not {head_dim}")
    if config.flag("attention_bias", False) or config.flag("mlp_bias", False):
        raise config.wrong("attention_bias and mlp_bias must be false")
    if "q" in family.biased and not config.flag("qkv_bias", True):
        raise config.wrong("qkv_bias must be true")
    if config.number("partial_rotary_factor", 1.0) != 1:
        raise config.wrong("partial_rotary_factor must be 1")
    window, everywhere = _windows(config, layers)
    return Model(
        **_common(config, name, layers, hidden), hidden=hidden, heads=heads, head_dim=head_dim,
        kv_heads=config.integer("num_key_value_heads", heads), ffn=config.integer("intermediate_size"),
        context_length=config.integer("max_position_embeddings"), activation=_gated_activation(config),
        norm_epsilon=config.number("rms_norm_eps", 1e-6), rope_theta=_theta(config), biased=family.biased,
        qk_norm=bool(family.head_norms), post_norms=len(family.norms) == 4, window=window, global_layers=everywhere,
        attention_cap=config.number("attn_logit_softcapping", 0.0),
        logit_cap=config.number("final_logit_softcapping", 0.0), **_experts(config),
        embedding_scale=math.sqrt(hidden) if config.kind.startswith("gemma") else 1.0,
    )  # fmt: skip


def _gated_activation(config: Config) -> Literal["silu", "relu", "gelu"]:
    if config.kind.startswith("gemma"):
        return config.activation("gelu_pytorch_tanh", "hidden_activation", "hidden_act")
    return config.activation("silu", "hidden_act")


def _experts(config: Config) -> dict[str, Any]:
    """Fields of a Model that say what experts it has."""
    if config.family.mixture is None:
        return {}
    if config.integer("decoder_sparse_step", 1) != 1 or config.table.get("mlp_only_layers"):
        raise config.wrong("every layer must have experts: decoder_sparse_step 1 and mlp_only_layers empty")
    count = config.integer("num_experts" if config.has("num_experts") else "num_local_experts")
    active = config.integer("num_experts_per_tok")
    if active > count:
        raise config.wrong(f"num_experts_per_tok must be at most the {count} experts, not {active}")
    width = config.integer("intermediate_size" if config.kind == "mixtral" else "moe_intermediate_size")
    shared = config.integer("shared_expert_intermediate_size") if config.family.mixture.shared else 0
    if shared % width:
        raise config.wrong(f"the shared expert must be as wide as a whole number of experts of {width}, not {shared}")
    return {
        "experts": count, "active_experts": active, "expert_ffn": width, "shared_experts": shared // width,
        "shared_gate": bool(config.family.mixture.shared_gate),
    }  # fmt: skip


def _windows(config: Config, layers: int) -> tuple[int, tuple[int, ...]]:
    """The window in tokens (0: none), and the layers that see all tokens all the same."""
    family = config.family
    asked = config.flag("use_sliding_window", family.window == "always")
    window = config.integer("sliding_window", 0, low=0) if asked and family.window != "never" else 0
    types = config.table.get("layer_types")
    if types is not None:
        if not isinstance(types, list) or len(types) != layers or any(item not in _LAYER_TYPES for item in types):
            raise config.wrong(f"layer_types must be one of {', '.join(_LAYER_TYPES)} for each of {layers} layers")
        full = tuple(layer for layer, kind in enumerate(types) if kind == "full_attention")
    elif family.window == "asked":  # the first layers see all
        full = tuple(range(min(layers, config.integer("max_window_layers", 0, low=0))))
    else:
        step = config.integer("sliding_window_pattern", family.window_step)
        full = tuple(layer for layer in range(layers) if step > 1 and layer % step == step - 1)
    return (window, full) if window and len(full) < layers else (0, ())


def _theta(config: Config) -> float:
    """The base of the rotation, which newer configurations keep in a table of its own, or in one a type of layer."""
    table = config.table.get("rope_parameters")
    if config.has("rope_theta") or not isinstance(table, dict):
        return config.number("rope_theta", 10000.0)
    if isinstance(inner := table.get("full_attention"), dict):
        table = inner
    value = table.get("rope_theta", 10000.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 < value < 1e30:
        raise config.wrong(f"rope_theta must be a number above 1, not {value!r:.40}")
    return float(value)


def _opt(config: Config, name: str, layers: int) -> Model:
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden % heads:
        raise config.wrong(f"hidden_size must be a multiple of num_attention_heads: {hidden} is none of {heads}")
    if config.integer("word_embed_proj_dim", hidden) != hidden or not config.flag("do_layer_norm_before", True):
        raise config.wrong("word_embed_proj_dim must be hidden_size and do_layer_norm_before true")
    if not config.flag("enable_bias", True):
        raise config.wrong("enable_bias must be true")
    return Model(
        **_common(config, name, layers, hidden), **_plain(hidden, heads, 1e-5), ffn=config.integer("ffn_dim"),
        context_length=config.integer("max_position_embeddings"),
        activation=config.activation("relu", "activation_function"),
    )  # fmt: skip


def _gpt2(config: Config, name: str, layers: int) -> Model:
    hidden, heads = config.integer("n_embd"), config.integer("n_head")
    if hidden % heads:
        raise config.wrong(f"n_embd must be a multiple of n_head: {hidden} is none of {heads}")
    return Model(
        **_common(config, name, layers, hidden), **_plain(hidden, heads, config.number("layer_norm_epsilon", 1e-5)),
        ffn=config.integer("n_inner", 4 * hidden), context_length=config.integer("n_positions"),
        activation=config.activation("gelu_new", "activation_function"),
    )  # fmt: skip


def _plain(hidden: int, heads: int, epsilon: float) -> dict[str, Any]:
    """What OPT and GPT-2 have in common."""
    return {
        "hidden": hidden, "heads": heads, "kv_heads": heads, "head_dim": hidden // heads, "ffn_kind": "plain",
        "norm": "layernorm", "norm_epsilon": epsilon, "rope_theta": 0.0, "biases": True,
    }  # fmt: skip


def _common(config: Config, name: str, layers: int, hidden: int) -> dict[str, Any]:
    return {
        "name": name, "summary": f"{name}: {layers} layers of {hidden}", "source": f"{CONFIG} of {name}",
        "layers": layers, "vocab": config.integer("vocab_size"),
    }  # fmt: skip
