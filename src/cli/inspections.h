// What `tessera inspect` finds in each kind of file: one function a kind, all with the same result.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace tessera::cli {

struct Inspection {
  OrderedJson json;                   // everything, for programs
  std::string text;                   // the same for people, tables and lines
  std::vector<std::string> problems;  // sentences; any makes the command exit 65
};

// A step folder, or a folder of checkpoints: all of them in a table. `verify` reads every byte.
Inspection inspect_checkpoint(const std::string& step_folder, bool verify);
Inspection inspect_checkpoints(const std::string& folder, bool verify);

// One .safetensors file, or a folder of them with what describes the model (an export).
Inspection inspect_safetensors(const std::string& file);
Inspection inspect_exported(const std::string& folder);

// A shard folder, or one shard of it. Without `verify`: headers, sizes and counts alone.
Inspection inspect_shards(const std::string& folder, bool verify);
Inspection inspect_shard(const std::string& file, bool verify);

// A tokenizer.json (or "bytes"), and lines of known ids where `cases` is not "".
Inspection inspect_tokenizer(const std::string& path, const std::string& cases);

// A tensor for a table; those that differ in their layer's number alone share a row.
struct TensorRow {
  std::string name, type;
  std::vector<std::int64_t> shape;
};
std::string tensor_table(const std::vector<TensorRow>& tensors);
OrderedJson tensor_list(const std::vector<TensorRow>& tensors);

}  // namespace tessera::cli
