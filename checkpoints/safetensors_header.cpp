#include "checkpoints/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <unordered_set>

#include "checkpoints/names.h"
#include "core/error.h"
#include "core/integers.h"
#include "core/json.h"

namespace tessera::checkpoints {
namespace {

struct TypeName {
  const char* name;
  TensorType type;
  std::int64_t bytes;
};
constexpr TypeName kTypes[] = {
    {"F64", TensorType::f64, 8},      {"F32", TensorType::f32, 4}, {"F16", TensorType::f16, 2},
    {"BF16", TensorType::bf16, 2},    {"I64", TensorType::i64, 8}, {"I32", TensorType::i32, 4},
    {"I16", TensorType::i16, 2},      {"I8", TensorType::i8, 1},   {"U8", TensorType::u8, 1},
    {"BOOL", TensorType::boolean, 1},
};

const TypeName& type_info(TensorType type) {
  for (const TypeName& each : kTypes)
    if (each.type == type) return each;
  TESSERA_CHECK(!"a tensor type without a name");
  return kTypes[0];
}

// Receives nlohmann-json's parsing events. Every fault throws, so each callback returns true.
class HeaderEvents : public nlohmann::json_sax<Json> {
 public:
  HeaderEvents(const std::string& file, SafetensorsHeader& header) : file_(file), header_(header) {}

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_float(double, const std::string&) override { return value("a fraction"); }
  bool binary(Json::binary_t&) override { return value("binary data"); }
  bool number_integer(std::int64_t) override { return value("a negative number"); }
  bool number_unsigned(std::uint64_t number) override {
    if (place_ != Place::shape && place_ != Place::offsets) return value("a number");
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      fail(tensor() + "number " + std::to_string(number) + " is beyond 63 bits");
    auto& list = place_ == Place::shape ? entry_.shape : offsets_;
    const std::int64_t most = place_ == Place::shape ? kMaxDimensions : 2;
    if (static_cast<std::int64_t>(list.size()) == most)
      fail(tensor() + (place_ == Place::shape ? "more than 16 dimensions" : "more than 2 offsets"));
    list.push_back(static_cast<std::int64_t>(number));
    return true;
  }
  bool string(std::string& text) override {
    if (place_ == Place::metadata) {
      header_.metadata[key_] = text;
    } else if (place_ == Place::tensor && field_ == kType) {
      const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                      [&](const TypeName& each) { return text == each.name; });
      if (type == std::end(kTypes))
        fail(tensor() + "dtype \"" + shown(text) + "\" is not supported");
      entry_.type = type->type;
    } else {
      return value("a string");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::start) {
      place_ = Place::root;
    } else if (place_ == Place::root && key_ == "__metadata__") {
      place_ = Place::metadata;
    } else if (place_ == Place::root) {
      place_ = Place::tensor;
      entry_ = TensorEntry{key_, TensorType::f32, {}, 0, 0};
      offsets_.clear();
      seen_ = 0;
      field_ = 0;
    } else {
      return value("an object");
    }
    return true;
  }
  bool key(std::string& text) override {
    if (place_ == Place::tensor) {
      field_ = field_of(text);
      if (field_ == 0) fail(tensor() + "unknown key \"" + shown(text) + "\"");
      if (seen_ & field_) fail(tensor() + "key \"" + text + "\" appears twice");
      seen_ |= field_;
      return true;
    }
    if (static_cast<std::int64_t>(text.size()) > kMaxNameBytes)
      fail("a name is longer than " + std::to_string(kMaxNameBytes) + " bytes");
    const bool fresh =
        place_ == Place::metadata ? !header_.metadata.contains(text) : names_.insert(text).second;
    if (!fresh) fail("name \"" + shown(text) + "\" appears twice");
    if (static_cast<std::int64_t>(names_.size() + header_.metadata.size()) > kMaxTensors)
      fail("more than " + std::to_string(kMaxTensors) + " entries");
    key_ = text;
    return true;
  }
  bool end_object() override {
    if (place_ == Place::tensor) {
      if (seen_ != (kType | kShape | kOffsets))
        fail(tensor() + "needs dtype, shape and data_offsets");
      if (offsets_.size() != 2) fail(tensor() + "data_offsets needs 2 numbers");
      finish_tensor();
    }
    place_ = place_ == Place::root ? Place::end : Place::root;
    return true;
  }
  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || (field_ != kShape && field_ != kOffsets)) return value("a list");
    place_ = field_ == kShape ? Place::shape : Place::offsets;
    return true;
  }
  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception& problem) override {
    fail(std::string("not valid JSON: ") + shown(problem.what(), 200));
  }

 private:
  enum class Place { start, root, metadata, tensor, shape, offsets, end };
  static constexpr unsigned kType = 1, kShape = 2, kOffsets = 4;

  static unsigned field_of(const std::string& key) {
    if (key == "dtype") return kType;
    if (key == "shape") return kShape;
    return key == "data_offsets" ? kOffsets : 0;
  }

  [[noreturn]] void fail(const std::string& fault) const {
    throw Error(Category::data, file_ + ": safetensors header: " + fault);
  }
  bool value(const char* found) const {
    const std::string where = place_ == Place::start || place_ == Place::root ? "" : tensor();
    fail(where + "found " + found + " where the format has none");
  }
  std::string tensor() const {
    return (place_ == Place::metadata ? "metadata \"" + shown(key_)
                                      : "tensor \"" + shown(entry_.name)) +
           "\": ";
  }

  void finish_tensor() {
    const std::string what = file_ + ": safetensors header: tensor \"" + shown(entry_.name) + "\"";
    std::int64_t bytes = element_bytes(entry_.type);
    for (const std::int64_t extent : entry_.shape) bytes = checked_mul(bytes, extent, what);
    if (offsets_[1] < offsets_[0] || offsets_[1] - offsets_[0] != bytes)
      fail(tensor() + "data_offsets [" + std::to_string(offsets_[0]) + ", " +
           std::to_string(offsets_[1]) + "] do not hold the " + std::to_string(bytes) +
           " bytes of its shape");
    entry_.offset = offsets_[0];
    entry_.bytes = bytes;
    header_.tensors.push_back(std::move(entry_));
  }

  const std::string& file_;
  SafetensorsHeader& header_;
  Place place_ = Place::start;
  std::string key_;
  TensorEntry entry_;
  std::vector<std::int64_t> offsets_;
  unsigned seen_ = 0, field_ = 0;
  std::unordered_set<std::string> names_;
};

}  // namespace

std::int64_t element_bytes(TensorType type) {
  return type_info(type).bytes;
}

const char* type_name(TensorType type) {
  return type_info(type).name;
}

std::int64_t TensorEntry::count() const {
  return bytes / element_bytes(type);
}

SafetensorsHeader parse_safetensors_header(std::string_view text, std::int64_t data_bytes,
                                           const std::string& file) {
  SafetensorsHeader header;
  HeaderEvents events(file, header);
  Json::sax_parse(text.begin(), text.end(), &events);
  auto& tensors = header.tensors;
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  std::int64_t end = 0;
  for (const TensorEntry& entry : tensors) {
    const std::string what = file + ": safetensors header: tensor \"" + shown(entry.name) + "\"";
    if (entry.offset != end)
      throw Error(Category::data,
                  what + (entry.offset < end ? " overlaps the one before it" : " follows a hole") +
                      ": it starts at byte " + std::to_string(entry.offset) + ", expected " +
                      std::to_string(end));
    end = checked_add(end, entry.bytes, what);
    if (end > data_bytes)
      throw Error(Category::data, what + " ends at byte " + std::to_string(end) +
                                      " of the data, but the file holds " +
                                      std::to_string(data_bytes) + "; it is truncated or damaged");
  }
  if (end != data_bytes)
    throw Error(Category::data, file + ": holds " + std::to_string(data_bytes - end) +
                                    " bytes beyond its last tensor");
  return header;
}

}  // namespace tessera::checkpoints
