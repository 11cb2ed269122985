"""safetensors files for tests, written by hand, and weights packed by plain loops."""

import json
import struct

import numpy as np

NAMES = {
    "float16": "F16", "float32": "F32", "int8": "I8", "uint8": "U8", "int32": "I32", "int64": "I64", "uint16": "U16",
}


def write(path, arrays, dtypes=None, metadata=None):
    """``arrays`` is name to array; ``dtypes`` names those that NumPy has not (BF16 and F8_E4M3 as their bits)."""
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": (dtypes or {}).get(name, NAMES[array.dtype.name]), "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def signed(word):
    """A word of 32 bits as the int32 that stores it."""
    return (word ^ 1 << 31) - (1 << 31)


def pack_words(codes, bits):
    """A list of codes as int32 words, code i at bit ``i * bits``."""
    number = sum(int(code) << (bits * i) for i, code in enumerate(codes))
    count = -(-len(codes) * bits // 32)
    return [signed(number >> (32 * i) & 0xFFFFFFFF) for i in range(count)]


def gptq(codes, zeros, scales, bits, *, less_one=True, order=None):
    """Arrays of a GPTQ weight from codes [K, N], zeros [G, N] and scales [G, N]."""
    columns = [pack_words(codes[:, j], bits) for j in range(codes.shape[1])]
    stored = [[(int(zero) - less_one) % (1 << bits) for zero in row] for row in zeros]
    found = {
        "qweight": np.array(columns, np.int32).T.copy(),
        "qzeros": np.array([pack_words(row, bits) for row in stored], np.int32),
        "scales": scales,
    }
    return found if order is None else found | {"g_idx": np.asarray(order, np.int32)}


def awq(codes, zeros, scales):
    """Arrays of an AWQ weight from codes [K, N], zeros [G, N] and scales [G, N]."""
    def pack(row):
        order = (0, 2, 4, 6, 1, 3, 5, 7)
        return [
            signed(sum(int(row[8 * word + order[nibble]]) << 4 * nibble for nibble in range(8)))
            for word in range(len(row) // 8)
        ]

    return {
        "qweight": np.array([pack(row) for row in codes], np.int32),
        "qzeros": np.array([pack(row) for row in zeros], np.int32), "scales": scales,
    }


def packed_integers(codes, scales, zeros=None, bits=4):
    """Arrays of compressed-tensors from signed codes [N, K], scales [N, G] and signed zero points [N, G]."""
    half = 1 << (bits - 1)
    found = {
        "weight_packed": np.array([pack_words(row + half, bits) for row in codes], np.int32),
        "weight_scale": scales, "weight_shape": np.array(codes.shape, np.int64),
    }
    if zeros is not None:
        columns = [pack_words(zeros[:, g] + half, bits) for g in range(zeros.shape[1])]
        found["weight_zero_point"] = np.array(columns, np.int32).T.copy()
    return found


def sparse(values):
    """Arrays of a 2:4 matrix of compressed-tensors from a dense one that is 2:4."""
    mask = values != 0
    return {
        "weight.compressed": values[mask].reshape(len(values), -1),
        "weight.bitmask": np.array(
            [[sum(int(row[8 * byte + bit]) << bit for bit in range(8)) for byte in range(len(row) // 8)] for row in mask],
            np.uint8,
        ),
        "weight.shape": np.array(values.shape, np.int64),
    }


def four_bits(codes, absmax, table, kind="nf4", block=64, nested=None):
    """Arrays of bitsandbytes from codes [N, K]; ``nested`` is (offset, absmax of 256, map) and ``absmax`` bytes."""
    flat = [int(code) for code in codes.reshape(-1)]
    state = {"quant_type": kind, "blocksize": block, "dtype": "float16", "shape": list(codes.shape)}
    found = {
        "weight": np.array([flat[i] << 4 | flat[i + 1] for i in range(0, len(flat), 2)], np.uint8)[:, None],
        "weight.absmax": absmax, "weight.quant_map": np.array(table, np.float32),
    }
    if nested:
        offset, outer, outer_map = nested
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
        found |= {"weight.nested_absmax": outer, "weight.nested_quant_map": outer_map}
    blob = np.frombuffer(json.dumps(state).encode(), np.uint8)
    return found | {f"weight.quant_state.bitsandbytes__{kind}": blob}
