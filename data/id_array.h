// Token ids of some integer type in a mapped file.
#pragma once

#include <cstdint>
#include <span>

#include "core/mapped_file.h"

namespace tessera::data {

enum class IdType { uint16, uint32, int32, int64 };

inline std::int64_t size_of(IdType type) {
  return type == IdType::uint16 ? 2 : type == IdType::int64 ? 8 : 4;
}

class IdArray {
 public:
  // `count` ids from byte `offset`; the caller has checked that they are inside the file.
  IdArray(const MappedFile& file, std::int64_t offset, std::int64_t count, IdType type)
      : file_(file), offset_(offset), count_(count), type_(type) {}

  std::int64_t size() const { return count_; }
  std::int64_t at(std::int64_t index) const;
  // Ids from `first` on into `out`; Error{data} naming file and position for one outside
  // 0..vocab_size - 1.
  void read(std::int64_t first, std::span<std::int32_t> out, std::int64_t vocab_size) const;
  // One past the largest; Error{data} for a negative one or one beyond kLargestVocab.
  std::int64_t scan_vocab() const;
  // Position of the first `id` in [first, size()), or size().
  std::int64_t find(std::int64_t first, std::int64_t id) const;

 private:
  // Calls f with a function that reads id i as int64, its type resolved once.
  template <typename F>
  auto with_type(F&& f) const;

  const MappedFile& file_;
  std::int64_t offset_, count_;
  IdType type_;
};

class DocumentSink;

// Appends ids [first, first + count) to `sink`, checked as IdArray::read does.
void copy_ids(const IdArray& ids, std::int64_t first, std::int64_t count, std::int64_t vocab_size,
              DocumentSink& sink);

}  // namespace tessera::data
