// A host on the control bus of a core (AXI4-Lite), for any top whose bus is s_axi.
#pragma once
#include <cstdint>

// Step is called with no argument and advances the model by a cycle.
template <class Top, class Step>
struct ControlBus {
    Top& top;
    Step step;

    // The answer of a write: 0 for done.
    unsigned write(uint32_t address, uint32_t value) {
        top.s_axi___05Fawaddr = address;
        top.s_axi___05Fawvalid = 1;
        top.s_axi___05Fwdata = value;
        top.s_axi___05Fwstrb = 15;
        top.s_axi___05Fwvalid = 1;
        top.s_axi___05Fbready = 1;
        for (;;) {
            top.eval();
            bool taken = top.s_axi___05Fawready && top.s_axi___05Fwready;
            step();
            if (taken) break;
        }
        top.s_axi___05Fawvalid = 0;
        top.s_axi___05Fwvalid = 0;
        while (!top.s_axi___05Fbvalid) step();
        unsigned answer = top.s_axi___05Fbresp;
        step();
        return answer;
    }

    uint32_t read(uint32_t address, unsigned* answer = nullptr) {
        top.s_axi___05Faraddr = address;
        top.s_axi___05Farvalid = 1;
        top.s_axi___05Frready = 1;
        for (;;) {
            top.eval();
            bool taken = top.s_axi___05Farready;
            step();
            if (taken) break;
        }
        top.s_axi___05Farvalid = 0;
        while (!top.s_axi___05Frvalid) step();
        uint32_t value = top.s_axi___05Frdata;
        if (answer) *answer = top.s_axi___05Frresp;
        step();
        return value;
    }
};
