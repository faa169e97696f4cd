// Checkpoints, one or all of a run, for `tessera inspect`.
#include <algorithm>

#include "checkpoints/checkpoint.h"
#include "checkpoints/names.h"
#include "cli/inspections.h"
#include "core/error.h"
#include "core/text.h"

namespace tessera::cli {
namespace {

using checkpoints::CheckpointReader;
using checkpoints::Verify;

std::int64_t total_bytes(const Json& manifest) {
  std::int64_t bytes = 0;
  for (const Json& part : manifest.at("parts")) bytes += part.at("bytes").get<std::int64_t>();
  for (const Json& file : manifest.at("files")) bytes += file.at("bytes").get<std::int64_t>();
  return bytes;
}

// "1 part", "4 parts"
std::string counted(std::int64_t number, const std::string& noun) {
  return std::to_string(number) + " " + noun + (number == 1 ? "" : "s");
}

std::string loss_text(double loss) {
  return loss == 0 ? "none" : std::to_string(loss);
}

OrderedJson summary(const CheckpointReader& reader) {
  const Json& manifest = reader.manifest();
  OrderedJson json = {{"path", reader.path()}};
  for (const char* key : {"step", "samples", "tokens", "skipped", "valid_loss", "ranks", "threads",
                          "build", "written_at", "config_hash", "train_digest", "valid_digest"})
    json[key] = manifest.at(key);
  json["parts"] = manifest.at("parts").size();
  json["bytes"] = total_bytes(manifest);
  return json;
}

std::string lines(const CheckpointReader& reader, bool verified) {
  const auto& state = reader.state();
  const Json& manifest = reader.manifest();
  std::string text = reader.path() + ": step " + with_commas(state.step) +
                     (verified ? ", every digest verified\n" : ", sizes checked\n");
  const auto line = [&](const std::string& key, const std::string& value) {
    text += "  " + key + ": " + value + "\n";
  };
  line("tokens", with_commas(state.tokens) + " (" + with_commas(state.samples) + " samples)");
  if (state.skipped > 0) line("skipped steps", with_commas(state.skipped));
  line("validation loss", loss_text(state.valid_loss));
  line("written", manifest.at("written_at").get<std::string>() + " by tessera " + state.build +
                      ", " + counted(state.ranks, "rank") + " x " +
                      counted(state.threads, "thread"));
  line("size", human_bytes(total_bytes(manifest)) + " in " +
                   counted(static_cast<std::int64_t>(manifest.at("parts").size()), "part"));
  line("tokenizer", reader.tokenizer_json().empty() ? "none" : "tokenizer.json");
  return text;
}

}  // namespace

Inspection inspect_checkpoint(const std::string& step_folder, bool verify) {
  const CheckpointReader reader(step_folder, verify ? Verify::digests : Verify::sizes);
  std::vector<TensorRow> rows;
  for (const checkpoints::TensorInfo& tensor : reader.tensors())
    rows.push_back({tensor.name, "F32", tensor.shape});
  Inspection result;
  result.json = {{"kind", "checkpoint"}, {"verified", verify}};
  result.json.update(summary(reader));
  result.json["config"] = reader.state().config_yaml;
  result.json["tensors"] = tensor_list(rows);
  result.text = lines(reader, verify) + tensor_table(rows);
  return result;
}

Inspection inspect_checkpoints(const std::string& folder, bool verify) {
  std::vector<std::int64_t> steps;
  for (const std::string& name : FileSystem::posix().list(folder))
    if (const auto step = checkpoints::step_of_name(name)) steps.push_back(*step);
  std::sort(steps.begin(), steps.end());
  Inspection result;
  result.json = {{"kind", "checkpoints"}, {"path", folder}, {"verified", verify}};
  result.json["checkpoints"] = OrderedJson::array();
  std::vector<std::vector<std::string>> table = {
      {"checkpoint", "tokens", "validation loss", "size", "written", "state"}};
  for (const std::int64_t step : steps) {
    const std::string name = checkpoints::checkpoint_name(step), path = folder + "/" + name;
    try {
      const CheckpointReader reader(path, verify ? Verify::digests : Verify::sizes);
      const Json& manifest = reader.manifest();
      table.push_back({name, human_count(static_cast<double>(reader.state().tokens)),
                       loss_text(reader.state().valid_loss), human_bytes(total_bytes(manifest)),
                       manifest.at("written_at"), verify ? "verified" : "complete"});
      result.json["checkpoints"].push_back(summary(reader));
    } catch (const Error& error) {
      table.push_back({name, "", "", "", "", "damaged"});
      result.problems.push_back(error.what());
      result.json["checkpoints"].push_back({{"path", path}, {"problem", error.what()}});
    }
  }
  result.text = folder + ": " + counted(static_cast<std::int64_t>(steps.size()), "checkpoint") +
                "\n" + (steps.empty() ? "" : format_table(table));
  return result;
}

}  // namespace tessera::cli
