/* A core of mixflight from bare C: its registers on AXI4-Lite, anything that can read and write words of 32 bits.
 *
 * Needs core_registers.h, which `mixflight rtl flightllm-core` and `mixflight compile` write, before it. No allocation, no
 * globals; every function returns 0 or a negative number, see CORE_FAILED_*.
 *
 *     static uint32_t bar_read(void *bar, uint32_t at) { return ((volatile uint32_t *)bar)[at / 4]; }
 *     static void bar_write(void *bar, uint32_t at, uint32_t value) { ((volatile uint32_t *)bar)[at / 4] = value; }
 *     struct core_bus bus = {mapped, bar_read, bar_write};
 *     core_set_base(&bus, port, address);                    (a Vitis kernel only)
 *     core_set_text(&bus, text_at, instructions, constants_at, constants);
 *     core_set_model(&bus, &model);
 *     core_set_register(&bus, R_TOKENS, 1);
 *     int failed = core_run(&bus, 1, polls);
 */
#ifndef MIXFLIGHT_CORE_DRIVER_H
#define MIXFLIGHT_CORE_DRIVER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The window of one core on the control bus. */
struct core_bus {
    void *context;
    uint32_t (*read)(void *context, uint32_t offset);
    void (*write)(void *context, uint32_t offset, uint32_t value);
};

/* What MISC reads; FP32 as its bits. ROPE's steps in turns of 2^-40. */
struct core_model {
    uint32_t eps, inverse_hidden, inverse_head, inverse_root;
    uint32_t head_elements;
    const uint64_t *rope_steps;
    uint32_t rope_count;
};

/* What a run took. */
struct core_counts {
    uint64_t cycles;
    uint32_t executed;
    uint32_t busy[6]; /* LD, ST, MM, MV, MISC, SYS */
};

#define CORE_FAILED_BUSY (-16)    /* a run is on */
#define CORE_FAILED_TIMEOUT (-17) /* it is still on after so many polls */
#define CORE_FAILED_ERROR(code) (-(int)(code)) /* it stopped with CORE_ERROR_*, 1 to 15 */
#ifndef CORE_KERNEL_BASES /* core_kernel.h says where they are */
#define CORE_KERNEL_BASES 0xf000u
#endif
#define CORE_KERNEL_BASE(port) (CORE_KERNEL_BASES + 8u * (port))

static inline int core_is_busy(const struct core_bus *bus) {
    return (bus->read(bus->context, CORE_STATUS) & CORE_STATUS_BUSY_MASK) != 0;
}

/* Of a Vitis kernel: the first byte of a memory port, a multiple of 4096. */
static inline void core_set_base(const struct core_bus *bus, uint32_t port, uint64_t address) {
    bus->write(bus->context, CORE_KERNEL_BASE(port), (uint32_t)address);
    bus->write(bus->context, CORE_KERNEL_BASE(port) + 4u, (uint32_t)(address >> 32));
}

/* Where text and constants lie in DDR (multiples of 64), and how many instructions and words they are. */
static inline int core_set_text(const struct core_bus *bus, uint64_t text_at, uint32_t instructions,
                                uint64_t constants_at, uint32_t constants) {
    if (core_is_busy(bus)) return CORE_FAILED_BUSY;
    bus->write(bus->context, CORE_TEXT_ADDRESS_LOW, (uint32_t)text_at);
    bus->write(bus->context, CORE_TEXT_ADDRESS_HIGH, (uint32_t)(text_at >> 32));
    bus->write(bus->context, CORE_TEXT_INSTRUCTIONS, instructions);
    bus->write(bus->context, CORE_CONSTANTS_ADDRESS_LOW, (uint32_t)constants_at);
    bus->write(bus->context, CORE_CONSTANTS_ADDRESS_HIGH, (uint32_t)(constants_at >> 32));
    bus->write(bus->context, CORE_CONSTANTS_COUNT, constants);
    return 0;
}

/* What stays the same from token to token. */
static inline int core_set_model(const struct core_bus *bus, const struct core_model *model) {
    uint32_t index;
    if (core_is_busy(bus)) return CORE_FAILED_BUSY;
    bus->write(bus->context, CORE_EPS, model->eps);
    bus->write(bus->context, CORE_INVERSE_HIDDEN, model->inverse_hidden);
    bus->write(bus->context, CORE_INVERSE_HEAD, model->inverse_head);
    bus->write(bus->context, CORE_INVERSE_ROOT, model->inverse_root);
    bus->write(bus->context, CORE_HEAD_ELEMENTS, model->head_elements);
    for (index = 0; index < model->rope_count; ++index) {
        uint64_t step = model->rope_steps[index];
        bus->write(bus->context, CORE_ROPE_LOW, (uint32_t)step);
        bus->write(bus->context, CORE_ROPE,
                   ((uint32_t)(step >> 32) << CORE_ROPE_HIGH_SHIFT & CORE_ROPE_HIGH_MASK) |
                       (index << CORE_ROPE_INDEX_SHIFT & CORE_ROPE_INDEX_MASK));
    }
    return 0;
}

static inline void core_set_position(const struct core_bus *bus, uint32_t position) {
    bus->write(bus->context, CORE_POSITION, position);
}

/* A register of the sequencer, 1 to 31. */
static inline void core_set_register(const struct core_bus *bus, uint32_t number, uint32_t value) {
    bus->write(bus->context, CORE_REGISTER(number), value);
}

/* Begin; `load` reads text and constants first: the first time, and after they changed. */
static inline int core_start(const struct core_bus *bus, int load) {
    if (core_is_busy(bus)) return CORE_FAILED_BUSY;
    bus->write(bus->context, CORE_START, CORE_START_START_MASK | (load ? CORE_START_LOAD_MASK : 0u));
    return 0;
}

/* Until the run is over, looking at most `polls` times. */
static inline int core_wait(const struct core_bus *bus, uint64_t polls) {
    while (polls--) {
        uint32_t status = bus->read(bus->context, CORE_STATUS), error;
        if (status & CORE_STATUS_BUSY_MASK) continue;
        error = (status & CORE_STATUS_ERROR_MASK) >> CORE_STATUS_ERROR_SHIFT;
        return error ? CORE_FAILED_ERROR(error) : 0;
    }
    return CORE_FAILED_TIMEOUT;
}

static inline int core_run(const struct core_bus *bus, int load, uint64_t polls) {
    int failed = core_start(bus, load);
    return failed ? failed : core_wait(bus, polls);
}

#ifdef CORE_CORES /* several cores: `cores[n]` is the window of core n, `all` the one that writes to all of them */
/* Begin on all in the same cycle and wait for each; the error of a core comes before those that it caused. */
static inline int core_run_all(const struct core_bus *all, const struct core_bus *cores, int load, uint64_t polls) {
    int failed = 0, found;
    uint32_t core;
    for (core = 0; core < CORE_CORES; ++core)
        if (core_is_busy(&cores[core])) return CORE_FAILED_BUSY;
    all->write(all->context, CORE_START, CORE_START_START_MASK | (load ? CORE_START_LOAD_MASK : 0u));
    for (core = 0; core < CORE_CORES; ++core) {
        found = core_wait(&cores[core], polls);
        if (found && (!failed || failed == CORE_FAILED_ERROR(CORE_ERROR_OTHER_CORE))) failed = found;
    }
    return failed;
}
#endif

/* Of the last run, when it is over. */
static inline void core_read_counts(const struct core_bus *bus, struct core_counts *counts) {
    uint32_t index;
    counts->cycles = bus->read(bus->context, CORE_CYCLES_LOW) |
                     (uint64_t)bus->read(bus->context, CORE_CYCLES_HIGH) << 32;
    counts->executed = bus->read(bus->context, CORE_EXECUTED);
    for (index = 0; index < 6; ++index) counts->busy[index] = bus->read(bus->context, CORE_BUSY(index));
}

#ifdef __cplusplus
}
#endif
#endif
