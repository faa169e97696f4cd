// The names that checkpoints use on disk, in one place, and the rules for names that come from
// files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tessera::checkpoints {

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kConfigName = "config.yaml";
inline constexpr const char* kTokenizerName = "tokenizer.json";
inline constexpr const char* kAlgorithmsName = "algorithms.json";
inline constexpr const char* kTemporarySuffix = ".tmp";  // being written or being removed
inline constexpr const char* kAsideSuffix = ".old";      // set aside while its successor moves in

// "part-00003.safetensors"
std::string part_name(std::int64_t rank);

// The name of a slice inside a part: "param.embed_out.weight[0:640]"; `prefix` is "param.", "m." or
// "v.".
std::string slice_name(const std::string& prefix, const std::string& tensor, std::int64_t begin,
                       std::int64_t end);

// The step of a folder named exactly as checkpoint_name writes it; nothing for any other name.
std::optional<std::int64_t> step_of_name(std::string_view name);

// Letters, digits, '.', '_' and '-' only, 1 to 200 of them, and not "." or "..": names that stay
// inside their folder.
bool is_plain_name(std::string_view name);

// Text from a file for a message: one line of at most `most` bytes; control characters, quotes and
// bytes beyond ASCII as '?'.
std::string shown(std::string_view text, std::size_t most = 80);

// The last component of a path, trailing slashes ignored.
std::string base_name(const std::string& path);
// The path without trailing slashes ("/" stays).
std::string without_slashes(const std::string& path);

}  // namespace tessera::checkpoints
