"""Power of an FPGA board from what it holds and what it does, checked against published boards.

For ``devices`` boards that decode ``tokens_per_s``, with N weights of b bits and a cache of c bytes read a token:

    traffic  = (N b + 8 c) tokens/s                          bits a second
    memory   = traffic x DRAM's price (of a card; a chip's power has none)
    path     = traffic x ``memory_path`` (HBM only: controller, switch and ports)
    SRAM     = the same bits written once (if they come from memory) and read once, as stored
    MAC      = N tokens/s x the DSP's price
    fabric   = LUTs x clock x devices x ``fabric lut_cycle``: clock tree, registers and logic of all that is configured
    static   = the device's, with its card or without, x devices

Prices are those of ``arch/technology/fpga-16nm-ultrascale.toml``. One number of them is fitted: ``fabric lut_cycle``,
so that FlightLLM's board takes its published 45 W; every other board is a check. Bands take all prices at their lowest
or at their highest at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from mixflight.arch.prices import Price, PriceTable, machine_prices
from mixflight.arch.strict_toml import convert, read_toml

TECHNOLOGY = "fpga-16nm-ultrascale"
MAC = "pe.dsp48e2"

PARTS = ("static", "fabric", "MAC", "SRAM", "memory path", "memory")


class Board(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published accelerator: what it runs, how fast, and its power.

    ``scope``     what the published watts are taken to cover: the whole card, or the chip alone
    ``luts``      configured LUTs of one device; ``luts_basis`` where the number is from
    ``weights_m`` weights read a token, in millions; ``bits`` each; ``cache_mb`` read a token beside them, 1e6 B
    """

    name: str
    device: str
    scope: Literal["card", "chip"]
    memory: Literal["HBM2", "DDR4", "none"]
    devices: int
    clock_mhz: float
    luts: int
    luts_basis: str
    weights_m: float
    bits: float
    cache_mb: float
    tokens_per_s: float
    watts: float
    calibrates: bool = False
    source: str

    def __post_init__(self) -> None:
        for name in ("devices", "clock_mhz", "luts", "weights_m", "bits", "tokens_per_s", "watts"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.cache_mb < 0:
            raise ValueError(f"cache_mb must be at least 0, not {self.cache_mb}")

    @property
    def traffic(self) -> float:
        """Bits a second from memory (or from the chip's own, where ``memory`` is none)."""
        return (self.weights_m * 1e6 * self.bits + self.cache_mb * 8e6) * self.tokens_per_s

    @property
    def macs_per_s(self) -> float:
        """One a weight."""
        return self.weights_m * 1e6 * self.tokens_per_s

    @property
    def lut_cycles_per_s(self) -> float:
        """Of all devices."""
        return self.luts * self.devices * self.clock_mhz * 1e6


class BoardPower(msgspec.Struct, frozen=True, kw_only=True):
    """Watts of one board: by part, in all with the prices' band, and the relative error against what was published."""

    board: Board
    parts: dict[str, float]
    watts: float
    watts_low: float
    watts_high: float

    @property
    def error(self) -> float:
        """(model - published) / published."""
        return self.watts / self.board.watts - 1

    @property
    def in_band(self) -> bool:
        """Whether what was published lies in the band."""
        return self.watts_low <= self.board.watts <= self.watts_high


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    board: tuple[Board, ...]


def boards(path: Path | None = None) -> tuple[Board, ...]:
    """The published boards of this package, or those of a TOML file of the same shape."""
    path = path or Path(__file__).with_name("fpga_boards.toml")
    return convert(read_toml(path), _File, path.name).board


def prices_of_board(board: Board) -> PriceTable:
    """The FPGA's prices with those of the board's memory."""
    return machine_prices(TECHNOLOGY, {} if board.memory == "none" else {"dram": board.memory})


def parts_of(board: Board, prices: PriceTable, pj: Callable[[Price], float], fabric: bool = True) -> dict[str, float]:
    """Watts of each part; ``pj`` takes the number of a price, without ``fabric`` that part is 0."""

    def watts(component: str, action: str, per_s: float) -> float:
        return pj(prices.of(component, action)) * 1e-12 * per_s if per_s else 0.0

    outside = board.traffic if board.memory != "none" else 0.0
    return {
        "static": watts("static", f"{board.device}_ns", 1e9 * board.devices),
        "fabric": watts("fabric", "lut_cycle", board.lut_cycles_per_s) if fabric else 0.0,
        "MAC": watts(MAC, "mac", board.macs_per_s),
        "SRAM": watts("sram.weight", "write_bit", outside) + watts("sram.weight", "read_bit", board.traffic),
        "memory path": watts("memory_path", "bit", outside) if board.memory == "HBM2" else 0.0,
        "memory": watts("dram", "read_bit", outside) if board.scope == "card" else 0.0,
    }


def power_of(board: Board) -> BoardPower:
    """What the model says of ``board``."""
    prices = prices_of_board(board)
    parts = parts_of(board, prices, lambda price: price.value_pj)
    low, high = (sum(parts_of(board, prices, pick).values()) for pick in (_low, _high))
    return BoardPower(board=board, parts=parts, watts=sum(parts.values()), watts_low=low, watts_high=high)


def _low(price: Price) -> float:
    return price.low_pj


def _high(price: Price) -> float:
    return price.high_pj


def calibrated(board: Board, pick: Callable[[Price], float] = lambda price: price.value_pj) -> float:
    """pJ a configured LUT and cycle that give ``board`` its published power, with all other prices by ``pick``."""
    rest = sum(parts_of(board, prices_of_board(board), pick, fabric=False).values())
    return (board.watts - rest) * 1e12 / board.lut_cycles_per_s


def validated() -> tuple[BoardPower, ...]:
    """Every published board, the one that calibrates first."""
    return tuple(power_of(board) for board in sorted(boards(), key=lambda board: not board.calibrates))


def mean_error(powers: tuple[BoardPower, ...]) -> float:
    """Mean of the absolute relative errors of the boards that did not calibrate."""
    errors = [abs(item.error) for item in powers if not item.board.calibrates]
    return sum(errors) / len(errors)
