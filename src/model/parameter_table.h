// The model's parameters as logical tensors: published names, shapes, initial distribution, and
// their place in one flat space that parameters, gradients and optimizer state share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"

namespace tessera::model {

enum class Initial { normal, zeros, ones };

struct Parameter {
  std::string name;  // as published: "gpt_neox.layers.0.attention.dense.weight"
  std::vector<std::int64_t> shape;
  Initial initial = Initial::normal;
  double deviation = 0.02;  // of `normal`
  std::int64_t offset = 0;  // first element in the flat space, a multiple of 16
  std::int64_t count = 0;   // elements

  bool matrix() const { return shape.size() >= 2; }
};

class ParameterTable {
 public:
  // Appends a parameter and returns its index. Names are unique.
  std::int64_t add(std::string name, std::vector<std::int64_t> shape, Initial initial,
                   double deviation = 0.02);

  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Parameter& operator[](std::int64_t index) const {
    return parameters_[static_cast<std::size_t>(index)];
  }
  // Index of a name, or -1.
  std::int64_t find(const std::string& name) const;

  // Elements of all parameters (what "parameter count" means).
  std::int64_t total() const { return total_; }
  // Length of the flat space, padding between tensors included.
  std::int64_t flat_size() const { return flat_size_; }

 private:
  std::vector<Parameter> parameters_;
  std::int64_t total_ = 0, flat_size_ = 0;
};

// All parameters of a model, in the order of its pieces. The block decoder's dead input table of
// the published checkpoints is not a parameter.
ParameterTable parameter_table(const ModelConfig& config);

// Parameters of the decoders' layers and final norms alone: the papers' "non-embedding" count.
std::int64_t non_embedding_parameters(const ParameterTable& table);

}  // namespace tessera::model
