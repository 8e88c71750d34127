// Packages of AOTInductor: native code that PyTorch compiled of a model ahead of time. Why it is here: what runs them is a C++
// class of libtorch's. Owns no policy: what is unpacked where, and whether it is for this machine, Rust decides.

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
#include <torch/csrc/inductor/aoti_runner/model_container_runner.h>

#include "said.h"

namespace {

using Runner = torch::inductor::AOTIModelContainerRunner;

// What a package's code throws ends within it: it says why on std::cerr, and answers with a number. So what a thread says
// there while it runs a package is kept for its error, instead of a line for each batch that fails.
class Overheard final : public std::streambuf {
 public:
  explicit Overheard(std::streambuf* others) : others_(others) {}

  static inline thread_local std::string* kept = nullptr;

 private:
  static constexpr std::size_t kMost = 4096;

  std::streamsize xsputn(const char* text, std::streamsize length) override {
    // Never that it failed: std::cerr would say nothing any more, of no thread, and reasons would be gone with it.
    if (kept == nullptr) {
      others_->sputn(text, length);
      return length;
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
    xsputn(&text, 1);
    return character;
  }

  int sync() override {
    if (kept == nullptr) {
      others_->pubsync();
    }
    return 0;
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

// What CUDA's runtime last complained of on this thread is forgotten: packages call it by themselves and leave that there, and
// the next kernel, of whichever model, would take it for its own.
void forget_complaints() {
  using Forget = int (*)();
  if (const auto forget = reinterpret_cast<Forget>(dlsym(RTLD_DEFAULT, "cudaGetLastError"))) {
    forget();
  }
}

// Runs, and says what was overheard before what was thrown.
template <typename Run>
int overheard(Said said, Run run) {
  std::string kept;
  char thrown[1024] = "";
  Overheard::kept = &kept;
  const int ended = caught({thrown, sizeof(thrown)}, run);
  Overheard::kept = nullptr;
  if (ended != 0) {
    forget_complaints();
    kept.append(kept.empty() || kept.back() == '\n' ? "" : "\n").append(thrown);
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

// Opens the code of a package for so many lanes at once, which share its weights. `device` is libtorch's name of it; what else
// the code needs lies in `folder`.
extern "C" int tenon_package_load(const char* code, const char* device, const char* folder, std::size_t lanes, Runner** runner,
                                  char* text, std::size_t room) {
  return overheard({text, room}, [&] {
    const auto& makers = torch::inductor::getAOTIModelRunnerRegistry();
    const std::string name(device);
    const auto maker = makers.find(name.substr(0, name.find(':')));
    TORCH_CHECK(maker != makers.end(), "libtorch runs no packages on ", name);
    auto made = maker->second(code, lanes, name, folder, /*run_single_threaded=*/false);
    // Without them its first run would follow pointers that are null.
    TORCH_CHECK(made->getConstantNamesToOriginalFQNs().empty() || !made->extract_constants_map(false).empty(),
                "its weights are not in it: leave aot_inductor.package_constants_in_so as it is");
    *runner = made.release();
  });
}

extern "C" void tenon_package_free(Runner* runner) {
  delete runner;
}

// Computes on the thread's stream. Writes at most `most` outputs, each a tensor that the caller owns, and how many there were.
extern "C" int tenon_package_run(Runner* runner, const at::Tensor* const* inputs, std::size_t count, at::Tensor** outputs,
                                 std::size_t most, std::size_t* gave, char* text, std::size_t room) {
  return overheard({text, room}, [&] {
    std::vector<at::Tensor> given;
    given.reserve(count);
    for (std::size_t at = 0; at < count; ++at) {
      given.push_back(*inputs[at]);
    }
    auto made = runner->boxed_run(std::move(given));
    *gave = made.size();
    for (std::size_t at = 0; at < made.size() && at < most; ++at) {
      outputs[at] = new at::Tensor(std::move(made[at]));
    }
  });
}
