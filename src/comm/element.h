// Element types of transports on the host: arrays in the type that their sums are made in (bf16:
// fp32; the others themselves).
#pragma once

#include <cstddef>
#include <cstdint>

#include "comm/transport.h"

namespace tessera::comm {

inline Element sum_element(Element element) {
  return element == Element::bf16 ? Element::fp32 : element;
}
// `count` elements of `element` as sum_element(element), and back.
void widen(Element element, const std::byte* from, std::int64_t count, std::byte* to);
void narrow_back(Element element, const std::byte* from, std::int64_t count, std::byte* to);

}  // namespace tessera::comm
