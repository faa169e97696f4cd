#include "train/load.h"

#include <vector>

namespace tessera::train {

std::vector<checkpoints::TensorInfo> tensor_infos(const model::ParameterTable& table) {
  std::vector<checkpoints::TensorInfo> infos;
  for (const model::Parameter& p : table.parameters()) infos.push_back({p.name, p.shape});
  return infos;
}

void load_checkpoint(parallel::Engine& engine, const checkpoints::CheckpointReader& reader) {
  using Kind = checkpoints::CheckpointReader::Kind;
  std::vector<float> values;
  const auto bring = [&](Kind kind, parallel::State state, const std::string& name,
                         std::int64_t begin, std::int64_t end, std::int64_t flat) {
    values.resize(static_cast<std::size_t>(end - begin));
    reader.read(kind, name, begin, end, values.data());
    engine.restore(state, flat, end - begin, values.data());
  };
  for (const model::Parameter& p : engine.local_table().parameters())
    bring(Kind::param, parallel::State::parameter, p.name, 0, p.count, p.offset);
  for (const optim::Segment& s : engine.owned()) {
    const std::string& name = engine.table()[s.tensor].name;
    bring(Kind::m, parallel::State::m, name, s.begin, s.end, s.offset);
    bring(Kind::v, parallel::State::v, name, s.begin, s.end, s.offset);
  }
  engine.finish_restore();
}

}  // namespace tessera::train
