"""A core, or several, as a kernel of Vitis: wrapper with the names that it asks for, description, packaging, drivers.

The kernel is user-managed: its host writes registers (``xrt::ip``), nothing of ``ap_ctrl`` is in it. Memory addresses
of a core begin at 0; those on a card begin wherever XRT puts a buffer, so each port has a base that is added to its
addresses (:class:`mixflight.rtl.kernel_bases.KernelBases`). What the tools ask for: AMD UG1393 and UG1702, "RTL
Kernel". None of AMD's tools has read these files: the tests hold them to each other and to Verilator.
"""

from pathlib import Path

from mixflight.rtl.core import Core
from mixflight.rtl.core_cluster import CoreCluster
from mixflight.rtl.core_ports import LINE_BITS
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.inspect import Port, signature_ports
from mixflight.rtl.kernel_bases import KernelBases, bases_at

DRIVERS = Path(__file__).with_name("driver")
BASES = "kernel_bases"
CONTROL = "s_axi_control"
FOLDER = "vitis"
_ADDRESSED = 'portType="addressable" base="0x0"'
_IN_DDR = ("m_axi_ddr", "m_axi_text")

Cores = Core | CoreCluster


def _address_bits(core: Cores) -> int:
    """Of its control bus."""
    return len(core.s_axi.awaddr)


def _bases_at(core: Cores) -> int:
    """Register of the first port's base."""
    return bases_at(_address_bits(core))


def kernel_name(module: str) -> str:
    """What the kernel of the core ``module`` is called."""
    return f"{module}_kernel"


def kernel_files(core: Cores, module: str, part: str) -> dict[str, str]:
    """Path below the project's folder → content. The core's own Verilog is not among them."""
    bases = KernelBases(ports=len(core.memories), address_bits=_address_bits(core))
    drivers = {f"driver/{path.name}": path.read_text() for path in sorted(DRIVERS.glob("*.h"))}
    kernel = kernel_name(module)
    return {
        f"{FOLDER}/{kernel}.v": wrapper(core, module),
        f"{FOLDER}/{BASES}.v": emit_verilog(bases, BASES),
        f"{FOLDER}/kernel.xml": description(core, module),
        f"{FOLDER}/package_kernel.tcl": packaging(core, module, part),
        f"{FOLDER}/link.cfg": connectivity(core, module),
        "driver/core_kernel.h": _names(core, module),
        **drivers,
    }  # fmt: skip


def wrapper(core: Cores, module: str) -> str:
    """The kernel's top: the core and its bases, clocked by ``ap_clk``, reset by ``ap_rst_n``. Only buses are ports."""
    ports = signature_ports(core)
    control = [port for port in ports if port.name.startswith("s_axi__")]
    memory = [port for port in ports if port.name.partition("__")[0] in core.memories]
    declared = [_declared(port, f"{CONTROL}_{_member(port)}") for port in control]
    declared += [_declared(port, _flat(port)) for port in memory]
    wires = [f"  wire {_width(port)}core_{_member(port)};" for port in control]
    wires += [f"  wire [63:0] at_{name}_{way};" for name in core.memories for way in _ways(memory, name)]
    wires += [f"  wire [63:0] base_of_{name};" for name in core.memories]
    bases = [f"    .base__{number}(base_of_{name})" for number, name in enumerate(core.memories)]
    bases += [f"    .host__{_member(port)}({CONTROL}_{_member(port)})" for port in control]
    bases += [f"    .core__{_member(port)}(core_{_member(port)})" for port in control]
    of_core = [f"    .{port.name}(core_{_member(port)})" for port in control]
    of_core += [f"    .{port.name}({_of_core(port)})" for port in memory]
    sums = [f"  assign {name}_{way} = at_{name}_{way} + base_of_{name};"
            for name in core.memories for way in _ways(memory, name)]
    lines = ",\n".join
    return (
        f"// {kernel_name(module)}, written by mixflight: {module} as a kernel\n\n"
        f"module {kernel_name(module)} (\n  input wire ap_clk,\n  input wire ap_rst_n,\n{lines(declared)}\n);\n"
        + "\n".join(["  reg rst = 1'b1;", "  always @(posedge ap_clk) rst <= ~ap_rst_n;", *wires, *sums])
        + f"\n  {BASES} bases (\n    .clk(ap_clk),\n    .rst(rst),\n{lines(bases)}\n  );\n"
        f"  {module} core (\n    .clk(ap_clk),\n    .rst(rst),\n{lines(of_core)}\n  );\nendmodule\n"
    )  # fmt: skip


def _member(port: Port) -> str:
    return port.name.partition("__")[2]


def _flat(port: Port) -> str:
    return port.name.replace("__", "_")


def _width(port: Port) -> str:
    return f"[{port.width - 1}:0] " if port.width > 1 else ""


def _declared(port: Port, name: str) -> str:
    return f"  {port.direction} wire {_width(port)}{name}"


def _of_core(port: Port) -> str:
    return f"at_{_flat(port)}" if _member(port) in ("araddr", "awaddr") else _flat(port)


def _ways(ports: list[Port], memory: str) -> list[str]:
    """Its addresses: of reads, and of writes where it has them."""
    return [_member(port) for port in ports
            if port.name.startswith(f"{memory}__") and _member(port) in ("araddr", "awaddr")]


def description(core: Cores, module: str) -> str:
    """``kernel.xml``: its ports, and for each memory an argument whose register is the port's base."""
    window = 1 << _address_bits(core)
    sizes = [(CONTROL, "slave", f"{window:#x}", 32)]
    sizes += [(name, "master", f"{(1 << 64) - 1:#X}".replace("X", "x"), LINE_BITS) for name in core.memories]
    ports = [f'      <port name="{name}" mode="{mode}" range="{size}" dataWidth="{width}" {_ADDRESSED}/>'
             for name, mode, size, width in sizes]
    arguments = [f'      <arg name="{_argument(name)}" addressQualifier="1" id="{number}" port="{name}" size="0x8" '
                 f'offset="{_bases_at(core) + 8 * number:#x}" type="void*" hostOffset="0x0" hostSize="0x8"/>'
                 for number, name in enumerate(core.memories)]
    inside = "\n".join(["    <ports>", *ports, "    </ports>", "    <args>", *arguments, "    </args>"])
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<root versionMajor="1" versionMinor="9">\n'
        f'  <kernel name="{kernel_name(module)}" language="ip_c" vlnv="mixflight:kernel:{kernel_name(module)}:1.0" '
        'attributes="" preferredWorkGroupSizeMultiple="0" workGroupSize="1" interrupt="false" '
        f'hwControlProtocol="user_managed">\n{inside}\n  </kernel>\n</root>\n'
    )  # fmt: skip


def _argument(memory: str) -> str:
    return f"memory_{memory.removeprefix('m_axi_')}"


def packaging(core: Cores, module: str, part: str) -> str:
    """``package_kernel.tcl``: for Vivado in batch mode, in this folder; leaves the kernel object beside it."""
    kernel = kernel_name(module)
    busses = "\n".join(f"ipx::associate_bus_interfaces -busif {name} -clock ap_clk $core"
                       for name in (CONTROL, *core.memories))
    registers = "\n".join(
        f"set base [ipx::add_register {_argument(name)} $block]\n"
        f"set_property address_offset {_bases_at(core) + 8 * number:#x} $base\nset_property size 64 $base\n"
        f"set_property value {name} [ipx::add_register_parameter ASSOCIATED_BUSIF $base]"
        for number, name in enumerate(core.memories))
    return f"""\
# vivado -mode batch -source package_kernel.tcl; then
# v++ --link --platform xilinx_u280_gen3x16_xdma_1_202211_1 --config link.cfg {kernel}.xo -o {module}.xclbin
create_project -force package ./project -part {part}
add_files -norecurse [list {kernel}.v {BASES}.v ../{module}.v]
set_property top {kernel} [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir ./ip -vendor mixflight -library kernel -taxonomy /KernelIP -import_files
set core [ipx::current_core]
set_property name {kernel} $core
set_property version 1.0 $core
{busses}
ipx::associate_bus_interfaces -clock ap_clk -reset ap_rst_n $core

set map [ipx::get_memory_maps -of_objects [ipx::get_bus_interfaces {CONTROL} -of_objects $core]]
set block [ipx::get_address_blocks -of_objects $map]
set_property range {1 << _address_bits(core)} $block
{registers}

set_property sdx_kernel true $core
set_property sdx_kernel_type rtl $core
set_property ipi_drc {{ignore_freq_hz true}} $core
set_property vitis_drc {{ctrl_protocol user_managed}} $core
set_property supported_families {{}} $core
set_property auto_family_support_level level_2 $core
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity -kernel -xrt $core
ipx::save_core $core

package_xo -force -xo_path {kernel}.xo -kernel_name {kernel} -ip_directory ./ip -kernel_xml kernel.xml \\
    -ctrl_protocol user_managed
close_project
"""


def connectivity(core: Cores, module: str) -> str:
    """``link.cfg``: channel c of all on pseudo-channel c of HBM, text and tables in DDR, the machine's clock."""
    kernel = kernel_name(module)
    lines = [f"sp={kernel}_1.{_argument(name)}:{'DDR[0]' if name.startswith(_IN_DDR) else f'HBM[{number}]'}"
             for number, name in enumerate(core.memories)]
    body = "\n".join([f"nk={kernel}:1:{kernel}_1", f"slr={kernel}_1:SLR0", *lines])
    return f"[connectivity]\n{body}\n\n[clock]\ndefaultFreqHz={round(core.machine.clock_mhz * 1e6)}\n"


def _names(core: Cores, module: str) -> str:
    """``core_kernel.h``: what a host must know of the kernel."""
    ports = "\n".join(f"#define CORE_PORT_{_argument(name).removeprefix('memory_').upper()} {number}u"
                      for number, name in enumerate(core.memories))
    return (f"/* The kernel of {core.machine.name}: its name and the numbers of its memory ports. */\n"
            f'#define CORE_KERNEL_NAME "{kernel_name(module)}"\n#define CORE_PORTS {len(core.memories)}u\n'
            f"#define CORE_KERNEL_BASES {_bases_at(core):#x}u\n{ports}\n")
