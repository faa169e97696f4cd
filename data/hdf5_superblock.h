// The first bytes of an HDF5 file, looked at before the library sees them: HDF5 1.10 gives memory
// for whatever they ask for, gigabytes for a file of 51 bytes (found by tests/fuzz).
#pragma once

#include <span>
#include <string>

namespace tessera::data {

// How much of a file's start hdf5_superblock_fault wants to see; a shorter file gives all it has.
inline constexpr std::size_t kSuperblockBytes = 128;

// What is wrong with the superblock at the start of a file, or "". Accepted are versions 0 to 3
// with addresses and lengths of 8 bytes and without a block for a driver (HDF5 File Format
// Specification 3.0, section II.A): what every writer of plain files makes.
std::string hdf5_superblock_fault(std::span<const unsigned char> start);

}  // namespace tessera::data
