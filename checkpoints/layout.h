// Which part holds which elements of which tensor. Pure: names, shapes and ranges only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"

namespace tessera::checkpoints {

// Elements of a tensor; Error{data} naming `what` unless every extent is positive and the product
// fits 62 bits as bytes.
std::int64_t element_count(const TensorInfo& tensor, const std::string& what);

class Layout {
 public:
  struct Piece {
    std::int64_t begin = 0, end = 0;  // elements of the tensor
    std::int64_t part = 0;            // index into the parts
  };

  // Error{data} naming `what` and the first tensor and element at fault, unless the parts' slices
  // hold every element of every tensor exactly once.
  Layout(const std::vector<TensorInfo>& tensors, const std::vector<PartRecord>& parts,
         const std::string& what);

  // Elements of tensor `index` of the table.
  std::int64_t count(std::int64_t index) const { return counts_[static_cast<std::size_t>(index)]; }
  // Its pieces in ascending order, without holes.
  const std::vector<Piece>& pieces(std::int64_t index) const {
    return pieces_[static_cast<std::size_t>(index)];
  }

 private:
  std::vector<std::int64_t> counts_;
  std::vector<std::vector<Piece>> pieces_;
};

}  // namespace tessera::checkpoints
