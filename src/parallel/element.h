// The transport's name of a computing type.
#pragma once

#include <type_traits>

#include "comm/transport.h"
#include "kernels/dtype.h"

namespace tessera::parallel {

template <typename T>
constexpr comm::Element element_of() {
  return std::is_same_v<T, kernels::bf16> ? comm::Element::bf16
         : std::is_same_v<T, float>       ? comm::Element::fp32
                                          : comm::Element::fp64;
}

}  // namespace tessera::parallel
