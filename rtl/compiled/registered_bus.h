// A host on the control bus (AXI4-Lite) of a top whose inputs pass a register: what is set is there a cycle later.
#pragma once
#include <cstdint>

// Step is called with no argument and advances the model by a cycle.
template <class Top, class Step>
struct RegisteredBus {
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
        step();
        while (!(top.s_axi___05Fawready && top.s_axi___05Fwready)) step();
        top.s_axi___05Fawvalid = 0;
        top.s_axi___05Fwvalid = 0;
        step();
        while (!top.s_axi___05Fbvalid) step();
        unsigned answer = top.s_axi___05Fbresp;
        step();
        return answer;
    }

    uint32_t read(uint32_t address, unsigned* answer = nullptr) {
        top.s_axi___05Faraddr = address;
        top.s_axi___05Farvalid = 1;
        top.s_axi___05Frready = 1;
        step();
        while (!top.s_axi___05Farready) step();
        top.s_axi___05Farvalid = 0;
        step();
        while (!top.s_axi___05Frvalid) step();
        uint32_t value = top.s_axi___05Frdata;
        if (answer) *answer = top.s_axi___05Frresp;
        step();
        return value;
    }
};
