#include "checkpoints/layout.h"

#include <algorithm>
#include <set>

#include "checkpoints/names.h"
#include "core/error.h"
#include "core/integers.h"

namespace tessera::checkpoints {

std::int64_t element_count(const TensorInfo& tensor, const std::string& what) {
  const std::string name = what + ": tensor \"" + shown(tensor.name) + "\"";
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.shape) {
    if (extent < 1)
      throw Error(Category::data, name + ": extent " + std::to_string(extent) + " in its shape");
    count = checked_mul(count, extent, name);
  }
  checked_mul(count, 12, name);  // bytes of parameter and moments
  return count;
}

Layout::Layout(const std::vector<TensorInfo>& tensors, const std::vector<PartRecord>& parts,
               const std::string& what) {
  std::set<std::string> names;
  for (const TensorInfo& tensor : tensors) {
    if (!names.insert(tensor.name).second)
      throw Error(Category::data, what + ": tensor \"" + shown(tensor.name) + "\" is listed twice");
    counts_.push_back(element_count(tensor, what));
  }
  pieces_.resize(tensors.size());
  for (std::size_t part = 0; part < parts.size(); ++part)
    for (const OwnedSlice& slice : parts[part].slices) {
      if (slice.tensor < 0 || slice.tensor >= static_cast<std::int64_t>(tensors.size()))
        throw Error(Category::data, what + ": " + parts[part].file + " holds tensor number " +
                                        std::to_string(slice.tensor) + " of " +
                                        std::to_string(tensors.size()));
      if (slice.begin < 0 || slice.end <= slice.begin || slice.end > count(slice.tensor))
        throw Error(Category::data,
                    what + ": " + parts[part].file + " holds elements [" +
                        std::to_string(slice.begin) + ":" + std::to_string(slice.end) + "] of \"" +
                        shown(tensors[static_cast<std::size_t>(slice.tensor)].name) +
                        "\", which has " + std::to_string(count(slice.tensor)));
      pieces_[static_cast<std::size_t>(slice.tensor)].push_back(
          {slice.begin, slice.end, static_cast<std::int64_t>(part)});
    }
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    std::sort(pieces_[t].begin(), pieces_[t].end(),
              [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
    std::int64_t end = 0;
    const auto fail = [&](const std::string& fault) {
      throw Error(Category::data, what + ": tensor \"" + shown(tensors[t].name) + "\": element " +
                                      std::to_string(end) + " " + fault);
    };
    for (const Piece& piece : pieces_[t]) {
      if (piece.begin > end) fail("is in no part");
      if (piece.begin < end) {
        end = piece.begin;
        fail("is in two parts");
      }
      end = piece.end;
    }
    if (end != counts_[t]) fail("is in no part");
  }
}

}  // namespace tessera::checkpoints
