// Documents of text files in input order, in batches of about a mebibyte: the serial part of
// `prepare`. It finds the lines; what is in them is left to the threads that encode.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/byte_source.h"
#include "data/input_files.h"
#include "data/line_reader.h"

namespace tessera::data {

inline constexpr std::size_t kLongestLine = std::size_t{256} << 20;  // bytes of a JSONL line
inline constexpr std::size_t kLongestText = std::size_t{1} << 30;    // bytes of a .txt document

struct TextFile {
  InputFile file;
  bool valid = false;  // of the validation part as a whole
};

struct DocumentBatch {
  struct Item {
    std::size_t begin = 0, size = 0;  // in `text`
    std::size_t file = 0;             // which of the files
    std::int64_t line = 0;            // from 1; 0: the document is the whole file
    std::int64_t index = 0;           // documents before it in the inputs
  };
  std::int64_t number = 0;  // batches before it
  std::string text;         // JSON lines or plain texts, one after the other
  std::vector<Item> items;
};

class DocumentReader {
 public:
  // Files must be jsonl or text. File bytes read are added to `consumed`.
  DocumentReader(const std::vector<TextFile>& files, std::atomic<std::int64_t>& consumed);

  // False at the end. Error{data} naming the file (and line) for damaged compression, a line over
  // kLongestLine or a text over kLongestText; Error{io}. Lines of white space are no documents.
  bool next(DocumentBatch& batch);

 private:
  bool add_lines(DocumentBatch& batch);
  void add_text(DocumentBatch& batch);

  const std::vector<TextFile>& files_;
  std::atomic<std::int64_t>& consumed_;
  std::size_t file_ = 0;
  std::unique_ptr<ByteSource> source_;  // of the open file
  std::unique_ptr<LineReader> lines_;
  std::int64_t batches_ = 0, documents_ = 0;
};

}  // namespace tessera::data
