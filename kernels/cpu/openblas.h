// Whether OpenBLAS runs kernels made for a processor older than the one it finds itself on: its
// table of processors ends at its release, and unknown ones get a fallback several times slower.
#pragma once

#include <string>

namespace tessera::kernels::cpu {

// `core`: what openblas_get_corename says ("" from another CBLAS). avx512, avx2: what the processor
// has (the parts that OpenBLAS's kernels use). A sentence with the cure, or "".
inline std::string openblas_warning(const std::string& core, bool avx512, bool avx2) {
  const auto one_of = [&](const std::string& names) {
    return names.find(" " + core + " ") != std::string::npos;
  };
  const bool runs_avx512 = one_of(" SkylakeX Cooperlake Sapphirerapids ");
  const bool runs_avx2 = runs_avx512 || one_of(" Haswell Zen Excavator ");
  if (core.empty() || (avx512 ? runs_avx512 : runs_avx2 || !avx2)) return "";
  return "OpenBLAS runs its " + core + " kernels, which are older than this processor (" +
         (avx512 ? "AVX-512" : "AVX2") +
         "): set OPENBLAS_CORETYPE=" + (avx512 ? "SkylakeX" : "Haswell") +
         " in the environment, or install libdnnl-dev and build again";
}

}  // namespace tessera::kernels::cpu
