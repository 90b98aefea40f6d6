// The Verilated accelerator with its clock, its AXI4 memory and its AXI4-Lite master, behind a C interface.
//
// One cycle costs two evaluations of the model. Between cycles it rests: `clk` is low, all inputs are driven
// and all outputs, including those that depend on inputs in the same cycle, have settled. `tick` then
//   1. takes what the handshakes of this cycle transfer, from the settled outputs,
//   2. evaluates the rising edge,
//   3. drives the inputs of the next cycle, which depend on the memory's registers only,
//   4. evaluates the falling edge, with which the outputs settle.
// The memory never answers in the cycle of a request, so no combinational loop can form through it.

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Waves = VerilatedFstC;
#elif VM_TRACE
#include "verilated_vcd_c.h"
using Waves = VerilatedVcdC;
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

// What the design prints with $stop, $finish or $fatal ends the run, not the Python process.
void vl_finish(const char*, int, const char*) { throw std::runtime_error("the design called $finish"); }
void vl_stop(const char* file, int line, const char*) {
    throw std::runtime_error(std::string("the design stopped at ") + file + ":" + std::to_string(line));
}
void vl_fatal(const char* file, int line, const char*, const char* message) {
    throw std::runtime_error(std::string(message) + " at " + file + ":" + std::to_string(line));
}

namespace {

enum Response : uint8_t { OKAY = 0, SLVERR = 2, DECERR = 3 };
enum Fault : uint32_t { ANSWER_SLVERR = 0, NEVER_ANSWER = 1 };

}  // namespace

// Mirrored by ctypes structures in model.py.
struct Options {
    uint8_t* data;
    uint64_t base, size;   // of the memory, bytes
    uint64_t seed;
    uint32_t latency;        // cycles from a read address to its first beat, at least 1
    uint32_t write_latency;  // cycles from the last write beat to its response, at least 1
    uint32_t outstanding;    // bursts that each direction holds, 1 to 256
    uint32_t rate;           // beats in 65536 cycles, 1 to 65536, each direction
    uint32_t stall;          // probability of a stall, of 65536, each channel and cycle
};

struct Statistics {
    uint64_t read_bursts, read_beats, read_bytes;
    uint64_t write_bursts, write_beats, write_bytes;
    uint64_t read_wait;      // cycles in which a read beat waited for rready
    uint64_t slave_errors;   // beats answered with SLVERR
    uint64_t decode_errors;  // beats outside the memory, answered with DECERR
    uint64_t first_decode_error;
};

struct PortInfo {
    const char* name;
    void* value;
    uint32_t width;
    uint32_t is_input;
};

namespace {

constexpr uint32_t FULL_RATE = 65536;

class Memory {
public:
    static constexpr uint64_t BEAT = sizeof(std::declval<Vtop&>().m_axi_mem_rdata);
    Statistics statistics{};
    // A run stops after a write to `watched`, the address of a beat.
    uint64_t watched = ~uint64_t(0);
    bool watch_hit = false;

    Memory(Vtop& top, const Options& options) : top(top), options(options) { seed(options.seed); }

    void add_fault(uint64_t first, uint64_t last, uint32_t kind) { faults.push_back({first, last, kind}); }
    void clear_faults() { faults.clear(); }

    // Forget all bursts, as a reset does.
    void clear() {
        reads.clear();
        writes.clear();
        responses.clear();
        r_valid = b_valid = false;
        ar_held = aw_held = w_held = false;
    }

    // Take the transfers of this cycle from the settled ports.
    void sample(uint64_t cycle) {
        if (top.m_axi_mem_arvalid | ar_held) sample_ar(cycle);
        if (r_valid) sample_r();
        if (top.m_axi_mem_awvalid | aw_held) sample_aw();
        if (top.m_axi_mem_wvalid | w_held) sample_w(cycle);
        if (b_valid && top.m_axi_mem_bready) b_valid = false;
    }

    // Drive the memory's outputs for `cycle`, the coming one.
    void drive(uint64_t cycle) {
        if (options.rate != FULL_RATE) {
            read_credit = std::min(read_credit + options.rate, 2 * FULL_RATE - 1);
            write_credit = std::min(write_credit + options.rate, 2 * FULL_RATE - 1);
        }
        if (!r_valid && reads.count && reads.front().due <= cycle && read_credit >= FULL_RATE && !stalls())
            present_read();
        top.m_axi_mem_rvalid = r_valid;
        if (!b_valid && responses.count && responses.front().due <= cycle && !stalls()) present_response();
        top.m_axi_mem_bvalid = b_valid;
        top.m_axi_mem_arready = reads.count < options.outstanding && !stalls();
        top.m_axi_mem_awready = writes.count + responses.count < options.outstanding && !stalls();
        top.m_axi_mem_wready = writes.count && write_credit >= FULL_RATE && !stalls();
    }

private:
    struct Burst {
        uint64_t address;  // of the next beat
        uint64_t due;
        uint32_t beats;  // that are left
        uint32_t id;
        uint8_t response;
        bool unanswered;  // a beat went where nobody answers
    };
    struct Range {
        uint64_t first, last;
        uint32_t kind;
    };
    struct Queue {
        Burst items[256];
        uint32_t head = 0, count = 0;
        Burst& front() { return items[head & 255]; }
        void push(const Burst& burst) { items[(head + count++) & 255] = burst; }
        void pop() { ++head, --count; }
        void clear() { count = 0; }
    };

    Vtop& top;
    const Options options;
    Queue reads, writes, responses;
    std::vector<Range> faults;
    uint64_t random_state = 1;
    uint32_t read_credit = FULL_RATE, write_credit = FULL_RATE;
    bool r_valid = false, b_valid = false;
    // A request that waits for `ready` has to stay as it is: what it was.
    bool ar_held = false, aw_held = false, w_held = false;
    uint64_t ar_payload = 0, aw_payload = 0;
    uint8_t w_data[BEAT];
    uint64_t w_payload = 0;

    void seed(uint64_t value) { random_state = value * 0x9E3779B97F4A7C15u ^ 0xD1B54A32D192ED03u; }

    bool stalls() {
        if (options.stall == 0) return false;
        random_state ^= random_state << 13;  // xorshift64
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        return (random_state >> 32 & 0xFFFF) < options.stall;
    }

    [[noreturn]] static void violation(const char* format, ...) {
        char text[256];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        throw std::runtime_error(std::string("AXI4 rule broken: ") + text);
    }

    bool is_fault(uint64_t address, uint32_t kind) const {
        for (const Range& range : faults)
            if (range.kind == kind && address + BEAT > range.first && address <= range.last) return true;
        return false;
    }

    // The memory behind a beat, or nullptr, and the response to it.
    uint8_t* locate(uint64_t address, uint8_t& response) {
        uint64_t offset = address - options.base;
        if (address < options.base || options.size < BEAT || offset > options.size - BEAT) {
            if (statistics.decode_errors++ == 0) statistics.first_decode_error = address;
            response = DECERR;
            return nullptr;
        }
        if (!faults.empty() && is_fault(address, ANSWER_SLVERR)) {
            ++statistics.slave_errors;
            response = SLVERR;
            return nullptr;
        }
        response = OKAY;
        return options.data + offset;
    }

    static void check_burst(const char* channel, uint64_t address, uint32_t beats, uint32_t size,
                            uint32_t type) {
        if (type != 1 && beats != 1) violation("%s burst must be INCR (1), not %u", channel, type);
        if (uint64_t(1) << size != BEAT)
            violation("%s size must be that of the bus, %u bytes, not %u", channel, unsigned(BEAT),
                      1u << size);
        if ((address & 4095 & ~(BEAT - 1)) + beats * BEAT > 4096)
            violation("%s burst of %u beats at 0x%" PRIx64 " crosses a 4 KiB boundary", channel, beats,
                      address);
    }

    static void check_held(const char* channel, bool held, bool valid, bool same) {
        if (held && !valid) violation("%svalid fell before %sready", channel, channel);
        if (held && !same) violation("%s payload changed before %sready", channel, channel);
    }

    void sample_ar(uint64_t cycle) {
        uint64_t address = top.m_axi_mem_araddr;
        uint64_t payload = address << 8 | top.m_axi_mem_arlen;
        bool valid = top.m_axi_mem_arvalid, ready = top.m_axi_mem_arready;
        check_held("ar", ar_held, valid, payload == ar_payload);
        ar_held = valid && !ready;
        ar_payload = payload;
        if (!valid || !ready) return;
        uint32_t beats = top.m_axi_mem_arlen + 1;
        check_burst("ar", address, beats, top.m_axi_mem_arsize, top.m_axi_mem_arburst);
        reads.push({address & ~(BEAT - 1), cycle + options.latency, beats, uint32_t(top.m_axi_mem_arid), OKAY,
                    false});
        ++statistics.read_bursts;
    }

    void present_read() {
        Burst& burst = reads.front();
        if (!faults.empty() && is_fault(burst.address, NEVER_ANSWER)) return;
        uint8_t response;
        const uint8_t* data = locate(burst.address, response);
        if (data)
            memcpy(&top.m_axi_mem_rdata, data, BEAT);
        else
            memset(&top.m_axi_mem_rdata, 0, BEAT);
        top.m_axi_mem_rresp = response;
        top.m_axi_mem_rlast = burst.beats == 1;
        top.m_axi_mem_rid = burst.id;
        r_valid = true;
        if (options.rate != FULL_RATE) read_credit -= FULL_RATE;
    }

    void sample_r() {
        if (!top.m_axi_mem_rready) {
            ++statistics.read_wait;
            return;
        }
        r_valid = false;
        Burst& burst = reads.front();
        ++statistics.read_beats;
        statistics.read_bytes += BEAT;
        burst.address += BEAT;
        if (--burst.beats == 0) reads.pop();
    }

    void sample_aw() {
        uint64_t address = top.m_axi_mem_awaddr;
        uint64_t payload = address << 8 | top.m_axi_mem_awlen;
        bool valid = top.m_axi_mem_awvalid, ready = top.m_axi_mem_awready;
        check_held("aw", aw_held, valid, payload == aw_payload);
        aw_held = valid && !ready;
        aw_payload = payload;
        if (!valid || !ready) return;
        uint32_t beats = top.m_axi_mem_awlen + 1;
        check_burst("aw", address, beats, top.m_axi_mem_awsize, top.m_axi_mem_awburst);
        writes.push({address & ~(BEAT - 1), 0, beats, uint32_t(top.m_axi_mem_awid), OKAY, false});
        ++statistics.write_bursts;
    }

    void sample_w(uint64_t cycle) {
        uint64_t payload = uint64_t(top.m_axi_mem_wstrb) << 1 | top.m_axi_mem_wlast;
        bool valid = top.m_axi_mem_wvalid, ready = top.m_axi_mem_wready;
        const void* data = &top.m_axi_mem_wdata;
        if (w_held)
            check_held("w", true, valid, payload == w_payload && memcmp(w_data, data, BEAT) == 0);
        w_held = valid && !ready;
        if (w_held) {
            w_payload = payload;
            memcpy(w_data, data, BEAT);
        }
        if (!valid || !ready) return;
        if (options.rate != FULL_RATE) write_credit -= FULL_RATE;
        Burst& burst = writes.front();
        if (bool(top.m_axi_mem_wlast) != (burst.beats == 1))
            violation("wlast is %u with %u beats left at 0x%" PRIx64, unsigned(top.m_axi_mem_wlast),
                      burst.beats, burst.address);
        uint64_t strobes = top.m_axi_mem_wstrb;
        uint8_t response;
        uint8_t* target = locate(burst.address, response);
        if (target) {
            constexpr uint64_t ALL = BEAT >= 64 ? ~uint64_t(0) : (uint64_t(1) << BEAT % 64) - 1;
            if (strobes == ALL)
                memcpy(target, data, BEAT);
            else
                for (uint64_t i = 0; i < BEAT; ++i)
                    if (strobes >> i & 1) target[i] = static_cast<const uint8_t*>(data)[i];
        }
        burst.response = std::max(burst.response, response);
        if (!faults.empty() && is_fault(burst.address, NEVER_ANSWER)) burst.unanswered = true;
        if (burst.address == watched) watch_hit = true;
        ++statistics.write_beats;
        statistics.write_bytes += __builtin_popcountll(strobes);
        burst.address += BEAT;
        if (--burst.beats == 0) {
            Burst done = burst;
            done.due = cycle + options.write_latency;
            writes.pop();
            responses.push(done);
        }
    }

    void present_response() {
        Burst& done = responses.front();
        if (done.unanswered && !faults.empty()) return;
        top.m_axi_mem_bresp = done.response;
        top.m_axi_mem_bid = done.id;
        b_valid = true;
        responses.pop();
    }
};

}  // namespace

struct Simulation {
    VerilatedContext context;
    Vtop top{&context, ""};
    Memory memory;
    uint64_t cycle = 0;
    std::string error;
    std::vector<PortInfo> ports;
    const uint32_t* observed = nullptr;  // the port of this name, where the top has it
    bool observing = false;
    std::vector<uint32_t> observations;  // its values, one a cycle

    explicit Simulation(const Options& options) : memory(top, options) {
#define INPUT(name, text, width) ports.push_back({text, &top.name, width, 1});
#define OUTPUT(name, text, width) ports.push_back({text, &top.name, width, 0});
#include "ports.inc"
        for (const PortInfo& port : ports)
            if (strcmp(port.name, "observed") == 0) observed = static_cast<const uint32_t*>(port.value);
#if VM_TRACE
        context.traceEverOn(true);
#endif
        top.clk = 0;
        memory.drive(0);
        top.eval_step();
    }

    ~Simulation() {
        stop_waves();
        top.final();
    }

    void tick() {
        if (top.rst)
            memory.clear();
        else
            memory.sample(cycle);
        if (observing) observations.push_back(*observed);
        top.clk = 1;
        top.eval_step();
        dump(10 * cycle + 5);
        ++cycle;
        memory.drive(cycle);
        top.clk = 0;
        top.eval_step();
        dump(10 * cycle);
    }

    // Returns the number of cycles done.
    uint64_t run(uint64_t cycles, bool until_interrupt) {
        uint64_t first = cycle;
        top.eval_step();  // Python may have set an input
        if (until_interrupt)
            while (cycle - first < cycles && !top.__SYM__interrupt && !memory.watch_hit) tick();
        else
            while (cycle - first < cycles) tick();
        return cycle - first;
    }

    // An AXI4-Lite write; returns the response, or -1 when none came within `limit` cycles.
    int write(uint32_t offset, uint32_t value, uint64_t limit) {
        top.s_axi_ctrl_awaddr = offset;
        top.s_axi_ctrl_awprot = 0;
        top.s_axi_ctrl_awvalid = 1;
        top.s_axi_ctrl_wdata = value;
        top.s_axi_ctrl_wstrb = 15;
        top.s_axi_ctrl_wvalid = 1;
        top.s_axi_ctrl_bready = 1;
        int response = -1;
        for (uint64_t i = 0; i < limit && response < 0; ++i) {
            top.eval_step();
            bool address_taken = top.s_axi_ctrl_awready, data_taken = top.s_axi_ctrl_wready;
            if (top.s_axi_ctrl_bvalid) response = top.s_axi_ctrl_bresp;
            tick();
            if (address_taken) top.s_axi_ctrl_awvalid = 0;
            if (data_taken) top.s_axi_ctrl_wvalid = 0;
        }
        top.s_axi_ctrl_awvalid = top.s_axi_ctrl_wvalid = top.s_axi_ctrl_bready = 0;
        top.eval_step();
        return response;
    }

    int read(uint32_t offset, uint32_t& value, uint64_t limit) {
        top.s_axi_ctrl_araddr = offset;
        top.s_axi_ctrl_arprot = 0;
        top.s_axi_ctrl_arvalid = 1;
        top.s_axi_ctrl_rready = 1;
        int response = -1;
        for (uint64_t i = 0; i < limit && response < 0; ++i) {
            top.eval_step();
            bool taken = top.s_axi_ctrl_arready;
            if (top.s_axi_ctrl_rvalid) {
                response = top.s_axi_ctrl_rresp;
                value = top.s_axi_ctrl_rdata;
            }
            tick();
            if (taken) top.s_axi_ctrl_arvalid = 0;
        }
        top.s_axi_ctrl_arvalid = top.s_axi_ctrl_rready = 0;
        top.eval_step();
        return response;
    }

    bool start_waves(const char* path) {
#if VM_TRACE
        stop_waves();
        if (!traced) {
            // A model can be given to one trace object in its life: it is kept, and opened again.
            recorder = std::make_unique<Waves>();
            top.trace(recorder.get(), 99);
            traced = true;
        }
        recorder->open(path);
        recording = recorder->isOpen();
        dump(10 * cycle);
        return recording;
#else
        (void)path;
        return false;
#endif
    }

    void stop_waves() {
#if VM_TRACE
        if (recording) recorder->close();
        recording = false;
#endif
    }

private:
#if VM_TRACE
    std::unique_ptr<Waves> recorder;
    bool traced = false, recording = false;
    void dump(uint64_t time) {
        if (recording) recorder->dump(time);
    }
#else
    void dump(uint64_t) {}
#endif
};

// Runs `body`; what it throws becomes the text of `celosia_error`, and `fallback` is returned.
template <typename T, typename F>
static T guarded(Simulation* simulation, T fallback, F body) {
    if (!simulation->error.empty()) return fallback;
    try {
        return body();
    } catch (const std::exception& problem) {
        simulation->error =
            std::string(problem.what()) + " (cycle " + std::to_string(simulation->cycle) + ")";
        return fallback;
    }
}

EXPORT Simulation* celosia_create(const Options* options) { return new Simulation(*options); }
EXPORT void celosia_destroy(Simulation* simulation) { delete simulation; }
EXPORT const char* celosia_error(Simulation* simulation) { return simulation->error.c_str(); }
EXPORT uint64_t celosia_cycle(Simulation* simulation) { return simulation->cycle; }
EXPORT uint32_t celosia_beat_bytes() { return Memory::BEAT; }

EXPORT uint64_t celosia_run(Simulation* simulation, uint64_t cycles, int until_interrupt) {
    uint64_t first = simulation->cycle;
    guarded(simulation, uint64_t(0), [&] { return simulation->run(cycles, until_interrupt); });
    return simulation->cycle - first;
}

EXPORT void celosia_watch(Simulation* simulation, uint64_t address) {
    simulation->memory.watched = address & ~(Memory::BEAT - 1);
    simulation->memory.watch_hit = false;
}

EXPORT int celosia_watch_hit(Simulation* simulation) { return simulation->memory.watch_hit; }

EXPORT int celosia_write(Simulation* simulation, uint32_t offset, uint32_t value, uint64_t limit) {
    return guarded(simulation, -1, [&] { return simulation->write(offset, value, limit); });
}

EXPORT int celosia_read(Simulation* simulation, uint32_t offset, uint32_t* value, uint64_t limit) {
    return guarded(simulation, -1, [&] { return simulation->read(offset, *value, limit); });
}

EXPORT void celosia_settle(Simulation* simulation) {
    guarded(simulation, 0, [&] { return simulation->top.eval_step(), 0; });
}

EXPORT uint32_t celosia_ports(Simulation* simulation, const PortInfo** ports) {
    *ports = simulation->ports.data();
    return simulation->ports.size();
}

EXPORT void celosia_statistics(Simulation* simulation, Statistics* statistics) {
    *statistics = simulation->memory.statistics;
}

EXPORT void celosia_clear_statistics(Simulation* simulation) { simulation->memory.statistics = {}; }

EXPORT void celosia_add_fault(Simulation* simulation, uint64_t first, uint64_t last, uint32_t kind) {
    simulation->memory.add_fault(first, last, kind);
}

EXPORT void celosia_clear_faults(Simulation* simulation) { simulation->memory.clear_faults(); }

EXPORT int celosia_observe(Simulation* simulation, int on) {
    simulation->observations.clear();
    simulation->observing = on && simulation->observed;
    return simulation->observed != nullptr;
}

EXPORT uint64_t celosia_observations(Simulation* simulation, const uint32_t** values) {
    *values = simulation->observations.data();
    return simulation->observations.size();
}

EXPORT int celosia_waves() { return VM_TRACE; }

EXPORT int celosia_start_waves(Simulation* simulation, const char* path) {
    return guarded(simulation, 0, [&] { return int(simulation->start_waves(path)); });
}

EXPORT void celosia_stop_waves(Simulation* simulation) { simulation->stop_waves(); }
