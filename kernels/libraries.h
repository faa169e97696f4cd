// The CUDA libraries that operations call and the algorithms chosen for them: one object a process
// and device, handed to operations in Queue::libraries.
//
// While `may_measure` is set, an operation that meets a shape without a recorded choice times its
// candidates on the arguments it is given (which ruins outputs that it adds to) and records the
// fastest; otherwise it takes a fixed heuristic choice and records that. A capturing stream never
// measures.
#pragma once

#include <memory>

#include "kernels/algorithms.h"
#include "kernels/queue.h"

namespace tessera::kernels {

struct CloseLibraries {
  void operator()(cuda::Libraries* libraries) const;
};
using LibrariesHandle = std::unique_ptr<cuda::Libraries, CloseLibraries>;

// Opens cuBLASLt on the current device. Error{device} without a device or CUDA build.
LibrariesHandle open_libraries();

Algorithms& algorithms(cuda::Libraries& libraries);
// Takes other choices; what was prepared by the old ones is forgotten.
void set_algorithms(cuda::Libraries& libraries, Algorithms algorithms);
void set_may_measure(cuda::Libraries& libraries, bool may_measure);

}  // namespace tessera::kernels
