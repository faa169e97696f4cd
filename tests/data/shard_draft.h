// Writes shard files that are wrong in one way, with HDF5 itself.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/hdf5_handle.h"

namespace tessera::data {

struct ShardDraft {
  std::string format = "tessera-tokens", tokenizer;
  std::int64_t version = 1, vocab = 100, end_of_text = 99;
  std::string without;  // attribute or dataset to leave out
  std::vector<std::int64_t> tokens = {1, 2, 3, 99, 4, 99};
  std::vector<std::int64_t> documents = {0, 4, 6}, text_bytes = {3, 1};

  // How `tokens` is stored.
  hid_t type = little_endian_u16();
  hsize_t chunk = 4;     // 0: contiguous
  int dimensions = 1;    // the second one has size 1
  bool deflate = false;  // as well as fletcher32
  bool checksum = true;
  hsize_t claimed = 0;  // if not 0: the extent, with nothing written
  // Does something else with the open file instead of writing `tokens`.
  std::function<void(hid_t file)> instead;

  void write(const std::string& path) const;

 private:
  static hid_t little_endian_u16() {
    const Hdf5Lock lock;  // before HDF5's first use: naming a type is one
    return H5T_STD_U16LE;
  }
};

}  // namespace tessera::data
