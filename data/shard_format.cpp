#include "data/shard_format.h"

#include <algorithm>
#include <string_view>

namespace tessera::data {

std::string shard_name(std::int64_t number) {
  const std::string digits = std::to_string(number);
  const std::size_t zeros = digits.size() < 5 ? 5 - digits.size() : 0;
  return "shard-" + std::string(zeros, '0') + digits + ".h5";
}

bool is_shard_folder_name(const std::string& name) {
  std::string_view rest = name;
  if (rest.ends_with(".tmp")) rest.remove_suffix(4);
  if (rest == kManifestName || rest == kTokenizerName || rest == kProgressName) return true;
  if (!rest.starts_with("shard-") || !rest.ends_with(".h5")) return false;
  rest.remove_prefix(6);
  rest.remove_suffix(3);
  return rest.size() >= 5 &&
         std::all_of(rest.begin(), rest.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace tessera::data
