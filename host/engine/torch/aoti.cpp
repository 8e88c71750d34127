// Packages of AOTInductor: native code that PyTorch compiled of a model ahead of time. Why it is here: their loader is a C++
// class of libtorch's. Owns no policy: whether a package is for this machine, Rust decides by what the package tells.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <streambuf>
#include <string>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <ATen/Tensor.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include "said.h"

namespace {

using Loader = torch::inductor::AOTIModelPackageLoader;

// What a package's code throws ends within it: it says why on std::cerr, and answers with a number. So what a thread says
// there while it runs a package is kept for its error, instead of a line for each batch that fails.
class Overheard final : public std::streambuf {
 public:
  explicit Overheard(std::streambuf* others) : others_(others) {}

  static inline thread_local std::string* kept = nullptr;

 private:
  static constexpr std::size_t kMost = 4096;

  std::streamsize xsputn(const char* text, std::streamsize length) override {
    if (kept == nullptr) {
      return others_->sputn(text, length);
    }
    const std::size_t room = kMost - std::min(kMost, kept->size());
    kept->append(text, std::min(room, static_cast<std::size_t>(length)));
    return length;
  }

  int_type overflow(int_type character) override {
    if (traits_type::eq_int_type(character, traits_type::eof())) {
      return traits_type::not_eof(character);
    }
    const char text = traits_type::to_char_type(character);
    return xsputn(&text, 1) == 1 ? character : traits_type::eof();
  }

  int sync() override {
    return kept == nullptr ? others_->pubsync() : 0;
  }

  std::streambuf* others_;
};

// Before `main`, while there is one thread. A package checks the shapes of its inputs only where this variable is set, and
// reads past their ends otherwise.
struct BeforeMain {
  BeforeMain() {
    setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", /*overwrite=*/1);
    // Never freed: others write there until the process ends.
    std::cerr.rdbuf(new Overheard(std::cerr.rdbuf()));
  }
} const before_main;

// Runs, and says what was overheard instead of the number's error.
template <typename Run>
int overheard(Said said, Run run) {
  std::string kept;
  Overheard::kept = &kept;
  const int ended = caught(said, run);
  Overheard::kept = nullptr;
  if (ended != 0 && !kept.empty()) {
    said.say(kept.c_str());
  }
  return ended;
}

}  // namespace

// Opens a library that has a name and nothing else, so that packages which ask for it are content. From memory, because nobody
// says where files may be run from.
extern "C" int tenon_package_name(const char* library, std::size_t length, char* text, std::size_t room) {
  return caught({text, room}, [&] {
    const int file = memfd_create("libtorch.so", MFD_CLOEXEC);
    TORCH_CHECK(file >= 0 && write(file, library, length) == static_cast<ssize_t>(length), "no memory for a library's name");
    const auto path = "/proc/self/fd/" + std::to_string(file);
    const bool opened = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr;
    close(file);
    TORCH_CHECK(opened, dlerror());
  });
}

// What a package tells of itself under a key, without running anything of it; empty where it tells nothing.
extern "C" int tenon_package_tells(const char* file, const char* key, char* value, std::size_t value_room, char* text,
                                   std::size_t room) {
  return overheard({text, room}, [&] {
    const auto told = Loader::load_metadata_from_package(file, "model");
    const auto found = told.find(key);
    Said{value, value_room}.say(found == told.end() ? "" : found->second.c_str());
  });
}

// Unpacks and opens a package for so many lanes at once, which share its weights. On the processor for device -1.
extern "C" int tenon_package_load(const char* file, int device, std::size_t lanes, Loader** loader, char* text,
                                  std::size_t room) {
  return overheard({text, room}, [&] {
    *loader = new Loader(file, "model", /*run_single_threaded=*/false, lanes, static_cast<c10::DeviceIndex>(device));
  });
}

extern "C" void tenon_package_free(Loader* loader) {
  delete loader;
}

// Computes on the thread's stream. Writes at most `most` outputs, each a tensor that the caller owns, and how many there were.
extern "C" int tenon_package_run(Loader* loader, const at::Tensor* const* inputs, std::size_t count, at::Tensor** outputs,
                                 std::size_t most, std::size_t* gave, char* text, std::size_t room) {
  return overheard({text, room}, [&] {
    std::vector<at::Tensor> given;
    given.reserve(count);
    for (std::size_t at = 0; at < count; ++at) {
      given.push_back(*inputs[at]);
    }
    auto made = loader->boxed_run(std::move(given));
    *gave = made.size();
    for (std::size_t at = 0; at < made.size() && at < most; ++at) {
      outputs[at] = new at::Tensor(std::move(made[at]));
    }
  });
}
