"""What is simulated in place of AMD's DSP48E2, DSP58 and LUT memories: Verilog of our own with their ports.

The models are exact in what they support and refuse the rest: an attribute value they do not know does not
elaborate, a mode word they do not know stops the simulation. They are no part of emitted designs.
"""

DSP48E2 = r"""
module DSP48E2 #(
    parameter integer ACASCREG = 1, ADREG = 1, ALUMODEREG = 1, AREG = 1, BCASCREG = 1, BREG = 1, CARRYINREG = 1,
    parameter integer CARRYINSELREG = 1, CREG = 1, DREG = 1, INMODEREG = 1, MREG = 1, OPMODEREG = 1, PREG = 1,
    parameter AMULTSEL = "A", A_INPUT = "DIRECT", BMULTSEL = "B", B_INPUT = "DIRECT", PREADDINSEL = "A",
    parameter AUTORESET_PATDET = "NO_RESET", AUTORESET_PRIORITY = "RESET", SEL_MASK = "MASK", SEL_PATTERN = "PATTERN",
    parameter USE_MULT = "MULTIPLY", USE_PATTERN_DETECT = "NO_PATDET", USE_SIMD = "ONE48", USE_WIDEXOR = "FALSE",
    parameter XORSIMD = "XOR24_48_96",
    parameter [47:0] MASK = 48'h3FFFFFFFFFFF, PATTERN = 48'h0, RND = 48'h0
) (
    output [29:0] ACOUT, output [17:0] BCOUT, output CARRYCASCOUT, output [3:0] CARRYOUT, output MULTSIGNOUT,
    output OVERFLOW, output [47:0] P, output PATTERNBDETECT, output PATTERNDETECT, output [47:0] PCOUT,
    output UNDERFLOW, output [7:0] XOROUT,
    input [29:0] A, input [29:0] ACIN, input [3:0] ALUMODE, input [17:0] B, input [17:0] BCIN, input [47:0] C,
    input CARRYCASCIN, input CARRYIN, input [2:0] CARRYINSEL,
    input CEA1, input CEA2, input CEAD, input CEALUMODE, input CEB1, input CEB2, input CEC, input CECARRYIN,
    input CECTRL, input CED, input CEINMODE, input CEM, input CEP, input CLK,
    input [26:0] D, input [4:0] INMODE, input MULTSIGNIN, input [8:0] OPMODE, input [47:0] PCIN,
    input RSTA, input RSTALLCARRYIN, input RSTALUMODE, input RSTB, input RSTC, input RSTCTRL, input RSTD,
    input RSTINMODE, input RSTM, input RSTP
);
    // Attribute values without a meaning here must not elaborate: the module below does not exist.
    generate
        if ((AMULTSEL != "A" && AMULTSEL != "AD") || BMULTSEL != "B" || PREADDINSEL != "A" || USE_MULT != "MULTIPLY"
            || USE_SIMD != "ONE48" || USE_WIDEXOR != "FALSE" || USE_PATTERN_DETECT != "NO_PATDET" || AREG > 2
            || BREG > 2 || PREG != 1 || AUTORESET_PATDET != "NO_RESET")
            attribute_without_model refused();
    endgenerate

    // Input registers, figures of the A, B, C and D ports: with two, 1 comes before 2; with one it is number 2.
    wire [29:0] a_in = (A_INPUT == "CASCADE") ? ACIN : A;
    wire [17:0] b_in = (B_INPUT == "CASCADE") ? BCIN : B;
    reg [29:0] a1_r = 0, a2_r = 0;
    reg [17:0] b1_r = 0, b2_r = 0;
    reg [47:0] c_r = 0;
    reg [26:0] d_r = 0, ad_r = 0;
    reg [44:0] m_r = 0;
    reg [8:0] opmode_r = 0;
    reg [4:0] inmode_r = 0;
    reg [3:0] alumode_r = 0;
    reg [2:0] carryinsel_r = 0;
    reg carryin_r = 0;
    reg [47:0] p_r = 0;

    wire [29:0] a1 = (AREG == 2) ? a1_r : a_in;
    wire [29:0] a2 = (AREG != 0) ? a2_r : a_in;
    wire [17:0] b1 = (BREG == 2) ? b1_r : b_in;
    wire [17:0] b2 = (BREG != 0) ? b2_r : b_in;
    wire [47:0] c = (CREG != 0) ? c_r : C;
    wire [26:0] d = (DREG != 0) ? d_r : D;
    wire [8:0] op = (OPMODEREG != 0) ? opmode_r : OPMODE;
    wire [4:0] in = (INMODEREG != 0) ? inmode_r : INMODE;
    wire [3:0] alu = (ALUMODEREG != 0) ? alumode_r : ALUMODE;
    wire [2:0] sel = (CARRYINSELREG != 0) ? carryinsel_r : CARRYINSEL;
    wire carry = (CARRYINREG != 0) ? carryin_r : CARRYIN;

    // Pre-adder: in[0] takes A1 for A2, in[1] makes A zero, in[2] lets D in, in[3] subtracts A; in[4] takes B1 for B2.
    // With fewer than two registers there is one value for both.
    wire [26:0] a_chosen = (in[0] && AREG == 2) ? a1[26:0] : a2[26:0];
    wire [26:0] a_gated = in[1] ? 27'd0 : a_chosen;
    wire [26:0] d_gated = in[2] ? d : 27'd0;
    wire [26:0] ad_sum = in[3] ? d_gated - a_gated : d_gated + a_gated;
    wire [26:0] ad = (ADREG != 0) ? ad_r : ad_sum;
    wire signed [26:0] a_factor = (AMULTSEL == "AD") ? ad : a_gated;
    wire signed [17:0] b_factor = (in[4] && BREG == 2) ? b1 : b2;
    wire signed [44:0] product = a_factor * b_factor;
    wire signed [44:0] m = (MREG != 0) ? m_r : product;

    // The adder's four operands.
    wire [47:0] m_wide = {{3{m[44]}}, m};
    wire [47:0] w = (op[8:7] == 2'b01) ? p_r : (op[8:7] == 2'b10) ? RND : (op[8:7] == 2'b11) ? c : 48'd0;
    wire [47:0] x = (op[1:0] == 2'b01) ? m_wide : (op[1:0] == 2'b10) ? p_r : (op[1:0] == 2'b11) ? {a2, b2} : 48'd0;
    wire [47:0] y = (op[3:2] == 2'b10) ? {48{1'b1}} : (op[3:2] == 2'b11) ? c : 48'd0;   // the product is all in x
    wire [47:0] z = (op[6:4] == 3'b001) ? PCIN : (op[6:4] == 3'b010) ? p_r : (op[6:4] == 3'b011) ? c
                  : (op[6:4] == 3'b101) ? {{17{PCIN[47]}}, PCIN[47:17]}
                  : (op[6:4] == 3'b110) ? {{17{p_r[47]}}, p_r[47:17]} : 48'd0;
    wire [47:0] others = w + x + y + {47'd0, carry};
    wire [47:0] sum = (alu == 4'b0000) ? z + others : (alu == 4'b0011) ? z - others
                    : (alu == 4'b0001) ? others - z - 48'd1 : 48'd0 - z - others - 48'd1;

    always @(posedge CLK) begin
        if (RSTA) begin a1_r <= 0; a2_r <= 0; end
        else begin if (CEA1) a1_r <= a_in; if (CEA2) a2_r <= a1; end
        if (RSTB) begin b1_r <= 0; b2_r <= 0; end
        else begin if (CEB1) b1_r <= b_in; if (CEB2) b2_r <= b1; end
        if (RSTC) c_r <= 0; else if (CEC) c_r <= C;
        if (RSTD) d_r <= 0; else if (CED) d_r <= D;
        if (RSTD) ad_r <= 0; else if (CEAD) ad_r <= ad_sum;
        if (RSTM) m_r <= 0; else if (CEM) m_r <= product;
        if (RSTCTRL) begin opmode_r <= 0; carryinsel_r <= 0; end
        else if (CECTRL) begin opmode_r <= OPMODE; carryinsel_r <= CARRYINSEL; end
        if (RSTINMODE) inmode_r <= 0; else if (CEINMODE) inmode_r <= INMODE;
        if (RSTALUMODE) alumode_r <= 0; else if (CEALUMODE) alumode_r <= ALUMODE;
        if (RSTALLCARRYIN) carryin_r <= 0; else if (CECARRYIN) carryin_r <= CARRYIN;
        if (RSTP) p_r <= 0; else if (CEP) p_r <= sum;
        if ((op[1:0] == 2'b01) != (op[3:2] == 2'b01) || op[6:4] == 3'b100 || op[6:4] == 3'b111 || alu[3:2] != 0
            || sel != 0) begin
            $display("DSP48E2: a mode without a model: OPMODE %b ALUMODE %b CARRYINSEL %b", op, alu, sel);
            $stop;
        end
    end

    assign P = p_r;
    assign PCOUT = p_r;
    assign ACOUT = (AREG == 2 && ACASCREG == 1) ? a1_r : a2;
    assign BCOUT = (BREG == 2 && BCASCREG == 1) ? b1_r : b2;
    // Outputs of functions that are refused.
    assign CARRYCASCOUT = 0;
    assign CARRYOUT = 0;
    assign MULTSIGNOUT = m[44];
    assign OVERFLOW = 0;
    assign UNDERFLOW = 0;
    assign PATTERNDETECT = 0;
    assign PATTERNBDETECT = 0;
    assign XOROUT = 0;
endmodule
"""
"""Clock enables and resets are per register; every register starts at 0. Resets win over enables, as in UG579."""

DSP58 = r"""
module DSP58 #(
    parameter integer ACASCREG = 1, ADREG = 1, ALUMODEREG = 1, AREG = 1, BCASCREG = 1, BREG = 1, CARRYINREG = 1,
    parameter integer CARRYINSELREG = 1, CREG = 1, DREG = 1, INMODEREG = 1, MREG = 1, OPMODEREG = 1, PREG = 1,
    parameter AMULTSEL = "A", A_INPUT = "DIRECT", BMULTSEL = "B", B_INPUT = "DIRECT", PREADDINSEL = "A",
    parameter AUTORESET_PATDET = "NO_RESET", AUTORESET_PRIORITY = "RESET", SEL_MASK = "MASK", SEL_PATTERN = "PATTERN",
    parameter USE_MULT = "MULTIPLY", USE_PATTERN_DETECT = "NO_PATDET", USE_SIMD = "ONE58", USE_WIDEXOR = "FALSE",
    parameter XORSIMD = "XOR24_34_58_116", DSP_MODE = "INT24", RESET_MODE = "SYNC",
    parameter [57:0] MASK = 58'hFFFFFFFFFFFFFF, PATTERN = 58'h0, RND = 58'h0
) (
    output [57:0] P, output [57:0] PCOUT,
    input [33:0] A, input [33:0] ACIN, input [3:0] ALUMODE, input ASYNC_RST, input [23:0] B, input [23:0] BCIN,
    input [57:0] C, input CARRYCASCIN, input CARRYIN, input [2:0] CARRYINSEL,
    input CEA1, input CEA2, input CEAD, input CEALUMODE, input CEB1, input CEB2, input CEC, input CECARRYIN,
    input CECTRL, input CED, input CEINMODE, input CEM, input CEP, input CLK,
    input [26:0] D, input [4:0] INMODE, input MULTSIGNIN, input [2:0] NEGATE, input [8:0] OPMODE, input [57:0] PCIN,
    input RSTA, input RSTALLCARRYIN, input RSTALUMODE, input RSTB, input RSTC, input RSTCTRL, input RSTD,
    input RSTINMODE, input RSTM, input RSTP
);
    generate
        if (DSP_MODE != "INT8" || AREG != 2 || BREG != 2 || MREG != 1 || PREG != 1 || OPMODEREG != 1
            || A_INPUT != "DIRECT" || B_INPUT != "DIRECT" || USE_MULT != "MULTIPLY" || USE_SIMD != "ONE58"
            || RESET_MODE != "SYNC")
            attribute_without_model refused();
    endgenerate
    reg [26:0] a1 = 0, a2 = 0;
    reg [23:0] b1 = 0, b2 = 0;
    reg signed [18:0] dot = 0;
    reg [8:0] op = 0;
    reg [57:0] p = 0;
    wire signed [8:0] a_0 = a2[8:0], a_1 = a2[17:9], a_2 = a2[26:18];
    wire signed [7:0] b_0 = b2[7:0], b_1 = b2[15:8], b_2 = b2[23:16];
    wire [57:0] m = {{39{dot[18]}}, dot};
    wire [57:0] z = (op[6:4] == 3'b001) ? PCIN : 58'd0;
    always @(posedge CLK) begin
        if (RSTA) begin a1 <= 0; a2 <= 0; end
        else begin if (CEA1) a1 <= A[26:0]; if (CEA2) a2 <= a1; end
        if (RSTB) begin b1 <= 0; b2 <= 0; end
        else begin if (CEB1) b1 <= B; if (CEB2) b2 <= b1; end
        if (RSTM) dot <= 0; else if (CEM) dot <= a_0 * b_0 + a_1 * b_1 + a_2 * b_2;
        if (RSTCTRL) op <= 0; else if (CECTRL) op <= OPMODE;
        if (RSTP) p <= 0; else if (CEP) p <= z + m;
        if (!((op == 9'b000010101 || op == 9'b000000101) || op == 0) || ALUMODE != 0 || NEGATE != 0 || CARRYIN != 0
            || CARRYINSEL != 0 || ASYNC_RST != 0) begin
            $display("DSP58: a mode without a model: OPMODE %b", op);
            $stop;
        end
    end
    assign P = p;
    assign PCOUT = p;
endmodule
"""
"""INT8 mode with two input registers; the sum is the product's alone or that and the cascade's. Other outputs are
absent, so connecting one does not elaborate."""


def _lut_memory(kind: str, ports: str) -> str:
    """A memory of 32 words of two bits a port; all are written at the last port's address."""
    pins = ", ".join([*(f"output [1:0] DO{port}, input [4:0] ADDR{port}, input [1:0] DI{port}" for port in ports),
                      "input WCLK, input WE"])
    inits = ", ".join(f"INIT_{port} = 64'h0" for port in ports)
    words = "".join(f"""
    reg [63:0] mem_{port} = INIT_{port};
    assign DO{port} = mem_{port}[{{ADDR{port}, 1'b0}} +: 2];
    always @(posedge WCLK) if (WE) mem_{port}[{{ADDR{ports[-1]}, 1'b0}} +: 2] <= DI{port};""" for port in ports)
    return f"""
module {kind} #(parameter [63:0] {inits}) ({pins});{words}
endmodule
"""


MODELS = {"DSP48E2": DSP48E2, "DSP58": DSP58, "RAM32M16": _lut_memory("RAM32M16", "ABCDEFGH"),
          "RAM32M": _lut_memory("RAM32M", "ABCD")}


def primitives_in(text: str) -> list[str]:
    """The primitives that emitted text instantiates and does not define."""
    return [name for name in MODELS if f"  {name} #(" in text]


def models_for(text: str) -> str:
    """``text`` with the models of the primitives it instantiates after it: what a simulator needs."""
    return text + "".join(MODELS[name] for name in primitives_in(text))
