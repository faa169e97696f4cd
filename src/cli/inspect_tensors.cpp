// Tensors of safetensors files and exports, for `tessera inspect`.
#include <algorithm>
#include <map>

#include "checkpoints/exchange.h"
#include "checkpoints/hugging_face.h"
#include "checkpoints/import_source.h"
#include "checkpoints/names.h"
#include "checkpoints/safetensors.h"
#include "cli/inspections.h"
#include "core/error.h"
#include "core/text.h"
#include "model/parameter_table.h"
#include "train/load.h"

namespace tessera::cli {
namespace {

std::int64_t elements(const TensorRow& row) {
  std::int64_t count = 1;
  for (const std::int64_t extent : row.shape) count *= extent;
  return count;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t extent : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

// "a.layers.12.b" -> "a.layers.*.b"
std::string pattern(const std::string& name) {
  const std::string mark = ".layers.";
  const std::size_t at = name.find(mark);
  if (at == std::string::npos) return name;
  const std::size_t begin = at + mark.size();
  const std::size_t end = std::min(name.find_first_not_of("0123456789", begin), name.size());
  return end == begin ? name : name.substr(0, begin) + "*" + name.substr(end);
}

Inspection of_rows(const std::string& kind, const std::string& path,
                   const std::vector<TensorRow>& rows) {
  std::int64_t total = 0;
  for (const TensorRow& row : rows) total += elements(row);
  Inspection result;
  result.json = {{"kind", kind}, {"path", path}, {"elements", total}};
  result.text =
      path + ": " + std::to_string(rows.size()) + " tensors, " + with_commas(total) + " elements\n";
  return result;
}

constexpr std::size_t kMostFiles = 20;  // in a table

// The files, each with its size and the number of its tensors.
void describe_files(const checkpoints::ImportSource& source, Inspection& result) {
  std::int64_t bytes = 0;
  result.json["files"] = OrderedJson::array();
  std::vector<std::vector<std::string>> table = {{"file", "tensors", "size"}};
  for (const checkpoints::SafetensorsReader& file : source.files()) {
    const std::string name = checkpoints::base_name(file.path());
    bytes += file.file().size();
    result.json["files"].push_back(
        {{"file", name}, {"tensors", file.tensors().size()}, {"bytes", file.file().size()}});
    if (table.size() <= kMostFiles)
      table.push_back({checkpoints::shown(name), std::to_string(file.tensors().size()),
                       human_bytes(file.file().size())});
  }
  if (source.files().size() > kMostFiles)
    table.push_back({std::to_string(source.files().size() - kMostFiles) + " more", "", ""});
  result.json["bytes"] = bytes;
  result.text += "  size: " + human_bytes(bytes) + " in " +
                 (source.files().size() == 1
                      ? checkpoints::shown(checkpoints::base_name(source.files()[0].path())) + "\n"
                      : std::to_string(source.files().size()) + " shards\n" + format_table(table));
}

// What the folder says of its model, and whether the tensors are those of that model.
void describe_model(const std::string& folder, const checkpoints::ImportSource& source,
                    Inspection& result) {
  const ModelConfig model = checkpoints::imported_config(folder);
  result.json["model"] = checkpoints::model_to_json(model);
  result.text += "  model: " + result.json["model"].dump() + "\n";
  if (const auto origin = checkpoints::export_origin(folder)) {
    result.json["step"] = origin->step;
    result.json["tokens"] = origin->tokens;
    result.text += "  exported at step " + with_commas(origin->step) + ", after " +
                   with_commas(origin->tokens) + " tokens\n";
  }
  try {
    source.require(train::tensor_infos(model::parameter_table(model)));
  } catch (const Error& error) {
    result.problems.push_back(error.what());
    result.text += std::string("  problem: ") + error.what() + "\n";
  }
}

}  // namespace

std::string tensor_table(const std::vector<TensorRow>& tensors) {
  std::vector<std::vector<std::string>> table = {{"tensor", "type", "shape", "number", "elements"}};
  struct Group {
    std::string name;
    const TensorRow* row;
    std::int64_t number;
  };
  std::vector<Group> groups;
  std::map<std::string, std::size_t> index;
  for (const TensorRow& tensor : tensors) {
    const std::string name = pattern(tensor.name);
    const auto [found, fresh] =
        index.emplace(name + "\n" + tensor.type + shape_text(tensor.shape), groups.size());
    if (fresh) groups.push_back({name, &tensor, 0});
    ++groups[found->second].number;
  }
  for (const Group& group : groups)
    table.push_back({checkpoints::shown(group.number == 1 ? group.row->name : group.name, 200),
                     group.row->type, shape_text(group.row->shape), std::to_string(group.number),
                     with_commas(group.number * elements(*group.row))});
  return format_table(table);
}

OrderedJson tensor_list(const std::vector<TensorRow>& tensors) {
  OrderedJson list = OrderedJson::array();
  for (const TensorRow& tensor : tensors)
    list.push_back({{"name", tensor.name}, {"type", tensor.type}, {"shape", tensor.shape}});
  return list;
}

Inspection inspect_safetensors(const std::string& file) {
  const checkpoints::SafetensorsReader reader(file);
  std::vector<TensorRow> rows;
  for (const checkpoints::TensorEntry& entry : reader.tensors())
    rows.push_back({entry.name, checkpoints::type_name(entry.type), entry.shape});
  Inspection result = of_rows("safetensors", file, rows);
  result.json["bytes"] = reader.file().size();
  result.json["metadata"] = reader.metadata();
  result.json["tensors"] = tensor_list(rows);
  for (const auto& [key, value] : reader.metadata())
    result.text += "  " + checkpoints::shown(key) + ": " + checkpoints::shown(value, 400) + "\n";
  result.text += tensor_table(rows);
  return result;
}

Inspection inspect_exported(const std::string& folder) {
  const checkpoints::ImportSource source(folder);
  std::vector<TensorRow> rows;
  for (const auto& [name, from] : source.tensors())
    rows.push_back({name, checkpoints::type_name(from.entry->type), from.entry->shape});
  Inspection result = of_rows("export", folder, rows);
  describe_files(source, result);
  if (!source.skipped().empty()) {
    result.json["skipped"] = source.skipped();
    result.text += "  left out, no parameters: " + std::to_string(source.skipped().size()) + " (" +
                   checkpoints::shown(source.skipped().front(), 200) +
                   (source.skipped().size() > 1 ? ", ...)\n" : ")\n");
  }
  if (checkpoints::describes_model(folder)) describe_model(folder, source, result);
  const bool tokenizer = FileSystem::posix().exists(folder + "/" + checkpoints::kTokenizerName);
  result.json["tokenizer"] = tokenizer;
  result.text += std::string("  tokenizer: ") + (tokenizer ? "tokenizer.json\n" : "none\n");
  result.json["tensors"] = tensor_list(rows);
  result.text += tensor_table(rows);
  return result;
}

}  // namespace tessera::cli
