// tessera prepare: raw text or token files of other programs -> shard folders that training reads.
#include "data/prepare.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <set>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "core/json.h"
#include "core/progress.h"
#include "core/text.h"

namespace tessera::cli {
namespace {

struct Options {
  data::PrepareOptions prepare;
  std::string format = "auto", append = "missing";
  bool json = false;
};

const std::map<std::string, data::InputFormat> kFormats = {
    {"auto", data::InputFormat::automatic},
    {"jsonl", data::InputFormat::jsonl},
    {"text", data::InputFormat::text},
    {"megatron", data::InputFormat::megatron},
    {"flat", data::InputFormat::flat}};
const std::map<std::string, data::AppendEndOfText> kAppend = {
    {"missing", data::AppendEndOfText::missing},
    {"always", data::AppendEndOfText::always},
    {"never", data::AppendEndOfText::never}};

template <typename T>
std::set<std::string> names(const std::map<std::string, T>& values) {
  std::set<std::string> result;
  for (const auto& entry : values) result.insert(entry.first);
  return result;
}

// Megabytes of text a second, or of the files where the text is not known.
double speed(const data::PrepareReport& report) {
  const std::int64_t text = report.totals().text_bytes;
  return static_cast<double>(text > 0 ? text : report.input_bytes) / 1e6 /
         std::max(report.seconds, 1e-9);
}

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string progress_text(const data::PrepareProgress& p) {
  const double seconds = std::max(p.seconds, 1e-3), done = static_cast<double>(p.bytes_done);
  std::string text = number("%.1f", done / 1e6) + " of " +
                     number("%.1f MB, ", static_cast<double>(p.bytes_total) / 1e6) +
                     number("%.1f MB/s, ", done / 1e6 / seconds) +
                     human_count(static_cast<double>(p.counts.tokens)) + " tokens";
  if (p.bytes_done > 0 && seconds > 1)
    text +=
        ", " + human_duration(seconds * (static_cast<double>(p.bytes_total) / done - 1)) + " left";
  return text;
}

// Bytes of text a token stands for; 0 where the text is not known (imports without tokenizer).
double bytes_per_token(const data::ShardCounts& counts) {
  return counts.tokens == 0
             ? 0
             : static_cast<double>(counts.text_bytes) / static_cast<double>(counts.tokens);
}

OrderedJson counts_json(const data::ShardCounts& counts) {
  return {{"documents", counts.documents},
          {"tokens", counts.tokens},
          {"text_bytes", counts.text_bytes},
          {"bytes_per_token", bytes_per_token(counts)}};
}

void print_json(const data::PrepareReport& report, const std::string& out) {
  OrderedJson parts = OrderedJson::array();
  std::int64_t shards = 0;
  for (const data::PreparedPart& part : report.parts) {
    OrderedJson json = {{"path", part.path}, {"shards", part.shards}, {"bytes", part.bytes}};
    json.update(counts_json(part.counts));
    parts.push_back(json);
    shards += part.shards;
  }
  OrderedJson json = {{"out", out}};
  json.update(counts_json(report.totals()));
  json.update(OrderedJson{
      {"shards", shards},
      {"empty_documents", report.empty_documents},
      {"repaired_documents", report.repaired_documents},
      {"kept_tokens", report.kept_tokens},
      {"input_bytes", report.input_bytes},
      {"seconds", report.seconds},
      {"megabytes_per_second", static_cast<double>(report.input_bytes) / 1e6 / report.seconds},
      {"parts", parts}});
  std::cout << json.dump() << "\n";
}

void print_table(const data::PrepareReport& report) {
  if (report.kept_tokens > 0)
    std::cout << "went on behind " << with_commas(report.kept_tokens)
              << " tokens that an unfinished run had left\n";
  std::vector<std::vector<std::string>> rows = {
      {"shard folder", "documents", "tokens", "text bytes", "bytes/token", "shards", "size"}};
  for (const data::PreparedPart& part : report.parts)
    rows.push_back({part.path, with_commas(part.counts.documents), with_commas(part.counts.tokens),
                    with_commas(part.counts.text_bytes),
                    number("%.3f", bytes_per_token(part.counts)), with_commas(part.shards),
                    human_bytes(part.bytes)});
  std::cout << format_table(rows) << "  " << human_bytes(report.input_bytes) << " of files read in "
            << number("%.1f s, ", report.seconds) << number("%.1f MB/s", speed(report))
            << (report.totals().text_bytes > 0 ? " of text\n" : "\n");
  if (report.empty_documents > 0)
    std::cout << "  " << with_commas(report.empty_documents) << " empty documents left out\n";
  if (report.repaired_documents > 0)
    std::cout << "  " << with_commas(report.repaired_documents)
              << " documents held invalid UTF-8, replaced by U+FFFD\n";
}

void run(Options& options) {
  options.prepare.format = kFormats.at(options.format);
  options.prepare.import.append = kAppend.at(options.append);
  data::PrepareReport report;
  {
    ProgressLine line(!options.json);
    if (line.active())
      options.prepare.on_progress = [&](const data::PrepareProgress& p) {
        line.show(progress_text(p));
      };
    report = data::prepare(options.prepare);
  }
  if (options.json) {
    print_json(report, options.prepare.out);
  } else {
    print_table(report);
  }
}

void add_import_options(CLI::App& command, Options& options) {
  data::ImportOptions& import = options.prepare.import;
  const std::string group = "Token files (Megatron's .bin + .idx; flat ids)";
  command
      .add_option("--vocab", import.vocab_size, "Vocabulary (default: tokenizer, else largest id)")
      ->check(CLI::PositiveNumber)
      ->group(group);
  command.add_option("--eot", import.end_of_text, "End-of-text id (default: the tokenizer's)")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
  command
      .add_option("--append-eot", options.append,
                  "End-of-text after each Megatron document: missing (default) | always | never")
      ->check(CLI::IsMember(names(kAppend)).description(""))
      ->group(group);
  command.add_option("--dtype", import.dtype, "Of flat files: uint16 (default) | uint32")
      ->check(CLI::IsMember({"uint16", "uint32"}).description(""))
      ->group(group);
  command.add_option("--header-bytes", import.header_bytes, "Bytes to pass over in flat files")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
}

}  // namespace

void add_prepare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  data::PrepareOptions& p = options->prepare;
  CLI::App* command = app.add_subcommand(
      "prepare", "Raw text, or token files of other programs, to HDF5 token shards");
  command
      ->add_option("inputs", p.inputs,
                   "Files or folders: .jsonl, .txt (each also .zst or .gz), .bin with .idx")
      ->required();
  command
      ->add_option("--out", p.out, "Folder to write; with a validation part OUT/train, OUT/valid")
      ->required();
  command->add_option("--tokenizer", p.tokenizer, "tokenizer.json, a folder with one, or: bytes");
  command
      ->add_option("--valid-fraction", p.valid_fraction,
                   "Share of the documents, drawn by a hash, that goes to OUT/valid")
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--valid-input", p.valid_inputs, "Files or folders that go to OUT/valid");
  command->add_option("--seed", p.seed, "Of --valid-fraction");
  command
      ->add_option("--format", options->format,
                   "auto (default, by name) | jsonl | text | megatron | flat")
      ->check(CLI::IsMember(names(kFormats)).description(""));
  command->add_option("--text-key", p.text_key, "Key of the text in JSON lines")
      ->capture_default_str();
  command->add_option("--threads", p.threads, "That encode; 0: one a processor")
      ->check(CLI::Range(0, 1024));
  command->add_option("--shard-tokens", p.shard_tokens, "Tokens a shard")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--force", p.force, "Replace a finished folder");
  command->add_flag("--json", options->json, "Print JSON");
  add_import_options(*command, *options);
  command->footer(
      example("tessera prepare corpus.jsonl.zst --tokenizer tokenizer.json --valid-fraction 0.01 "
              "--out data/corpus"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
