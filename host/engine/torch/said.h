// How the host's C++ answers Rust: a number, and in words what went wrong. Nothing may be thrown into Rust.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>

#include <c10/util/Exception.h>

namespace {

// A text of bounded length that the caller has room for.
struct Said {
  char* text;
  std::size_t room;

  void say(const char* what) const {
    const std::size_t length = std::min(std::strlen(what), room - 1);
    std::memcpy(text, what, length);
    text[length] = '\0';
  }
};

// Nothing may be thrown into Rust: 0, or -1 and what was said.
template <typename Run>
int caught(Said said, Run run) noexcept {
  try {
    run();
    return 0;
  } catch (const c10::Error& error) {
    said.say(error.what_without_backtrace());
  } catch (const std::exception& error) {
    said.say(error.what());
  } catch (...) {
    said.say("something that is no exception was thrown");
  }
  return -1;
}

}  // namespace
