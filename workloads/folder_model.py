"""Models in folders of safetensors with ``config.json``: dimensions as configured, each weight by its operator.

    open_model_folder  a folder to a StoredModel, every array's shape checked

What is not supported (other families, rotation of part of a head, layers without experts among those with) is an
InputError.
"""

from collections.abc import Collection
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS
from mixflight.workloads.folder_config import CONFIG, Config, model_of
from mixflight.workloads.folder_families import Family, Mixture
from mixflight.workloads.model import MIXED, Model
from mixflight.workloads.packed_weights import VALUE_FORMATS, Quantiser, weight_at
from mixflight.workloads.safetensors_reader import SafetensorsFile, open_safetensors
from mixflight.workloads.stored_model import RowsOf, Stacked, StoredModel, StoredWeight, Transposed
from mixflight.workloads.tensor import Tensor

_OPT_POSITIONS = 2  # rows of the position table before position 0


def open_model_folder(folder: Path | str) -> StoredModel:
    """Dimensions and weights of a folder; what is missing, misshapen, unknown or not supported is an InputError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"a model folder must be a folder: {folder}")
    config = Config(folder / CONFIG)
    file, family = open_safetensors(folder), config.family
    root = next((root for root in family.roots if f"{root}{family.embedding}.weight" in file.arrays), None)
    if root is None:
        raise InputError(f"the file must hold array '{family.roots[0]}{family.embedding}.weight': {folder}")
    model = model_of(config, folder.resolve().name, len(file.arrays))
    model = msgspec.structs.replace(model, tied_head=_tied(config, file))
    return _Reader(file, family, root, model, config.quantiser()).read()


def _tied(config: Config, file: SafetensorsFile) -> bool:
    tied = config.flag("tie_word_embeddings", config.family.tied)
    stored = any(".lm_head." in f".{name}" for name in file.arrays)
    if not tied and not stored:
        raise InputError(f"a model whose head is not tied must hold lm_head.weight: {file.path}")
    return tied


class _Reader:
    """Finds every array's role."""

    def __init__(
        self, file: SafetensorsFile, family: Family, root: str, model: Model, quantiser: Quantiser
    ) -> None:
        self.file, self.family, self.root, self.model, self.quantiser = file, family, root, model, quantiser
        self.prefixes: set[str] = set()
        self.vectors: dict[str, StoredWeight] = {}
        self.linears: dict[str, StoredWeight] = {}

    def read(self) -> StoredModel:
        """The whole model."""
        model, family, root = self.model, self.family, self.root
        embedding = self._weight(root + family.embedding, (model.vocab, model.hidden))
        if family.positions:
            before = _OPT_POSITIONS if family.keys == "opt" else 0
            self._weight(root + family.positions, (model.context_length + before, model.hidden))
        self._norm(root + family.final_norm, model.hidden)
        for layer in range(model.layers):
            self._block(root + family.blocks.format(layer), f"layers.{layer}.")
        head = "lm_head" if root != "language_model.model." else "language_model.lm_head"
        self.linears["head"] = embedding if model.tied_head else self._weight(head, (model.vocab, model.hidden))
        if model.tied_head:
            self.prefixes.add(f"{head}.")
        self._all_used()
        return StoredModel(model=model, embedding=embedding, linears=self.linears, vectors=self.vectors)

    def _block(self, block: str, operators: str) -> None:
        model, family = self.model, self.family
        for name in family.norms:
            self._norm(block + name, model.hidden)
        for name in family.head_norms:
            self._norm(block + name, model.head_dim)
        shapes = model.block_linears()
        names = {role: name for role, name in family.linears.items() if not (family.mixture and role in MIXED)}
        for name in dict.fromkeys(names.values()):
            roles = [role for role, stored in names.items() if stored == name]
            rows = sum(shapes[role][0] for role in roles)
            whole = self._linear(block + name, (rows, shapes[roles[0]][1]))
            start = 0
            for role in roles:
                end = start + shapes[role][0]
                self.linears[operators + role] = whole if len(roles) == 1 else RowsOf(whole, start, end)
                start = end
            if any(role in family.biased for role in roles):
                self._vector(f"{block}{name}.bias", rows)
        if family.mixture:
            self._mixture(block, operators, family.mixture)

    def _mixture(self, block: str, operators: str, names: Mixture) -> None:
        model = self.model
        self.linears[f"{operators}router"] = self._weight(block + names.router, (model.experts, model.hidden))
        for role, shape in model.expert_linears().items():
            experts = [self._weight(block + names.experts[role].format(i), shape) for i in range(model.experts)]
            self.linears[operators + role] = Stacked(f"{block}{names.experts[role]}", tuple(experts))
        if not names.shared:
            return
        for role, shape in model.expert_linears(model.shared_experts).items():
            self.linears[f"{operators}shared.{role}"] = self._weight(block + names.shared[role], shape)
        self.linears[f"{operators}shared_gate"] = self._weight(block + names.shared_gate, (1, model.hidden))

    def _weight(self, prefix: str, shape: tuple[int, int]) -> StoredWeight:
        self.prefixes.add(f"{prefix}.")
        return weight_at(self.file, prefix, shape, self.quantiser)

    def _linear(self, prefix: str, shape: tuple[int, int]) -> StoredWeight:
        """A linear of a block; floats may be stored [K, N]."""
        if self.family.transposed and f"{prefix}.weight" in self.file.arrays:
            stored = self._weight(prefix, (shape[1], shape[0]))
            return Transposed(stored)
        return self._weight(prefix, shape)

    def _vector(self, name: str, size: int) -> None:
        array = self.file.array(name)
        if array.shape != (size,):
            raise InputError(f"array {name!r} must have shape {(size,)}, not {array.shape}: {self.file.path}")
        if array.dtype not in VALUE_FORMATS:
            raise InputError(f"array {name!r} must be {', '.join(VALUE_FORMATS)}, not {array.dtype}: {self.file.path}")
        values = FORMATS[VALUE_FORMATS[array.dtype]]
        self.vectors[name] = Tensor(name=name, shape=(size,), format=values, raw=array.raw)

    def _norm(self, prefix: str, size: int) -> None:
        self._vector(f"{prefix}.weight", size)
        if self.model.norm == "layernorm":
            self._vector(f"{prefix}.bias", size)

    def _all_used(self) -> None:
        """Every array is a vector or lies beside a weight; a bias that the family has not must be zero."""
        ignored, others = self.family.ignored, self.family.other_parts
        for name, array in self.file.arrays.items():
            if name in self.vectors or name.endswith(ignored) or (others and name.startswith(others)):
                continue
            if not _beside(name, self.prefixes):
                raise InputError(f"every array must have a role in the model, but {name!r} has none: {self.file.path}")
            if name.endswith(".bias") and array.floats().any():
                raise InputError(
                    f"array {name!r} must be zero, because the model has no such bias: {self.file.path}"
                )


def _beside(name: str, prefixes: Collection[str]) -> bool:
    """Whether one of ``prefixes``, which end with a dot, begins ``name``."""
    return any(name[: at + 1] in prefixes for at, character in enumerate(name) if character == ".")
