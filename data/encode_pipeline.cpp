#include "data/encode_pipeline.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "data/json_line.h"
#include "data/tokenizer/unicode.h"

namespace tessera::data {
namespace {

// Text under way: read, being encoded, or waiting for its turn. One batch may always go.
constexpr std::size_t kBudgetBytes = std::size_t{64} << 20;

constexpr std::size_t kReserve = std::size_t{64} << 20;  // ids

[[noreturn]] void refuse(const TextFile& file, const DocumentBatch::Item& item,
                         const std::string& finding) {
  throw Error(Category::data,
              file.file.path + ", line " + std::to_string(item.line) + ": " + finding);
}

}  // namespace

EncodedBatch encode(const DocumentBatch& batch, const std::vector<TextFile>& files,
                    const Tokenizer& tokenizer, const std::string& text_key,
                    const SkipDocument& skip) {
  EncodedBatch result;
  // No tokenizer makes more ids than bytes; what is not used of it costs no memory.
  result.ids.reserve(std::min(batch.text.size(), kReserve) + batch.items.size());
  std::string storage;
  for (const DocumentBatch::Item& item : batch.items) {
    const TextFile& file = files[item.file];
    const auto raw = std::string_view(batch.text).substr(item.begin, item.size);
    std::string_view text;
    bool repaired = false;
    if (item.line > 0) {
      try {
        repaired = extract_text(raw, text_key, storage);
      } catch (const JsonLineError& problem) {
        refuse(file, item, problem.what());
      }
      text = storage;
    } else {
      text = without_mark(raw);
      if (!valid_utf8(text)) {
        storage = replace_invalid_utf8(text);
        text = storage;
        repaired = true;
      }
    }
    result.repaired += repaired;
    if (text.empty()) {
      ++result.empty;
      continue;
    }
    if (skip && skip(item.index, file.valid)) continue;
    const std::size_t before = result.ids.size();
    tokenizer.encode(text, result.ids);
    result.ids.push_back(tokenizer.end_of_text());
    result.documents.push_back({static_cast<std::int64_t>(result.ids.size() - before),
                                static_cast<std::int64_t>(text.size()), item.index, file.valid});
  }
  return result;
}

struct EncodePipeline::State {
  struct Result {
    EncodedBatch batch;
    std::exception_ptr failure;
    std::size_t bytes = 0;  // of text it came from
  };

  State(const std::vector<TextFile>& f, const Tokenizer& t, const PipelineOptions& o,
        std::atomic<std::int64_t>& consumed)
      : files(f), tokenizer(t), options(o), reader(f, consumed) {}

  void read();
  void work();

  const std::vector<TextFile>& files;
  const Tokenizer& tokenizer;
  const PipelineOptions options;
  DocumentReader reader;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<DocumentBatch> waiting;
  std::map<std::int64_t, Result> done;  // by batch number
  std::size_t under_way = 0;            // bytes of text
  std::int64_t total = -1;              // batches, once the reader is through
  std::int64_t given = 0;
  bool stopping = false;
  std::vector<std::thread> threads;
};

void EncodePipeline::State::read() {
  DocumentBatch batch;
  std::int64_t number = 0;
  std::exception_ptr failure;
  try {
    for (; reader.next(batch); ++number) {
      const std::size_t bytes = batch.text.size();
      std::unique_lock lock(mutex);
      changed.wait(lock,
                   [&] { return stopping || under_way == 0 || under_way + bytes <= kBudgetBytes; });
      if (stopping) return;
      under_way += bytes;
      waiting.push_back(std::move(batch));
      changed.notify_all();
    }
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(mutex);
  if (failure) done[number++].failure = failure;  // after the batches that were read before it
  total = number;
  changed.notify_all();
}

void EncodePipeline::State::work() {
  while (true) {
    DocumentBatch batch;
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return stopping || !waiting.empty() || total >= 0; });
      if (stopping || waiting.empty()) return;
      batch = std::move(waiting.front());
      waiting.pop_front();
    }
    Result result;
    result.bytes = batch.text.size();
    try {
      result.batch = encode(batch, files, tokenizer, options.text_key, options.skip);
    } catch (...) {
      result.failure = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    done[batch.number] = std::move(result);
    changed.notify_all();
  }
}

EncodePipeline::EncodePipeline(const std::vector<TextFile>& files, const Tokenizer& tokenizer,
                               const PipelineOptions& options, std::atomic<std::int64_t>& consumed)
    : state_(std::make_unique<State>(files, tokenizer, options, consumed)) {
  TESSERA_CHECK(options.threads >= 1);
  state_->threads.emplace_back([s = state_.get()] { s->read(); });
  for (std::int64_t i = 0; i < options.threads; ++i)
    state_->threads.emplace_back([s = state_.get()] { s->work(); });
}

EncodePipeline::~EncodePipeline() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->changed.notify_all();
  }
  for (std::thread& thread : state_->threads) thread.join();
}

bool EncodePipeline::next(EncodedBatch& batch) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  s.changed.wait(lock, [&] { return s.done.count(s.given) > 0 || s.given == s.total; });
  if (s.given == s.total) return false;
  const auto at = s.done.find(s.given++);
  State::Result result = std::move(at->second);
  s.done.erase(at);
  s.under_way -= result.bytes;
  s.changed.notify_all();
  if (result.failure) std::rethrow_exception(result.failure);
  batch = std::move(result.batch);
  return true;
}

}  // namespace tessera::data
