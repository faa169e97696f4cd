#include "model/parameter_table.h"

#include <utility>

#include "core/integers.h"
#include "model/architecture.h"

namespace tessera::model {
namespace {
// Elements: tensors start on cache lines in float32 and on 16-byte vectors in bf16.
constexpr std::int64_t kAlignment = 16;
}  // namespace

std::int64_t ParameterTable::add(std::string name, std::vector<std::int64_t> shape, Initial initial,
                                 double deviation) {
  TESSERA_CHECK(find(name) < 0);
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count = checked_mul(count, extent, name);
  parameters_.push_back({std::move(name), std::move(shape), initial, deviation, flat_size_, count});
  total_ += count;
  flat_size_ = round_up(flat_size_ + count, kAlignment);
  return static_cast<std::int64_t>(parameters_.size()) - 1;
}

std::int64_t ParameterTable::find(const std::string& name) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (parameters_[i].name == name) return static_cast<std::int64_t>(i);
  return -1;
}

ParameterTable parameter_table(const ModelConfig& config) {
  ParameterTable table;
  make_pieces<float>(config, table);
  return table;
}

std::int64_t non_embedding_parameters(const ParameterTable& table) {
  std::int64_t count = 0;
  for (const Parameter& p : table.parameters())
    if (p.name.find(".layers.") != std::string::npos ||
        p.name.find("final_layer_norm") != std::string::npos)
      count += p.count;
  return count;
}

}  // namespace tessera::model
