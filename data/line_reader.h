// Lines of a byte source, numbered from 1, with bounded memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/byte_source.h"

namespace tessera::data {

class LineReader {
 public:
  // `name` stands for the file in messages; lines longer than `limit` bytes are Error{data}.
  LineReader(ByteSource& source, std::string name, std::size_t limit);

  // The next line without its '\n' (the last line need not have one), valid until the next call;
  // false at the end. A byte order mark at the file's start is left out.
  bool next(std::string_view& line);
  std::int64_t number() const { return number_; }

 private:
  ByteSource& source_;
  std::string name_;
  std::size_t limit_;
  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;  // bytes of buffer_ that are read and not given out
  std::int64_t number_ = 0;
  bool finished_ = false;
};

// Without the UTF-8 byte order mark at its start, if there is one.
std::string_view without_mark(std::string_view text);

}  // namespace tessera::data
