// What each piece of a model computes for one micro-batch (pure): the operations of its forward and
// backward with their sizes, beside src/model, which runs them. Seconds follow in piece_costs.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/device.h"

namespace tessera::parallel {

// C [rows, columns] = A [rows, depth] B [depth, columns].
struct Product {
  std::int64_t rows = 0, columns = 0, depth = 0;
  double bytes = 0;  // operands read and results written, each once

  double flops() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(columns) *
           static_cast<double>(depth);
  }
};

// Causal attention over windows of `length` rows, with rotary positions.
struct Attention {
  std::int64_t rows = 0, length = 0, width = 0;
  double rotated = 0;  // share of each head that is rotated
  bool backward = false;
};

struct Work {
  std::vector<Product> products;
  std::vector<Attention> attention;
  double bytes = 0;             // of element-wise operations, read and written
  std::int64_t operations = 0;  // these, counted
  std::int64_t ids = 0;         // sorted for an embedding's backward

  void add(const Work& other);
};

struct PieceWork {
  std::string name;  // as Piece::name()
  Work forward, backward;
};

// Pieces in the order of the model's list, for micro-batches of `sequences`. precision is resolved.
// The head's loss and gradients are in its forward.
std::vector<PieceWork> piece_work(const ModelConfig& config, std::int64_t sequences,
                                  Recompute recompute, Precision precision, Device device);

// Bytes of an element of the model's activations, and of gradients and masters.
std::int64_t element_bytes(Precision precision);
inline constexpr std::int64_t kWideBytes = 4;

}  // namespace tessera::parallel
