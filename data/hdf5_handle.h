// HDF5 identifiers that close themselves, the lock every HDF5 call is made under, and HDF5's own
// words for a failure.
//
// The library keeps global state and, built without thread safety, must not be entered twice; so
// whoever calls it holds an Hdf5Lock (recursive: handles take it again when they close).
#pragma once

#include <mutex>
#include <string>
#include <utility>

#include <hdf5.h>

namespace tessera::data {

// Holds the process's HDF5 lock and keeps the library from printing its errors on this thread.
class Hdf5Lock {
 public:
  Hdf5Lock();

 private:
  std::lock_guard<std::recursive_mutex> guard_;
};

class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Close closer) : id_(id), close_(closer) {}
  ~Hdf5Handle() { reset(); }
  Hdf5Handle(Hdf5Handle&& other) noexcept
      : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    if (this != &other) {
      reset();
      id_ = std::exchange(other.id_, -1);
      close_ = other.close_;
    }
    return *this;
  }

  bool valid() const { return id_ >= 0; }
  hid_t get() const { return id_; }
  void reset();
  // Closes and says whether HDF5 agreed: what was written may fail as late as here.
  bool close();

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

// The innermost description on this thread's HDF5 error stack, or "no reason given".
std::string hdf5_reason();

}  // namespace tessera::data
