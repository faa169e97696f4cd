// tessera generate: text from a checkpoint, streamed as it comes, or a file of prompts.
#include <chrono>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/prompts.h"
#include "core/error.h"
#include "core/json.h"
#include "core/threads.h"
#include "data/tokenizer.h"
#include "infer/generator.h"
#include "train/setup.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string checkpoint, prompt, file, tokenizer, device = "auto", precision = "auto";
  std::vector<std::int32_t> prompt_ids;
  std::int64_t batch = 0;
  infer::GenerateOptions generate;
  bool keep_going = false, json = false;
};

// Length of the longest prefix of `text` that does not end inside a UTF-8 sequence.
std::size_t whole_utf8(const std::string& text) {
  std::size_t back = 0;
  while (back < 4 && back < text.size()) {
    const auto byte = static_cast<unsigned char>(text[text.size() - 1 - back]);
    ++back;
    if ((byte & 0xC0) == 0x80) continue;  // continuation: the lead byte lies further back
    const std::size_t length = byte < 0x80 ? 1 : byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

// Writes the text of growing token lists, holding back incomplete UTF-8 sequences.
class TextStream {
 public:
  explicit TextStream(const data::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void add(std::int32_t token) {
    pending_ += tokenizer_.decode(std::span(&token, 1));
    const std::size_t whole = whole_utf8(pending_);
    std::cout << pending_.substr(0, whole) << std::flush;
    pending_.erase(0, whole);
  }
  void finish() { std::cout << pending_ << std::endl; }

 private:
  const data::Tokenizer& tokenizer_;
  std::string pending_;
};

std::unique_ptr<data::Tokenizer> tokenizer_of(const Options& options, const LoadedModel& loaded) {
  if (!options.tokenizer.empty()) return data::load_tokenizer(options.tokenizer);
  if (!loaded.tokenizer_json.empty())
    return data::parse_tokenizer(loaded.tokenizer_json, loaded.path + "/tokenizer.json");
  return nullptr;
}

std::vector<GivenPrompt> prompts_of(const Options& options, const LoadedModel& loaded,
                                    const data::Tokenizer* tokenizer) {
  const std::int64_t vocab = loaded.config.model.vocab;
  if (!options.file.empty()) return read_prompts(options.file, tokenizer, vocab);
  GivenPrompt one;
  one.ids = options.prompt_ids;
  if (one.ids.empty()) {
    if (!tokenizer)
      throw Error(Category::config, loaded.path +
                                        ": the checkpoint has no tokenizer; give --tokenizer "
                                        "FILE, or --prompt-ids");
    one.ids = tokenizer->encode(options.prompt);
    if (one.ids.empty()) one.ids = {tokenizer->end_of_text()};
  }
  check_prompt(one.ids, vocab, "the prompt");
  return {one};
}

OrderedJson described(const GivenPrompt& prompt, const std::vector<std::int32_t>& tokens,
                      const data::Tokenizer* tokenizer) {
  OrderedJson json = prompt.fields;
  json["prompt_ids"] = prompt.ids;
  json["ids"] = tokens;
  if (tokenizer) {
    json["prompt"] = tokenizer->decode(prompt.ids);
    json["text"] = tokenizer->decode(tokens);
  }
  return json;
}

void print(const OrderedJson& json) {
  std::cout << json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) << "\n";
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run(const Options& options) {
  use_threads(1);
  const LoadedModel loaded = load_model(options.checkpoint);
  const auto tokenizer = tokenizer_of(options, loaded);
  const std::vector<GivenPrompt> prompts = prompts_of(options, loaded, tokenizer.get());

  infer::GenerateOptions generate = options.generate;
  if (tokenizer) {
    generate.pad_id = tokenizer->end_of_text();
    if (!options.keep_going) generate.end_id = tokenizer->end_of_text();
    for (std::int64_t id = 0; id < tokenizer->vocab_size(); ++id)
      generate.allowed.push_back(tokenizer->known(static_cast<std::int32_t>(id)));
  }
  const auto [device, precision] = resolve_device(loaded.config, options.device, options.precision);
  infer::Limits limits;
  limits.new_tokens = generate.tokens;
  for (const GivenPrompt& p : prompts)
    limits.prompt_tokens = std::max(limits.prompt_tokens, static_cast<std::int64_t>(p.ids.size()));
  limits.sequences = batch_that_fits(loaded.config.model, loaded.table, limits, device, precision,
                                     options.batch, static_cast<std::int64_t>(prompts.size()));
  const auto generator = infer::Generator::make(
      loaded.config.model, loaded.table, loaded.parameters.data(), limits, device, precision);

  const auto start = std::chrono::steady_clock::now();
  const bool stream = !options.json && options.file.empty() && tokenizer != nullptr;
  if (stream) {
    std::cout << tokenizer->decode(prompts[0].ids) << std::flush;
    TextStream text(*tokenizer);
    generator->generate({{prompts[0].ids, 0}}, generate, [&](std::size_t, std::int32_t token) {
      if (token != generate.end_id) text.add(token);
      return true;
    });
    text.finish();
    return;
  }
  std::int64_t tokens = 0;
  generate_all(*generator, prompts, limits.sequences, generate,
               [&](std::size_t n, const std::vector<std::int32_t>& found) {
                 tokens += static_cast<std::int64_t>(found.size());
                 OrderedJson json = described(prompts[n], found, tokenizer.get());
                 if (options.file.empty()) {
                   json["checkpoint"] = loaded.path;
                   json["seconds"] = seconds_since(start);
                   json["tokens_per_second"] =
                       static_cast<double>(found.size()) / std::max(seconds_since(start), 1e-9);
                 }
                 print(json);
               });
  if (!options.file.empty() && options.json)
    std::cerr << OrderedJson({{"checkpoint", loaded.path},
                              {"prompts", prompts.size()},
                              {"batch", limits.sequences},
                              {"tokens", tokens},
                              {"seconds", seconds_since(start)},
                              {"tokens_per_second",
                               static_cast<double>(tokens) / std::max(seconds_since(start), 1e-9)}})
                     .dump()
              << "\n";
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("generate", "Continue prompts with a trained model");
  command->add_option("checkpoint", options->checkpoint, "Run folder or checkpoint")->required();
  auto* prompt = command->add_option("--prompt", options->prompt,
                                     "Text to continue (default: a new document)");
  auto* ids = command->add_option("--prompt-ids", options->prompt_ids,
                                  "Token ids to continue, in place of text");
  command
      ->add_option("--file", options->file,
                   "JSONL of prompts ({\"prompt\": ...} or {\"ids\": [...]} a line; .zst, .gz "
                   "too); prints a line each, in order")
      ->excludes(prompt)
      ->excludes(ids);
  command->add_option("--batch", options->batch, "Prompts at once; 0 = as many as fit")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--tokenizer", options->tokenizer,
                      "tokenizer.json (default: the checkpoint's)");
  command->add_option("--tokens", options->generate.tokens, "New tokens at most")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24));
  auto& sampling = options->generate.sampling;
  sampling.temperature = 0.8;
  command->add_option("--temperature", sampling.temperature, "0 = greedy")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "Keep the k likeliest tokens; 0 = all")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--top-p", sampling.top_p, "Keep the likeliest tokens up to this probability")
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--seed", sampling.seed, "Seed of the random numbers");
  command->add_flag("--pad-left", options->generate.pad_left,
                    "Block models: pad the prompt to whole blocks on the left, as published");
  command->add_flag("--keep-going", options->keep_going, "Do not stop at end-of-text");
  command->add_option("--device", options->device, "auto (default), cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command
      ->add_option("--precision", options->precision, "auto (default: bf16 on CUDA), bf16 or fp32")
      ->check(CLI::IsMember({"auto", "bf16", "fp32"}));
  command->add_flag("--json", options->json,
                    "Print one JSON object in place of text; with --file, totals to stderr");
  command->footer(
      example("tessera generate runs/quickstart-block --prompt \"Once upon a time\" --tokens 200 "
              "--seed 1"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
