// A memory behind one AXI4 port: a file that is mapped, so that whoever else maps it sees the same bytes.
//
// Time: the first beat of a burst comes `latency` cycles after its address was taken, one beat a cycle follows, bursts
// one after the other; a write is answered `latency` cycles after its last beat. Nothing else: no rows, no refresh.
// A burst beyond the end of the file is answered with DECERR, one that was chosen (`fault`) with SLVERR. With `stall`
// in so many of 100 cycles, drawn for each of the five channels, nothing is taken or first offered. What AXI4 forbids
// ends the program.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "verilated.h"

static const int BEAT = 64;
typedef VlWide<16> Beat;

struct AxiPins {
    CData &arvalid, &arready, &arlen, &rvalid, &rready, &rlast, &rresp;
    QData& araddr;
    Beat& rdata;
    CData *awvalid, *awready, *awlen, *wvalid, *wready, *wlast, *bvalid, *bready, *bresp;
    QData *awaddr, *wstrb;
    Beat* wdata;
};

struct AxiMemory {
    struct Burst {
        uint64_t address, ready_at;
        unsigned beats, response;
    };
    AxiPins pins;
    const char* name;
    uint64_t latency;
    uint8_t* bytes = nullptr;
    uint64_t size = 0, read_beats = 0, written_beats = 0, bursts = 0;
    std::deque<Burst> reads, writes, answers;
    Burst held_read = {}, held_write = {};
    bool holding_read = false, holding_write = false, offers_read = false, offers_answer = false;
    unsigned stall = 0, fault_read = 0, fault_write = 0;  // faults: the how manieth burst from now on, 0 for none
    uint64_t random = 1;

    AxiMemory(const AxiPins& given, const char* port, const char* path, uint64_t cycles)
        : pins(given), name(port), latency(cycles) {
        int file = ::open(path, O_RDWR);
        struct stat about;
        if (file < 0 || ::fstat(file, &about)) fail("the file of a memory must open");
        size = uint64_t(about.st_size);
        void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (at == MAP_FAILED) fail("the file of a memory must map");
        bytes = static_cast<uint8_t*>(at);
        ::close(file);
    }

    [[noreturn]] void fail(const char* what) const {
        std::fprintf(stderr, "%s, at port %s\n", what, name);
        std::exit(3);
    }

    void check(const Burst& burst) const {
        if (burst.address % BEAT) fail("a burst must begin at a beat");
        if (burst.address / 4096 != (burst.address + BEAT * burst.beats - 1) / 4096) fail("no burst may cross 4 KiB");
    }

    bool goes() {
        random = random * 6364136223846793005u + 1442695040888963407u;
        return (random >> 33) % 100 >= stall;
    }

    static unsigned counted(unsigned& left) { return left && !--left ? 2 : 0; }

    // All that is on its way is gone, as at a reset of core and memories.
    void forget() {
        reads.clear(), writes.clear(), answers.clear();
        holding_read = holding_write = offers_read = offers_answer = false;
        pins.rvalid = 0;
        if (pins.awvalid) *pins.bvalid = 0;
    }

    bool inside(const Burst& burst) const { return burst.address + uint64_t(BEAT) * burst.beats <= size; }

    // The last edge has passed; what this cycle's pins say is taken at the next one.
    void look(uint64_t now) {
        if (pins.arvalid && pins.arready) {
            Burst burst = {pins.araddr, now + latency, pins.arlen + 1u, counted(fault_read)};
            check(burst);
            reads.push_back(burst);
            ++bursts;
        }
        held("a read address", pins.arvalid, pins.arready, {pins.araddr, 0, pins.arlen, 0}, holding_read, held_read);
        if (pins.rvalid && pins.rready) {
            ++read_beats;
            offers_read = false;
            reads.front().address += BEAT;
            if (!--reads.front().beats) reads.pop_front();
        }
        if (pins.awvalid) look_write(now);
    }

    // AXI4 forbids that an address which was not taken is withdrawn or changes.
    void held(const char* what, bool valid, bool ready, const Burst& burst, bool& holding, Burst& before) const {
        if (holding && (!valid || burst.address != before.address || burst.beats != before.beats)) fail(what);
        holding = valid && !ready;
        before = burst;
    }

    void look_write(uint64_t now) {
        if (*pins.awvalid && *pins.awready) {
            Burst burst = {*pins.awaddr, 0, *pins.awlen + 1u, counted(fault_write)};
            check(burst);
            writes.push_back(burst);
            ++bursts;
        }
        held("a write address", *pins.awvalid, *pins.awready, {*pins.awaddr, 0, *pins.awlen, 0}, holding_write, held_write);
        if (*pins.wvalid && *pins.wready) {
            ++written_beats;
            Burst& burst = writes.front();
            if (bool(*pins.wlast) != (burst.beats == 1)) fail("WLAST must come with the last beat of a burst");
            bool there = inside(burst);
            if (!there) burst.response = 3;
            for (int byte = 0; !burst.response && byte < BEAT; ++byte)
                if (*pins.wstrb >> byte & 1)
                    bytes[burst.address + byte] = uint8_t((*pins.wdata)[byte / 4] >> 8 * (byte % 4));
            burst.address += BEAT;
            if (!--burst.beats) {
                answers.push_back({0, now + latency, 0, burst.response});
                writes.pop_front();
            }
        }
        if (*pins.bvalid && *pins.bready) {
            answers.pop_front();
            offers_answer = false;
        }
    }

    // Set this cycle's inputs.
    void drive(uint64_t now) {
        pins.arready = reads.size() < 64 && goes();
        offers_read |= !reads.empty() && reads.front().ready_at <= now && goes();
        pins.rvalid = offers_read;
        if (offers_read) {
            const Burst& burst = reads.front();
            bool there = burst.address + BEAT <= size;
            if (there)
                std::memcpy(pins.rdata.data(), bytes + burst.address, BEAT);
            else
                std::memset(pins.rdata.data(), 0, BEAT);
            pins.rresp = there ? burst.response : 3;
            pins.rlast = burst.beats == 1;
        }
        if (pins.awvalid) {
            *pins.awready = writes.size() < 64 && goes();
            *pins.wready = !writes.empty() && goes();
            offers_answer |= !answers.empty() && answers.front().ready_at <= now && goes();
            *pins.bvalid = offers_answer;
            *pins.bresp = offers_answer ? answers.front().response : 0;
        }
    }
};
