"""What a machine of cores counts by time alone: its device's static power, and the fabric that its clock drives."""

from mixflight.arch.core import CoreMachine


def counts_over_time(machine: CoreMachine, cycles: float) -> dict[tuple[str, str], float]:
    """Counts of ``cycles`` cycles of the machine's clock, whatever it does in them.

    ``static <device>_ns`` nanoseconds, and ``fabric lut_cycle`` configured LUTs times cycles
    (``mixflight.sim.fpga_power``).
    """
    nanoseconds = cycles * 1e3 / machine.clock_mhz
    return {
        ("static", f"{machine.device.name.lower()}_ns"): nanoseconds,
        ("fabric", "lut_cycle"): machine.luts * cycles,
    }
