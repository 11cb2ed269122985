"""What ``mixflight compile`` writes: programs for all lengths, a memory image, a manifest and a register map."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import compact
from mixflight.arch.control_constants import ControlConstants
from mixflight.arch.core import CoreMachine
from mixflight.arch.core_registers import c_header
from mixflight.arch.errors import InputError
from mixflight.arch.isa import to_bytes
from mixflight.files import whole_file
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_chunk import chunk_texts
from mixflight.mapping.core_compile import CoreCompiler, CoreText, prefill_registers, registers_of
from mixflight.mapping.core_contents import (
    check_embedding,
    control_of,
    embedding_rows,
    fill_channels,
    position_rows,
    vectors_of,
)  # fmt: skip
from mixflight.mapping.core_network import Network, network_of
from mixflight.mapping.core_prefill_block import block_texts
from mixflight.mapping.core_published import published_words
from mixflight.mapping.core_storage import Storage, bucket_lengths, storage_of
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.workload import load_workload, model_file
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.model import models
from mixflight.workloads.plain_decoder import PlainDecoder, plain_decoder
from mixflight.workloads.trace import decode_traces, prefill_trace

ENCODINGS = ("compact", "published")
DEFAULT_CONTEXT = 2048
STAGES = ("decode", "prefill")
PUBLISHED_LIMIT_BYTES = 256 << 20
"""More bytes of files in the published encoding are written on request only."""


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """The texts of both stages, by core, the bytes of instructions under each way of storing them, and the control
    constants of the model (at position 0); ``chunks``: texts for ``chunk`` tokens of a prompt at once on vectors,
    ``blocks`` for up to ``block`` on matrices, if any."""

    machine: CoreMachine
    model: str
    recipe: str
    max_context: int
    networks: dict[str, Network]
    texts: dict[str, tuple[CoreText, ...]]
    storage: Storage
    control: ControlConstants
    chunk: int = 0
    chunks: tuple[CoreText, ...] = ()
    block: int = 0
    blocks: tuple[CoreText, ...] = ()


def compile_model(
    arch: str, model: str, recipe: str | None, max_context: int | None, chunk: int = 0, block: int = 0
) -> Compiled:  # fmt: skip
    """Both stages of MODEL on ARCH for contexts up to ``max_context`` (2,048 or the model's length if that is less).

    ``chunk``: also texts for so many tokens of a prompt at once on vectors; ``block``: for up to so many on matrices.
    """
    machine = accelerator_named(arch)
    if not isinstance(machine, CoreMachine):
        raise InputError(f"ARCH must be a machine of FlightLLM cores, which {arch} is not")
    workload = load_workload(model, recipe)
    limit = min(DEFAULT_CONTEXT, workload.model.context_length) if max_context is None else max_context
    traces = {
        "decode": next(iter(decode_traces(workload.model, workload.recipe, limit - 1, 1))),
        "prefill": prefill_trace(workload.model, workload.recipe, limit),
    }
    compiler = CoreCompiler(machine, max_context=limit)
    networks = {stage: network_of(trace) for stage, trace in traces.items()}
    texts = {stage: compiler.texts(network, limit) for stage, network in networks.items()}
    both = ((networks[stage], texts[stage]) for stage in STAGES)
    storage = storage_of(next(both), next(both), machine, limit)
    return Compiled(machine=machine, model=workload.model.name, recipe=workload.recipe.name, max_context=limit,
                    networks=networks, texts=texts, storage=storage, control=control_of(workload.model, 0), chunk=chunk,
                    chunks=chunk_texts(texts["decode"], networks["decode"], machine, limit, chunk) if chunk else (),
                    block=block,
                    blocks=block_texts(texts["decode"], networks["decode"], machine, block) if block else (),
                    )  # fmt: skip


Record = dict[str, Any]


class _Folder:
    """Files of one folder, each whole or not at all."""

    def __init__(self, folder: Path, advance: Callable[[], None]) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"the output must be a folder, not {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the output must be a writable folder: {error.strerror}, at {folder}") from None
        self.folder, self.advance = folder, advance
        self.files: list[Record] = []

    def put(self, name: str, data: bytes, **about: object) -> None:
        """Write a file and keep its record."""
        self.put_parts(name, (data,), **about)

    def put_parts(self, name: str, parts: Iterable[bytes], **about: object) -> None:
        """The same of a file that comes in parts."""
        digest, size = hashlib.sha256(), 0
        with whole_file(self.folder / name) as path, path.open("wb") as file:
            for data in parts:
                file.write(data)
                digest.update(data)
                size += len(data)
        self.files.append({"path": name, "bytes": size, "sha256": digest.hexdigest(), **about})
        self.advance()

    def manifest(self, compiled: Compiled, *, with_image: bool) -> None:
        """Write the manifest of the files so far."""
        document = manifest_of(compiled, self.files, with_image=with_image)
        self.put("manifest.json", msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n", what="manifest")


def write(compiled: Compiled, model: str, folder: Path, advance: Callable[[], None]) -> list[Record]:
    """Write everything under ``folder``, the manifest last; a record of each file."""
    stored = _tensors(model, compiled)
    into = _Folder(folder, advance)
    for stage, texts in (*compiled.texts.items(), ("chunk", compiled.chunks), ("block", compiled.blocks)):
        for core, text in enumerate(texts):
            about = {"core": core, "stage": stage}
            into.put(f"core{core}.{stage}.bin", to_bytes(text.text.stream, compact()), what="text", **about)
            constants = text.text.constants.astype("<u4").tobytes()
            into.put(f"core{core}.{stage}.constants.bin", constants, what="constants", **about)
    if stored is not None:
        for core, channel, data in _images(compiled, stored):
            into.put(f"core{core}.channel{channel}.bin", data, core=core, channel=channel, what="memory", address=0)
        network = compiled.networks["decode"]
        rows = (embedding_rows(network, stored.embedding, stored.model.embedding_scale),
                position_rows(network, stored.positions, compiled.max_context))  # fmt: skip
        into.put_parts("ddr.bin", (part.tobytes() for part in rows), what="embedding", address=0)
    into.put("registers.h", header(compiled).encode(), what="register map")
    into.manifest(compiled, with_image=stored is not None)
    return into.files


def write_published(compiled: Compiled, folder: Path, advance: Callable[[], None]) -> list[Record]:
    """Write a file in the published encoding for each bucket of lengths, stage and distinct core; the manifest last."""
    into = _Folder(folder, advance)
    for stage, registers, field in (("decode", registers_of, "context"), ("prefill", prefill_registers, "tokens")):
        for core, text in enumerate(compiled.texts[stage]):
            if compiled.storage.files_of[stage][core] != core:
                continue
            for length in bucket_lengths(stage, compiled.max_context).tolist():
                network = msgspec.structs.replace(compiled.networks[stage], **{field: length})
                values = registers(text, network, compiled.machine)
                pieces = text.sequencer.runs({int(Register[name]): value for name, value in values.items()})
                words = (run.astype("<u4").tobytes() for run in published_words(pieces))
                into.put_parts(f"core{core}.{stage}.{length}.published.bin", words, what="published program",
                               core=core, stage=stage, length=length)  # fmt: skip
    into.manifest(compiled, with_image=False)
    return into.files


def check_size(compiled: Compiled, limit: int, *, agreed: bool) -> None:
    """An InputError if files in the published encoding would take more than ``limit`` bytes and no one agreed to it."""
    need = compiled.storage.merged
    if need > limit and not agreed:
        raise InputError(f"files in the published encoding must take at most {limit:,} bytes, not {need:,}; --yes "
                         "writes them, --count-only counts, a smaller --max-context makes fewer")  # fmt: skip


def write_manifest(compiled: Compiled, model: str, folder: Path, advance: Callable[[], None]) -> list[Record]:
    """Write the manifest alone: addresses and sizes."""
    del model
    into = _Folder(folder, advance)
    into.manifest(compiled, with_image=False)
    return into.files


def _tensors(model: str, compiled: Compiled) -> PlainDecoder | None:
    """The weights of a real file in its own formats; None for a preset, which has none."""
    if model in models():
        return None
    path = model_file(model)
    if path.suffix != ".gguf":
        raise InputError(f"a memory image must be of a GGUF file's weights, not of {path}; --count-only leaves it out")
    stored = plain_decoder(open_gguf(path))
    linears = stored.linears
    formats = {"head": compiled.networks["decode"].head.weight} | {
        f"layers.{index}.{item.name}": item.weight
        for index, layer in enumerate(compiled.networks["decode"].layers) for item in layer.values()
    }  # fmt: skip
    for name, item in formats.items():
        if linears[name].format != msgspec.structs.replace(item, name=linears[name].format.name):
            raise InputError(
                f"the recipe must keep the file's formats for a memory image: {name} is {linears[name].format.name}, "
                f"not {item.name}; --count-only leaves the image out"
            )
    check_embedding(compiled.networks["decode"], stored.embedding)
    return stored


def _images(compiled: Compiled, stored: PlainDecoder) -> Iterator[tuple[int, int, bytes]]:
    """(Core, channel, bytes from address 0 to the cache) of every channel."""
    network, machine = compiled.networks["decode"], compiled.machine
    for core, text in enumerate(compiled.texts["decode"]):
        parameters = vectors_of(network, machine, text.share, stored.model, stored.vectors)
        whole = np.zeros((machine.hbm.channels_per_core, text.memory.cache[0]), np.uint8)
        fill_channels(list(whole), text, network, machine, stored.linears, parameters)
        for channel in range(machine.hbm.channels_per_core):
            yield core, channel, whole[channel].tobytes()


def manifest_of(compiled: Compiled, files: list[dict[str, Any]], *, with_image: bool) -> dict[str, Any]:
    """Addresses, sizes and hashes of everything."""
    regions = ("weights", "scales", "indices", "parameters", "cache", "results")
    cores = []
    for core, texts in enumerate(zip(*(compiled.texts[stage] for stage in STAGES), strict=True)):
        cores.append({
            "core": core, "share": texts[0].share,
            "regions": {stage: {name: dict(zip(("address", "bytes"), getattr(text.memory, name), strict=True))
                                for name in regions} for stage, text in zip(STAGES, texts, strict=True)},
            "cache": texts[0].cache,
        })  # fmt: skip
    return {
        "machine": compiled.machine.name, "model": compiled.model, "recipe": compiled.recipe,
        "max_context": compiled.max_context, "chunk": compiled.chunk, "block": compiled.block,
        "channels_per_core": compiled.machine.hbm.channels_per_core,
        "slot_bytes": slot_bytes(compiled.machine), "control": compiled.control, "image": with_image, "cores": cores,
        "embedding_bytes": compiled.texts["decode"][0].memory.embedding_bytes,
        "instructions": compiled.storage, "files": list(files),
    }  # fmt: skip


def header(compiled: Compiled) -> str:
    """The register map as a C header: control registers, then what the registers of the sequencer hold."""
    return c_header(
        compiled.machine.name, values={"SLOT_BYTES": tuple(slot_bytes(compiled.machine).values())},
        sequencer={item: int(register) for item, register in Register.__members__.items() if register},
    )  # fmt: skip
