#include "cli/prompts.h"

#include <algorithm>
#include <atomic>
#include <numeric>

#include <spdlog/fmt/fmt.h>

#include "core/device_memory.h"
#include "core/error.h"
#include "core/text.h"
#include "data/byte_source.h"
#include "data/line_reader.h"
#include "train/setup.h"

namespace tessera::cli {
namespace {

constexpr std::size_t kLongestLine = std::size_t{64} << 20;

GivenPrompt parse_line(std::string_view line, const std::string& where,
                       const data::Tokenizer* tokenizer, std::int64_t vocab) {
  const auto json = OrderedJson::parse(line, nullptr, false);
  if (!json.is_object())
    throw Error(Category::data, where + ": a JSON object with \"prompt\" or \"ids\" was expected");
  GivenPrompt prompt;
  const auto ids = json.find("ids"), text = json.find("prompt");
  if (ids != json.end()) {
    prompt.ids = token_ids(json, "ids", vocab, where);
  } else if (text != json.end() && text->is_string()) {
    if (!tokenizer)
      throw Error(Category::config,
                  where +
                      ": text needs a tokenizer, and the checkpoint has none; give --tokenizer "
                      "FILE, or \"ids\" in place of \"prompt\"");
    prompt.ids = tokenizer->encode(text->get<std::string>());
    if (prompt.ids.empty()) prompt.ids = {tokenizer->end_of_text()};
  } else {
    throw Error(Category::data, where + ": neither \"prompt\" (text) nor \"ids\" (a list)");
  }
  check_prompt(prompt.ids, vocab, where);
  for (const auto& [key, value] : json.items())
    if (key != "ids" && key != "prompt") prompt.fields[key] = value;
  return prompt;
}

}  // namespace

void check_prompt(const std::vector<std::int32_t>& ids, std::int64_t vocab,
                  const std::string& what) {
  if (ids.empty()) throw Error(Category::config, what + " has no tokens");
  for (const std::int32_t id : ids)
    if (id < 0 || id >= vocab)
      throw Error(
          Category::config,
          fmt::format("{}: token {} lies outside the model's vocabulary of {}", what, id, vocab));
}

std::vector<std::int32_t> token_ids(const OrderedJson& object, const std::string& key,
                                    std::int64_t vocab, const std::string& where) {
  const auto ids = object.find(key);
  if (ids == object.end() || !ids->is_array() ||
      !std::all_of(ids->begin(), ids->end(),
                   [](const OrderedJson& id) { return id.is_number_integer(); }))
    throw Error(Category::data,
                fmt::format("{}: \"{}\" must be a list of whole numbers", where, key));
  std::vector<std::int32_t> values;
  for (const OrderedJson& id : *ids) {
    const auto value = id.get<std::int64_t>();
    if (value < 0 || value >= vocab)
      throw Error(Category::data, fmt::format("{}: token {} lies outside the model's vocabulary "
                                              "of {}",
                                              where, value, vocab));
    values.push_back(static_cast<std::int32_t>(value));
  }
  return values;
}

void for_each_line(
    const std::string& path,
    const std::function<void(std::string_view line, const std::string& where)>& read) {
  std::atomic<std::int64_t> consumed{0};
  const auto bytes = data::open_bytes(path, consumed);
  data::LineReader lines(*bytes, path, kLongestLine);
  std::string_view line;
  while (lines.next(line))
    if (line.find_first_not_of(" \t\r") != std::string_view::npos)
      read(line, fmt::format("{}:{}", path, lines.number()));
}

std::vector<GivenPrompt> read_prompts(const std::string& path, const data::Tokenizer* tokenizer,
                                      std::int64_t vocab) {
  std::vector<GivenPrompt> prompts;
  for_each_line(path, [&](std::string_view line, const std::string& where) {
    prompts.push_back(parse_line(line, where, tokenizer, vocab));
  });
  if (prompts.empty()) throw Error(Category::data, path + ": no prompts in it");
  return prompts;
}

std::pair<Device, Precision> resolve_device(Config config, const std::string& device,
                                            const std::string& precision, std::int64_t local_rank) {
  config.device = device == "cpu"    ? DeviceChoice::cpu
                  : device == "cuda" ? DeviceChoice::cuda
                                     : DeviceChoice::automatic;
  config.precision = precision == "bf16"   ? Precision::bf16
                     : precision == "fp32" ? Precision::fp32
                                           : Precision::automatic;
  config.attention = AttentionChoice::automatic;
  config.eval.tasks.clear();
  const Device resolved = train::resolve_device(config, local_rank);
  return {resolved, config.precision};
}

std::int64_t batch_that_fits(const ModelConfig& model, const model::ParameterTable& table,
                             infer::Limits limits, Device device, Precision precision,
                             std::int64_t asked, std::int64_t wanted) {
  if (asked > 0) return std::min(asked, wanted);
  // On the CPU a batch of a few sequences is as fast as any, and its memory modest.
  if (device == Device::cpu) return std::min<std::int64_t>(wanted, 32);
  const std::int64_t room = device_info().free_bytes - kLeftFree;
  const std::int64_t most =
      infer::Generator::largest_batch(model, table, limits, device, precision, room);
  if (most == 0) {
    limits.sequences = 1;
    throw Error(
        Category::config,
        fmt::format(
            "one sequence of {} prompt and {} new tokens needs {}, the GPU has {} to give",
            limits.prompt_tokens, limits.new_tokens,
            human_bytes(
                infer::Generator::plan(model, table, limits, device, precision).total_bytes()),
            human_bytes(room)));
  }
  return std::min(most, wanted);
}

void generate_all(infer::Generator& generator, const std::vector<GivenPrompt>& prompts,
                  std::int64_t batch, const infer::GenerateOptions& options,
                  const std::function<void(std::size_t, const std::vector<std::int32_t>&)>& done) {
  std::vector<std::size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return prompts[a].ids.size() > prompts[b].ids.size();
  });
  std::vector<std::vector<std::int32_t>> results(prompts.size());
  std::vector<bool> known(prompts.size());
  std::size_t told = 0;
  const auto most = static_cast<std::size_t>(batch);
  for (std::size_t first = 0; first < order.size(); first += most) {
    const std::size_t end = std::min(first + most, order.size());
    std::vector<infer::Prompt> some;
    for (std::size_t i = first; i < end; ++i)
      some.push_back({prompts[order[i]].ids, static_cast<std::int64_t>(order[i])});
    auto found = generator.generate(some, options);
    for (std::size_t i = first; i < end; ++i) {
      results[order[i]] = std::move(found[i - first]);
      known[order[i]] = true;
    }
    for (; told < prompts.size() && known[told]; ++told) done(told, results[told]);
  }
}

}  // namespace tessera::cli
