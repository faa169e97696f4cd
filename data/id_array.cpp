#include "data/id_array.h"

#include <algorithm>

#include "core/error.h"
#include "data/shard_format.h"

namespace tessera::data {

template <typename F>
auto IdArray::with_type(F&& f) const {
  const auto reader = [this]<typename T>(T) {
    return [this](std::int64_t i) {
      const T value = file_.at<T>(offset_ + i * static_cast<std::int64_t>(sizeof(T)));
      return static_cast<std::int64_t>(value);
    };
  };
  switch (type_) {
    case IdType::uint16:
      return f(reader(std::uint16_t{}));
    case IdType::uint32:
      return f(reader(std::uint32_t{}));
    case IdType::int32:
      return f(reader(std::int32_t{}));
    case IdType::int64:
      break;
  }
  return f(reader(std::int64_t{}));
}

std::int64_t IdArray::at(std::int64_t index) const {
  return with_type([&](auto id) { return id(index); });
}

void IdArray::read(std::int64_t first, std::span<std::int32_t> out, std::int64_t vocab_size) const {
  TESSERA_CHECK(first >= 0 && static_cast<std::int64_t>(out.size()) <= count_ - first);
  with_type([&](auto id) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::int64_t position = first + static_cast<std::int64_t>(i);
      const std::int64_t value = id(position);
      if (value < 0 || value >= vocab_size)
        throw Error(Category::data, file_.path() + ": token id " + std::to_string(value) +
                                        " at position " + std::to_string(position) +
                                        " is outside the vocabulary of " +
                                        std::to_string(vocab_size));
      out[i] = static_cast<std::int32_t>(value);
    }
    return 0;
  });
}

std::int64_t IdArray::scan_vocab() const {
  return with_type([&](auto id) {
    std::int64_t largest = -1;
    for (std::int64_t i = 0; i < count_; ++i) {
      const std::int64_t value = id(i);
      if (value < 0 || value >= kLargestVocab)
        throw Error(Category::data, file_.path() + ": " + std::to_string(value) + " at position " +
                                        std::to_string(i) +
                                        " cannot be a token id; is the type of the ids right?");
      largest = std::max(largest, value);
    }
    return largest + 1;
  });
}

std::int64_t IdArray::find(std::int64_t first, std::int64_t wanted) const {
  return with_type([&](auto id) {
    std::int64_t i = first;
    while (i < count_ && id(i) != wanted) ++i;
    return i;
  });
}

}  // namespace tessera::data
