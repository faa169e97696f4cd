#include "data/prepare.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "core/error.h"
#include "core/integers.h"
#include "core/json.h"
#include "core/sha256.h"
#include "data/encode_pipeline.h"
#include "data/tokenizer.h"

namespace tessera::data {
namespace {

using Clock = std::chrono::steady_clock;

// What both kinds of input share while they run.
class Job {
 public:
  explicit Job(const PrepareOptions& options) : options_(options) {
    if (options.inputs.empty()) throw Error(Category::config, "no input file is named");
    add(options.inputs, false);
    add(options.valid_inputs, true);
    const bool ids = holds_ids(files_[0].file.format);
    for (const TextFile& f : files_)
      if (holds_ids(f.file.format) != ids)
        throw Error(Category::config, files_[0].file.path + " and " + f.file.path +
                                          ": text and token files cannot be prepared together");
  }

  const std::vector<TextFile>& files() const { return files_; }
  bool of_ids() const { return holds_ids(files_[0].file.format); }
  std::int64_t bytes() const { return bytes_; }

  // Inputs and options that decide the result, as one text; inputs by path, size and time.
  std::string description() const {
    OrderedJson inputs = OrderedJson::array();
    for (const TextFile& f : files_) {
      std::error_code none;
      const auto time = std::filesystem::last_write_time(f.file.path, none);
      inputs.push_back({f.file.path, static_cast<int>(f.file.format), f.file.bytes,
                        none ? 0 : time.time_since_epoch().count(), f.valid});
    }
    const ImportOptions& import = options_.import;
    return OrderedJson({{"inputs", inputs},
                        {"valid_fraction", options_.valid_fraction},
                        {"seed", options_.seed},
                        {"text_key", options_.text_key},
                        {"shard_tokens", options_.shard_tokens},
                        {"import",
                         {import.vocab_size, import.end_of_text, static_cast<int>(import.append),
                          import.dtype, import.header_bytes}}})
        .dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
  }

  SplitOptions split_options() const {
    SplitOptions split;
    split.out = options_.out;
    split.valid_fraction = options_.valid_fraction;
    split.valid_inputs = !options_.valid_inputs.empty();
    split.seed = options_.seed;
    split.folder.shard_tokens = options_.shard_tokens;
    split.folder.force = options_.force;
    split.folder.job = sha256(description());
    return split;
  }

  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  void tell(std::int64_t bytes_done, const SplitWriter& writer) const {
    if (options_.on_progress)
      options_.on_progress({bytes_done, bytes_, writer.counts(), seconds()});
  }

 private:
  void add(const std::vector<std::string>& inputs, bool valid) {
    for (const InputFile& file : find_inputs(inputs, options_.format)) {
      files_.push_back({file, valid});
      bytes_ = checked_add(bytes_, file.bytes, "bytes of all inputs");
    }
  }

  const PrepareOptions& options_;
  std::vector<TextFile> files_;
  std::int64_t bytes_ = 0;
  Clock::time_point start_ = Clock::now();
};

void prepare_text(const PrepareOptions& options, const Job& job, PrepareReport& report) {
  if (options.tokenizer.empty())
    throw Error(Category::config, "text needs a tokenizer: --tokenizer FILE or --tokenizer bytes");
  const ImportOptions none;
  const ImportOptions& import = options.import;
  if (import.vocab_size != none.vocab_size || import.end_of_text != none.end_of_text ||
      import.append != none.append || import.dtype != none.dtype ||
      import.header_bytes != none.header_bytes)
    throw Error(
        Category::config,
        "--vocab, --eot, --append-eot, --dtype and --header-bytes are for token files, but " +
            job.files()[0].file.path + " is text");
  const auto tokenizer = load_tokenizer(options.tokenizer);
  SplitWriter writer(job.split_options(),
                     {tokenizer->vocab_size(), tokenizer->end_of_text(), tokenizer->digest()},
                     tokenizer->json());
  std::int64_t threads = options.threads;
  if (threads < 1) threads = std::max(1u, std::thread::hardware_concurrency());
  std::atomic<std::int64_t> consumed = 0;
  report.kept_tokens = writer.kept_tokens();
  const auto skip = [&](std::int64_t index, bool valid) { return writer.has(index, valid); };
  EncodePipeline pipeline(job.files(), *tokenizer, {options.text_key, threads, skip}, consumed);
  EncodedBatch batch;
  while (pipeline.next(batch)) {
    std::span<const std::int32_t> ids = batch.ids;
    for (const EncodedBatch::Document& document : batch.documents) {
      ShardFolderWriter& folder = writer.folder_of(document.index, document.valid);
      const auto count = static_cast<std::size_t>(document.tokens);
      folder.begin_document(document.tokens, document.index);
      folder.append(ids.first(count));
      folder.end_document(document.text_bytes);
      ids = ids.subspan(count);
    }
    report.empty_documents += batch.empty;
    report.repaired_documents += batch.repaired;
    job.tell(consumed, writer);
  }
  report.parts = writer.finish();
}

// Writes documents of token files; their text is counted where a tokenizer says how long ids are.
class ImportSink : public DocumentSink {
 public:
  ImportSink(SplitWriter& writer, const std::vector<std::int32_t>& token_bytes, const Job& job)
      : writer_(writer), token_bytes_(token_bytes), job_(job) {}

  // What follows is of this file, which holds `tokens` ids.
  void next_file(const TextFile& file, std::int64_t tokens) {
    done_bytes_ += file_ != nullptr ? file_->file.bytes : 0;
    file_ = &file;
    file_tokens_ = std::max<std::int64_t>(1, tokens);
    read_tokens_ = 0;
  }

  void begin(std::int64_t tokens) override {
    folder_ = &writer_.folder_of(documents_, file_->valid);
    left_ = tokens;
    text_bytes_ = 0;
    folder_->begin_document(tokens, documents_++);
  }
  void append(std::span<const std::int32_t> ids) override {
    folder_->append(ids);
    for (const std::int32_t id : ids)
      if (static_cast<std::size_t>(id) < token_bytes_.size())
        text_bytes_ += token_bytes_[static_cast<std::size_t>(id)];
    left_ -= static_cast<std::int64_t>(ids.size());
    if (left_ == 0) folder_->end_document(text_bytes_);
    const std::int64_t before = read_tokens_;
    read_tokens_ += static_cast<std::int64_t>(ids.size());
    if (before / kTellTokens != read_tokens_ / kTellTokens)
      job_.tell(done_bytes_ +
                    static_cast<std::int64_t>(static_cast<double>(file_->file.bytes) *
                                              std::min(1.0, static_cast<double>(read_tokens_) /
                                                                static_cast<double>(file_tokens_))),
                writer_);
  }

 private:
  static constexpr std::int64_t kTellTokens = std::int64_t{1} << 20;

  SplitWriter& writer_;
  const std::vector<std::int32_t>& token_bytes_;
  const Job& job_;
  const TextFile* file_ = nullptr;
  ShardFolderWriter* folder_ = nullptr;  // of the open document
  std::int64_t documents_ = 0, left_ = 0, text_bytes_ = 0;
  std::int64_t done_bytes_ = 0, file_tokens_ = 1, read_tokens_ = 0;
};

ShardKind import_kind(const PrepareOptions& options, const Tokenizer* tokenizer,
                      const std::vector<std::unique_ptr<TokenFile>>& files) {
  ShardKind kind{options.import.vocab_size, options.import.end_of_text, ""};
  if (kind.vocab_size < 0 || kind.vocab_size > kLargestVocab)
    throw Error(Category::config, "--vocab is " + std::to_string(kind.vocab_size) +
                                      ", expected 1.." + std::to_string(kLargestVocab));
  if (tokenizer != nullptr) {
    kind.tokenizer_digest = tokenizer->digest();
    if (kind.end_of_text < 0) kind.end_of_text = tokenizer->end_of_text();
    if (kind.vocab_size > 0 && kind.vocab_size < tokenizer->vocab_size())
      throw Error(Category::config, "--vocab is " + std::to_string(kind.vocab_size) +
                                        ", but the tokenizer has " +
                                        std::to_string(tokenizer->vocab_size()) + " ids");
    if (kind.vocab_size == 0) kind.vocab_size = tokenizer->vocab_size();
  }
  if (kind.vocab_size == 0) {
    kind.vocab_size = kind.end_of_text + 1;
    for (const auto& file : files) kind.vocab_size = std::max(kind.vocab_size, file->scan_vocab());
    kind.vocab_size = std::max<std::int64_t>(1, kind.vocab_size);  // files without ids
  }
  if (kind.end_of_text >= kind.vocab_size || kind.end_of_text < -1)
    throw Error(Category::config, "--eot is " + std::to_string(kind.end_of_text) +
                                      ", outside the vocabulary of " +
                                      std::to_string(kind.vocab_size));
  return kind;
}

void prepare_ids(const PrepareOptions& options, const Job& job, PrepareReport& report) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (!options.tokenizer.empty()) tokenizer = load_tokenizer(options.tokenizer);
  std::vector<std::unique_ptr<TokenFile>> files;
  for (const TextFile& f : job.files()) files.push_back(open_token_file(f.file, options.import));
  const ShardKind kind = import_kind(options, tokenizer.get(), files);
  ImportOptions import = options.import;
  import.vocab_size = kind.vocab_size;
  import.end_of_text = kind.end_of_text;

  SplitWriter writer(job.split_options(), kind, tokenizer ? tokenizer->json() : "");
  report.kept_tokens = writer.kept_tokens();
  const std::vector<std::int32_t> unknown;
  ImportSink sink(writer, tokenizer ? tokenizer->token_bytes() : unknown, job);
  for (std::size_t i = 0; i < files.size(); ++i) {
    sink.next_file(job.files()[i], files[i]->tokens());
    report.empty_documents += files[i]->read(import, sink);
    files[i].reset();
  }
  job.tell(job.bytes(), writer);
  report.parts = writer.finish();
}

}  // namespace

ShardCounts PrepareReport::totals() const {
  ShardCounts sum;
  for (const PreparedPart& part : parts) {
    sum.tokens += part.counts.tokens;
    sum.documents += part.counts.documents;
    sum.text_bytes += part.counts.text_bytes;
  }
  return sum;
}

PrepareReport prepare(const PrepareOptions& options) {
  const Job job(options);
  PrepareReport report;
  report.input_bytes = job.bytes();
  if (job.of_ids()) {
    prepare_ids(options, job, report);
  } else {
    prepare_text(options, job, report);
  }
  report.seconds = job.seconds();
  return report;
}

}  // namespace tessera::data
