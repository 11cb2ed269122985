// The special-function unit with its buffers: runs a list of instructions, and says when each was taken and done.
//
// Input file, in 32-bit words: seed; percent of cycles in which instruction, read a, read b, global write and act write
// do not go on (5 words); lines of the global buffer, lines of the act buffer, steps, instructions, cycles from the last
// step to the first instruction; constants (5 words);
// the global buffer (16 words a line); the act buffer (18 words a line); steps (2 words each); instructions (3 words).
// Output file: the two buffers; for every instruction the cycle in which it was taken and that of its done pulse;
// whether an instruction was not supported.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>
#include "Vtop.h"

using Words = std::vector<uint32_t>;

static uint64_t state;
static bool stalls(uint32_t percent) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % 100 < percent;
}

struct Reader {
    bool valid[3] = {};
    uint32_t data[3][16] = {};
};

static void shift(Reader& r) {
    for (int i = 2; i > 0; --i) {
        r.valid[i] = r.valid[i - 1];
        std::memcpy(r.data[i], r.data[i - 1], sizeof r.data[i]);
    }
    r.valid[0] = false;
}

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    std::FILE* file = std::fopen(argv[1], "rb");
    if (!file) return 3;
    uint32_t head[11];
    if (std::fread(head, 4, 11, file) != 11) return 4;
    state = head[0];
    const uint32_t lines = head[6], act_lines = head[7], steps = head[8], count = head[9];
    uint32_t constants[5];
    Words global(16 * lines), act(18 * act_lines), table(2 * steps), text(3 * count), taken(count), done(count);
    size_t got = std::fread(constants, 4, 5, file);
    for (Words* part : {&global, &act, &table, &text}) got += std::fread(part->data(), 4, part->size(), file);
    if (got != 5 + global.size() + act.size() + table.size() + text.size()) return 4;
    std::fclose(file);

    auto top = std::make_unique<Vtop>();
    auto edge = [&] { top->clk = 1; top->eval(); top->clk = 0; top->eval(); };
    top->clk = 0;
    top->instruction___05Fvalid = top->rope_table___05Fvalid = 0;
    top->a___05Fready = top->b___05Fready = top->out___05Fready = top->act___05Fready = 0;
    top->a___05Fdata_valid = top->b___05Fdata_valid = 0;
    for (int i = 0; i < 5; ++i) top->constants[i] = constants[i];
    top->rst = 1;
    for (int i = 0; i < 3; ++i) edge();
    top->rst = 0;
    for (uint32_t i = 0; i < steps; ++i) {
        top->rope_table___05Fvalid = 1;
        top->rope_table___05Findex = i;
        top->rope_table___05Fvalue = uint64_t(table[2 * i + 1]) << 32 | table[2 * i];
        edge();
    }
    top->rope_table___05Fvalid = 0;
    for (uint32_t i = 0; i < head[10]; ++i) edge();

    Reader a, b;
    uint32_t given = 0, ended = 0, idle = 0;
    bool offering = false;
    for (uint32_t cycle = 0; ended < count || idle < 20; ++cycle) {
        if (++idle > 100000) return 6;
        offering = offering || (given < count && !stalls(head[1]));
        top->instruction___05Fvalid = offering;
        if (offering) for (int i = 0; i < 3; ++i) top->instruction___05Fpayload[i] = text[3 * given + i];
        top->a___05Fready = !stalls(head[2]);
        top->b___05Fready = !stalls(head[3]);
        top->out___05Fready = !stalls(head[4]);
        top->act___05Fready = !stalls(head[5]);
        shift(a);
        shift(b);
        top->a___05Fdata_valid = a.valid[2];
        top->b___05Fdata_valid = b.valid[2];
        for (int i = 0; i < 16; ++i) {
            top->a___05Fdata[i] = a.valid[2] ? a.data[2][i] : 0xDEADBEEF;
            top->b___05Fdata[i] = b.valid[2] ? b.data[2][i] : 0xDEADBEEF;
        }
        top->eval();
        if (offering && top->instruction___05Fready) {
            taken[given++] = cycle;
            offering = false;
            idle = 0;
        }
        if (top->done) {
            if (ended >= given) return 7;
            done[ended++] = cycle;
            idle = 0;
        }
        if (top->a___05Fvalid && top->a___05Fready) {
            if (top->a___05Faddress >= lines) return 8;
            a.valid[0] = true;
            std::memcpy(a.data[0], &global[16 * top->a___05Faddress], 64);
        }
        if (top->b___05Fvalid && top->b___05Fready) {
            if (top->b___05Faddress >= lines) return 8;
            b.valid[0] = true;
            std::memcpy(b.data[0], &global[16 * top->b___05Faddress], 64);
        }
        if (top->out___05Fvalid && top->out___05Fready) {
            if (top->out___05Faddress >= lines || ended >= given) return 9;
            for (int i = 0; i < 16; ++i)
                if (top->out___05Fmask >> i & 1) global[16 * top->out___05Faddress + i] = top->out___05Fdata[i];
        }
        if (top->act___05Fvalid && top->act___05Fready) {
            if (top->act___05Faddress >= act_lines || ended >= given) return 9;
            for (int bit = 0; bit < 576; ++bit) {
                if (!(top->act___05Fmask >> bit / 144 & 1)) continue;
                uint32_t& word = act[18 * top->act___05Faddress + bit / 32];
                word = (word & ~(1u << bit % 32)) | (top->act___05Fdata[bit / 32] >> bit % 32 & 1) << bit % 32;
            }
        }
        edge();
    }
    file = std::fopen(argv[2], "wb");
    if (!file) return 5;
    Words unsupported(1, top->unsupported);
    for (Words* part : {&global, &act, &taken, &done, &unsupported}) std::fwrite(part->data(), 4, part->size(), file);
    return std::fclose(file) ? 5 : 0;
}
