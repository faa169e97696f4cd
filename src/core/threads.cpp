#include "core/threads.h"

#include <algorithm>
#include <cstdlib>

#include <omp.h>
#include <sched.h>
#include <unistd.h>

namespace tessera {

std::int64_t use_threads(std::int64_t processes) {
  const long online = std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN));
  long threads = std::max(1L, online / static_cast<long>(std::max<std::int64_t>(1, processes)));
  if (const char* wish = std::getenv("OMP_NUM_THREADS"); wish != nullptr && std::atol(wish) > 0)
    threads = std::atol(wish);
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) < threads) {
    for (long cpu = 0; cpu < std::min(online, static_cast<long>(CPU_SETSIZE)); ++cpu)
      CPU_SET(static_cast<std::size_t>(cpu), &allowed);
    // Fails inside a smaller cpuset; the threads then share what there is.
    (void)::sched_setaffinity(0, sizeof allowed, &allowed);
  }
  omp_set_num_threads(static_cast<int>(threads));
  return threads;
}

}  // namespace tessera
