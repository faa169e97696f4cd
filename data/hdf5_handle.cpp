#include "data/hdf5_handle.h"

namespace tessera::data {
namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
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
  return text.empty() ? "no reason given" : text;
}

}  // namespace tessera::data
