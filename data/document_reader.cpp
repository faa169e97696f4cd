#include "data/document_reader.h"

#include "core/error.h"

namespace tessera::data {
namespace {

constexpr std::size_t kBatchBytes = std::size_t{1} << 20;
constexpr std::size_t kBatchItems = 4096;

bool full(const DocumentBatch& batch) {
  return batch.text.size() >= kBatchBytes || batch.items.size() >= kBatchItems;
}

}  // namespace

DocumentReader::DocumentReader(const std::vector<TextFile>& files,
                               std::atomic<std::int64_t>& consumed)
    : files_(files), consumed_(consumed) {}

// Lines of the open file until the batch is full; whether the file has ended.
bool DocumentReader::add_lines(DocumentBatch& batch) {
  std::string_view line;
  while (!full(batch)) {
    if (!lines_->next(line)) return true;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    batch.items.push_back({batch.text.size(), line.size(), file_, lines_->number(), documents_++});
    batch.text += line;
  }
  return false;
}

void DocumentReader::add_text(DocumentBatch& batch) {
  constexpr std::size_t kRead = std::size_t{1} << 18;
  const std::size_t begin = batch.text.size();
  std::size_t end = begin;
  while (true) {
    batch.text.resize(end + kRead);
    const std::size_t count = source_->read(batch.text.data() + end, kRead);
    end += count;
    if (end - begin > kLongestText)
      throw Error(Category::data, files_[file_].file.path + ": larger than the " +
                                      std::to_string(kLongestText) +
                                      " bytes allowed for one document: cut it into several files");
    if (count == 0) break;
  }
  batch.text.resize(end);
  batch.items.push_back({begin, end - begin, file_, 0, documents_++});
}

bool DocumentReader::next(DocumentBatch& batch) {
  batch = {};
  batch.number = batches_++;
  while (!full(batch) && file_ < files_.size()) {
    const InputFile& file = files_[file_].file;
    if (!source_) {
      source_ = open_bytes(file.path, consumed_);
      if (file.format == InputFormat::jsonl)
        lines_ = std::make_unique<LineReader>(*source_, file.path, kLongestLine);
    }
    bool ended = true;
    if (lines_) {
      ended = add_lines(batch);
    } else {
      add_text(batch);
    }
    if (!ended) break;
    lines_.reset();
    source_.reset();
    ++file_;
  }
  return !batch.items.empty();
}

}  // namespace tessera::data
