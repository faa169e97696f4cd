#include "checkpoints/manifest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "checkpoints/names.h"
#include "core/error.h"
#include "core/sha256.h"

namespace tessera::checkpoints {
namespace {

constexpr std::string_view kDigestStart = ",\n \"manifest_sha256\": \"";
constexpr std::string_view kDigestEnd = "\"\n}\n";
constexpr std::size_t kDigestDigits = 64;

[[noreturn]] void fail(const std::string& what, const std::string& fault) {
  throw Error(Category::data, what + ": " + fault);
}

const Json& member(const Json& object, const char* key, const std::string& what) {
  if (!object.is_object()) fail(what, "expected a JSON object");
  const auto found = object.find(key);
  if (found == object.end()) fail(what, std::string("key \"") + key + "\" is missing");
  return *found;
}

// A whole number that is not negative.
std::int64_t number(const Json& object, const char* key, const std::string& what) {
  const Json& value = member(object, key, what);
  if (!value.is_number_unsigned() ||
      value.get<std::uint64_t>() >
          static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    fail(what, std::string("key \"") + key + "\" is not a whole number from 0 to 2^63 - 1");
  return value.get<std::int64_t>();
}

std::string text(const Json& object, const char* key, const std::string& what) {
  const Json& value = member(object, key, what);
  if (!value.is_string()) fail(what, std::string("key \"") + key + "\" is not a string");
  return value.get<std::string>();
}

const Json& list(const Json& object, const char* key, const std::string& what) {
  const Json& value = member(object, key, what);
  if (!value.is_array()) fail(what, std::string("key \"") + key + "\" is not a list");
  return value;
}

// A finite number, or null, which stands for "not a number".
double real(const Json& object, const char* key, const std::string& what) {
  const Json& value = member(object, key, what);
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (!value.is_number()) fail(what, std::string("key \"") + key + "\" is not a number");
  return value.get<double>();
}

std::string digest(const Json& object, const std::string& what) {
  std::string value = text(object, "sha256", what);
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (value.size() != kDigestDigits || !std::all_of(value.begin(), value.end(), is_digit))
    fail(what, "key \"sha256\" is not 64 lower-case hexadecimal digits");
  return value;
}

// The text that the digest at the end of `all` covers.
std::string_view covered_text(std::string_view all, const std::string& file) {
  const std::size_t tail = kDigestStart.size() + kDigestDigits + kDigestEnd.size();
  if (all.size() > tail && all.ends_with(kDigestEnd)) {
    const std::string_view body = all.substr(0, all.size() - tail);
    const std::string_view rest = all.substr(body.size());
    if (rest.starts_with(kDigestStart) &&
        rest.substr(kDigestStart.size(), kDigestDigits) == sha256(body))
      return body;
  }
  fail(file, "its own SHA-256 does not match; the file is truncated or damaged");
}

TensorInfo tensor_from_json(const Json& json, const std::string& what) {
  TensorInfo tensor{text(json, "name", what), {}};
  for (const Json& extent : list(json, "shape", what)) {
    if (!extent.is_number_unsigned() || extent.get<std::uint64_t>() > (std::uint64_t{1} << 62))
      fail(what, "shape of \"" + shown(tensor.name) + "\" is not a list of whole numbers");
    tensor.shape.push_back(extent.get<std::int64_t>());
  }
  return tensor;
}

}  // namespace

Json to_json(const PartRecord& record) {
  Json slices = Json::array();
  for (const OwnedSlice& slice : record.slices)
    slices.push_back({{"tensor", slice.tensor}, {"begin", slice.begin}, {"end", slice.end}});
  return {{"file", record.file},
          {"bytes", record.bytes},
          {"sha256", record.sha256},
          {"slices", slices}};
}

PartRecord part_from_json(const Json& json, const std::string& what) {
  PartRecord record;
  record.file = text(json, "file", what);
  if (!is_plain_name(record.file))
    fail(what, "\"" + shown(record.file) + "\" is not a plain file name");
  record.bytes = number(json, "bytes", what);
  record.sha256 = digest(json, what);
  for (const Json& slice : list(json, "slices", what)) {
    OwnedSlice owned;
    owned.tensor = number(slice, "tensor", what);
    owned.begin = number(slice, "begin", what);
    owned.end = number(slice, "end", what);
    record.slices.push_back(owned);
  }
  return record;
}

std::string manifest_text(const Manifest& manifest) {
  const TrainingState& state = manifest.state;
  OrderedJson json = {{"format", kManifestFormat},
                      {"version", kFormatVersion},
                      {"step", state.step},
                      {"samples", state.samples},
                      {"tokens", state.tokens},
                      {"skipped", state.skipped},
                      {"config_hash", state.config_hash},
                      {"train_digest", state.train_digest},
                      {"valid_digest", state.valid_digest},
                      {"ranks", state.ranks},
                      {"threads", state.threads},
                      {"build", state.build},
                      {"valid_loss", nullptr},
                      {"written_at", manifest.written_at}};
  if (std::isfinite(state.valid_loss)) json["valid_loss"] = state.valid_loss;
  json["files"] = OrderedJson::object();
  for (const auto& [name, file] : manifest.files)
    json["files"][name] = {{"bytes", file.bytes}, {"sha256", file.sha256}};
  json["tensors"] = OrderedJson::array();
  for (const TensorInfo& tensor : manifest.tensors)
    json["tensors"].push_back({{"name", tensor.name}, {"shape", tensor.shape}});
  json["parts"] = OrderedJson::array();
  for (const PartRecord& part : manifest.parts) json["parts"].push_back(OrderedJson(to_json(part)));
  std::string body = json.dump(1);
  TESSERA_CHECK(body.ends_with("\n}"));
  body.resize(body.size() - 2);
  const std::string own_digest = sha256(body);
  return body + std::string(kDigestStart) + own_digest + std::string(kDigestEnd);
}

Manifest parse_manifest(std::string_view all, const std::string& file, Json& json) {
  json = parse_json(all, file);
  if (text(json, "format", file) != kManifestFormat)
    fail(file, std::string("key \"format\" is not \"") + kManifestFormat + "\"");
  const std::int64_t version = number(json, "version", file);
  if (version != kFormatVersion)
    fail(file, "checkpoint format version " + std::to_string(version) +
                   ", this program reads version " + std::to_string(kFormatVersion) +
                   (version > kFormatVersion ? "; use a newer tessera" : ""));
  covered_text(all, file);

  Manifest manifest;
  TrainingState& state = manifest.state;
  state.step = number(json, "step", file);
  state.samples = number(json, "samples", file);
  state.tokens = number(json, "tokens", file);
  state.skipped = number(json, "skipped", file);
  state.config_hash = text(json, "config_hash", file);
  state.train_digest = text(json, "train_digest", file);
  state.valid_digest = text(json, "valid_digest", file);
  state.ranks = number(json, "ranks", file);
  state.threads = number(json, "threads", file);
  state.build = text(json, "build", file);
  state.valid_loss = real(json, "valid_loss", file);
  manifest.written_at = text(json, "written_at", file);
  const Json& files = member(json, "files", file);
  if (!files.is_object()) fail(file, "key \"files\" is not an object");
  for (const auto& [name, record] : files.items()) {
    if (name != kConfigName && name != kTokenizerName && name != kAlgorithmsName)
      fail(file, "\"files\" names \"" + shown(name) + "\", which this format does not have");
    manifest.files[name] = {number(record, "bytes", file), digest(record, file)};
  }
  if (!manifest.files.contains(kConfigName)) fail(file, "\"files\" lacks config.yaml");
  for (const Json& tensor : list(json, "tensors", file))
    manifest.tensors.push_back(tensor_from_json(tensor, file));
  std::set<std::string> names;
  for (const Json& part : list(json, "parts", file)) {
    manifest.parts.push_back(part_from_json(part, file));
    if (!names.insert(manifest.parts.back().file).second)
      fail(file, "\"" + manifest.parts.back().file + "\" is listed twice");
  }
  return manifest;
}

}  // namespace tessera::checkpoints
