// The one piece of C++ of the host: an allocator around libtorch's own, so that every byte on the CPU has an account.
//
// Why it is here: c10::SetCPUAllocator takes a C++ object, and tch has no name for it. It owns the header before each
// block (whose bytes these are, and how many); whether there is room is decided in memory.rs. Nothing of Rust may
// unwind into it, and what it throws is caught by tch like any error of libtorch.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>

namespace {

// As memory.rs has it.
struct Refusal {
  std::uint64_t held;
  std::uint64_t limit;
  std::uint32_t by_device;
};

using Charge = const void* (*)(std::size_t bytes, Refusal* refusal);
using Discharge = void (*)(const void* account, std::size_t bytes);

Charge charge_bytes = nullptr;
Discharge discharge_bytes = nullptr;

// As large as libtorch's alignment, so that what follows it is aligned as kernels expect.
struct alignas(64) Header {
  const void* account;
  std::size_t bytes;
};
static_assert(sizeof(Header) == 64, "what follows the header must stay aligned");

// On whatever thread: the account is the block's, not the thread's.
void release(void* data) {
  if (data == nullptr) {
    return;
  }
  auto* header = static_cast<Header*>(data) - 1;
  const Header block = *header;
  c10::free_cpu(header);
  discharge_bytes(block.account, block.bytes);
}

struct Counting final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) {
      return {nullptr, nullptr, &release, cpu};
    }
    TORCH_CHECK(bytes <= std::numeric_limits<std::size_t>::max() - sizeof(Header), "no tensor has ", bytes, " bytes");
    Refusal refusal{};
    const void* account = charge_bytes(bytes, &refusal);
    // Read by memory.rs: the class of an exception does not get through tch, its text does.
    TORCH_CHECK_WITH(OutOfMemoryError, account != nullptr, "tenon-memory ", refusal.by_device ? "device" : "lane", ": ",
                     bytes, " bytes more are wanted, and ", refusal.held, " of ", refusal.limit, " are in use");
    void* base = nullptr;
    try {
      base = c10::alloc_cpu(bytes + sizeof(Header));
    } catch (...) {
      discharge_bytes(account, bytes);
      throw;
    }
    void* data = new (base) Header{account, bytes} + 1;
    // Data and context are one pointer: that is what raw_allocate asks for.
    return {data, data, &release, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &release;
  }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

extern "C" void tenon_memory_install(Charge charge, Discharge discharge) {
  charge_bytes = charge;
  discharge_bytes = discharge;
  // Never freed: blocks find their way back through it until the process ends.
  static auto* counting = new Counting;
  // Above the default's 0: only then does it replace it.
  c10::SetCPUAllocator(counting, 1);
}
