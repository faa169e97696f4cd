#include "checkpoints/names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

#include "checkpoints/checkpoint.h"

namespace tessera::checkpoints {
namespace {

constexpr std::string_view kStepPrefix = "step-";

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "step-%08lld", static_cast<long long>(step));
  return text.data();
}

std::string part_name(std::int64_t rank) {
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "part-%05lld.safetensors", static_cast<long long>(rank));
  return text.data();
}

std::string slice_name(const std::string& prefix, const std::string& tensor, std::int64_t begin,
                       std::int64_t end) {
  return prefix + tensor + "[" + std::to_string(begin) + ":" + std::to_string(end) + "]";
}

std::optional<std::int64_t> step_of_name(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kStepPrefix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || end != digits.data() + digits.size() || step < 0) return std::nullopt;
  if (checkpoint_name(step) != name) return std::nullopt;
  return step;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 200 && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), is_plain);
}

std::string shown(std::string_view text, std::size_t most) {
  std::string result;
  for (const char c : text.substr(0, most)) result += c < 0x20 || c == 0x7f || c == '"' ? '?' : c;
  return text.size() > most ? result + "..." : result;
}

std::string without_slashes(const std::string& path) {
  std::string result = path;
  while (result.size() > 1 && result.back() == '/') result.pop_back();
  return result;
}

std::string base_name(const std::string& path) {
  const std::string clean = without_slashes(path);
  const std::size_t slash = clean.rfind('/');
  return slash == std::string::npos ? clean : clean.substr(slash + 1);
}

}  // namespace tessera::checkpoints
