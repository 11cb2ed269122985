// A core of mixflight as a kernel on a card that XRT drives: memory for each of its ports, registers through xrt::ip.
//
//     CoreCard core{"flightllm_core.xclbin"};
//     core.memory(0, bytes).map<uint8_t*>() ... core.to_card(0);
//     core_set_text(&core.bus(), ...), core_set_model(...), core_set_register(...)
//     int failed = core_run(&core.bus(), 1, polls);
#ifndef MIXFLIGHT_CORE_XRT_H
#define MIXFLIGHT_CORE_XRT_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>

#include <experimental/xrt_ip.h>
#include <experimental/xrt_xclbin.h>
#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>

#include "core_kernel.h"
#include "core_registers.h"

#include "core_driver.h"

class CoreCard {
  public:
    // The kernel of the image, alone on the card: another process that has it is an exception of XRT.
    explicit CoreCard(const std::string& image, const std::string& kernel = CORE_KERNEL_NAME, unsigned card = 0)
        : device_(card), xclbin_(image), uuid_(device_.load_xclbin(xclbin_)), ip_(device_, uuid_, kernel),
          kernel_(xclbin_.get_kernel(kernel)) {
        bus_.context = &ip_;
        bus_.read = [](void* ip, uint32_t at) { return static_cast<xrt::ip*>(ip)->read_register(at); };
        bus_.write = [](void* ip, uint32_t at, uint32_t value) { static_cast<xrt::ip*>(ip)->write_register(at, value); };
    }

    const core_bus& bus() const { return bus_; }

    // `bytes` in the bank to which the link connected port `port`, and the port's base set to them. Ports that read the
    // same memory (DDR's two) may share one: give the second the first's address by core_set_base.
    xrt::bo& memory(unsigned port, std::size_t bytes) {
        auto placed = buffers_.emplace(port, xrt::bo(device_, bytes, bank(port))).first;
        core_set_base(&bus_, port, placed->second.address());
        return placed->second;
    }

    void to_card(unsigned port) { buffers_.at(port).sync(XCL_BO_SYNC_BO_TO_DEVICE); }
    void from_card(unsigned port) { buffers_.at(port).sync(XCL_BO_SYNC_BO_FROM_DEVICE); }

  private:
    // The bank of the kernel's argument of this port, of its first unit.
    xrt::memory_group bank(unsigned port) {
        for (auto& argument : kernel_.get_args())
            if (argument.get_index() == port && !argument.get_mems().empty())
                return static_cast<xrt::memory_group>(argument.get_mems().front().get_index());
        throw std::runtime_error("port " + std::to_string(port) + " of the kernel must be connected to a bank");
    }

    xrt::device device_;
    xrt::xclbin xclbin_;
    xrt::uuid uuid_;
    xrt::ip ip_;
    xrt::xclbin::kernel kernel_;
    core_bus bus_{};
    std::map<unsigned, xrt::bo> buffers_;
};

#endif
