"""Models in folders of safetensors with ``config.json``: dimensions as configured, each weight by its operator.

    FAMILIES           what each ``model_type`` stores, one row each
    open_model_folder  a folder to a StoredModel, every array's shape checked

What is not supported (experts, other families, rotation of part of a head) is an InputError.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS
from mixflight.workloads.model import Model
from mixflight.workloads.packed_weights import VALUE_FORMATS, Quantiser, weight_at
from mixflight.workloads.safetensors_reader import SafetensorsFile, open_safetensors, read_json
from mixflight.workloads.stored_model import Features, StoredModel, StoredWeight
from mixflight.workloads.tensor import Tensor

CONFIG = "config.json"
METHODS = ("gptq", "awq", "compressed-tensors", "bitsandbytes", "fp8")
MAX_DIMENSION = 2**31 - 1


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Names of arrays. ``roots`` are the prefixes under which all may lie; ``blocks`` holds ``{}`` for the layer."""

    roots: tuple[str, ...] = ("model.", "")
    embedding: str = "embed_tokens"
    positions: str = ""
    blocks: str = "layers.{}."
    linears: dict[str, str]
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    head_norms: tuple[str, ...] = ()
    biased: tuple[str, ...] = ()
    final_norm: str = "norm"


_GATED = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
FAMILIES: dict[str, Family] = {
    "llama": Family(linears=_GATED),
    "mistral": Family(linears=_GATED),
    "qwen2": Family(linears=_GATED, biased=("q", "k", "v")),
    "qwen3": Family(linears=_GATED, head_norms=("self_attn.q_norm", "self_attn.k_norm")),
    "opt": Family(
        roots=("model.decoder.", "decoder."), positions="embed_positions",
        linears={
            "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.out_proj",
            "up": "fc1", "down": "fc2",
        },
        norms=("self_attn_layer_norm", "final_layer_norm"), final_norm="final_layer_norm",
        biased=("q", "k", "v", "o", "up", "down"),
    ),
}  # fmt: skip

# Arrays that hold no weight: tables that older exporters stored beside the blocks.
_NO_WEIGHTS = (".rotary_emb.inv_freq",)
_OPT_POSITIONS = 2  # rows of the position table before position 0
_ACTIVATIONS: dict[str, Literal["silu", "relu", "gelu"]] = {"silu": "silu", "relu": "relu", "gelu": "gelu"}


class _Config:
    """The values of config.json, checked as they are read."""

    def __init__(self, path: Path) -> None:
        self.path, self.table = path, read_json(path)

    def wrong(self, message: str) -> InputError:
        return InputError(f"{message}: {self.path}")

    def has(self, key: str) -> bool:
        return self.table.get(key) is not None

    def integer(self, key: str, default: int | None = None, low: int = 1) -> int:
        value = self.table.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not low <= value <= MAX_DIMENSION:
            raise self.wrong(f"{key} must be an integer in {low}..{MAX_DIMENSION}, not {value!r:.40}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.table.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise self.wrong(f"{key} must be a positive number, not {value!r:.40}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.table.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(f"{key} must be true or false, not {value!r:.40}")
        return value

    def text(self, key: str, default: str) -> str:
        value = self.table.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(f"{key} must be a string, not {value!r:.40}")
        return value

    def quantiser(self) -> Quantiser:
        table = self.table.get("quantization_config")
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


def open_model_folder(folder: Path | str) -> StoredModel:
    """Dimensions and weights of a folder; what is missing, misshapen, unknown or not supported is an InputError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"a model folder must be a folder: {folder}")
    config = _Config(folder / CONFIG)
    kind = config.text("model_type", "")
    if kind not in FAMILIES:
        raise config.wrong(f"model_type must be one of {', '.join(FAMILIES)}, not {kind!r:.40}")
    file = open_safetensors(folder)
    family = FAMILIES[kind]
    root = next((root for root in family.roots if f"{root}{family.embedding}.weight" in file.arrays), None)
    if root is None:
        raise InputError(f"the file must hold array '{family.roots[0]}{family.embedding}.weight': {folder}")
    features = _features(config, kind, len(file.arrays))
    model = _opt(config, folder) if kind == "opt" else _gated(config, folder, features)
    model = msgspec.structs.replace(model, tied_head=_tied(config, kind, file))
    return _weights(file, family, root, model, features, config.quantiser())


def _tied(config: _Config, kind: str, file: SafetensorsFile) -> bool:
    tied = config.flag("tie_word_embeddings", kind == "opt")
    stored = any(name.startswith("lm_head.") for name in file.arrays)
    if not tied and not stored:
        raise InputError(f"a model whose head is not tied must hold lm_head.weight: {file.path}")
    return tied


def _features(config: _Config, kind: str, arrays: int) -> Features:
    layers = config.integer("num_hidden_layers")
    if layers > arrays:
        raise config.wrong(f"num_hidden_layers must be at most the number of arrays, {arrays}, not {layers}")
    window = config.integer("sliding_window", 0, low=0) if config.flag("use_sliding_window", kind == "mistral") else 0
    return Features(
        qk_norm=bool(FAMILIES[kind].head_norms),
        biased=FAMILIES[kind].biased,
        window=window,
        window_layers=tuple(range(layers)) if window else (),
    )


def _gated(config: _Config, folder: Path, features: Features) -> Model:
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if not config.has("head_dim") and hidden % heads:
        raise config.wrong(f"hidden_size must be a multiple of num_attention_heads: {hidden} is none of {heads}")
    head_dim = config.integer("head_dim", hidden // heads)
    if head_dim % 2:
        raise config.wrong(f"the head size must be even for rotary embeddings, not {head_dim}")
    if config.flag("attention_bias", False) or config.flag("mlp_bias", False):
        raise config.wrong("attention_bias and mlp_bias must be false")
    if config.number("partial_rotary_factor", 1.0) != 1:
        raise config.wrong("partial_rotary_factor must be 1")
    activation = config.text("hidden_act", "silu")
    if activation not in _ACTIVATIONS:
        raise config.wrong(f"hidden_act must be one of {', '.join(_ACTIVATIONS)}, not {activation!r:.40}")
    context = config.integer("max_position_embeddings")
    return Model(
        **_common(config, folder), hidden=hidden, heads=heads, head_dim=head_dim,
        kv_heads=config.integer("num_key_value_heads", heads), ffn=config.integer("intermediate_size"),
        context_length=min(context, features.window) if features.window else context,
        activation=_ACTIVATIONS[activation], norm_epsilon=config.number("rms_norm_eps", 1e-6),
        rope_theta=_theta(config),
    )  # fmt: skip


def _theta(config: _Config) -> float:
    """The base of the rotation, which newer configurations keep in a table of its own."""
    table = config.table.get("rope_parameters")
    if config.has("rope_theta") or not isinstance(table, dict):
        return config.number("rope_theta", 10000.0)
    value = table.get("rope_theta", 10000.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 < value < 1e30:
        raise config.wrong(f"rope_theta must be a number above 1, not {value!r:.40}")
    return float(value)


def _opt(config: _Config, folder: Path) -> Model:
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden % heads:
        raise config.wrong(f"hidden_size must be a multiple of num_attention_heads: {hidden} is none of {heads}")
    if config.integer("word_embed_proj_dim", hidden) != hidden or not config.flag("do_layer_norm_before", True):
        raise config.wrong("word_embed_proj_dim must be hidden_size and do_layer_norm_before true")
    if not config.flag("enable_bias", True):
        raise config.wrong("enable_bias must be true")
    activation = config.text("activation_function", "relu")
    if activation not in _ACTIVATIONS:
        raise config.wrong(f"activation_function must be one of {', '.join(_ACTIVATIONS)}, not {activation!r:.40}")
    return Model(
        **_common(config, folder), hidden=hidden, heads=heads, kv_heads=heads, head_dim=hidden // heads,
        ffn=config.integer("ffn_dim"), context_length=config.integer("max_position_embeddings"), ffn_kind="plain",
        activation=_ACTIVATIONS[activation], norm="layernorm", norm_epsilon=1e-5, rope_theta=0.0, biases=True,
    )  # fmt: skip


def _common(config: _Config, folder: Path) -> dict[str, Any]:
    layers = config.integer("num_hidden_layers")
    name = folder.resolve().name
    return {
        "name": name, "summary": f"{name}: {layers} layers of {config.integer('hidden_size')}",
        "source": f"{CONFIG} of {name}", "layers": layers, "vocab": config.integer("vocab_size"),
    }  # fmt: skip


def _weights(
    file: SafetensorsFile, family: Family, root: str, model: Model, features: Features, quantiser: Quantiser
) -> StoredModel:
    prefixes: set[str] = set()

    def weight(prefix: str, shape: tuple[int, int]) -> StoredWeight:
        prefixes.add(f"{prefix}.")
        return weight_at(file, prefix, shape, quantiser)

    vectors: dict[str, StoredWeight] = {}

    def vector(name: str, size: int) -> None:
        array = file.array(name)
        if array.shape != (size,):
            raise InputError(f"array {name!r} must have shape {(size,)}, not {array.shape}: {file.path}")
        if array.dtype not in VALUE_FORMATS:
            raise InputError(f"array {name!r} must be {', '.join(VALUE_FORMATS)}, not {array.dtype}: {file.path}")
        vectors[name] = Tensor(name=name, shape=(size,), format=FORMATS[VALUE_FORMATS[array.dtype]], raw=array.raw)

    def norm(prefix: str, size: int) -> None:
        vector(f"{prefix}.weight", size)
        if model.norm == "layernorm":
            vector(f"{prefix}.bias", size)

    embedding = weight(root + family.embedding, (model.vocab, model.hidden))
    if family.positions:
        weight(root + family.positions, (model.context_length + _OPT_POSITIONS, model.hidden))
    norm(root + family.final_norm, model.hidden)
    shapes = model.block_linears()
    linears: dict[str, StoredWeight] = {}
    for layer in range(model.layers):
        block = root + family.blocks.format(layer)
        for name in family.norms:
            norm(block + name, model.hidden)
        for name in family.head_norms:
            norm(block + name, model.head_dim)
        for role, name in family.linears.items():
            linears[f"layers.{layer}.{role}"] = weight(block + name, shapes[role])
            if role in family.biased:
                vector(f"{block}{name}.bias", shapes[role][0])
    linears["head"] = embedding if model.tied_head else weight("lm_head", (model.vocab, model.hidden))
    if model.tied_head:
        prefixes.add("lm_head.")
    _all_used(file, vectors, prefixes)
    return StoredModel(model=model, features=features, embedding=embedding, linears=linears, vectors=vectors)


def _all_used(file: SafetensorsFile, vectors: Collection[str], prefixes: Collection[str]) -> None:
    """Every array is a vector or lies beside a weight; a bias that the family has not must be zero."""
    for name, array in file.arrays.items():
        if name in vectors or name.endswith(_NO_WEIGHTS):
            continue
        dots = [at for at, character in enumerate(name) if character == "."]
        if not any(name[: at + 1] in prefixes for at in dots):
            raise InputError(f"every array must have a role in the model, but {name!r} has none: {file.path}")
        if name.endswith(".bias") and array.floats().any():
            raise InputError(f"array {name!r} must be zero, because the model has no such bias: {file.path}")
