// Encodes documents with many threads and gives the results in input order: reader -> threads ->
// caller, with a bound on the text under way. What comes out does not depend on the threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/document_reader.h"
#include "data/tokenizer.h"

namespace tessera::data {

struct EncodedBatch {
  struct Document {
    std::int64_t tokens = 0;      // with the end of text
    std::int64_t text_bytes = 0;  // UTF-8, as encoded
    std::int64_t index = 0;       // documents before it in the inputs
    bool valid = false;           // its file belongs to the validation part
  };
  std::vector<std::int32_t> ids;  // of all documents, one after the other
  std::vector<Document> documents;
  std::int64_t empty = 0;     // documents without text, left out
  std::int64_t repaired = 0;  // documents with invalid UTF-8, replaced by U+FFFD
};

// Documents (index, of a validation input) that need not be encoded; asked from any thread.
using SkipDocument = std::function<bool(std::int64_t, bool)>;

// One batch. Error{data} naming file and line of a line that is not usable.
EncodedBatch encode(const DocumentBatch& batch, const std::vector<TextFile>& files,
                    const Tokenizer& tokenizer, const std::string& text_key,
                    const SkipDocument& skip = {});

struct PipelineOptions {
  std::string text_key = "text";
  std::int64_t threads = 1;
  SkipDocument skip = {};
};

class EncodePipeline {
 public:
  // `files`, `tokenizer` and `consumed` must outlive it; the threads start at once.
  EncodePipeline(const std::vector<TextFile>& files, const Tokenizer& tokenizer,
                 const PipelineOptions& options, std::atomic<std::int64_t>& consumed);
  // Stops the threads, whatever they are at.
  ~EncodePipeline();
  EncodePipeline(const EncodePipeline&) = delete;
  EncodePipeline& operator=(const EncodePipeline&) = delete;

  // The next batch in order; false at the end. The error that comes first in the input is the one
  // that is thrown.
  bool next(EncodedBatch& batch);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera::data
