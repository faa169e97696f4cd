#include "data/split_writer.h"

#include "core/error.h"
#include "core/random.h"

namespace tessera::data {

SplitWriter::SplitWriter(const SplitOptions& options, const ShardKind& kind,
                         const std::string& tokenizer_json)
    : options_(options) {
  if (options.out.empty()) throw Error(Category::config, "no output folder is named (--out)");
  if (!(options.valid_fraction >= 0 && options.valid_fraction < 1))
    throw Error(Category::config, "--valid-fraction is " + std::to_string(options.valid_fraction) +
                                      ", expected a number from 0 up to, not including, 1");
  if (options.valid_fraction > 0 && options.valid_inputs)
    throw Error(Category::config,
                "--valid-fraction and --valid-input exclude each other: give one of them");
  const bool split = options.valid_fraction > 0 || options.valid_inputs;
  train_path_ = split ? options.out + "/train" : options.out;
  valid_path_ = options.out + "/valid";
  // The record of the training part is the last to go.
  const bool goes_on = find_progress(train_path_, options.folder.job, kind).has_value();
  ShardFolderOptions folder = options.folder;
  folder.force = folder.force || goes_on;
  // Both are asked before either is touched, also with force.
  for (const std::string& path : {train_path_, valid_path_})
    if ((split || path == train_path_) && is_shard_folder(path) && !folder.force)
      throw Error(Category::config, path +
                                        ": already holds finished shards; choose another "
                                        "folder, or replace them with --force");
  train_.emplace(train_path_, kind, tokenizer_json, folder);
  if (split) valid_.emplace(valid_path_, kind, tokenizer_json, folder);
}

ShardFolderWriter& SplitWriter::folder_of(std::int64_t index, bool valid_input) {
  if (!valid_) return *train_;
  if (options_.valid_inputs) return valid_input ? *valid_ : *train_;
  const CounterRandom random(options_.seed, hash_name("prepare.valid"));
  return random.uniform(static_cast<std::uint64_t>(index)) < options_.valid_fraction ? *valid_
                                                                                     : *train_;
}

bool SplitWriter::has(std::int64_t index, bool valid_input) {
  return folder_of(index, valid_input).has(index);
}

std::int64_t SplitWriter::kept_tokens() const {
  return train_->kept_tokens() + (valid_ ? valid_->kept_tokens() : 0);
}

ShardCounts SplitWriter::counts() const {
  ShardCounts sum = train_->counts();
  if (valid_) {
    const ShardCounts more = valid_->counts();
    sum.tokens += more.tokens;
    sum.documents += more.documents;
    sum.text_bytes += more.text_bytes;
  }
  return sum;
}

std::vector<PreparedPart> SplitWriter::finish() {
  if (options_.valid_fraction > 0)
    for (const ShardFolderWriter* writer : {&*train_, &*valid_})
      if (writer->counts().tokens == 0)
        throw Error(
            Category::data,
            options_.out + ": with --valid-fraction " + std::to_string(options_.valid_fraction) +
                " no document fell into " +
                (writer == &*train_ ? "the training part: lower" : "the validation part: raise") +
                " it");
  train_->close_shards();
  if (valid_) valid_->close_shards();
  std::vector<PreparedPart> parts;
  const auto add = [&](const std::string& path, ShardFolderWriter& writer) {
    const ShardManifest manifest = writer.finish();
    PreparedPart part{path, manifest.totals(), static_cast<std::int64_t>(manifest.shards.size()),
                      0};
    for (const ManifestShard& shard : manifest.shards) part.bytes += shard.bytes;
    parts.push_back(part);
  };
  // Training opens last: with it there, everything is.
  if (valid_) add(valid_path_, *valid_);
  add(train_path_, *train_);
  if (valid_) valid_->forget_progress();
  train_->forget_progress();
  return {parts.rbegin(), parts.rend()};
}

}  // namespace tessera::data
