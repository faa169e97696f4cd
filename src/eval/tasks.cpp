#include "eval/tasks.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <numbers>

#include <spdlog/fmt/fmt.h>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "data/byte_source.h"
#include "data/line_reader.h"

namespace tessera::eval {
namespace {

constexpr std::size_t kLongestLine = std::size_t{64} << 20;
constexpr const char* kBlanks = " \t\n\r\v\f";

struct TaskFile {
  const char *task, *file;
};
constexpr TaskFile kFiles[] = {{"lambada", "lambada_openai_test.jsonl"},
                               {"hellaswag", "hellaswag_val.jsonl"},
                               {"piqa", "piqa_valid.jsonl"},
                               {"arc_easy", "arc_easy_test.jsonl"},
                               {"sciq", "sciq_val.jsonl"},
                               {"winogrande", "winogrande_val.jsonl"},
                               {"wikitext", "wikitext2_raw_valid.docs.jsonl"}};

std::string file_of(const std::string& folder, const std::string& task) {
  for (const TaskFile& f : kFiles)
    if (task == f.task)
      for (const char* ending : {"", ".zst", ".gz"})
        if (std::filesystem::exists(folder + "/" + f.file + ending))
          return folder + "/" + f.file + ending;
  const auto* wanted = std::find_if(std::begin(kFiles), std::end(kFiles),
                                    [&](const TaskFile& f) { return task == f.task; });
  throw Error(Category::config, fmt::format("task {}: {} has no {} (nor with .zst or .gz)", task,
                                            folder, wanted->file));
}

// A line of a task's file, with errors that say where.
class Item {
 public:
  Item(std::string_view line, std::string where)
      : where_(std::move(where)), json_(Json::parse(line, nullptr, false)) {
    if (!json_.is_object()) throw Error(Category::data, where_ + ": a JSON object was expected");
  }
  std::string text(const char* key) const {
    if (!json_.contains(key) || !json_[key].is_string()) missing(key, "a text");
    return json_[key].get<std::string>();
  }
  std::vector<std::string> texts(const char* key) const {
    if (!json_.contains(key) || !json_[key].is_array()) missing(key, "a list of texts");
    std::vector<std::string> result;
    for (const Json& t : json_[key]) {
      if (!t.is_string()) missing(key, "a list of texts");
      result.push_back(t.get<std::string>());
    }
    if (result.empty()) missing(key, "a list of texts");
    return result;
  }
  std::size_t gold(std::size_t choices) const {
    if (!json_.contains("gold") || !json_["gold"].is_number_integer()) missing("gold", "a number");
    const auto value = json_["gold"].get<std::int64_t>();
    if (value < 0 || value >= static_cast<std::int64_t>(choices))
      missing("gold", fmt::format("a number below {}", choices));
    return static_cast<std::size_t>(value);
  }
  [[noreturn]] void missing(const char* key, const std::string& expected) const {
    throw Error(Category::data, fmt::format("{}: \"{}\" must be {}", where_, key, expected));
  }

 private:
  std::string where_;
  Json json_;
};

std::vector<Item> read_items(const std::string& path, std::int64_t limit) {
  std::atomic<std::int64_t> consumed{0};
  const auto bytes = data::open_bytes(path, consumed);
  data::LineReader lines(*bytes, path, kLongestLine);
  std::vector<Item> items;
  std::string_view line;
  while ((limit == 0 || static_cast<std::int64_t>(items.size()) < limit) && lines.next(line))
    if (line.find_first_not_of(kBlanks) != std::string_view::npos)
      items.emplace_back(line, fmt::format("{}:{}", path, lines.number()));
  if (items.empty()) throw Error(Category::data, path + ": no items in it");
  return items;
}

// One item of a task with choices: a context and a continuation for each.
struct Choices {
  std::vector<std::pair<std::string, std::string>> pairs;
  std::vector<std::int64_t> characters;  // of each choice
  std::size_t gold = 0;
};

std::int64_t characters_of(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

Choices choices_of(const std::string& task, const Item& item) {
  Choices c;
  const auto add = [&](const std::string& context, const std::string& choice) {
    c.pairs.emplace_back(context, " " + choice);
    c.characters.push_back(characters_of(choice));
  };
  if (task == "winogrande") {
    const std::string sentence = item.text("sentence");
    const std::size_t gap = sentence.find('_');
    if (gap == std::string::npos) item.missing("sentence", "a text with a _");
    std::string rest = sentence.substr(gap + 1);
    rest.erase(0, std::min(rest.find_first_not_of(kBlanks), rest.size()));
    rest.erase(rest.find_last_not_of(kBlanks) + 1);
    for (const char* option : {"option1", "option2"})
      add(sentence.substr(0, gap) + item.text(option), rest);
  } else if (task == "piqa") {
    const std::string context = "Question: " + item.text("goal") + "\nAnswer:";
    add(context, item.text("sol1"));
    add(context, item.text("sol2"));
  } else {
    std::string context;
    if (task == "hellaswag") {
      context = item.text("query");
    } else {
      if (task == "sciq") {
        const std::string support = item.text("support");
        const std::size_t begin = std::min(support.find_first_not_of(kBlanks), support.size());
        context = support.substr(begin) + "\n";
      }
      context += "Question: " + item.text("question") + "\nAnswer:";
    }
    for (const std::string& choice : item.texts("choices")) add(context, choice);
  }
  c.gold = item.gold(c.pairs.size());
  return c;
}

// Mean and standard error, sqrt(variance / (n - 1)) with the variance over n.
TaskMetric mean_of(const std::string& name, const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  const double mean = sum / n;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {name, mean, n > 1 ? std::sqrt(squares / n / (n - 1)) : -1};
}

TaskResult run_choices(const std::string& task, const std::vector<Item>& items,
                       const Encoding& encoding, const LikelihoodsOf& likelihoods) {
  std::vector<Choices> all;
  std::vector<Request> requests;
  for (const Item& item : items) {
    all.push_back(choices_of(task, item));
    for (const auto& [context, continuation] : all.back().pairs)
      requests.push_back(encode_pair(encoding, context, continuation));
  }
  const std::vector<Likelihood> found = likelihoods(requests);
  TaskResult result{task, static_cast<std::int64_t>(items.size()), 0, {}};
  std::vector<double> right, right_by_length;
  std::size_t at = 0;
  for (const Choices& c : all) {
    std::size_t best = 0, best_by_length = 0;
    const auto by_length = [&](std::size_t i) {
      return found[at + i].sum / static_cast<double>(std::max<std::int64_t>(1, c.characters[i]));
    };
    for (std::size_t i = 0; i < c.pairs.size(); ++i) {
      if (found[at + i].sum > found[at + best].sum) best = i;
      if (by_length(i) > by_length(best_by_length)) best_by_length = i;
      result.unscored += found[at + i].unscored;
    }
    right.push_back(best == c.gold ? 1 : 0);
    right_by_length.push_back(best_by_length == c.gold ? 1 : 0);
    at += c.pairs.size();
  }
  result.metrics = {mean_of("acc", right)};
  // WinoGrande's choices share their continuation, so its length decides nothing.
  if (task != "winogrande") result.metrics.push_back(mean_of("acc_norm", right_by_length));
  return result;
}

TaskResult run_lambada(const std::vector<Item>& items, const Encoding& encoding,
                       const LikelihoodsOf& likelihoods) {
  std::vector<Request> requests;
  for (const Item& item : items) {
    const std::string text = item.text("text");
    const std::size_t blank = text.rfind(' ');
    if (blank == std::string::npos || blank == 0) item.missing("text", "of two words or more");
    requests.push_back(encode_pair(encoding, text.substr(0, blank), text.substr(blank)));
  }
  TaskResult result{"lambada", static_cast<std::int64_t>(items.size()), 0, {}};
  std::vector<double> sums, right;
  for (const Likelihood& l : likelihoods(requests)) {
    sums.push_back(-l.sum);
    right.push_back(l.greedy ? 1 : 0);
    result.unscored += l.unscored;
  }
  const TaskMetric nats = mean_of("", sums);
  const double perplexity = std::exp(nats.value);
  result.metrics = {
      {"perplexity", perplexity, nats.deviation < 0 ? -1 : perplexity * nats.deviation},
      mean_of("acc", right)};
  return result;
}

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

std::int64_t words_of(const std::string& text) {
  std::int64_t words = 1;  // runs of whitespace separate, as re.split counts
  bool blank = false;
  for (const char c : text) {
    const bool is = is_blank(c);
    if (is && !blank) ++words;
    blank = is;
  }
  return words;
}

// Of a text that begins so, the words that begin in this part of it.
std::int64_t words_begun(const std::string& text) {
  if (text.empty()) return 0;
  return words_of(text) - (is_blank(text.back()) ? 1 : 0);
}

}  // namespace

Encoding encoding_of(const data::Tokenizer& tokenizer) {
  return {[&](const std::string& text) { return tokenizer.encode(text); },
          [&](const std::vector<std::int32_t>& ids) { return tokenizer.decode(ids); },
          tokenizer.end_of_text()};
}

const std::vector<std::string>& task_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const TaskFile& f : kFiles) all.emplace_back(f.task);
    return all;
  }();
  return names;
}

std::vector<std::string> checked_tasks(const std::vector<std::string>& names) {
  std::vector<std::string> result;
  for (const std::string& name : names) {
    if (name == "all") return task_names();
    const auto& known = task_names();
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const std::string near = nearest(name, known);
      throw Error(Category::config,
                  fmt::format("no task is called '{}'{}; there are {}", name,
                              near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near),
                              fmt::join(known, ", ")));
    }
    result.push_back(name);
  }
  return result;
}

void require_task_files(const std::string& folder, const std::vector<std::string>& tasks) {
  for (const std::string& task : tasks) file_of(folder, task);
}

Request encode_pair(const Encoding& encoding, std::string context, std::string continuation) {
  const std::size_t kept = context.find_last_not_of(kBlanks) + 1;  // npos + 1 = 0
  continuation = context.substr(kept) + continuation;
  context.erase(kept);
  Request r;
  r.context = encoding.encode(context);
  r.continuation = encoding.encode(context + continuation);
  r.continuation.erase(r.continuation.begin(),
                       r.continuation.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                    r.context.size(), r.continuation.size())));
  if (r.context.empty()) r.context = {encoding.end_of_text};
  // A continuation that melts into the context's last token keeps that one.
  if (r.continuation.empty()) {
    r.continuation = {r.context.back()};
    r.context.pop_back();
    if (r.context.empty()) r.context = {encoding.end_of_text};
  }
  return r;
}

TaskResult run_text(const std::string& name, const std::vector<std::string>& documents,
                    const std::vector<std::string>& originals, const Encoding& encoding,
                    const Windows& windows, const LikelihoodsOf& likelihoods) {
  TESSERA_CHECK(documents.size() == originals.size());
  std::vector<Request> requests;
  std::vector<std::vector<std::int32_t>> ids;  // of each document
  std::vector<std::size_t> ends;               // of each document's requests
  for (const std::string& document : documents) {
    ids.push_back(encoding.encode(document));
    for (Request& r : rolling_requests(ids.back(), windows, encoding.end_of_text))
      requests.push_back(std::move(r));
    ends.push_back(requests.size());
  }
  const std::vector<Likelihood> found = likelihoods(requests);
  TaskResult result{name, static_cast<std::int64_t>(documents.size()), 0, {}};
  double words = 0, bytes = 0, tokens = 0, nats = 0;
  for (std::size_t d = 0, r = 0; d < documents.size(); ++d) {
    std::int64_t scored = 0, unscored = 0;
    for (; r < ends[d]; ++r) {
      nats -= found[r].sum;
      scored += found[r].scored;
      unscored += found[r].unscored;
    }
    tokens += static_cast<double>(scored);
    result.unscored += unscored;
    if (scored == 0 && unscored > 0) continue;
    // What is not scored is the document's begin.
    ids[d].resize(static_cast<std::size_t>(unscored));
    const std::string begin = ids[d].empty() ? "" : encoding.decode(ids[d]);
    words += static_cast<double>(words_of(originals[d]) - words_begun(begin));
    bytes += static_cast<double>(originals[d].size()) - static_cast<double>(begin.size());
  }
  if (tokens == 0) throw Error(Category::data, name + ": no text to score");
  result.metrics = {{"loss", nats / tokens},
                    {"perplexity", std::exp(nats / tokens)},
                    {"word_perplexity", std::exp(nats / words)},
                    {"byte_perplexity", std::exp(nats / bytes)},
                    {"bits_per_byte", nats / std::numbers::ln2 / bytes},
                    {"tokens", tokens}};
  return result;
}

TaskResult run_task(const std::string& task, const std::string& folder, std::int64_t limit,
                    const Encoding& encoding, const Windows& windows,
                    const LikelihoodsOf& likelihoods) {
  const std::vector<Item> items = read_items(file_of(folder, task), limit);
  if (task == "lambada") return run_lambada(items, encoding, likelihoods);
  if (task != "wikitext") return run_choices(task, items, encoding, likelihoods);
  std::vector<std::string> pages, originals;
  for (const Item& item : items) {
    originals.push_back(item.text("text"));
    pages.push_back(wikitext_detokenized(originals.back()));
  }
  return run_text(task, pages, originals, encoding, windows, likelihoods);
}

}  // namespace tessera::eval
