#include "data/hdf5_handle.h"

namespace tessera::data {
namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  // All files are closed by their handles. The library's own cleaning up when the program ends
  // crashes after a failed write (1.10), which would hide the error.
  static const herr_t prepared = H5dont_atexit();
  static_cast<void>(prepared);
  return mutex;
}

// "file write failed: time = ..., error message = 'File too large', buf = ..." -> the two that
// tell.
std::string shortened(const std::string& text) {
  const std::string mark = "error message = '";
  const std::size_t time = text.find(": time = "), begin = text.find(mark);
  if (time == std::string::npos || begin == std::string::npos) return text;
  const std::size_t from = begin + mark.size(), to = text.find('\'', from);
  return text.substr(0, time) + ": " + text.substr(from, to - from);
}

herr_t keep_description(unsigned, const H5E_error2_t* error, void* text) {
  if (error->desc != nullptr && error->desc[0] != '\0')
    *static_cast<std::string*>(text) = error->desc;
  return 0;
}

}  // namespace

Hdf5Lock::Hdf5Lock() : guard_(library_mutex()) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // each thread has its own setting
}

void Hdf5Handle::reset() {
  if (valid()) close();
}

bool Hdf5Handle::close() {
  const Hdf5Lock lock;
  return close_(std::exchange(id_, -1)) >= 0;
}

std::string hdf5_reason() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_description, &text);
  return text.empty() ? "no reason given" : shortened(text);
}

}  // namespace tessera::data
