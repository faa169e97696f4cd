#include "data/hdf5_superblock.h"

#include <algorithm>
#include <array>

namespace tessera::data {
namespace {

constexpr std::array<unsigned char, 8> kSignature = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
constexpr std::size_t kWord = 8;  // bytes of an address or length

}  // namespace

std::string hdf5_superblock_fault(std::span<const unsigned char> start) {
  if (start.size() < kSignature.size() ||
      !std::equal(kSignature.begin(), kSignature.end(), start.begin()))
    return "is not an HDF5 file, so not a token shard";
  const auto byte = [&](std::size_t at) { return start[at]; };
  if (start.size() < 48) return "is truncated: it ends inside its HDF5 superblock";
  const int version = byte(8);
  if (version > 3)
    return "has an HDF5 superblock of version " + std::to_string(version) + ", expected 0 to 3";
  const bool old = version < 2;
  const std::size_t sizes = old ? 13 : 9;
  if (byte(sizes) != kWord || byte(sizes + 1) != kWord)
    return "has HDF5 addresses of " + std::to_string(byte(sizes)) + " and lengths of " +
           std::to_string(byte(sizes + 1)) + " bytes, expected 8";
  if (!old) return {};
  // Behind the base, free-space and end-of-file addresses: that of the driver's block.
  const std::size_t driver = (version == 0 ? 24 : 28) + 3 * kWord;
  if (start.size() < driver + kWord) return "is truncated: it ends inside its HDF5 superblock";
  const auto address = start.subspan(driver, kWord);
  if (std::any_of(address.begin(), address.end(), [](unsigned char b) { return b != 0xff; }))
    return "has a block for an HDF5 file driver, which token shards do not";
  return {};
}

}  // namespace tessera::data
