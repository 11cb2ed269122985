"""Measure LLM inference on one GPU: latency and energy of prefill, decode and single matrix products.

Stand-alone: needs PyTorch with CUDA (its bundled Triton for three small fused kernels) and NVML
(``nvidia-ml-py``); nothing of mixflight is imported, so the file can be copied to any machine with a GPU.
Models are shapes with random weights: speed and power do not need a trained model, only its sizes.

What is measured
    decode   One step of greedy decoding for ``batch`` sequences: embedding rows, all layers, head, argmax.
             The new token is the last of ``context`` tokens: its key and value are written to the cache at
             place ``context - 1`` and it attends to all ``context`` entries
             (``prompt_length = context - 1``).
    prefill  A whole prompt of ``prompt_length`` tokens for ``batch`` sequences: causal attention, cache
             written, head on the last token only.
    gemm     One product x[m, k] @ w[n, k]^T. Several weights, together above 600 MB, are used in turn, so
             that no weight is found in the last-level cache (at m > 512 no more than 8 of them).
    copy     Device-to-device copy of 4 GiB (``weight_bytes`` counts bytes read and written).
    read     Sum of 4 GiB of BF16 (``weight_bytes`` counts bytes read): the bandwidth that can be reached.
             A copy, which is a copy node in the graph, may reach less.

How
    Every point is captured in one CUDA graph, so no host time is between its kernels. The graph is replayed
    back to back for a settling time, then for a window. A tokeniser, sampling beyond argmax, scheduling and
    host overhead are not in the numbers. Linear layers are PyTorch's own (cuBLAS) in BF16 or FP16;
    ``w4a16`` is PyTorch's own ``aten::_weight_int4pack_mm``: 4-bit codes of all linear layers and the head,
    one BF16 scale and one BF16 zero per group of 128 along the input (64 where the sizes do not divide by
    128), BF16 activations, BF16 cache. That kernel is made for small batches; where it is slower than BF16
    at the same point the row says so in ``notes``. RMSNorm with residual, rotary embedding with cache
    write, and SwiGLU are one fused Triton kernel each. For attention the fastest of PyTorch's flash and
    cuDNN kernels (and, for decode, two batched products with softmax) is picked at each point and named in
    ``notes``.

    Latency is the mean over the window by CUDA events; ``latency_min_ms`` is the fastest stretch of about
    10 ms. Power is the increase of NVML's total energy counter between its first and its last update inside
    the window over the time between these two updates, so the counter's update period makes no error at the
    edges; the window grows until it holds at least ``--min-ticks`` updates. Energy per token is power times
    latency over the tokens. It is the board's whole power, idle power included; ``idle_power_w``, measured
    the same way with the CUDA context open and nothing running, lets a reader subtract it. No clock, power
    limit or other setting of the GPU is changed.

Sanity
    A row whose ``latency_ms`` is below (weight_bytes + kv_bytes) over the data-sheet bandwidth, or below
    flops over the data-sheet dense rate, is physically impossible: it is marked ``ERROR`` in ``notes`` and
    the exit status is 1. ``--self-test`` checks the arithmetic first: the model with a cache against a
    float64 reference without one, fused kernels and each attention kernel likewise, the 4-bit product
    against its dequantised weights. It also runs without a GPU, where it leaves out what needs one.

CSV columns, one row per point, none empty but ``notes``
    device, driver, cuda, torch, date_utc      where, by which versions and when (ISO 8601)
    model, precision, phase                    a name of MODELS, 'linear' or 'memory'; bf16, fp16 or w4a16;
                                               decode, prefill, gemm, copy or read
    batch, context, prompt_length              sequences; tokens attended to; tokens before the new one
                                               (decode) or in the prompt (prefill); 0 elsewhere
    m, n, k                                    sizes of a gemm, else 0
    latency_ms, latency_min_ms                 ms of one step, prompt, product or pass
    tokens_per_s                               tokens / latency: ``batch`` tokens in decode,
                                               ``batch * prompt_length`` in prefill, m rows in gemm, else 0
    energy_mj_per_token                        mJ per such token; in copy and read mJ per pass
    avg_power_w, idle_power_w, power_limit_w   W
    weight_bytes                               bytes of linear layers, head, norms (4-bit: codes, scales and
                                               zeros), each counted once
    kv_bytes                                   cache bytes that decode reads, or that prefill writes
    flops                                      2 per multiply-add of products and attention
    achieved_bandwidth_gb_s                    (weight_bytes + kv_bytes) / latency, 1e9 B/s
    achieved_tflop_s                           flops / latency, 1e12/s
    datasheet_bandwidth_gb_s                   of the device, from DATASHEET or --bandwidth-gb-s
    repeats, window_s, energy_window_s         runs and seconds behind the latency; seconds behind the power
    sm_clock_mhz, temperature_c                median clock and last temperature in the window
    notes                                      attention kernel, group size, warnings, set apart by '; '

Example
    python measure.py --self-test --csv h100.csv
"""

from __future__ import annotations

import argparse
import csv
import gc
import math
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

try:
    import triton
    import triton.language as tl
except ImportError:  # without Triton the plain PyTorch kernels run, and the notes say so
    triton = None

# fmt: off
COLUMNS = (
    "device", "driver", "cuda", "torch", "date_utc", "model", "precision", "phase", "batch", "context",
    "prompt_length", "m", "n", "k", "latency_ms", "latency_min_ms", "tokens_per_s", "energy_mj_per_token",
    "avg_power_w", "idle_power_w", "power_limit_w", "weight_bytes", "kv_bytes", "flops",
    "achieved_bandwidth_gb_s", "achieved_tflop_s", "datasheet_bandwidth_gb_s", "repeats", "window_s",
    "energy_window_s", "sm_clock_mhz", "temperature_c", "notes",
)
# fmt: on

# NVML name -> (memory bandwidth in 1e9 B/s, dense FP16/BF16 rate in 1e12/s), from NVIDIA's data sheets
DATASHEET = {
    "NVIDIA H200": (4800.0, 989.5),
    "NVIDIA H100 80GB HBM3": (3350.0, 989.5),
    "NVIDIA H100 NVL": (3900.0, 835.5),
    "NVIDIA H100 PCIe": (2000.0, 756.5),
    "NVIDIA A100-SXM4-80GB": (2039.0, 312.0),
    "NVIDIA A100-SXM4-40GB": (1555.0, 312.0),
    "NVIDIA A100 80GB PCIe": (1935.0, 312.0),
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-family decoder."""

    d: int
    f: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d // self.heads

    @property
    def group(self) -> int:
        """Group size of the 4-bit weights."""
        return 128 if self.d % 128 == 0 and self.f % 128 == 0 else 64


MODELS = {
    "llama2-7b": Shape(4096, 11008, 32, 32, 32, 32000),
    "llama3-8b": Shape(4096, 14336, 32, 32, 8, 128256),
    "llama2-13b": Shape(5120, 13824, 40, 40, 40, 32000),
    "smollm2-135m": Shape(576, 1536, 30, 9, 3, 49152),
}


# --- fused kernels, each beside its plain form --------------------------------------------------------------


def plain_norm(delta, residual, weight, eps=1e-5):
    """``residual += delta`` in place (if a delta is given), then RMSNorm of the residual."""
    if delta is not None:
        residual += delta
    x = residual.float()
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)).to(residual.dtype) * weight


def plain_rope(qkv, k_cache, v_cache, cos, sin, start, seq, shape):
    """Rotate q, k of ``qkv`` [tokens, (H + 2K) * hd]; write k, v to the caches; give q [B, H, S, hd]."""
    h, kvh, hd = shape.heads, shape.kv_heads, shape.head_dim
    x = qkv.view(-1, seq, h + 2 * kvh, hd).float()
    c, s = cos[start : start + seq, None, :], sin[start : start + seq, None, :]
    lo, hi = x[:, :, : h + kvh, : hd // 2], x[:, :, : h + kvh, hd // 2 :]
    rotated = torch.cat((lo * c - hi * s, hi * c + lo * s), -1).to(qkv.dtype)
    k_cache[:, :, start : start + seq] = rotated[:, :, h:].transpose(1, 2)
    v_cache[:, :, start : start + seq] = x[:, :, h + kvh :].to(qkv.dtype).transpose(1, 2)
    return rotated[:, :, :h].transpose(1, 2)


def plain_swiglu(gate_up):
    """``silu(gate) * up`` of [tokens, 2f]."""
    gate, up = gate_up.chunk(2, -1)
    return (F.silu(gate.float()) * up.float()).to(gate_up.dtype)


if triton is not None:

    @triton.jit
    def _norm_kernel(delta, residual, weight, out, d, eps, HAS_DELTA: tl.constexpr, BLOCK: tl.constexpr):
        row = tl.program_id(0).to(tl.int64) * d
        i = tl.arange(0, BLOCK)
        mask = i < d
        x = tl.load(residual + row + i, mask, 0.0).to(tl.float32)
        if HAS_DELTA:
            x += tl.load(delta + row + i, mask, 0.0).to(tl.float32)
            x = x.to(residual.dtype.element_ty)
            tl.store(residual + row + i, x, mask)
            x = x.to(tl.float32)
        y = (x * tl.rsqrt(tl.sum(x * x) / d + eps)).to(out.dtype.element_ty)
        tl.store(out + row + i, y * tl.load(weight + i, mask, 0.0), mask)

    @triton.jit(do_not_specialize=["start", "seq", "capacity"])
    def _rope_kernel(
        qkv,
        q_out,
        k_cache,
        v_cache,
        cos,
        sin,
        start,
        seq,
        capacity,
        H: tl.constexpr,
        K: tl.constexpr,
        HD: tl.constexpr,
    ):
        token = tl.program_id(0).to(tl.int64)
        head = tl.program_id(1)
        i = tl.arange(0, HD // 2)
        base = qkv + (token * (H + 2 * K) + head) * HD
        lo = tl.load(base + i)
        hi = tl.load(base + HD // 2 + i)
        place = start + token % seq
        if head < H + K:
            c = tl.load(cos + place * (HD // 2) + i)
            s = tl.load(sin + place * (HD // 2) + i)
            a = lo.to(tl.float32)
            b = hi.to(tl.float32)
            lo = (a * c - b * s).to(lo.dtype)
            hi = (b * c + a * s).to(hi.dtype)
        if head < H:
            target = q_out + (token * H + head) * HD
        elif head < H + K:
            target = k_cache + ((token // seq * K + head - H) * capacity + place) * HD
        else:
            target = v_cache + ((token // seq * K + head - H - K) * capacity + place) * HD
        tl.store(target + i, lo)
        tl.store(target + HD // 2 + i, hi)

    @triton.jit
    def _swiglu_kernel(gate_up, out, f, BLOCK: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        gate = tl.load(gate_up + row * 2 * f + i, i < f, 0.0).to(tl.float32)
        up = tl.load(gate_up + row * 2 * f + f + i, i < f, 0.0).to(tl.float32)
        tl.store(out + row * f + i, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), i < f)


def fused_norm(delta, residual, weight, eps=1e-5):
    """:func:`plain_norm` in one kernel."""
    out = torch.empty_like(residual)
    rows, d = residual.shape
    block = triton.next_power_of_2(d)
    _norm_kernel[(rows,)](
        residual if delta is None else delta,
        residual,
        weight,
        out,
        d,
        eps,
        HAS_DELTA=delta is not None,
        BLOCK=block,
        num_warps=8 if block > 2048 else 4,
    )
    return out


def fused_rope(qkv, k_cache, v_cache, cos, sin, start, seq, shape):
    """:func:`plain_rope` in one kernel."""
    h, kvh, hd = shape.heads, shape.kv_heads, shape.head_dim
    tokens = qkv.shape[0]
    q = torch.empty(tokens // seq, seq, h, hd, dtype=qkv.dtype, device=qkv.device)
    capacity = k_cache.shape[2]
    _rope_kernel[(tokens, h + 2 * kvh)](
        qkv, q, k_cache, v_cache, cos, sin, start, seq, capacity, H=h, K=kvh, HD=hd, num_warps=1
    )
    return q.transpose(1, 2)


def fused_swiglu(gate_up):
    """:func:`plain_swiglu` in one kernel."""
    rows, f = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, f, dtype=gate_up.dtype, device=gate_up.device)
    _swiglu_kernel[(rows, triton.cdiv(f, 1024))](gate_up, out, f, BLOCK=1024)
    return out


PLAIN = (plain_norm, plain_rope, plain_swiglu)
FUSED = (fused_norm, fused_rope, fused_swiglu)


# --- linear layers ------------------------------------------------------------------------------------------


class Dense:
    """A linear layer of random 16-bit weights [n, k]."""

    def __init__(self, n, k, dtype, device):
        self.w = torch.empty(n, k, dtype=dtype, device=device).normal_(0, 0.02)
        self.params = n * k
        self.bytes = self.w.numel() * self.w.element_size()

    def __call__(self, x):
        """``x @ w^T``."""
        return F.linear(x, self.w)


def quantise(w, group):
    """4-bit codes [n, k] (int32), scales and zeros [n, k / group]: ``w ~ (code - 8) * scale + zero``."""
    n, k = w.shape
    g = w.float().view(n, k // group, group)
    low, high = g.amin(-1, keepdim=True), g.amax(-1, keepdim=True)
    scale = (high - low).clamp(min=1e-6) / 15
    codes = ((g - low) / scale).round().clamp(0, 15).to(torch.int32).view(n, k)
    return codes, scale.squeeze(-1), (low + 8 * scale).squeeze(-1)


class Int4:
    """A linear layer of 4-bit weights in the layout of ``aten::_weight_int4pack_mm``."""

    def __init__(self, dense, group):
        codes, scale, zero = quantise(dense.w, group)
        nibbles = (codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8)
        tiles = 8 if codes.shape[1] % 128 == 0 else 4
        self.packed = torch.ops.aten._convert_weight_to_int4pack(nibbles.contiguous(), tiles)
        self.scales_zeros = torch.stack((scale, zero), -1).transpose(0, 1).contiguous().to(torch.bfloat16)
        self.group = group
        self.params = dense.params
        self.bytes = sum(t.numel() * t.element_size() for t in (self.packed, self.scales_zeros))

    def __call__(self, x):
        """``x @ w^T`` of the 4-bit ``w``."""
        return torch.ops.aten._weight_int4pack_mm(x, self.packed, self.group, self.scales_zeros)


# --- model --------------------------------------------------------------------------------------------------

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}


def attend(backend, q, k, v, causal):
    """Attention of q [B, H, S, hd] over k, v [B, K, C, hd]; gives [B, H, S, hd]."""
    if backend == "products":  # one query per sequence: two batched products, heads of a group together
        b, h, _, hd = q.shape
        grouped = q.reshape(b, k.shape[1], h // k.shape[1], hd)
        weights = torch.softmax(torch.matmul(grouped, k.transpose(-1, -2)) * hd**-0.5, -1)
        return torch.matmul(weights, v).view(b, h, 1, hd)
    with sdpa_kernel(BACKENDS[backend]):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


class Decoder:
    """A Llama-family decoder with random weights: what is read and computed per token, no more."""

    def __init__(self, shape, dtype, device, max_context, kernels, seed=0):
        torch.manual_seed(seed)
        self.shape, self.dtype, self.device = shape, dtype, device
        self.norm, self.rope, self.swiglu = kernels
        d, f, hd = shape.d, shape.f, shape.head_dim
        self.embedding = torch.empty(shape.vocab, d, dtype=dtype, device=device).normal_()
        self.layers = [
            {
                "qkv": Dense((shape.heads + 2 * shape.kv_heads) * hd, d, dtype, device),
                "o": Dense(d, d, dtype, device),
                "gate_up": Dense(2 * f, d, dtype, device),
                "down": Dense(d, f, dtype, device),
                "norm1": torch.ones(d, dtype=dtype, device=device),
                "norm2": torch.ones(d, dtype=dtype, device=device),
            }
            for _ in range(shape.layers)
        ]
        self.head = Dense(shape.vocab, d, dtype, device)
        self.final_norm = torch.ones(d, dtype=dtype, device=device)
        angle = torch.arange(max_context, device=device, dtype=torch.float64)[:, None] * (
            10000.0 ** (-torch.arange(0, hd, 2, device=device, dtype=torch.float64) / hd)
        )
        self.cos, self.sin = angle.cos().float(), angle.sin().float()

    def quantise(self):
        """Replace every linear layer, the head too, by its 4-bit form."""
        for layer in self.layers:
            for name in ("qkv", "o", "gate_up", "down"):
                layer[name] = Int4(layer[name], self.shape.group)
        self.head = Int4(self.head, self.shape.group)

    @property
    def weight_bytes(self):
        """Bytes a step has to read: linear layers, norms, head (of the embedding only rows are read)."""
        linear = sum(layer[name].bytes for layer in self.layers for name in ("qkv", "o", "gate_up", "down"))
        return linear + self.head.bytes + (2 * len(self.layers) + 1) * self.shape.d * 2

    def flops(self, batch, seq, context):
        """Operations for ``seq`` new tokens per sequence; the last attends to ``context`` entries."""
        s = self.shape
        layer = sum(self.layers[0][name].params for name in ("qkv", "o", "gate_up", "down"))
        pairs = seq * (context - seq) + seq * (seq + 1) // 2
        per_sequence = 2 * seq * layer * s.layers + 2 * self.head.params + 4 * pairs * s.d * s.layers
        return batch * per_sequence

    def cache(self, batch, context):
        """Random key and value caches, one pair per layer."""
        s = self.shape
        size = (batch, s.kv_heads, context, s.head_dim)

        def one():
            return torch.empty(size, dtype=self.dtype, device=self.device).normal_()

        return [(one(), one()) for _ in range(s.layers)]

    def kv_bytes(self, batch, context):
        """Bytes of keys and values of ``context`` tokens."""
        return batch * context * 2 * self.shape.layers * self.shape.kv_heads * self.shape.head_dim * 2

    def __call__(self, ids, cache, start, backend):
        """Logits [B, vocab] after ``ids`` [B, S] at places ``start`` to ``start + S - 1``."""
        batch, seq = ids.shape
        residual = self.embedding[ids.view(-1)]
        delta = None
        for layer, (k, v) in zip(self.layers, cache, strict=True):
            x = self.norm(delta, residual, layer["norm1"])
            q = self.rope(layer["qkv"](x), k, v, self.cos, self.sin, start, seq, self.shape)
            end = start + seq
            out = attend(backend, q, k[:, :, :end], v[:, :, :end], causal=seq > 1)
            delta = layer["o"](out.transpose(1, 2).reshape(batch * seq, -1))
            x = self.norm(delta, residual, layer["norm2"])
            delta = layer["down"](self.swiglu(layer["gate_up"](x)))
        if seq > 1:
            residual = residual.view(batch, seq, -1)[:, -1].contiguous()
            delta = delta.view(batch, seq, -1)[:, -1].contiguous()
        return self.head(self.norm(delta, residual, self.final_norm))


# --- power and time -----------------------------------------------------------------------------------------


class Meter(threading.Thread):
    """Samples NVML in the background: when the energy counter changed and to what, clock, temperature."""

    def __init__(self, nvml, handle):
        super().__init__(daemon=True)
        self.nvml, self.handle = nvml, handle
        self.ticks, self.clocks, self.temperature = [], [], 0
        self.done = threading.Event()

    def run(self):
        """Poll until stopped."""
        last, next_slow = None, 0.0
        while not self.done.is_set():
            energy = self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)
            now = time.perf_counter()
            if last is not None and energy != last:
                self.ticks.append((now, energy))
            last = energy
            if now >= next_slow:
                clock = self.nvml.nvmlDeviceGetClockInfo(self.handle, self.nvml.NVML_CLOCK_SM)
                self.clocks.append((now, clock))
                self.temperature = self.nvml.nvmlDeviceGetTemperature(self.handle, 0)  # 0: the die
                next_slow = now + 0.1
            time.sleep(0.001)

    def stop(self):
        """End the thread."""
        self.done.set()
        self.join()

    def power(self, begin, end):
        """(W, seconds between first and last update, updates) inside [begin, end]."""
        inside = [tick for tick in self.ticks if begin <= tick[0] <= end]
        if len(inside) < 2:
            return math.nan, 0.0, len(inside)
        (t0, e0), (t1, e1) = inside[0], inside[-1]
        return (e1 - e0) / 1000 / (t1 - t0), t1 - t0, len(inside)


class Bench:
    """One GPU, its NVML handle, its idle power and the CSV that rows go to."""

    def __init__(self, args):
        import pynvml

        self.args, self.nvml = args, pynvml
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        try:
            self.handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError:  # where the container hides the board's own name
            self.handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.name = pynvml.nvmlDeviceGetName(self.handle)
        sheet = DATASHEET.get(self.name, (args.bandwidth_gb_s, args.tflop_s))
        self.bandwidth = args.bandwidth_gb_s or sheet[0]
        self.rate = args.tflop_s or sheet[1]
        if not self.bandwidth or not self.rate:
            sys.exit(f"{self.name}: not in DATASHEET; give --bandwidth-gb-s and --tflop-s")
        self.fixed = {
            "device": self.name,
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda": torch.version.cuda,
            "torch": torch.__version__,
            "power_limit_w": pynvml.nvmlDeviceGetPowerManagementLimit(self.handle) / 1000,
            "datasheet_bandwidth_gb_s": self.bandwidth,
        }
        self.deadline = time.perf_counter() + args.budget_s
        self.errors = self.rows = 0
        self.latency = {}
        path = Path(args.csv)
        fresh = not path.exists() or path.stat().st_size == 0
        self.file = path.open("a", newline="")
        self.csv = csv.DictWriter(self.file, COLUMNS, lineterminator="\n")
        if fresh:
            self.csv.writeheader()
        torch.zeros(1, device="cuda")
        self.fixed["idle_power_w"] = round(self.idle(args.idle_s), 1)

    def idle(self, seconds):
        """Power in W with the context open and nothing running, after half as long again to settle."""
        torch.cuda.synchronize()
        meter = Meter(self.nvml, self.handle)
        meter.start()
        time.sleep(1.5 * seconds)
        meter.stop()
        end = time.perf_counter()
        watts, span, ticks = meter.power(end - seconds, end)
        clock = meter.clocks[-1][1]
        print(f"idle {watts:.1f} W over {span:.2f} s, {ticks} updates, {clock} MHz", flush=True)
        return watts

    def over(self):
        """Whether the time budget is spent."""
        return time.perf_counter() > self.deadline

    def replay(self, graph):
        """(mean ms, least ms, replays, window s, W, energy window s, MHz, degrees C) of a captured graph."""
        args = self.args
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        graph.replay()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        estimate = max(start.elapsed_time(end), 1e-3)
        chunk = max(1, round(10 / estimate))
        meter = Meter(self.nvml, self.handle)
        torch.cuda.synchronize()
        meter.start()
        begin = time.perf_counter()
        marks = [torch.cuda.Event(enable_timing=True)]
        marks[0].record()
        while True:
            for _ in range(chunk):
                graph.replay()
            marks.append(torch.cuda.Event(enable_timing=True))
            marks[-1].record()
            if len(marks) > 3:
                marks[-3].synchronize()
            spent = time.perf_counter() - begin
            if spent < args.settle_s + args.window_s:
                continue
            ticks = meter.power(begin + args.settle_s, begin + spent)[2]
            if spent > 5 * (args.settle_s + args.window_s) or (len(marks) > 4 and ticks >= args.min_ticks):
                break
        torch.cuda.synchronize()
        finish = time.perf_counter()
        meter.stop()
        watts, span, ticks = meter.power(begin + args.settle_s, finish)
        at = [marks[0].elapsed_time(mark) for mark in marks]
        first = next((i for i, ms in enumerate(at) if ms >= 1000 * args.settle_s), len(at) - 2)
        first = min(first, len(at) - 2)
        chunks = len(at) - 1 - first
        mean = (at[-1] - at[first]) / (chunks * chunk)
        least = min(b - a for a, b in zip(at[first:], at[first + 1 :], strict=False)) / chunk
        clocks = [mhz for when, mhz in meter.clocks if when >= begin + args.settle_s] or [meter.clocks[-1][1]]
        return (
            mean,
            least,
            chunks * chunk,
            (at[-1] - at[first]) / 1000,
            watts,
            span,
            statistics.median(clocks),
            meter.temperature,
        )

    def point(self, step, model, precision, phase, tokens, weight_bytes, kv_bytes, flops, per=1, **row):
        """Capture ``step``, replay it, check it against the data sheet and write its row.

        ``per``: how many identical operations one ``step`` holds.
        """
        graph = capture(step)
        mean, least, repeats, window, watts, span, clock, degrees = self.replay(graph)
        del graph
        mean, least, repeats = mean / per, least / per, repeats * per
        notes = [row.pop("notes")] if row.get("notes") else []
        floor = max((weight_bytes + kv_bytes) / self.bandwidth / 1e6, flops / self.rate / 1e9)
        if mean < floor:
            notes.append(f"ERROR: faster than the physical bound of {floor:.4f} ms")
            self.errors += 1
        if math.isnan(watts):
            notes.append("ERROR: too few updates of the energy counter")
            self.errors += 1
        sizes = {name: row.get(name, 0) for name in ("batch", "context", "prompt_length", "m", "n", "k")}
        key = (model, phase, *sizes.values())
        if precision == "bf16":
            self.latency[key] = mean
        elif precision == "w4a16" and mean > self.latency.get(key, math.inf):
            notes.append(f"slower than bf16 here ({mean / self.latency[key]:.2f}x its latency)")
        throttle = 0.97 * self.fixed["power_limit_w"]
        if watts > throttle:
            notes.append("at the power limit")
        values = {
            **self.fixed,
            "date_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "model": model,
            "precision": precision,
            "phase": phase,
            **sizes,
            "latency_ms": f"{mean:.5f}",
            "latency_min_ms": f"{least:.5f}",
            "tokens_per_s": f"{tokens / mean * 1000:.2f}",
            "energy_mj_per_token": f"{watts * mean / max(tokens, 1):.6g}",
            "avg_power_w": f"{watts:.1f}",
            "weight_bytes": weight_bytes,
            "kv_bytes": kv_bytes,
            "flops": flops,
            "achieved_bandwidth_gb_s": f"{(weight_bytes + kv_bytes) / mean / 1e6:.1f}",
            "achieved_tflop_s": f"{flops / mean / 1e9:.2f}",
            "repeats": repeats,
            "window_s": f"{window:.3f}",
            "energy_window_s": f"{span:.3f}",
            "sm_clock_mhz": f"{clock:.0f}",
            "temperature_c": degrees,
            "notes": "; ".join(notes),
        }
        self.csv.writerow(values)
        self.file.flush()
        self.rows += 1
        print(
            f"{model} {precision} {phase} b{sizes['batch']} c{sizes['context']} "
            f"m{sizes['m']} n{sizes['n']} k{sizes['k']}: {mean:.4f} ms, {values['tokens_per_s']} tok/s, "
            f"{watts:.0f} W, {values['energy_mj_per_token']} mJ/tok, "
            f"{values['achieved_bandwidth_gb_s']} GB/s, {values['achieved_tflop_s']} TFLOP/s, "
            f"{clock:.0f} MHz; {values['notes']}",
            flush=True,
        )


def capture(step, warm=2):
    """A CUDA graph of one call of ``step``, after ``warm`` calls outside it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def pick_attention(model, cache, batch, seq, context):
    """The fastest attention kernel at a point, timed over the caches of up to 8 layers."""
    s = model.shape
    q = torch.randn(batch, seq, s.heads, s.head_dim, dtype=model.dtype, device=model.device).transpose(1, 2)
    best, best_ms = None, math.inf
    used = cache[:8]
    for name in ("flash", "cudnn") if seq > 1 else ("flash", "cudnn", "products"):

        def run(name=name):
            for k, v in used:
                attend(name, q, k[:, :, :context], v[:, :, :context], causal=seq > 1)

        try:
            graph = capture(run, warm=1)
        except RuntimeError:
            torch.cuda.synchronize()
            continue
        graph.replay()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(3):
            graph.replay()
        end.record()
        end.synchronize()
        if start.elapsed_time(end) < best_ms:
            best, best_ms = name, start.elapsed_time(end)
        del graph
    if best is None:
        raise RuntimeError("no attention kernel took this point")
    return best


# --- the grid -----------------------------------------------------------------------------------------------

GRIDS = {
    "coarse": {
        "decode": [
            *((b, c) for c in (128, 512, 2048, 8192) for b in (1, 4, 16, 64)),
            *((b, 512) for b in (2, 8, 32)),
        ],
        "prefill": [(1, 128), (1, 512), (1, 2048), (1, 8192), (8, 512)],
        "prefill_w4": [(1, 128), (1, 512), (1, 2048)],
        "fp16_decode": [(1, 128), (1, 512), (1, 2048), (16, 512)],
        "fp16_prefill": [(1, 512), (1, 2048)],
        "gemm": [(4096, 4096), (11008, 4096), (4096, 11008)],
        "gemm_m": (1, 8, 64, 512, 4096),
        "gemm_m_w4": (1, 8, 64, 512),
    },
    "tiny": {
        "decode": [(1, 128), (16, 512)],
        "prefill": [(1, 512)],
        "prefill_w4": [(1, 512)],
        "fp16_decode": [(1, 128)],
        "fp16_prefill": [],
        "gemm": [(4096, 4096)],
        "gemm_m": (1, 64),
        "gemm_m_w4": (1, 64),
    },
}


def clean():
    """Give freed memory back to the device."""
    gc.collect()
    torch.cuda.empty_cache()


def run_points(bench, model, name, precision, phase, points):
    """Measure ``points`` of (batch, context) of one model in one phase."""
    note = f"group={model.shape.group}; int4 head" if precision == "w4a16" else ""
    for batch, context in points:
        if bench.over():
            print(f"budget spent before {name} {precision} {phase} b{batch} c{context}", flush=True)
            return
        kv = model.kv_bytes(batch, context)
        seq = 1 if phase == "decode" else context
        widest = max(2 * model.shape.f, (model.shape.heads + 2 * model.shape.kv_heads) * model.shape.head_dim)
        what = f"{name} {precision} {phase} b{batch} c{context}"
        need = kv + batch * seq * (3 * widest + 8 * model.shape.d) * 2 + 1.5e9
        clean()
        free = torch.cuda.mem_get_info()[0]
        if need > free:
            print(f"skip {what}: needs {need / 1e9:.1f} of {free / 1e9:.1f} GB", flush=True)
            continue
        try:
            cache = model.cache(batch, context)
            ids = torch.randint(0, model.shape.vocab, (batch, seq), device="cuda")
            backend = pick_attention(model, cache, batch, seq, context)
            start = context - seq

            def step(ids=ids, cache=cache, start=start, backend=backend, seq=seq):
                token = model(ids, cache, start, backend).argmax(-1)
                if seq == 1:
                    ids[:, 0].copy_(token)

            bench.point(
                step,
                name,
                precision,
                phase,
                batch * seq,
                model.weight_bytes,
                kv,
                model.flops(batch, seq, context),
                batch=batch,
                context=context,
                prompt_length=start if phase == "decode" else context,
                notes="; ".join(part for part in (f"attention={backend}", note) if part),
            )
            del step
        except torch.OutOfMemoryError as error:
            print(f"skip {what}: {error}"[:200], flush=True)
        cache = ids = None


def run_model(bench, name, grid, precisions, phases, kernels):
    """Measure one model in all precisions wanted."""
    longest = max(c for points in grid.values() for c in (p[1] for p in points if isinstance(p, tuple)))
    for precision in precisions:
        if bench.over() or (precision == "fp16" and name != "llama2-7b"):
            continue
        clean()
        began = time.perf_counter()
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        model = Decoder(MODELS[name], dtype, "cuda", longest, kernels)
        if precision == "w4a16":
            model.quantise()
        torch.cuda.synchronize()
        print(f"built {name} {precision} in {time.perf_counter() - began:.1f} s", flush=True)
        keys = {"fp16": ("fp16_decode", "fp16_prefill"), "w4a16": ("decode", "prefill_w4")}
        decode, prefill = keys.get(precision, ("decode", "prefill"))
        for phase, key in (("decode", decode), ("prefill", prefill)):
            if phase in phases:
                run_points(bench, model, name, precision, phase, grid[key])
        del model


def run_gemm(bench, grid, precisions):
    """Measure single products, with the weights used in turn."""
    for n, k in grid["gemm"]:
        for precision in precisions:
            if precision == "fp16":
                continue
            clean()
            layers = []
            while not layers or len(layers) * layers[0].bytes < 600e6:
                dense = Dense(n, k, torch.bfloat16, "cuda")
                layers.append(Int4(dense, 128) if precision == "w4a16" else dense)
            for m in grid["gemm_m_w4" if precision == "w4a16" else "gemm_m"]:
                if bench.over():
                    return
                x = torch.randn(m, k, dtype=torch.bfloat16, device="cuda")
                use = layers if m <= 512 else layers[:8]

                def step(x=x, use=use):
                    for layer in use:
                        layer(x)

                note = f"{len(use)} weights in turn" + ("; group=128" if precision == "w4a16" else "")
                bench.point(
                    step,
                    "linear",
                    precision,
                    "gemm",
                    m,
                    use[0].bytes,
                    0,
                    2 * m * n * k,
                    per=len(use),
                    m=m,
                    n=n,
                    k=k,
                    notes=note,
                )


def run_memory(bench):
    """Measure the bandwidth that a copy and a sum reach."""
    clean()
    a = torch.randn(2 << 30, dtype=torch.bfloat16, device="cuda")
    b = torch.empty_like(a)
    size = a.numel() * 2
    bench.point(lambda: b.copy_(a), "memory", "bf16", "copy", 0, 2 * size, 0, 0, notes="4 GiB tensor.copy_")
    bench.point(lambda: a.sum(), "memory", "bf16", "read", 0, size, 0, 0, notes="4 GiB tensor.sum")


# --- self-test ----------------------------------------------------------------------------------------------


def relative(a, b):
    """Norm of the difference over the norm of ``b``."""
    return float((a.float() - b.float()).norm() / b.float().norm())


def self_test(device):
    """Check the model's arithmetic on a small shape; raises on a failure."""
    gpu = device == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    shape = Shape(256, 512, 2, 4, 2, 512)
    plain = Decoder(shape, dtype, device, 64, PLAIN)
    ids = torch.randint(0, shape.vocab, (3, 33), device=device)
    base = plain(ids, plain.cache(3, 40), 0, "math")

    def stepwise(model, backend):
        cache = model.cache(3, 40)
        model(ids[:, :-1].contiguous(), cache, 0, "math")
        return model(ids[:, -1:].contiguous(), cache, 32, backend)

    # an independent reference without a cache, per head, in float64
    x = plain.embedding[ids].double()
    for layer in plain.layers:

        def norm(y):
            return y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)

        qkv = (norm(x) @ layer["qkv"].w.double().T).view(3, 33, 8, 64)
        angle = torch.arange(33, device=device).double()[:, None] / 10000 ** (
            torch.arange(32, device=device).double() / 32
        )
        turn = torch.polar(torch.ones_like(angle), angle)[None, :, None, :]
        pairs = torch.complex(qkv[..., :32], qkv[..., 32:])[:, :, :6] * turn
        rotated = torch.cat((pairs.real, pairs.imag), -1)
        out = torch.empty(3, 33, 4, 64, dtype=torch.float64, device=device)
        mask = torch.full((33, 33), -math.inf, device=device, dtype=torch.float64).triu(1)
        for h in range(4):
            scores = rotated[:, :, h] @ rotated[:, :, 4 + h // 2].transpose(1, 2) / 8 + mask
            out[:, :, h] = scores.softmax(-1) @ qkv[:, :, 6 + h // 2]
        x = x + out.reshape(3, 33, 256) @ layer["o"].w.double().T
        gate, up = (norm(x) @ layer["gate_up"].w.double().T).chunk(2, -1)
        x = x + (F.silu(gate) * up) @ layer["down"].w.double().T
    reference = norm(x[:, -1]) @ plain.head.w.double().T
    bound = 3e-2 if gpu else 1e-5
    checks = {
        "prefill": relative(base, reference),
        "decode after prefill": relative(stepwise(plain, "math"), reference),
        "decode by products": relative(stepwise(plain, "products"), reference),
    }
    if gpu:
        for backend in ("flash", "cudnn"):
            try:
                checks[f"decode by {backend}"] = relative(stepwise(plain, backend), reference)
            except RuntimeError as error:
                print(f"self-test: {backend} does not take decode: {str(error)[:100]}")
            try:
                logits = plain(ids, plain.cache(3, 33), 0, backend)
                checks[f"prefill by {backend}"] = relative(logits, reference)
            except RuntimeError as error:
                print(f"self-test: {backend} does not take prefill: {str(error)[:100]}")
        if triton is not None:
            fused = Decoder(shape, dtype, device, 64, FUSED)
            checks["fused prefill"] = relative(fused(ids, fused.cache(3, 40), 0, "flash"), reference)
            checks["fused decode"] = relative(stepwise(fused, "flash"), reference)
        for n, k, group in ((256, 512, 128), (960, 576, 64)):
            dense = Dense(n, k, dtype, device)
            codes, scale, zero = quantise(dense.w, group)
            expand = [t.to(dtype).float().repeat_interleave(group, 1) for t in (scale, zero)]
            weights = (codes.float() - 8) * expand[0] + expand[1]
            for m in (1, 5, 64):
                y = torch.randn(m, k, dtype=dtype, device=device)
                checks[f"4-bit m={m} n={n} k={k}"] = relative(Int4(dense, group)(y), y.float() @ weights.T)
    else:
        dense = Dense(64, 256, dtype, device)
        codes, scale, zero = quantise(dense.w, 128)
        back = (codes.view(64, 2, 128) - 8) * scale[..., None] + zero[..., None]
        worst = float((back.view(64, 256) - dense.w).abs().max() / scale.max())
        assert worst <= 0.51, f"quantise is off by {worst} steps"
    for what, error in checks.items():
        print(f"self-test {what}: {error:.2e}")
        assert error < bound, f"self-test {what}: {error} above {bound}"


def main(argv=None):
    """Command line; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", default="gpu.csv", help="file that rows are added to")
    parser.add_argument("--grid", choices=GRIDS, default="coarse")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    every = ["bf16", "w4a16", "fp16"]
    parser.add_argument("--precisions", nargs="*", choices=every, default=every)
    every = ["memory", "decode", "prefill", "gemm"]
    parser.add_argument("--phases", nargs="*", choices=every, default=every)
    parser.add_argument("--window-s", type=float, default=1.0, help="least measured time of a point")
    parser.add_argument("--settle-s", type=float, default=0.3, help="load before the window")
    parser.add_argument("--idle-s", type=float, default=4.0, help="time of the idle power")
    parser.add_argument("--min-ticks", type=int, default=6, help="least energy updates in a window")
    parser.add_argument("--budget-s", type=float, default=math.inf, help="start no point after this")
    parser.add_argument("--bandwidth-gb-s", type=float, help="data-sheet bandwidth, other devices")
    parser.add_argument("--tflop-s", type=float, help="data-sheet dense rate, other devices")
    parser.add_argument("--self-test", action="store_true", help="check the arithmetic first")
    args = parser.parse_args(argv)
    torch.set_grad_enabled(False)
    gpu = torch.cuda.is_available()
    if args.self_test:
        self_test("cuda" if gpu else "cpu")
    if not gpu:
        print("no CUDA device: nothing measured")
        return 0 if args.self_test else 2
    bench = Bench(args)
    kernels = PLAIN if triton is None else FUSED
    precisions = args.precisions
    if "w4a16" in precisions and not hasattr(torch.ops.aten, "_weight_int4pack_mm"):
        print("this PyTorch has no aten::_weight_int4pack_mm: no 4-bit rows")
        precisions = [p for p in precisions if p != "w4a16"]
    grid = GRIDS[args.grid]
    print(bench.fixed, flush=True)
    if "memory" in args.phases:
        run_memory(bench)
    for name in args.models:
        run_model(bench, name, grid, precisions, args.phases, kernels)
    if "gemm" in args.phases:
        run_gemm(bench, grid, precisions)
    clean()
    bench.idle(args.idle_s)
    print(f"{bench.rows} rows, {bench.errors} errors, budget {'spent' if bench.over() else 'left'}")
    return 1 if bench.errors else 0


if __name__ == "__main__":
    sys.exit(main())
