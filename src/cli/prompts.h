// Prompts of `tessera generate`, from the command line or a file, and their way through a generator
// in batches.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "data/tokenizer.h"
#include "infer/generator.h"

namespace tessera::cli {

struct GivenPrompt {
  std::vector<std::int32_t> ids;
  OrderedJson fields = OrderedJson::object();  // what else its line says, handed on to the output
};

// Error{config} naming `what` where ids are empty or outside the vocabulary.
void check_prompt(const std::vector<std::int32_t>& ids, std::int64_t vocab,
                  const std::string& what);

// The list of token ids that `key` of an object holds. Error{data} naming `where` unless they are
// whole numbers inside the vocabulary.
std::vector<std::int32_t> token_ids(const OrderedJson& object, const std::string& key,
                                    std::int64_t vocab, const std::string& where);

// Calls `read` with every line of a file (.zst, .gz too) that is not blank, and with "FILE:NUMBER".
void for_each_line(
    const std::string& path,
    const std::function<void(std::string_view line, const std::string& where)>& read);

// One prompt a line of JSON: {"prompt": text} (needs a tokenizer) or {"ids": [...]}, with any other
// fields. Error{data} naming file and line; Error{config} for text without a tokenizer.
std::vector<GivenPrompt> read_prompts(const std::string& path, const data::Tokenizer* tokenizer,
                                      std::int64_t vocab);

// "auto | cpu | cuda" and "auto | bf16 | fp32" on this machine.
std::pair<Device, Precision> resolve_device(Config config, const std::string& device,
                                            const std::string& precision,
                                            std::int64_t local_rank = 0);

// Prompts at once: `asked` (0: as many as fit in the device's free memory, at most `wanted`).
// Error{config} where not even one fits.
std::int64_t batch_that_fits(const ModelConfig& model, const model::ParameterTable& table,
                             infer::Limits limits, Device device, Precision precision,
                             std::int64_t asked, std::int64_t wanted);

// Device memory that generation leaves to CUDA's graphs and libraries.
inline constexpr std::int64_t kLeftFree = std::int64_t{1} << 30;

// Continues all prompts, `batch` at once, neighbours in length together, and calls `done` in the
// order of the prompts. Prompt n has index n.
void generate_all(infer::Generator& generator, const std::vector<GivenPrompt>& prompts,
                  std::int64_t batch, const infer::GenerateOptions& options,
                  const std::function<void(std::size_t n, const std::vector<std::int32_t>&)>& done);

}  // namespace tessera::cli
