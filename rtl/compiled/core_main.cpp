// A core, or several on one bus, with its memories, driven by lines on standard input; answers on standard output,
// one line each.
//
//   write ADDRESS VALUE   a control register; answers the response
//   read ADDRESS          answers value and response
//   run LIMIT EVERY       writes START (LOAD with `load LIMIT EVERY`), waits until no core is busy or LIMIT cycles are
//                         over; answers the cycles. Every EVERY cycles, unless that is 0, a line `at`, the cycles
//                         and the instructions that each class's unit has taken, core after core
//   counts                for every port beats read, beats written and bursts since the last time
//   seconds               time spent in cycles, and cycles, since the last time
//   dump FROM CYCLES PATH waves of so many cycles, the first FROM cycles after the first run or load began; answers
//                         whether the model was built for it
//   events PATH | events off  for every cycle from here on in which units take or end instructions, 16 bytes: the
//                         cycle since the last run or load, which take (32 bits), which end (32); a bit a class
//   stall SEED PERCENT    from here on so many of 100 cycles do not go on, at every channel of every port
//   fault PORT READ N     the N-th burst from here on that PORT (a number) reads, or with READ 0 writes, fails
//   coverage PATH         writes what has been reached so far; answers whether the model was built for it
//   reset                 core and memories' ports
//   quit
//
// argv: LATENCY, then the file of each memory in the order of PORTS (ports.h).
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "Vtop.h"
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

#include "axi_memory.h"
#include "core_registers.h"
#include "ports.h"
#include "registered_bus.h"

#ifndef CORE_CORES  // a core alone, without windows
#define CORE_CORES 1u
#define CORE_WINDOW(core) (0u * (core))
#define CORE_WINDOW_ALL 0u
#endif

struct Host {
    std::unique_ptr<VerilatedContext> context{new VerilatedContext};
    std::unique_ptr<Vtop> model{new Vtop{context.get()}};
    std::vector<AxiMemory> memories;
    uint64_t cycle = 0, first = 0, origin = 0;
    uint64_t taken[32] = {};
    std::FILE* events = nullptr;
#if VM_TRACE
    std::unique_ptr<VerilatedFstC> waves;
    uint64_t waves_from = 0, waves_cycles = 0;
#endif

    // A cycle: what the pins say, the inputs of the cycle that comes, which registers take at the edge, the edge.
    void step() {
        for (AxiMemory& memory : memories) memory.look(cycle);
        if (model->begins | model->ends) note();
        ++cycle;
        for (AxiMemory& memory : memories) memory.drive(cycle);
        model->clk = 1;
        model->eval();
        record(2 * cycle);
        model->clk = 0;
        model->eval();
        record(2 * cycle + 1);
    }

    void note() {
        for (unsigned kind = 0; model->begins >> kind; ++kind) taken[kind] += model->begins >> kind & 1;
        if (!events) return;
        uint64_t words[2] = {cycle - first, uint64_t(model->begins) | uint64_t(model->ends) << 32};
        std::fwrite(words, sizeof words, 1, events);
    }

    void record(uint64_t time) {
#if VM_TRACE
        if (!waves || !origin || time / 2 < origin + waves_from) return;
        waves->dump(time);
        if (time / 2 + 1 < origin + waves_from + waves_cycles || !(time & 1)) return;
        waves->close();
        waves.reset();
#else
        (void)time;
#endif
    }
};

int main(int argc, char** argv) {
    Host host;
    Vtop& top = *host.model;
    std::vector<AxiPins> pins = {PORTS};
    if (argc != 2 + int(pins.size())) return 2;
#if VM_TRACE
    host.context->traceEverOn(true);
#endif
    for (std::size_t i = 0; i < pins.size(); ++i)
        host.memories.emplace_back(pins[i], PORT_NAMES[i], argv[2 + i], std::strtoull(argv[1], nullptr, 10));
    auto step = [&] { host.step(); };
    RegisteredBus<Vtop, decltype(step)> bus{top, step};
    auto reset = [&] {  // the first of its cycles may still take what the core asked before
        top.rst = 1;
        for (int i = 0; i < 4; ++i) {
            step();
            for (AxiMemory& memory : host.memories) memory.forget();
        }
        top.rst = 0;
    };
    auto busy = [&] {
        for (unsigned core = 0; core < CORE_CORES; ++core)
            if (bus.read(CORE_WINDOW(core) + CORE_STATUS) & CORE_STATUS_BUSY_MASK) return true;
        return false;
    };
    reset();
    uint64_t counted = host.cycle;
    double spent = 0;
    char line[4096];
    while (std::fgets(line, sizeof line, stdin)) {
        uint64_t a = 0, b = 0, c = 0, every = 0;
        char path[4000] = "";
        auto begun = std::chrono::steady_clock::now();
        if (std::sscanf(line, "write %" SCNi64 " %" SCNi64, &a, &b) == 2) {
            std::printf("%u\n", bus.write(uint32_t(a), uint32_t(b)));
        } else if (std::sscanf(line, "read %" SCNi64, &a) == 1) {
            unsigned answer;
            uint32_t value = bus.read(uint32_t(a), &answer);
            std::printf("%" PRIu32 " %u\n", value, answer);
        } else if (std::sscanf(line, "run %" SCNi64 " %" SCNi64, &a, &every) >= 1 ||
                   std::sscanf(line, "load %" SCNi64 " %" SCNi64, &a, &every) >= 1) {
            uint64_t first = host.first = host.cycle, told = 0;
            if (!host.origin) host.origin = first;
            std::memset(host.taken, 0, sizeof host.taken);
            bus.write(CORE_WINDOW_ALL + CORE_START, CORE_START_START_MASK | (line[0] == 'l' ? CORE_START_LOAD_MASK : 0));
            while (host.cycle - first < a && busy()) {
                for (int i = 0; i < 64; ++i) step();
                if (!every || host.cycle - first < told + every) continue;
                told = host.cycle - first;
                std::printf("at %" PRIu64, told);
                for (int kind = 0; kind < CLASSES; ++kind) std::printf(" %" PRIu64, host.taken[kind]);
                std::printf("\n");
                std::fflush(stdout);
            }
            std::printf("%" PRIu64 "\n", host.cycle - first);
        } else if (!std::strncmp(line, "counts", 6)) {
            for (AxiMemory& memory : host.memories) {
                std::printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " ", memory.read_beats, memory.written_beats, memory.bursts);
                memory.read_beats = memory.written_beats = memory.bursts = 0;
            }
            std::printf("\n");
        } else if (!std::strncmp(line, "seconds", 7)) {
            std::printf("%.9f %" PRIu64 "\n", spent, host.cycle - counted);
            spent = 0, counted = host.cycle;
        } else if (std::sscanf(line, "dump %" SCNi64 " %" SCNi64 " %3999s", &a, &b, path) == 3) {
#if VM_TRACE
            host.waves_from = a, host.waves_cycles = b;
            host.waves.reset(new VerilatedFstC);
            top.trace(host.waves.get(), 99);
            host.waves->open(path);
            std::printf("%d\n", int(host.waves->isOpen()));
#else
            std::printf("0\n");
#endif
        } else if (std::sscanf(line, "events %3999s", path) == 1) {
            if (host.events) std::fclose(host.events);
            host.events = std::strcmp(path, "off") ? std::fopen(path, "wb") : nullptr;
            std::printf("%d\n", host.events || !std::strcmp(path, "off"));
        } else if (std::sscanf(line, "stall %" SCNi64 " %" SCNi64, &a, &b) == 2) {
            for (AxiMemory& memory : host.memories) memory.random = ++a, memory.stall = unsigned(b);
            std::printf("1\n");
        } else if (std::sscanf(line, "fault %" SCNi64 " %" SCNi64 " %" SCNi64, &a, &b, &c) == 3) {
            AxiMemory& memory = host.memories.at(a);
            (b ? memory.fault_read : memory.fault_write) = unsigned(c);
            std::printf("1\n");
        } else if (std::sscanf(line, "coverage %3999s", path) == 1) {
#if VM_COVERAGE
            host.context->coveragep()->write(path);
            std::printf("1\n");
#else
            std::printf("0\n");
#endif
        } else if (!std::strncmp(line, "reset", 5)) {
            reset();
            std::printf("1\n");
        } else if (!std::strncmp(line, "quit", 4)) {
            break;
        } else {
            std::printf("?\n");
        }
        spent += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
        std::fflush(stdout);
    }
#if VM_TRACE
    if (host.waves) host.waves->close();
#endif
    if (host.events) std::fclose(host.events);
    top.final();
    return 0;
}
