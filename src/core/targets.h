// What an entry of a sample's targets says where it is no token id.
#pragma once

#include <cstdint>

namespace tessera {

// The token is there and is seen, but its prediction does not count.
inline constexpr std::int32_t kNoTarget = -1;
// Padding before or behind a document: not predicted, and no key of the token decoder. Its id is
// embedded like any other.
inline constexpr std::int32_t kPadding = -2;

}  // namespace tessera
