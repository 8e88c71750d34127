// Most of the host's C++ (script.cpp has the rest). First an allocator around libtorch's own, so that every byte on the CPU has an account;
// then what devices need and tch has no name for.
//
// Why it is here: c10::SetCPUAllocator takes a C++ object. It owns the header before each block (whose bytes these are,
// and how many); whether there is room is decided in memory.rs. Nothing of Rust may unwind into it, and what it throws
// is caught by tch like any error of libtorch.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <new>

#include "said.h"

#include <dlfcn.h>

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
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

// Devices. Everything here is libtorch's device-generic interface, which lies in its CPU half: no header of CUDA is needed,
// and the same calls reach CUDA once its half has been loaded. Why it is here: tch knows neither streams nor events, nor
// pinned memory, nor what the device's allocator holds.

namespace {

constexpr auto kDevice = c10::DeviceType::CUDA;

c10::Device device_at(int index) {
  return {kDevice, static_cast<c10::DeviceIndex>(index)};
}

// As device.rs has it.
struct DeviceFigures {
  std::uint64_t free;
  std::uint64_t total;
  std::uint64_t allocated;
  std::uint64_t peak;
};

// As device.rs has it.
struct StreamName {
  std::int64_t id;
  std::int64_t device;
};

c10::Stream stream_of(StreamName name) {
  return c10::Stream::unpack3(name.id, static_cast<c10::DeviceIndex>(name.device), kDevice);
}

}  // namespace

// Loads the half of libtorch that computes on CUDA; its symbols must be there for the half that is linked.
extern "C" int tenon_device_load(const char* library, int* count, char* text, std::size_t room) {
  const Said said{text, room};
  if (dlopen(library, RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    said.say(dlerror());
    return -1;
  }
  return caught(said, [&] {
    at::globalContext().lazyInitDevice(kDevice);
    *count = c10::impl::VirtualGuardImpl(kDevice).deviceCount();
  });
}

// Where the device is on its bus, by which its driver knows it. Asked of CUDA's runtime, which libtorch has brought along: the
// device-generic interface has no word for it.
extern "C" int tenon_device_bus(int device, char* bus, std::size_t bus_room, char* text, std::size_t room) {
  const Said said{text, room};
  using Ask = int (*)(char* bus, int room, int device);
  using Forget = int (*)();
  const auto ask = reinterpret_cast<Ask>(dlsym(RTLD_DEFAULT, "cudaDeviceGetPCIBusId"));
  const auto forget = reinterpret_cast<Forget>(dlsym(RTLD_DEFAULT, "cudaGetLastError"));
  if (ask == nullptr || forget == nullptr) {
    said.say("there is no runtime of CUDA's");
    return -1;
  }
  if (ask(bus, static_cast<int>(bus_room), device) != 0) {
    // Or it would be taken for the next kernel's.
    forget();
    said.say("CUDA's runtime does not know the device's bus");
    return -1;
  }
  return 0;
}

// Whether matrix products and convolutions may round their inputs to TF32: for the whole process, whoever submits work.
// (at::NoTF32Guard, which is a thread's, was seen to change nothing for cuBLAS in 2.11.)
extern "C" int tenon_device_tf32(bool allowed, char* text, std::size_t room) {
  return caught({text, room}, [&] {
    at::globalContext().setAllowTF32CuBLAS(allowed);
    at::globalContext().setAllowTF32CuDNN(allowed);
  });
}

extern "C" int tenon_device_figures(int device, DeviceFigures* figures, char* text, std::size_t room) {
  return caught({text, room}, [&] {
    auto* allocator = at::getDeviceAllocator(kDevice);
    const auto index = static_cast<c10::DeviceIndex>(device);
    const auto [free, total] = allocator->getMemoryInfo(index);
    const auto stats = allocator->getDeviceStats(index);
    const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *figures = {free, total, static_cast<std::uint64_t>(stats.allocated_bytes[all].current),
                static_cast<std::uint64_t>(stats.allocated_bytes[all].peak)};
  });
}

// Asked for each request: without a call into the driver.
extern "C" int tenon_device_allocated(int device, std::uint64_t* bytes, char* text, std::size_t room) {
  return caught({text, room}, [&] {
    const auto stats = at::getDeviceAllocator(kDevice)->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *bytes = static_cast<std::uint64_t>(stats.allocated_bytes[all].current);
  });
}

extern "C" int tenon_device_reset_peak(int device, char* text, std::size_t room) {
  return caught({text, room}, [&] {
    at::getDeviceAllocator(kDevice)->resetPeakStats(static_cast<c10::DeviceIndex>(device));
  });
}

// Gives the driver back what the allocator only keeps.
extern "C" int tenon_device_empty_cache(char* text, std::size_t room) {
  return caught({text, room}, [&] { at::getDeviceAllocator(kDevice)->emptyCache(); });
}

extern "C" int tenon_stream_new(int device, StreamName* name, char* text, std::size_t room) {
  return caught({text, room}, [&] {
    const auto parts = c10::impl::VirtualGuardImpl(kDevice).getNewStream(device_at(device), 0).pack3();
    *name = {parts.stream_id, parts.device_index};
  });
}

// What this thread submits goes there from now on; tells where it went before.
extern "C" int tenon_stream_enter(StreamName name, StreamName* before, char* text, std::size_t room) {
  return caught({text, room}, [&] {
    const c10::impl::VirtualGuardImpl guard(kDevice);
    const auto stream = stream_of(name);
    guard.setDevice(stream.device());
    const auto parts = guard.exchangeStream(stream).pack3();
    if (before != nullptr) {
      *before = {parts.stream_id, parts.device_index};
    }
  });
}

// An event that tells times, to be reused; destroyed by tenon_event_free.
extern "C" int tenon_event_new(c10::Event** event, char* text, std::size_t room) {
  return caught({text, room}, [&] { *event = new c10::Event(kDevice, c10::EventFlag::BACKEND_DEFAULT); });
}

extern "C" void tenon_event_free(c10::Event* event) {
  delete event;
}

// Notes how far the stream has been given work.
extern "C" int tenon_event_record(c10::Event* event, StreamName name, char* text, std::size_t room) {
  return caught({text, room}, [&] { event->record(stream_of(name)); });
}

// Whether the stream has come as far.
extern "C" int tenon_event_query(c10::Event* event, bool* done, char* text, std::size_t room) {
  return caught({text, room}, [&] { *done = event->query(); });
}

// How long after the first event the stream came to the second, which may be less than nothing; both must be done.
extern "C" int tenon_event_elapsed(c10::Event* from, c10::Event* to, double* milliseconds, char* text, std::size_t room) {
  return caught({text, room}, [&] { *milliseconds = from->elapsedTime(*to); });
}

// Bytes that the device copies from and to by itself, as a tensor; freed like any tensor, into a pool of libtorch's.
extern "C" int tenon_pinned(std::int64_t bytes, at::Tensor** tensor, char* text, std::size_t room) {
  return caught({text, room}, [&] {
    const auto options = at::TensorOptions().dtype(at::kByte).pinned_memory(true);
    *tensor = new at::Tensor(at::empty({bytes}, options));
  });
}

// Copies between the device and pinned memory behind what the stream has to do; returns before that has happened.
extern "C" int tenon_copy(at::Tensor* to, const at::Tensor* from, char* text, std::size_t room) {
  return caught({text, room}, [&] { to->copy_(*from, /*non_blocking=*/true); });
}
