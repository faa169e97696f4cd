// Tensor maps through the driver's entry point: nothing is linked against libcuda.
#include <string>

#include "kernels/cuda/tma.cuh"

namespace tessera::kernels::cuda {
namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                            const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                            CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                            CUtensorMapFloatOOBfill);

Encode find_encode() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry,
                                                              12000, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess || !entry)
    throw Error(Category::device, "the driver has no tensor maps (cuTensorMapEncodeTiled)");
  return reinterpret_cast<Encode>(entry);
}

}  // namespace

CUtensorMap tile_map(const TileSource& s, int box_rows) {
  static const Encode encode = find_encode();
  const auto bytes = [](std::int64_t elements) { return static_cast<cuuint64_t>(2 * elements); };
  const cuuint64_t sizes[4] = {static_cast<cuuint64_t>(kTileColumns),
                               static_cast<cuuint64_t>(s.rows), static_cast<cuuint64_t>(s.middle),
                               static_cast<cuuint64_t>(s.outer)};
  const cuuint64_t strides[3] = {bytes(s.row_stride), bytes(s.middle_stride),
                                 bytes(s.outer_stride)};
  const cuuint32_t box[4] = {kTileColumns, static_cast<cuuint32_t>(box_rows), 1, 1};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(s.base), sizes, strides,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw Error(Category::device, "the driver refuses a tensor map (code " +
                                      std::to_string(static_cast<int>(status)) + ")");
  return map;
}

}  // namespace tessera::kernels::cuda
