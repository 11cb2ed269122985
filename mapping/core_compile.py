"""From a trace and a core machine to the programs of its cores: one text for all lengths, registers for each."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from mixflight.arch.compact import K_BLOCK, LINE_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.isa import Ints
from mixflight.mapping.block_mask import MASK_BLOCK, Mask, block_mask
from mixflight.mapping.core_assembler import Register, Text
from mixflight.mapping.core_decode import FP32, DecodeText, kv_tile
from mixflight.mapping.core_masked_prefill import MaskedPrefillText
from mixflight.mapping.core_masks import check_words, mask_words, masks_of
from mixflight.mapping.core_memory import Cache, MemoryMap, cache_of, channel_share, map_memory
from mixflight.mapping.core_network import Network, network_of
from mixflight.mapping.core_prefill import PrefillText
from mixflight.mapping.core_program import CompiledProgram, Pieces
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_shares import Share, shares_of
from mixflight.mapping.core_tiles import ceil_div, round_up, slot_bytes
from mixflight.workloads.trace import Trace

R = Register
CONTEXT_STEP = 2048
"""Without a stated limit the cache is laid out for the context, rounded up to this."""
_POINTERS = {"weights": R.WEIGHTS, "scales": R.SCALES, "indices": R.INDICES, "parameters": R.PARAMETERS}


class CoreText(msgspec.Struct, frozen=True, kw_only=True):
    """The text of one core, ready to be unrolled, and the map of its channels."""

    share: Share
    text: Text
    sequencer: Sequencer
    memory: MemoryMap
    cache: Cache


class CoreCompiler:
    """Compiles passes of one machine. Texts are kept: the next length is new registers and an unrolling.

    ``max_context``  tokens that the cache and the texts are laid out for; 0: the context, rounded up to 2,048.
    ``on_chip``      activations of a decode step stay on chip; otherwise every fused layer stores and loads them.
    ``sparse``       N:M weights as such; otherwise they are stored and multiplied as dense ones.
    ``masks``        blocks of attention that a prefill computes, for all layers or one a layer; without them blocks
                     drawn for the density that the trace states.
    """

    def __init__(
        self, machine: CoreMachine, *, max_context: int = 0, sparse: bool = True, on_chip: bool = True,
        masks: Sequence[Mask] = (),
    ) -> None:  # fmt: skip
        self.machine, self.max_context, self.sparse, self.on_chip = machine, max_context, sparse, on_chip
        self.masks = tuple(masks)
        self._texts: list[tuple[Network, int, tuple[CoreText, ...]]] = []

    def compile(self, trace: Trace, *, repeat: bool = True) -> CompiledProgram:
        """The program of ``trace``; without ``repeat`` every layer has its own addresses."""
        network = network_of(trace, sparse=self.sparse)
        limit = self.max_context or round_up(trace.context, CONTEXT_STEP)
        if trace.context > limit:
            raise InputError(f"the context must be at most {limit} tokens, for which the program is laid out, "
                             f"not {trace.context}")  # fmt: skip
        masks = masks_of(network, self.machine, self.masks) if network.phase == "prefill" else ()
        network = msgspec.structs.replace(network, masked=bool(masks))
        texts = self.texts(network, limit)
        streams: list[Pieces] = []
        found: dict[Share, int] = {}
        core_of, registers, constants = [], [], []
        for item in texts:
            alike = _alike(item.share)
            if alike not in found:
                values = (registers_of if trace.phase == "decode" else prefill_registers)(item, network, self.machine)
                found[alike] = len(streams)
                more = mask_constants(item, network, self.machine, masks)
                numbered = {int(Register[name]): value for name, value in values.items()}
                streams.append(item.sequencer.expand(numbered, repeat, more))
                registers.append(values)
                constants.append(item.text.constants if more is None else np.concatenate([item.text.constants, more]))
            core_of.append(found[alike])
        kept = [next(text for text, core in zip(texts, core_of, strict=True) if core == index) for index in
                range(len(streams))]  # fmt: skip
        longest = max((item.text for item in kept), key=lambda text: len(text.names))
        return CompiledProgram(
            phase=trace.phase, streams=tuple(streams), core_of=tuple(core_of), names=longest.names,
            kinds=longest.kinds, texts=tuple(item.text.stream for item in kept), registers=tuple(registers),
            constants=tuple(constants),
            bytes=_memory_bytes(texts, self.machine),
        )  # fmt: skip

    def texts(self, network: Network, max_context: int) -> tuple[CoreText, ...]:
        """The texts of all cores; those of cores with equal shares are one."""
        plain = msgspec.structs.replace(network, context=0, tokens=0, density=())
        for known, limit, texts in self._texts:
            if limit == max_context and known == plain:
                return texts
        texts = self._build(network, max_context)
        self._texts.append((plain, max_context, texts))
        return texts

    def _build(self, network: Network, max_context: int) -> tuple[CoreText, ...]:
        cache = cache_of(network, self.machine, max_context)
        shares = shares_of(network, self.machine)
        built: dict[Share, CoreText] = {}
        names: dict[tuple[str, str], int] = {}
        found = []
        for share in shares:
            alike = _alike(share)
            if alike not in built:
                built[alike] = self._text_of(network, share, shares, cache, max_context, names)
            found.append(msgspec.structs.replace(built[alike], share=share))
        return tuple(found)

    def _text_of(
        self, network: Network, share: Share, shares: list[Share], cache: Cache, max_context: int,
        names: dict[tuple[str, str], int],
    ) -> CoreText:  # fmt: skip
        rows = MaskedPrefillText if network.masked else PrefillText
        writer = (
            rows(network, self.machine, share, cache, max_context, shares, names) if network.phase == "prefill"
            else DecodeText(network, self.machine, share, cache, max_context, self.on_chip, names)
        )  # fmt: skip
        text = writer.text()
        sequencer = Sequencer(
            text.stream, text.operators, text.constants, slot_bytes(self.machine), self.machine.hbm.channels_per_core
        )
        one_token: dict[int, int] = {}
        more = None
        if network.phase == "prefill":
            one_token = {R.LAST_ROWS: 1, R.LAST_GROUPS: 1, R.LAST_BLOCKS: 1}
        if network.masked:
            one_token[R.MASK] = len(text.constants)
            heads = network.kv_heads * network.queries
            more = mask_words([block_mask(heads, 1, MASK_BLOCK, 1.0)], network, self.machine, share)
        ends = sequencer.registers_after(one_token, more)
        sizes = {name: int(ends[register]) for name, register in _POINTERS.items()}
        sizes["cache"] = writer.cache_bytes
        logits = channel_share(network.batch * share.vocab[1] * FP32, self.machine.hbm.channels_per_core)
        sizes["results"] = writer.scratch_bytes + logits
        memory = map_memory(sizes, network.table_bytes(max_context), self.machine, network.model)
        return CoreText(share=share, text=text, sequencer=sequencer, memory=memory, cache=cache)


def _alike(share: Share) -> Share:
    """What of a share the text depends on: everything, as parts lie at their own offsets."""
    return share


def registers_of(item: CoreText, network: Network, machine: CoreMachine, token: int = 0) -> dict[str, int]:
    """What the host writes before a decode step of ``token`` that makes the cache ``network.context`` long."""
    cache, context, tile = item.cache, network.context, kv_tile(machine)
    channels = cache.channels
    full = (context - 1) // tile
    tail = round_up(context - full * tile, K_BLOCK)
    rows = ceil_div(tail, channels)
    row = (context - 1) // channels
    memory = item.memory
    return {
        "WEIGHTS": memory.weights[0], "SCALES": memory.scales[0], "INDICES": memory.indices[0],
        "PARAMETERS": memory.parameters[0], "CACHE": memory.cache[0],
        "EMBEDDING": token * network.embedding_stride, "FULL_TILES": full, "TAIL_COLUMNS": tail,
        "TAIL_BLOCKS": tail // K_BLOCK, "TAIL_KEYS": rows * cache.key_bytes, "TAIL_VALUES": rows * cache.value_bytes,
        "TAIL_SCALES": rows * cache.scale_bytes, "TAIL_AT": full * tile // channels * cache.value_bytes,
        "TAIL_LINES": full * tile // LINE_BYTES * network.queries, "CONTEXT": context,
        "CONTEXT_SCALES": (full * tile // channels + rows) * cache.scale_bytes,
        "NEW_CHANNEL": (context - 1) % channels, "NEW_KEY": row * cache.key_bytes,
        "NEW_VALUE": row * cache.value_bytes, "NEW_SCALE": row * cache.scale_bytes,
    } | ({"POSITION": network.table_bytes(context - 1)} if network.positions else {})  # fmt: skip


def prefill_registers(item: CoreText, network: Network, machine: CoreMachine) -> dict[str, int]:
    """What the host writes before a prefill of ``network.tokens`` tokens a sequence."""
    cache, block, memory = item.cache, machine.mm_rows, item.memory
    full = (network.tokens - 1) // block
    last = network.tokens - full * block
    rows = ceil_div(round_up(last, K_BLOCK), cache.channels)
    return {
        "WEIGHTS": memory.weights[0], "SCALES": memory.scales[0], "INDICES": memory.indices[0],
        "PARAMETERS": memory.parameters[0], "CACHE": memory.cache[0], "EMBEDDING": 0, "FULL_BLOCKS": full,
        "LAST_ROWS": last, "LAST_BLOCKS": ceil_div(last, K_BLOCK), "LAST_KEYS": rows * cache.key_bytes,
        "LAST_VALUES": rows * cache.value_bytes, "LAST_SCALES": rows * cache.scale_bytes,
        "LAST_GROUPS": ceil_div(last, cache.channels),
    } | ({"MASK": len(item.text.constants)} if network.masked else {})  # fmt: skip


def mask_constants(
    item: CoreText, network: Network, machine: CoreMachine, masks: Sequence[Mask]
) -> Ints | None:  # fmt: skip
    """The words of ``masks`` (in units) behind the constants of a text; None for a text without masks."""
    if not network.masked:
        return None
    words = mask_words(masks, network, machine, item.share)
    check_words(len(item.text.constants) + len(words), network.model)
    return words


def _memory_bytes(texts: tuple[CoreText, ...], machine: CoreMachine) -> Mapping[str, int]:
    channels = machine.hbm.channels_per_core
    names = ("weights", "scales", "indices", "parameters", "cache", "results")
    found = {name: sum(channels * getattr(item.memory, name)[1] for item in texts) for name in names}
    found["embedding"] = texts[0].memory.embedding_bytes
    return found


def compile_core(trace: Trace, machine: CoreMachine) -> CompiledProgram:
    """The program of one pass; ``CoreCompiler`` for many."""
    return CoreCompiler(machine).compile(trace)
