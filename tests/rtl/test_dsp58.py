"""The model of a DSP58 in INT8 mode against what AMD's AM004 says of its ports, registers and modes.

"Port Descriptions": in INT8 mode port A holds three 9-bit two's complement values with the signs in A[26], A[17] and A[8]
(three unsigned bytes with those bits 0), port B three 8-bit ones; OPMODE[1:0] = 01 and [3:2] = 01 take the product, OPMODE[6:4]
= 001 adds the cascade; RST* are synchronous and come before CE*.
"""

import subprocess

from mixflight.rtl.compiled_model import compile_model
from mixflight.rtl.primitive_models import DSP58

_TOP = """
module dut (input clk, input [26:0] a, input [23:0] b, input [57:0] pcin, input [8:0] opmode, input ce, input rst,
            output [57:0] p, output [57:0] pcout);
  DSP58 #(.DSP_MODE("INT8"), .AREG(2), .BREG(2)) dsp (
    .CLK(clk), .A({7'd0, a}), .B(b), .PCIN(pcin), .OPMODE(opmode), .P(p), .PCOUT(pcout), .ACIN(34'd0), .BCIN(24'd0),
    .C(58'd0), .D(27'd0), .ALUMODE(4'd0), .INMODE(5'd0), .NEGATE(3'd0), .CARRYIN(1'b0), .CARRYINSEL(3'd0),
    .CARRYCASCIN(1'b0), .MULTSIGNIN(1'b0), .ASYNC_RST(1'b0),
    .CEA1(ce), .CEA2(ce), .CEAD(ce), .CEALUMODE(ce), .CEB1(ce), .CEB2(ce), .CEC(ce), .CECARRYIN(ce), .CECTRL(ce),
    .CED(ce), .CEINMODE(ce), .CEM(ce), .CEP(ce), .RSTA(rst), .RSTALLCARRYIN(rst), .RSTALUMODE(rst), .RSTB(rst),
    .RSTC(rst), .RSTCTRL(rst), .RSTD(rst), .RSTINMODE(rst), .RSTM(rst), .RSTP(rst));
endmodule
"""

_MAIN = r"""
#include <cstdio>
#include <cstdint>
#include <random>
#include "Vtop.h"
#include "verilated.h"

static int64_t sign(uint64_t word, int bits) { return int64_t(word << (64 - bits)) >> (64 - bits); }

// What AM004 says: two registers at A and B, one at M, OPMODE and P.
struct Documented {
    uint64_t a1 = 0, a2 = 0, b1 = 0, b2 = 0, op = 0, p = 0;
    int64_t m = 0;
    void edge(uint64_t a, uint64_t b, uint64_t pcin, uint64_t opmode, bool ce, bool rst) {
        if (rst) { *this = Documented{}; return; }
        if (!ce) return;
        int64_t dot = 0;
        for (int i = 0; i < 3; ++i) dot += sign(a2 >> 9 * i & 0x1ff, 9) * sign(b2 >> 8 * i & 0xff, 8);
        uint64_t x = (op & 15) == 5 ? uint64_t(m) : 0, z = (op >> 4 & 7) == 1 ? pcin : 0;
        p = (x + z) & ((uint64_t(1) << 58) - 1);
        m = dot;
        a2 = a1, a1 = a, b2 = b1, b1 = b, op = opmode;
    }
};

int main() {
    VerilatedContext context;
    Vtop top{&context};
    Documented golden;
    std::mt19937_64 random(1);
    const uint64_t edges_a[] = {0, 0x1ff, 0x100, 0x0ff, 0x080, 0x001}, edges_b[] = {0, 0xff, 0x80, 0x7f, 1};
    for (int cycle = 0; cycle < 200000; ++cycle) {
        uint64_t a = 0, b = 0;
        for (int i = 0; i < 3; ++i) {
            bool edge = random() % 2;
            a |= (edge ? edges_a[random() % 6] : random() & 0x1ff) << 9 * i;
            b |= (edge ? edges_b[random() % 5] : random() & 0xff) << 8 * i;
        }
        uint64_t pcin = random() & ((uint64_t(1) << 58) - 1), opmode = random() % 2 ? 0x15 : 0x05;
        bool ce = random() % 8 != 0, rst = random() % 64 == 0 || cycle == 0;
        top.a = a; top.b = b; top.pcin = pcin; top.opmode = opmode; top.ce = ce; top.rst = rst;
        top.clk = 0; top.eval();
        top.clk = 1; top.eval();
        golden.edge(a, b, pcin, opmode, ce, rst);
        if (top.p != golden.p || top.pcout != golden.p) { std::printf("cycle %d\n", cycle); return 1; }
    }
    std::printf("same\n");
    return 0;
}
"""


def test_the_int8_mode_is_the_documented_one():
    model = compile_model(DSP58 + _TOP, top="dut", main=_MAIN)
    said = subprocess.run([model.executable], capture_output=True, text=True, check=False)
    assert (said.stdout.strip(), said.returncode) == ("same", 0)
