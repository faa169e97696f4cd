// Token files of other programs, taken over without encoding anything again.
//
// Megatron: NAME.bin (ids) and NAME.idx: "MMIDIDX\0\0", u64 version 1, u8 dtype code (4 int32,
// 5 int64, 8 uint16), u64 sequences, u64 entries of doc_idx, int32 sizes[], int64 byte pointers[],
// int64 doc_idx[] (sequence numbers where documents start, the last one = sequences). A document is
// its sequences joined. Sequences must stand one after the other in the .bin and fill it.
// Flat: ids one after the other behind an optional header (llm.c's 1024 bytes are recognised);
// documents end at the end-of-text id.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "data/input_files.h"

namespace tessera::data {

// Whether the end-of-text id is written after each Megatron document.
enum class AppendEndOfText {
  missing,  // unless the document ends with it already
  always,
  never,
};

struct ImportOptions {
  std::int64_t vocab_size = 0;    // 0: from the tokenizer, else one past the largest id
  std::int32_t end_of_text = -1;  // -1: from the tokenizer
  AppendEndOfText append = AppendEndOfText::missing;
  std::string dtype;              // flat files: "uint16", "uint32", or "" (llm.c header or uint16)
  std::int64_t header_bytes = 0;  // flat files: bytes to pass over
};

// Takes the documents of token files, one after the other.
class DocumentSink {
 public:
  virtual ~DocumentSink() = default;
  // A document of `tokens` (>= 1) tokens follows, in pieces that add up to it.
  virtual void begin(std::int64_t tokens) = 0;
  virtual void append(std::span<const std::int32_t> ids) = 0;
};

// One token file, opened and checked.
class TokenFile {
 public:
  virtual ~TokenFile() = default;
  virtual std::int64_t tokens() const = 0;
  // One past the largest id, by reading them all; Error{data} for a negative id.
  virtual std::int64_t scan_vocab() const = 0;
  // Gives all documents to `sink`; returns how many empty ones were left out. Error{data} with file
  // and position for an id outside 0..vocab_size - 1.
  virtual std::int64_t read(const ImportOptions& options, DocumentSink& sink) const = 0;
};

// Error{data} for sizes, pointers or types that contradict each other or the files, Error{config}
// for options that do not fit the file, Error{io}.
std::unique_ptr<TokenFile> open_token_file(const InputFile& file, const ImportOptions& options);

}  // namespace tessera::data
