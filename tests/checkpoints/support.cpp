#include "tests/checkpoints/support.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "checkpoints/layout.h"
#include "core/random.h"

namespace tessera::checkpoints::testing {

TemporaryFolder::TemporaryFolder() {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string(test->test_suite_name()) + "." + test->name();
  std::replace(name.begin(), name.end(), '/', '_');
  path_ = std::string(TESSERA_BINARY_DIR) + "/test-files/checkpoints/" + name;
  std::filesystem::remove_all(path_);
  std::filesystem::create_directories(path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const std::string& path, std::string_view bytes) {
  // A new file: ext4 makes a truncated one wait for the disk.
  std::filesystem::remove(path);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  EXPECT_TRUE(file.good()) << path;
}

void copy_folder(const std::string& from, const std::string& to) {
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

std::vector<TensorInfo> sample_tensors() {
  return {{"gpt_neox.embed_in.weight", {31, 5}},
          {"gpt_neox.layers.0.attention.dense.bias", {7}},
          {"token_decoder.expansion_layer.weight", {6, 3, 1}},
          {"scalar.like", {1}},
          {"embed_out.weight", {31, 5}}};
}

std::int64_t total_elements(const std::vector<TensorInfo>& tensors) {
  std::int64_t total = 0;
  for (const TensorInfo& tensor : tensors) total += element_count(tensor, "test");
  return total;
}

Values sample_values(const std::vector<TensorInfo>& tensors, std::uint64_t seed) {
  Values values;
  const CounterRandom random(seed, hash_name("checkpoint test"));
  const auto count = static_cast<std::uint64_t>(total_elements(tensors));
  for (std::uint64_t i = 0; i < count; ++i) {
    values.param.push_back(static_cast<float>(random.normal(3 * i)));
    values.m.push_back(static_cast<float>(random.normal(3 * i + 1) * 1e-3));
    values.v.push_back(static_cast<float>(random.uniform(3 * i + 2) * 1e-9));
  }
  return values;
}

std::vector<std::vector<OwnedSlice>> cut(const std::vector<TensorInfo>& tensors,
                                         const Values& values, std::int64_t parts) {
  const std::int64_t total = total_elements(tensors);
  // Weights 1, 2, 3, ...: uneven, and not at tensors' ends.
  std::vector<std::int64_t> ends;
  for (std::int64_t p = 1; p <= parts; ++p)
    ends.push_back(total * (p * (p + 1)) / (parts * (parts + 1)));
  std::vector<std::vector<OwnedSlice>> slices(static_cast<std::size_t>(parts));
  std::int64_t start = 0;  // of the tensor in the flat space
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::int64_t count = element_count(tensors[t], "test");
    std::int64_t begin = 0;
    for (std::size_t p = 0; p < ends.size(); ++p) {
      const std::int64_t end = std::min(count, ends[p] - start);
      if (end <= begin) continue;
      const std::int64_t at = start + begin;
      slices[p].push_back({static_cast<std::int64_t>(t), begin, end, values.param.data() + at,
                           values.m.data() + at, values.v.data() + at});
      begin = end;
    }
    start += count;
  }
  return slices;
}

TrainingState sample_state(std::int64_t step) {
  TrainingState state;
  state.step = step;
  state.samples = step * 16;
  state.tokens = step * 16 * 64;
  state.skipped = 3;
  state.config_yaml = "seed: 7\nmodel:\n  width: 5\n";
  state.config_hash = std::string(64, 'a');
  state.train_digest = std::string(64, 'b');
  state.valid_digest = "";
  state.ranks = 4;
  state.threads = 2;
  state.build = "tessera 0.1.0 (test)";
  state.valid_loss = 3.0517578125e-05 + 2.1;
  return state;
}

std::string write_checkpoint(FileSystem& files, const std::string& folder, std::int64_t step,
                             std::int64_t parts, std::uint64_t seed) {
  const auto tensors = sample_tensors();
  const Values values = sample_values(tensors, seed);
  const std::string temporary = prepare_checkpoint(files, folder, step, 1 << 16);
  std::vector<PartRecord> records;
  std::int64_t rank = 0;
  for (const auto& slices : cut(tensors, values, parts)) {
    const PartRecord record = write_part(files, temporary, rank++, tensors, slices);
    // As between ranks: through JSON text.
    records.push_back(part_from_json(parse_json(to_json(record).dump(), "part"), "part"));
  }
  return commit_checkpoint(files, folder, temporary, sample_state(step), tensors, records,
                           "{\"type\": \"bytes\"}");
}

bool holds_values(const CheckpointReader& reader, std::uint64_t seed) {
  using Kind = CheckpointReader::Kind;
  const auto tensors = sample_tensors();
  const Values values = sample_values(tensors, seed);
  if (reader.tensors().size() != tensors.size()) return false;
  std::size_t at = 0;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    if (reader.tensors()[t].name != tensors[t].name ||
        reader.tensors()[t].shape != tensors[t].shape)
      return false;
    const auto count = static_cast<std::size_t>(element_count(tensors[t], "test"));
    std::vector<float> found(count);
    for (const auto& [kind, all] :
         {std::pair{Kind::param, &values.param}, {Kind::m, &values.m}, {Kind::v, &values.v}}) {
      reader.read(kind, tensors[t].name, 0, static_cast<std::int64_t>(count), found.data());
      if (!std::equal(found.begin(), found.end(), all->begin() + static_cast<std::ptrdiff_t>(at)))
        return false;
    }
    at += count;
  }
  return true;
}

void report_missing_error(const std::string& found) {
  ADD_FAILURE() << "expected an Error, found " << found;
}

}  // namespace tessera::checkpoints::testing
