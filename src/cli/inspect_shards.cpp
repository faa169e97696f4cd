// Token shards, for `tessera inspect`.
#include <cstdio>

#include "cli/inspections.h"
#include "core/error.h"
#include "core/text.h"
#include "data/document_statistics.h"
#include "data/shard_folder.h"
#include "data/shard_reader.h"

namespace tessera::cli {
namespace {

OrderedJson describe(const data::ShardKind& kind, const data::ShardCounts& counts) {
  return {{"tokens", counts.tokens},         {"documents", counts.documents},
          {"text_bytes", counts.text_bytes}, {"vocab_size", kind.vocab_size},
          {"end_of_text", kind.end_of_text}, {"tokenizer_digest", kind.tokenizer_digest}};
}

std::string lines(const data::ShardKind& kind, const data::ShardCounts& counts) {
  std::string text = "  tokens: " + with_commas(counts.tokens) + " in " +
                     with_commas(counts.documents) + " documents";
  if (counts.text_bytes > 0) {
    const double ratio =
        static_cast<double>(counts.text_bytes) / static_cast<double>(counts.tokens);
    text += ", " + human_bytes(counts.text_bytes) + " of text (" +
            std::to_string(ratio).substr(0, 4) + " bytes a token)";
  }
  return text + "\n  vocabulary: " + with_commas(kind.vocab_size) + " ids of " +
         std::to_string(8 * kind.token_size()) + " bits, end of text " +
         (kind.end_of_text < 0 ? "unknown" : std::to_string(kind.end_of_text)) +
         "\n  tokenizer: " + (kind.tokenizer_digest.empty() ? "none" : kind.tokenizer_digest) +
         "\n";
}

constexpr struct {
  const char* name;
  double share;
} kQuantiles[] = {{"shortest", 0}, {"median", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"longest", 1}};

OrderedJson lengths_json(const data::DocumentStatistics& lengths) {
  OrderedJson json = {{"mean", lengths.mean()}};
  for (const auto& q : kQuantiles) json[q.name] = lengths.quantile(q.share);
  return json;
}

std::string lengths_line(const data::DocumentStatistics& lengths) {
  if (lengths.documents() == 0) return "";
  char mean[32];
  std::snprintf(mean, sizeof mean, "%.1f", lengths.mean());
  std::string text = std::string("  tokens a document: mean ") + mean;
  for (const auto& q : kQuantiles)
    text += std::string(", ") + q.name + " " + with_commas(lengths.quantile(q.share));
  return text + "\n";
}

}  // namespace

Inspection inspect_shards(const std::string& folder, bool verify) {
  const data::ShardFolder shards = data::open_shard_folder(folder);
  const data::ShardManifest& manifest = shards.manifest;
  const data::ShardCounts totals = manifest.totals();
  Inspection result;
  result.json = {{"kind", "shards"}, {"path", folder}, {"verified", verify}};
  result.json.update(describe(manifest.kind, totals));
  result.json["shards"] = OrderedJson::array();
  std::vector<std::vector<std::string>> table = {{"shard", "tokens", "documents", "size"}};
  for (const data::ManifestShard& shard : manifest.shards) {
    result.json["shards"].push_back({{"file", shard.file},
                                     {"tokens", shard.counts.tokens},
                                     {"documents", shard.counts.documents},
                                     {"text_bytes", shard.counts.text_bytes},
                                     {"bytes", shard.bytes},
                                     {"sha256", shard.sha256}});
    table.push_back({shard.file, with_commas(shard.counts.tokens),
                     with_commas(shard.counts.documents), human_bytes(shard.bytes)});
  }
  data::DocumentStatistics lengths;
  for (std::size_t i = 0; i < manifest.shards.size(); ++i) {
    try {
      data::ShardReader shard = data::open_shard(shards, i);
      lengths.add(shard);
    } catch (const Error& error) {
      if (!verify) result.problems.push_back(error.what());
    }
  }
  result.json["document_tokens"] = lengths_json(lengths);
  if (verify) result.problems = data::verify_shards(folder);
  result.text = folder + ": " + std::to_string(manifest.shards.size()) + " shards" +
                (!result.problems.empty() ? ", damaged"
                 : verify                 ? ", every digest verified"
                                          : "") +
                "\n" + lines(manifest.kind, totals) + lengths_line(lengths) + format_table(table);
  return result;
}

Inspection inspect_shard(const std::string& file, bool verify) {
  data::ShardReader reader(file);
  Inspection result;
  result.json = {{"kind", "shard"}, {"path", file}, {"verified", verify}};
  result.json.update(describe(reader.kind(), reader.counts()));
  result.json["chunks"] = reader.chunks();
  data::DocumentStatistics lengths;
  lengths.add(reader);
  result.json["document_tokens"] = lengths_json(lengths);
  result.text = file + ": one token shard, " + with_commas(reader.chunks()) + " chunks\n" +
                lines(reader.kind(), reader.counts()) + lengths_line(lengths);
  if (verify) {
    try {
      data::verify_tokens(reader);
      result.text += "  every chunk's checksum and ids verified\n";
    } catch (const Error& error) {
      result.problems.push_back(error.what());
    }
  }
  return result;
}

}  // namespace tessera::cli
