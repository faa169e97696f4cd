#include "cli/eval_tasks.h"

#include <atomic>
#include <cstdio>
#include <fstream>

#include "cli/prompts.h"
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "data/byte_source.h"
#include "data/tokenizer.h"

namespace tessera::cli {
namespace {

// Tokens that go through the model together: a few megabytes of activations a layer on a CPU.
constexpr std::int64_t kBatchTokens = 4096, kBatchTokensCuda = 65536;

std::string read_text(const std::string& path) {
  std::atomic<std::int64_t> consumed{0};
  const auto bytes = data::open_bytes(path, consumed);
  std::string text;
  char part[65536];
  while (const std::size_t count = bytes->read(part, sizeof part)) text.append(part, count);
  return text;
}

// Every request with its token ids and score, a line each.
class ItemLog {
 public:
  ItemLog(const std::string& path, bool writes) {
    if (path.empty() || !writes) return;
    file_.open(path);
    if (!file_) throw Error(Category::io, path + ": cannot be written");
  }
  void write(const std::string& task, const std::vector<eval::Request>& requests,
             const std::vector<eval::Likelihood>& found) {
    if (!file_.is_open()) return;
    for (std::size_t n = 0; n < requests.size(); ++n)
      file_ << OrderedJson({{"task", task},
                            {"request", n},
                            {"context", requests[n].context},
                            {"continuation", requests[n].continuation},
                            {"log_likelihood", found[n].sum},
                            {"greedy", found[n].greedy},
                            {"scored", found[n].scored}})
                   .dump()
            << "\n";
    if (!file_.flush()) throw Error(Category::io, "the file of --items cannot be written");
  }

 private:
  std::ofstream file_;
};

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// Given token ids, a request a line.
eval::TaskResult score_requests(const std::string& path, std::int64_t vocab,
                                const eval::LikelihoodsOf& likelihoods) {
  std::vector<eval::Request> requests;
  for_each_line(path, [&](std::string_view line, const std::string& where) {
    const auto json = OrderedJson::parse(line, nullptr, false);
    if (!json.is_object())
      throw Error(Category::data, where +
                                      ": a JSON object with \"context\" and \"continuation\" "
                                      "(lists of token ids) was expected");
    eval::Request& request = requests.emplace_back();
    for (const auto& [key, ids] :
         {std::pair{"context", &request.context}, {"continuation", &request.continuation}}) {
      *ids = token_ids(json, key, vocab, where);
      if (ids->empty()) throw Error(Category::data, where + ": \"" + key + "\" has no tokens");
    }
  });
  if (requests.empty()) throw Error(Category::data, path + ": no requests in it");
  eval::TaskResult result;
  result.task = path;
  result.items = static_cast<std::int64_t>(requests.size());
  double sum = 0, tokens = 0, greedy = 0;
  for (const eval::Likelihood& found : likelihoods(requests)) {
    sum += found.sum;
    tokens += static_cast<double>(found.scored);
    greedy += found.greedy;
    result.unscored += found.unscored;
  }
  if (tokens > 0) result.metrics.push_back({"loss", -sum / tokens});
  result.metrics.push_back({"acc", greedy / static_cast<double>(result.items)});
  return result;
}

}  // namespace

bool asks(const TaskOptions& options) {
  return !(options.tasks.empty() && options.texts.empty() && options.requests.empty());
}

std::vector<eval::TaskResult> run_tasks(const TaskOptions& options, const LoadedModel& loaded,
                                        Device device, Precision precision,
                                        comm::Communicator& ranks) {
  const std::vector<std::string> tasks = eval::checked_tasks(options.tasks);
  if (!tasks.empty() && options.folder.empty())
    throw Error(Category::config, "--tasks needs --task-data FOLDER, where the tasks' files are");
  eval::require_task_files(options.folder, tasks);
  const auto tokenizer =
      !options.tokenizer.empty() ? data::load_tokenizer(options.tokenizer)
      : !loaded.tokenizer_json.empty()
          ? data::parse_tokenizer(loaded.tokenizer_json, loaded.path + "/tokenizer.json")
          : nullptr;
  if (!tokenizer && !(tasks.empty() && options.texts.empty()))
    throw Error(Category::config,
                loaded.path + ": the checkpoint has no tokenizer; give --tokenizer FILE");
  const ModelConfig& model = loaded.config.model;
  if (tokenizer && tokenizer->vocab_size() > model.vocab)
    throw Error(Category::config, "the tokenizer has " + std::to_string(tokenizer->vocab_size()) +
                                      " ids, the model " + std::to_string(model.vocab));
  const bool pad = options.padding == "pad" ||
                   (options.padding == "auto" && loaded.config.data.padding != Padding::none);
  const eval::BlockPadding padding = pad ? eval::BlockPadding::pad : eval::BlockPadding::no_pad;
  const bool block = model.kind == ModelKind::block;
  const std::int32_t end_of_text = tokenizer ? tokenizer->end_of_text() : 0;
  // The harness feeds up to `context` tokens and predicts one more.
  const std::int64_t longest = model.context + 1 + (block && pad ? model.block_length - 1 : 0);
  const auto scorer = eval::make_scorer(
      model, device, precision, loaded.parameters.data(), longest,
      options.batch_tokens > 0 ? options.batch_tokens
                               : (device == Device::cuda ? kBatchTokensCuda : kBatchTokens));
  ItemLog log(options.items, ranks.rank() == 0);
  std::string current;
  const eval::LikelihoodsOf likelihoods = [&](const std::vector<eval::Request>& requests) {
    auto found = eval::log_likelihoods(model, *scorer, requests, padding, end_of_text, ranks,
                                       {ranks.rank(), ranks.size(), true});
    log.write(current, requests, found);
    return found;
  };
  // Requests of token ids need none.
  const eval::Encoding encoding = tokenizer ? eval::encoding_of(*tokenizer) : eval::Encoding{};
  const eval::Windows windows = eval::text_windows(model, padding, longest);
  std::vector<eval::TaskResult> results;
  for (const std::string& path : options.requests) {
    current = path;
    results.push_back(score_requests(path, model.vocab, likelihoods));
  }
  for (const std::string& path : options.texts) {
    current = path;
    const std::vector<std::string> text = {read_text(path)};
    results.push_back(eval::run_text(path, text, text, encoding, windows, likelihoods));
  }
  for (const std::string& task : tasks) {
    current = task;
    results.push_back(
        eval::run_task(task, options.folder, options.limit, encoding, windows, likelihoods));
  }
  return results;
}

std::string task_table(const std::vector<eval::TaskResult>& results) {
  std::vector<std::vector<std::string>> rows = {{"task", "items", "metric", "value", "+-"}};
  for (const eval::TaskResult& r : results)
    for (const eval::TaskMetric& m : r.metrics)
      rows.push_back({r.task, with_commas(r.items), m.name, number("%.6g", m.value),
                      m.deviation < 0 ? "" : number("%.3g", m.deviation)});
  return format_table(rows);
}

OrderedJson to_json(const eval::TaskResult& result) {
  OrderedJson json = {{"task", result.task}, {"items", result.items}};
  for (const eval::TaskMetric& m : result.metrics) {
    json[m.name] = m.value;
    if (m.deviation >= 0) json[m.name + "_stderr"] = m.deviation;
  }
  json["unscored_tokens"] = result.unscored;
  return json;
}

}  // namespace tessera::cli
