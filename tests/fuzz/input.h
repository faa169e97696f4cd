// What the fuzz targets share: an input as a file, and the rule that a reader may only succeed or
// throw tessera::Error with one line. Anything else ends the target.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"

namespace tessera::fuzz {

// The bytes as a file in memory, at path().
class InputFile {
 public:
  InputFile(const std::uint8_t* data, std::size_t size) : descriptor_(::memfd_create("input", 0)) {
    if (descriptor_ < 0 || ::pwrite(descriptor_, data, size, 0) != static_cast<ssize_t>(size))
      std::abort();
  }
  ~InputFile() { ::close(descriptor_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

template <typename Work>
int attempt(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    const std::string said = error.what();
    const bool known = error.category() == Category::data || error.category() == Category::config;
    if (!known || said.empty() || said.find('\n') != std::string::npos) {
      std::fprintf(stderr, "not an answer to a bad file: %s\n", said.c_str());
      std::abort();
    }
  }
  return 0;
}

}  // namespace tessera::fuzz
