"""A recipe's ``[[check]]`` entries: what a publication reports, for a quantity of the expanded trace."""

from typing import Annotated, Literal, get_args

import msgspec

Confidence = Literal["abstract", "code", "paper", "derived", "measured", "summary", "recall", "unknown"]
CONFIDENCES: tuple[str, ...] = get_args(Confidence)

Quantity = Literal[
    "bits_per_operand", "bits_per_weight", "payload_bits_per_weight", "stored_bits_per_weight", "weight_bytes",
    "stored_weight_bytes", "weight_ratio", "stored_weight_ratio", "kv_bits", "kv_payload_bits", "kv_bytes", "kv_ratio",
    "kv_share",
    "kv_payload_share", "kv_read_ratio", "memory_ratio", "prefill_macs", "decode_macs",
    "prefill_macs_ratio", "prefill_macs_share",
    "decode_macs_ratio", "decode_macs_share", "linear_macs_share", "ops_macs_per_token_layer", "ops_macs",
    "ops_macs_share",
    "ops_parameter_bytes", "state_bytes", "attention_density", "attended_tokens", "llm_tokens", "token_share",
    "token_ratio", "cached_tokens", "steps", "steps_share", "step_ratio", "tokens_per_step", "step_width", "layers",
    "draft_prefill_tokens", "draft_layers_share", "kv_write_share",
    "parameters", "active_ffn_share", "head_parameter_share", "tower_macs",
]  # fmt: skip
QUANTITIES: tuple[str, ...] = get_args(Quantity)


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``reported`` value of ``quantity``, and the scenario in which it is recomputed.

    ``confidence``  where the value was read; ``recall`` and ``unknown`` are shown and never pass or fail.
    ``bound``       the value is reported as ``equal``, ``at_most`` or ``at_least`` (with the tolerance beyond it).
    ``operator``    only operators whose name matches (a glob; all others with ``!`` before it, in ``..._macs``):
                    for ``bits_per_weight``, ``ops_...`` and ``..._macs``.
    ``against``     the recipe that ratios and shares refer to. ``model``  another than the recipe's.
    """

    quantity: Quantity
    reported: float
    confidence: Confidence
    bound: Literal["equal", "at_most", "at_least"] = "equal"
    operator: str = "*"
    model: str = ""
    against: str = "fp16"
    prefill: Annotated[int, msgspec.Meta(ge=1)] | None = None
    decode: Annotated[int, msgspec.Meta(ge=1)] | None = None
    batch: Annotated[int, msgspec.Meta(ge=1)] = 1
    tolerance: str = "exact"
    note: str = ""

    @property
    def judged(self) -> bool:
        """Whether a deviation fails."""
        return self.confidence not in ("recall", "unknown")
