#include "train/save.h"

#include <functional>

#include "core/error.h"

namespace tessera::train {
namespace {

// Runs `work` on this rank and tells every rank the first failure, as the same Error{io}.
void together(comm::Communicator& ranks, const std::function<std::string()>& work,
              std::vector<std::string>& results) {
  std::string mine;
  try {
    mine = "+" + work();
  } catch (const Error& error) {
    mine = "-" + std::string(error.what());
  }
  results = ranks.gather_text(mine);
  std::string failure;
  for (std::string& result : results) {
    if (failure.empty() && result[0] == '-') failure = result.substr(1);
    result.erase(0, 1);
  }
  failure = comm::broadcast_text(ranks, failure);
  if (!failure.empty()) throw Error(Category::io, failure);
}

}  // namespace

std::vector<checkpoints::TensorInfo> tensor_infos(const model::ParameterTable& table) {
  std::vector<checkpoints::TensorInfo> infos;
  for (const model::Parameter& p : table.parameters()) infos.push_back({p.name, p.shape});
  return infos;
}

std::string save_checkpoint(parallel::Engine& engine, comm::Communicator& ranks,
                            const std::string& folder, const checkpoints::TrainingState& state,
                            const CheckpointConfig& retention, const std::string& tokenizer_json) {
  FileSystem& files = FileSystem::posix();
  const auto infos = tensor_infos(engine.table());
  const bool first = ranks.rank() == 0;
  std::string temporary, path;
  std::vector<std::string> results;
  try {
    together(
        ranks,
        [&] {
          const std::int64_t bytes = 3 * engine.table().total() * 4 + (1 << 20);
          if (first) temporary = checkpoints::prepare_checkpoint(files, folder, state.step, bytes);
          return std::string();
        },
        results);
    temporary = comm::broadcast_text(ranks, temporary);
    together(
        ranks,
        [&] {
          const std::vector<parallel::SegmentState> states = engine.snapshot();
          std::vector<checkpoints::OwnedSlice> slices;
          for (std::size_t i = 0; i < states.size(); ++i) {
            const optim::Segment& s = engine.written()[i];
            slices.push_back(
                {s.tensor, s.begin, s.end, states[i].parameters, states[i].m, states[i].v});
          }
          return to_json(checkpoints::write_part(files, temporary, ranks.rank(), infos, slices))
              .dump();
        },
        results);
    std::vector<std::string> ignored;
    together(
        ranks,
        [&] {
          if (!first) return std::string();
          std::vector<checkpoints::PartRecord> parts;
          for (const std::string& text : results)
            parts.push_back(
                checkpoints::part_from_json(parse_json(text, "part record"), temporary));
          path = checkpoints::commit_checkpoint(files, folder, temporary, state, infos, parts,
                                                tokenizer_json);
          checkpoints::apply_retention(files, folder, retention.keep, retention.keep_every);
          return std::string();
        },
        ignored);
  } catch (const Error&) {
    try {
      if (first && !temporary.empty() && files.exists(temporary)) files.remove_all(temporary);
    } catch (const Error&) {
      // The first failure is the one to tell; what is left is removed at the next save.
    }
    throw;
  }
  return comm::broadcast_text(ranks, path);
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
