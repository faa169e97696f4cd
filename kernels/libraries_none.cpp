// Builds without CUDA have no device libraries.
#include "core/error.h"
#include "kernels/libraries.h"

namespace tessera::kernels {
namespace {
[[noreturn]] void none() {
  throw Error(Category::device, "this build has no CUDA backend");
}
}  // namespace

void CloseLibraries::operator()(cuda::Libraries*) const {}
LibrariesHandle open_libraries() {
  none();
}
Algorithms& algorithms(cuda::Libraries&) {
  none();
}
void set_algorithms(cuda::Libraries&, Algorithms) {
  none();
}
void set_may_measure(cuda::Libraries&, bool) {
  none();
}

}  // namespace tessera::kernels
