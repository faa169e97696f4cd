#include "comm/element.h"

#include <cstring>

#include "core/float_formats.h"

namespace tessera::comm {

std::int64_t element_bytes(Element element) {
  switch (element) {
    case Element::bf16:
      return 2;
    case Element::fp32:
      return 4;
    case Element::fp64:
      break;
  }
  return 8;
}

void widen(Element element, const std::byte* from, std::int64_t count, std::byte* to) {
  if (element != Element::bf16) {
    std::memcpy(to, from, static_cast<std::size_t>(count * element_bytes(element)));
    return;
  }
  const auto* narrow = reinterpret_cast<const std::uint16_t*>(from);
  auto* wide = reinterpret_cast<float*>(to);
  for (std::int64_t i = 0; i < count; ++i) wide[i] = bf16_to_float(narrow[i]);
}

void narrow_back(Element element, const std::byte* from, std::int64_t count, std::byte* to) {
  if (element != Element::bf16) {
    std::memcpy(to, from, static_cast<std::size_t>(count * element_bytes(element)));
    return;
  }
  const auto* wide = reinterpret_cast<const float*>(from);
  auto* narrow = reinterpret_cast<std::uint16_t*>(to);
  for (std::int64_t i = 0; i < count; ++i) narrow[i] = float_to_bf16(wide[i]);
}

}  // namespace tessera::comm
