// What Queue::libraries points to. Host code: included by .cpp and .cu files of this folder.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include <cublasLt.h>

#include "kernels/algorithms.h"

namespace tessera::kernels::cuda {

class CudnnAttention;  // cudnn_attention.h
class GemmPlan;        // gemm_plan.h: descriptors and algorithm of one matrix-product shape

struct Libraries {
  cublasLtHandle_t lt = nullptr;
  Algorithms algorithms;
  bool may_measure = false;
  std::unordered_map<std::string, std::shared_ptr<GemmPlan>> gemm_plans;
  std::shared_ptr<CudnnAttention> cudnn_attention;  // opened at first use

  ~Libraries() {
    if (lt) cublasLtDestroy(lt);
  }
};

}  // namespace tessera::kernels::cuda
