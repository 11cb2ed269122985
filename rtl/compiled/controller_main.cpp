// Runs texts through a controller whose units only take time, and says what each unit was given, and when.
//
// argv: jobs, events. Jobs are words: a count, then for each job the fields of Job, 32 registers, 4 words an
// instruction, a word a constant. Events are words: for each job the fields of Outcome, then its events.
#include <cstdint>
#include <cstdio>
#include <deque>
#include <random>
#include <vector>

#include "Vtop.h"
#include "core_registers.h"
#include "control_bus.h"

struct Job {
    uint32_t instructions, constants, load, seed, least, most, overlap, stall, limit, reset_at;
};
struct Outcome {
    uint32_t status, error_at, executed, cycles, busy[6], end, events;
};
struct Event {  // kind: class, and 8 more when it is done
    uint32_t cycle, kind, payload[4];
};

static const int CLASSES = 6;
static const int DONE = 8;

static void words(uint32_t* into, QData value) {
    into[0] = uint32_t(value);
    into[1] = uint32_t(value >> 32);
}
template <std::size_t N>
static void words(uint32_t* into, const VlWide<N>& value) {
    for (std::size_t i = 0; i < N && i < 4; ++i) into[i] = value[i];
}

struct Unit {
    std::deque<uint64_t> ends;
};

struct Bench {
    Vtop top;
    Job job;
    std::mt19937 random;
    std::vector<uint32_t> text, constants;
    std::vector<Event> events;
    Unit units[CLASSES];
    uint64_t cycle = 0;
    std::deque<std::vector<uint32_t>> beats;

    bool chance() { return random() % 256 < job.stall; }

    // Where the model of memory has texts and constants: at 0 and at 1 MiB.
    void request(uint64_t address, uint32_t count) {
        const std::vector<uint32_t>& from = address < (1 << 20) ? text : constants;
        for (uint32_t beat = 0; beat < count; ++beat) {
            std::vector<uint32_t> data(17, 0xdeadbeef);
            for (uint32_t i = 0; i < 16; ++i) {
                std::size_t at = (address & ((1 << 20) - 1)) / 4 + beat * 16 + i;
                if (at < from.size()) data[i] = from[at];
            }
            data[16] = beat + 1 == count;
            beats.push_back(data);
        }
    }

    void step();
    void idle_units();
};

#define UNIT(number, name)                                                                                     \
    if (top.unit_##name##___05Finstruction___05Fvalid && top.unit_##name##___05Finstruction___05Fready) {      \
        Event event = {uint32_t(cycle), number, {0, 0, 0, 0}};                                                 \
        words(event.payload, top.unit_##name##___05Finstruction___05Fpayload);                                 \
        events.push_back(event);                                                                               \
        uint64_t ends = cycle + job.least + random() % (job.most - job.least + 1) - 1;                         \
        if (ends <= cycle) ends = cycle + 1;                                                                   \
        if (!units[number].ends.empty() && ends <= units[number].ends.back())                                  \
            ends = units[number].ends.back() + 1;                                                              \
        units[number].ends.push_back(ends);                                                                    \
    }                                                                                                          \
    if (top.unit_##name##___05Fdone) {                                                                         \
        events.push_back({uint32_t(cycle), number + DONE, {0, 0, 0, 0}});                                      \
        units[number].ends.pop_front();                                                                        \
    }

#define DRIVE(number, name)                                                                                    \
    top.unit_##name##___05Fdone = !units[number].ends.empty() && units[number].ends.front() == cycle;          \
    top.unit_##name##___05Finstruction___05Fready = units[number].ends.size() -                                \
        top.unit_##name##___05Fdone * (job.overlap > 1) < job.overlap && !chance();

#define IDLE(number, name) top.unit_##name##___05Fdone = 0;

#define ALL(what) what(0, ld) what(1, st) what(2, mm) what(3, mv) what(4, misc) what(5, sys)

// Inputs were driven for this cycle; look at it, then the clock's edge, then drive the next.
void Bench::step() {
    top.eval();
    bool requested = top.reader___05Frequest___05Fvalid && top.reader___05Frequest___05Fready;
    bool taken = top.reader___05Fdata___05Fvalid && top.reader___05Fdata___05Fready;
    ALL(UNIT)
    if (taken) beats.pop_front();
    if (requested) {
        const auto& payload = top.reader___05Frequest___05Fpayload;
        request(payload[0] | uint64_t(payload[1]) << 32, payload[2] & 0xfffff);
    }
    top.clk = 1;
    top.eval();
    top.clk = 0;
    ++cycle;
    ALL(DRIVE)
    top.reader___05Frequest___05Fready = !chance();
    bool hold = top.reader___05Fdata___05Fvalid && !taken;  // offered, so it stays
    top.reader___05Fdata___05Fvalid = hold || (!beats.empty() && !chance());
    if (top.reader___05Fdata___05Fvalid)
        for (int i = 0; i < 17; ++i) top.reader___05Fdata___05Fpayload[i] = beats.front()[i];
    top.eval();
}

void Bench::idle_units() { ALL(IDLE) }

static bool read_words(std::FILE* file, uint32_t* into, std::size_t count) {
    return std::fread(into, 4, count, file) == count;
}

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    std::FILE* in = std::fopen(argv[1], "rb");
    std::FILE* out = std::fopen(argv[2], "wb");
    uint32_t jobs;
    if (!in || !out || !read_words(in, &jobs, 1)) return 3;
    for (uint32_t number = 0; number < jobs; ++number) {
        Bench bench;
        uint32_t registers[32];
        if (!read_words(in, reinterpret_cast<uint32_t*>(&bench.job), sizeof(Job) / 4)) return 3;
        if (!read_words(in, registers, 32)) return 3;
        bench.text.resize(4 * bench.job.instructions);
        bench.constants.resize(bench.job.constants);
        if (!read_words(in, bench.text.data(), bench.text.size())) return 3;
        if (!read_words(in, bench.constants.data(), bench.constants.size())) return 3;
        bench.random.seed(bench.job.seed);
        Vtop& top = bench.top;
        auto step = [&] { bench.step(); };
        ControlBus<Vtop, decltype(step)> bus{top, step};
        auto reset = [&] {
            for (Unit& unit : bench.units) unit.ends.clear();
            bench.beats.clear();
            top.reader___05Fdata___05Fvalid = 0;
            top.rst = 1;
            top.clk = 0;
            step(), step();
            // What was given away in the reset's first cycle is forgotten by both sides.
            for (Unit& unit : bench.units) unit.ends.clear();
            bench.idle_units();
            bench.beats.clear();
            top.reader___05Fdata___05Fvalid = 0;
            top.rst = 0;
        };
        reset();
        uint64_t began = 0;
        for (int attempt = bench.job.reset_at ? 0 : 1; attempt < 2; ++attempt) {
            for (int i = 1; i < 32; ++i) bus.write(CORE_REGISTER(i), registers[i]);
            bus.write(CORE_TEXT_ADDRESS_LOW, 0);
            bus.write(CORE_TEXT_INSTRUCTIONS, bench.job.instructions);
            bus.write(CORE_CONSTANTS_ADDRESS_LOW, 1 << 20);
            bus.write(CORE_CONSTANTS_COUNT, bench.job.load ? bench.job.constants : 0);
            bench.events.clear();
            began = bench.cycle;
            bus.write(CORE_START, 1 | 2 * (bench.job.load != 0));
            if (!attempt) {
                for (uint32_t i = 0; i < bench.job.reset_at; ++i) step();
                reset();
                continue;
            }
            while ((bus.read(CORE_STATUS) & CORE_STATUS_BUSY_MASK) && bench.cycle - began < bench.job.limit) {}
        }
        for (int i = 0; i < 64; ++i) step();
        Outcome outcome = {};
        outcome.status = bus.read(CORE_STATUS);
        outcome.error_at = bus.read(CORE_ERROR_AT);
        outcome.executed = bus.read(CORE_EXECUTED);
        outcome.cycles = bus.read(CORE_CYCLES_LOW);
        for (int i = 0; i < 6; ++i) outcome.busy[i] = bus.read(CORE_BUSY(i));
        outcome.end = uint32_t(bench.cycle);
        outcome.events = uint32_t(bench.events.size());
        for (Event& event : bench.events) event.cycle -= uint32_t(began);
        std::fwrite(&outcome, sizeof outcome, 1, out);
        std::fwrite(bench.events.data(), sizeof(Event), bench.events.size(), out);
        top.final();
    }
    return std::fclose(out) ? 4 : 0;
}
