// A folder is a stream cut into samples; a blend is several of them, drawn in turn.
#include "data/token_source.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <set>
#include <utility>

#include <spdlog/spdlog.h>

#include "core/error.h"
#include "core/integers.h"
#include "core/random.h"
#include "core/sha256.h"
#include "core/targets.h"
#include "data/blend.h"
#include "data/padded_documents.h"
#include "data/sample_order.h"
#include "data/shard_folder.h"
#include "data/shard_pool.h"
#include "data/tokenizer.h"

namespace tessera::data {
namespace {

// The tokens of one folder's shards, one after the other.
class Stream {
 public:
  Stream(ShardPool& pool, const std::string& path, const SourceOptions& options)
      : pool_(pool),
        folder_(std::make_shared<ShardFolder>(open_shard_folder(path))),
        first_shard_(pool.size()),
        context_(options.context) {
    kept_ = pool.add(folder_, options.skip_bad);
    for (const std::size_t index : kept_)
      ends_.push_back(checked_add(tokens(), folder_->manifest.shards[index].counts.tokens,
                                  path + ": tokens of all shards"));
    if (options.padding != Padding::none)
      padded_ = std::make_unique<PaddedDocuments>(
          pool, first_shard_, kept_,
          PaddingOptions{options.block_length, options.padding == Padding::random_pad_first_block,
                         options.seed});
    if (samples() < 1)
      throw Error(Category::config, path + ": holds " + std::to_string(size()) +
                                        " tokens, fewer than one sample of model.context = " +
                                        std::to_string(context_));
  }

  const ShardFolder& folder() const { return *folder_; }
  std::int64_t tokens() const { return ends_.empty() ? 0 : ends_.back(); }
  // Tokens and padding.
  std::int64_t size() const { return padded_ ? padded_->size() : tokens(); }
  std::int64_t samples() const { return size() / context_; }

  void add_to_digest(Sha256& digest) const {
    for (const std::size_t index : kept_) {
      const std::string line = folder_->manifest.shards[index].sha256 + "\n";
      digest.update(line.data(), line.size());
    }
  }

  std::int32_t pad() const { return std::max(0, folder_->manifest.kind.end_of_text); }

  void add_files(std::vector<SourceFile>& files) const {
    for (std::size_t i = 0; i < kept_.size(); ++i)
      files.push_back({pool_.path(first_shard_ + i), folder_->manifest.shards[kept_[i]].sha256,
                       pool_.identity(first_shard_ + i)});
  }

  void read(std::int64_t sample, std::span<std::int32_t> ids, std::span<std::int32_t> targets) {
    if (padded_) return read_padded(sample, ids, targets);
    read_tokens(sample, ids);
    std::copy(ids.begin(), ids.end(), targets.begin());
  }

  std::int64_t targets(std::int64_t sample, std::int64_t first) {
    if (!padded_) return context_ - first;
    std::int64_t count = 0;
    for (const PaddedDocuments::Piece& piece :
         padded_->pieces(sample * context_ + first, (sample + 1) * context_))
      if (!piece.padding()) count += piece.count;
    return count;
  }

 private:
  void read_padded(std::int64_t sample, std::span<std::int32_t> ids,
                   std::span<std::int32_t> targets) {
    for (const PaddedDocuments::Piece& piece :
         padded_->pieces(sample * context_, (sample + 1) * context_)) {
      const auto count = static_cast<std::size_t>(piece.count);
      if (piece.padding()) {
        std::fill_n(ids.begin(), count, pad());
        std::fill_n(targets.begin(), count, kPadding);
      } else {
        pool_.read(piece.shard, piece.offset, ids.first(count));
        std::copy_n(ids.begin(), count, targets.begin());
      }
      ids = ids.subspan(count);
      targets = targets.subspan(count);
    }
  }

  void read_tokens(std::int64_t sample, std::span<std::int32_t> ids) {
    std::int64_t begin = sample * context_;
    auto shard = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), begin) -
                                          ends_.begin());
    for (; !ids.empty(); ++shard) {
      const std::int64_t offset = begin - (shard == 0 ? 0 : ends_[shard - 1]);
      const auto piece =
          ids.first(std::min(ids.size(), static_cast<std::size_t>(ends_[shard] - begin)));
      if (!piece.empty()) pool_.read(first_shard_ + shard, offset, piece);
      ids = ids.subspan(piece.size());
      begin += static_cast<std::int64_t>(piece.size());
    }
  }

  ShardPool& pool_;
  std::shared_ptr<const ShardFolder> folder_;
  std::size_t first_shard_;  // in the pool
  std::int64_t context_;
  std::vector<std::size_t> kept_;   // manifest indices
  std::vector<std::int64_t> ends_;  // one past the last token of each kept shard
  std::unique_ptr<PaddedDocuments> padded_;
};

class ShardSource : public TokenSource {
 public:
  ShardSource(const std::vector<SourceSpec>& sources, const SourceOptions& options)
      : options_(options), blend_(weights(sources)) {
    for (const SourceSpec& source : sources) streams_.emplace_back(pool_, source.path, options);
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      // One folder alone has the run's seed itself; those of a blend must not walk in step.
      const std::uint64_t seed =
          i == 0 ? options.seed : CounterRandom(options.seed, hash_name("data.blend")).bits(i);
      orders_.emplace_back(seed, streams_[i].samples());
    }
    check_alike();
    samples_ = INT64_MAX;
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      samples_ = std::min(samples_, blend_.positions_for(i, streams_[i].samples()));
      tokens_ += streams_[i].tokens();
      padding_ += streams_[i].size() - streams_[i].tokens();
      vocab_size_ = std::max(vocab_size_, streams_[i].folder().manifest.kind.vocab_size);
    }
    token_bytes_.assign(static_cast<std::size_t>(vocab_size_), 0);
    if (!tokenizer_json().empty()) {
      const auto tokenizer =
          parse_tokenizer(tokenizer_json(), streams_[0].folder().path + "/" + kTokenizerName);
      const auto& bytes = tokenizer->token_bytes();
      std::copy_n(bytes.begin(), std::min(bytes.size(), token_bytes_.size()), token_bytes_.begin());
    }
    compute_digest();
  }

  std::int64_t samples() const override { return samples_; }
  std::int64_t context() const override { return options_.context; }
  std::int64_t vocab_size() const override { return vocab_size_; }
  const std::vector<std::int32_t>& token_bytes() const override { return token_bytes_; }
  const std::string& digest() const override { return digest_; }
  const std::string& tokenizer_json() const override { return streams_[0].folder().tokenizer_json; }
  std::int32_t end_of_text() const override {
    return streams_[0].folder().manifest.kind.end_of_text;
  }
  std::int64_t tokens() const override { return tokens_; }
  std::int64_t padding() const override { return padding_; }
  std::int64_t lost_samples() const override { return lost_; }
  std::vector<SourceUse> used(std::int64_t positions) const override {
    const std::vector<std::int64_t> draws = blend_.draws(positions);
    std::vector<SourceUse> result;
    for (std::size_t i = 0; i < streams_.size(); ++i)
      result.push_back(
          {streams_[i].folder().path,
           static_cast<double>(blend_.parts()[i]) / static_cast<double>(blend_.period()),
           streams_[i].samples(), draws[i]});
    return result;
  }
  std::vector<SourceFile> files() const override {
    std::vector<SourceFile> files;
    for (const Stream& stream : streams_) stream.add_files(files);
    return files;
  }

  void read(std::int64_t position, std::span<std::int32_t> ids,
            std::span<std::int32_t> targets) override {
    TESSERA_CHECK(position >= 0);
    TESSERA_CHECK(static_cast<std::int64_t>(ids.size()) == options_.context &&
                  ids.size() == targets.size());
    const auto [stream, sample] = place(position);
    try {
      stream->read(sample, ids, targets);
    } catch (const BadChunk& problem) {
      if (!options_.skip_bad) throw;
      std::fill(ids.begin(), ids.end(), stream->pad());
      std::fill(targets.begin(), targets.end(), kNoTarget);
      ++lost_;
      const std::lock_guard lock(warned_mutex_);
      if (warned_.insert(problem.what()).second)
        spdlog::warn("samples are left out: {}", problem.what());
    }
  }

  std::int64_t targets(std::int64_t position, std::int64_t first) override {
    TESSERA_CHECK(position >= 0 && first >= 0 && first <= options_.context);
    const auto [stream, sample] = place(position);
    return stream->targets(sample, first);
  }

 private:
  std::pair<Stream*, std::int64_t> place(std::int64_t position) {
    const Blend::Draw draw = blend_.at(position);
    Stream& stream = streams_[draw.source];
    return {&stream,
            options_.shuffle ? orders_[draw.source].at(draw.index) : draw.index % stream.samples()};
  }

  static std::vector<double> weights(const std::vector<SourceSpec>& sources) {
    std::vector<double> result;
    for (const SourceSpec& source : sources) result.push_back(source.weight);
    return result;
  }

  void check_alike() const {
    const ShardKind& first = streams_[0].folder().manifest.kind;
    for (const Stream& stream : streams_) {
      const ShardKind& kind = stream.folder().manifest.kind;
      if (kind.tokenizer_digest != first.tokenizer_digest || kind.end_of_text != first.end_of_text)
        throw Error(Category::config,
                    stream.folder().path + " and " + streams_[0].folder().path +
                        " were made with different tokenizers and cannot be blended; prepare one "
                        "again (imported ids take --tokenizer)");
    }
  }

  void compute_digest() {
    Sha256 digest;
    char line[64];
    const int size = std::snprintf(line, sizeof line, "tessera samples 1 context %lld\n",
                                   static_cast<long long>(options_.context));
    digest.update(line, static_cast<std::size_t>(size));
    if (options_.padding != Padding::none) {
      const std::string padding = std::string(options_.padding == Padding::random_pad_first_block
                                                  ? "random_pad_first_block"
                                                  : "pad_to_block_boundary") +
                                  " of blocks of " + std::to_string(options_.block_length) + "\n";
      digest.update(padding.data(), padding.size());
    }
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      const int length = std::snprintf(line, sizeof line, "%lld of %lld\n",
                                       static_cast<long long>(blend_.parts()[i]),
                                       static_cast<long long>(blend_.period()));
      digest.update(line, static_cast<std::size_t>(length));
      streams_[i].add_to_digest(digest);
    }
    digest_ = digest.finish();
  }

  SourceOptions options_;
  Blend blend_;
  ShardPool pool_;
  std::vector<Stream> streams_;
  std::vector<SampleOrder> orders_;
  std::int64_t samples_ = 0, tokens_ = 0, padding_ = 0, vocab_size_ = 0;
  std::vector<std::int32_t> token_bytes_;
  std::string digest_;
  std::atomic<std::int64_t> lost_ = 0;
  std::mutex warned_mutex_;
  std::set<std::string> warned_;
};

}  // namespace

std::int64_t TokenSource::targets(std::int64_t, std::int64_t first) {
  return context() - first;
}

std::unique_ptr<TokenSource> open_tokens(const std::vector<SourceSpec>& sources,
                                         const SourceOptions& options) {
  if (sources.empty()) throw Error(Category::config, "no token shards are named");
  if (options.context < 1)
    throw Error(Category::config, "samples need a context of at least one token");
  if (options.padding != Padding::none &&
      (options.block_length < 1 || options.context % options.block_length != 0))
    throw Error(Category::config,
                "padded samples need a context that is a multiple of their block "
                "length");
  return std::make_unique<ShardSource>(sources, options);
}

}  // namespace tessera::data
