// tessera generate: text from a checkpoint, streamed as it comes.
#include <chrono>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "core/error.h"
#include "core/json.h"
#include "core/threads.h"
#include "data/tokenizer.h"
#include "infer/generator.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string checkpoint, prompt, tokenizer;
  std::vector<std::int32_t> prompt_ids;
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

void run(const Options& options) {
  use_threads(1);
  const LoadedModel loaded = load_model(options.checkpoint);
  const auto tokenizer = tokenizer_of(options, loaded);
  std::vector<std::int32_t> prompt = options.prompt_ids;
  if (prompt.empty()) {
    if (!tokenizer)
      throw Error(Category::config, loaded.path +
                                        ": the checkpoint has no tokenizer; give --tokenizer "
                                        "FILE, or --prompt-ids");
    prompt = tokenizer->encode(options.prompt);
    if (prompt.empty()) prompt = {tokenizer->end_of_text()};
  }
  for (const std::int32_t id : prompt)
    if (id < 0 || id >= loaded.config.model.vocab)
      throw Error(Category::config, "prompt token " + std::to_string(id) +
                                        " lies outside the model's vocabulary of " +
                                        std::to_string(loaded.config.model.vocab));

  infer::GenerateOptions generate = options.generate;
  std::vector<bool> allowed;
  if (tokenizer) {
    generate.pad_id = tokenizer->end_of_text();
    if (!options.keep_going) generate.end_id = tokenizer->end_of_text();
    for (std::int64_t id = 0; id < tokenizer->vocab_size(); ++id)
      allowed.push_back(tokenizer->known(static_cast<std::int32_t>(id)));
  }
  infer::Sampler sampler(generate.sampling, std::move(allowed));
  const auto generator =
      infer::Generator::make(loaded.config.model, loaded.table, loaded.parameters.data(),
                             static_cast<std::int64_t>(prompt.size()) + generate.tokens +
                                 loaded.config.model.block_length);

  const bool stream = !options.json && tokenizer != nullptr;
  std::unique_ptr<TextStream> text;
  if (stream) {
    std::cout << tokenizer->decode(prompt) << std::flush;
    text = std::make_unique<TextStream>(*tokenizer);
  }
  const auto start = std::chrono::steady_clock::now();
  const std::vector<std::int32_t> tokens =
      generator->generate(prompt, generate, sampler, 0, [&](std::int32_t token) {
        if (text && token != generate.end_id) text->add(token);
        return true;
      });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (text) text->finish();
  if (stream) return;
  OrderedJson json = {{"checkpoint", loaded.path}, {"prompt_ids", prompt}, {"ids", tokens}};
  if (tokenizer) {
    json["prompt"] = tokenizer->decode(prompt);
    json["text"] = tokenizer->decode(tokens);
  }
  json["seconds"] = seconds;
  json["tokens_per_second"] = static_cast<double>(tokens.size()) / std::max(seconds, 1e-9);
  std::cout << json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) << "\n";
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt with a trained model");
  command->add_option("checkpoint", options->checkpoint, "Run folder or checkpoint")->required();
  command->add_option("--prompt", options->prompt, "Text to continue (default: a new document)");
  command->add_option("--prompt-ids", options->prompt_ids,
                      "Token ids to continue, in place of text");
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
  command->add_flag("--json", options->json, "Print one JSON object in place of text");
  command->footer(
      example("tessera generate runs/quickstart-block --prompt \"Once upon a time\" --tokens 200 "
              "--seed 1"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
