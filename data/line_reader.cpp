#include "data/line_reader.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace tessera::data {
namespace {

constexpr std::size_t kRead = std::size_t{1} << 18;  // bytes asked for at a time

}  // namespace

LineReader::LineReader(ByteSource& source, std::string name, std::size_t limit)
    : source_(source), name_(std::move(name)), limit_(limit), buffer_(2 * kRead, '\0') {}

bool LineReader::next(std::string_view& line) {
  std::size_t searched = begin_;
  while (true) {
    const void* found =
        end_ > searched ? std::memchr(buffer_.data() + searched, '\n', end_ - searched) : nullptr;
    const std::size_t stop =
        found != nullptr
            ? static_cast<std::size_t>(static_cast<const char*>(found) - buffer_.data())
            : end_;
    if (stop - begin_ > limit_)
      throw Error(Category::data, name_ + ", line " + std::to_string(number_ + 1) +
                                      ": longer than the " + std::to_string(limit_) +
                                      " bytes allowed for a line");
    if (found != nullptr || finished_) {
      if (found == nullptr && begin_ == end_) return false;
      line = std::string_view(buffer_).substr(begin_, stop - begin_);
      begin_ = std::min(end_, stop + 1);
      if (++number_ == 1) line = without_mark(line);
      return true;
    }
    // Keep the unfinished line at the front and read on behind it.
    if (begin_ > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    searched = end_;
    begin_ = 0;
    if (buffer_.size() - end_ < kRead) buffer_.resize(2 * buffer_.size());
    const std::size_t count = source_.read(buffer_.data() + end_, kRead);
    end_ += count;
    finished_ = count == 0;
  }
}

std::string_view without_mark(std::string_view text) {
  return text.starts_with("\xEF\xBB\xBF") ? text.substr(3) : text;
}

}  // namespace tessera::data
