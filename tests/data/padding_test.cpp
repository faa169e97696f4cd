// Padded samples against the packing written out in full, for many shapes; their target counts;
// what the random places depend on; and that blends, resumes and layouts see the same.
#include <array>
#include <set>

#include <gtest/gtest.h>

#include "core/targets.h"
#include "data/loader.h"
#include "data/padded_documents.h"
#include "data/token_source.h"
#include "tests/data/data_support.h"

namespace tessera::data {
namespace {

struct Sample {
  std::vector<std::int32_t> ids, targets;
  bool operator==(const Sample&) const = default;
};

Sample read(TokenSource& source, std::int64_t position) {
  const auto context = static_cast<std::size_t>(source.context());
  Sample s{std::vector<std::int32_t>(context, -7), std::vector<std::int32_t>(context, -7)};
  source.read(position, s.ids, s.targets);
  return s;
}

SourceOptions padded(std::int64_t context, std::int64_t block, Padding padding,
                     bool shuffle = false, std::uint64_t seed = 1) {
  SourceOptions options;
  options.context = context;
  options.seed = seed;
  options.shuffle = shuffle;
  options.padding = padding;
  options.block_length = block;
  return options;
}

// All samples in a row.
Sample stream_of(TokenSource& source) {
  Sample all;
  for (std::int64_t k = 0; k < source.samples(); ++k) {
    const Sample s = read(source, k);
    all.ids.insert(all.ids.end(), s.ids.begin(), s.ids.end());
    all.targets.insert(all.targets.end(), s.targets.begin(), s.targets.end());
  }
  return all;
}

// The places that `stream` gives the documents' first tokens within a block, read off its targets;
// expects everything else to be as specified.
std::vector<std::int64_t> check_stream(const Sample& stream, const Documents& documents,
                                       std::int64_t block, std::int32_t pad) {
  std::vector<std::int64_t> places;
  std::size_t at = 0;
  const auto padding = [&](std::size_t i) { return stream.targets[i] == kPadding; };
  for (const auto& document : documents) {
    if (document.empty()) continue;
    EXPECT_EQ(at % static_cast<std::size_t>(block), 0u);
    const std::size_t start = at;
    while (at < stream.ids.size() && padding(at)) EXPECT_EQ(stream.ids[at++], pad);
    if (at == stream.ids.size()) return places;
    places.push_back(static_cast<std::int64_t>(at - start));
    EXPECT_LT(places.back(), block);
    for (const std::int32_t id : document) {
      if (at == stream.ids.size()) return places;
      EXPECT_EQ(stream.ids[at], id);
      EXPECT_EQ(stream.targets[at++], id);  // the end-of-text too, wherever it falls
    }
    while (at < stream.ids.size() && at % static_cast<std::size_t>(block) != 0) {
      EXPECT_TRUE(padding(at));
      EXPECT_EQ(stream.ids[at++], pad);
    }
  }
  return places;
}

TEST(Padding, SamplesAreThePaddedDocumentsCutInPieces) {
  const std::string path = scratch() + "/a";
  const Documents documents = made_documents(300, 60, 500, 2);
  write_folder(path, documents, plain_kind(500), {611, 37, false});
  for (const Padding padding : {Padding::pad_to_block_boundary, Padding::random_pad_first_block})
    for (const auto& [block, blocks] : std::vector<std::array<std::int64_t, 2>>{
             {1, 7}, {2, 3}, {3, 5}, {4, 16}, {8, 2}, {64, 4}}) {
      const auto source = open_tokens({{path, 1}}, padded(block * blocks, block, padding));
      const Sample stream = stream_of(*source);
      const auto places = check_stream(stream, documents, block, 499);
      EXPECT_GT(places.size(), 200u);
      const std::set<std::int64_t> distinct(places.begin(), places.end());
      const bool random = padding == Padding::random_pad_first_block;
      EXPECT_GE(distinct.size(), random ? static_cast<std::size_t>(block) * 9 / 10 : 1u);
      if (!random) {
        EXPECT_EQ(distinct, std::set<std::int64_t>{0});
      }
      // No sample more fits.
      std::int64_t size = 0;
      std::size_t place = 0;
      for (const auto& document : documents) {
        const auto length = static_cast<std::int64_t>(document.size());
        if (length == 0 || place == places.size()) continue;
        size += (places[place++] + length + block - 1) / block * block;
      }
      EXPECT_LT(size / (block * blocks), source->samples() + 1);
      EXPECT_EQ(source->tokens(), static_cast<std::int64_t>(joined(documents).size()));
      EXPECT_EQ(source->samples(), (source->tokens() + source->padding()) / (block * blocks));
    }
}

// The published code forgets the end-of-text of documents that end with their block.
TEST(Padding, AnEndOfTextThatEndsItsBlockIsATarget) {
  const std::string path = scratch() + "/a";
  write_folder(path, {{1, 2, 3, 9}, {4, 5, 6, 7, 8, 1, 2, 9}}, plain_kind(10));
  const auto source = open_tokens({{path, 1}}, padded(12, 4, Padding::pad_to_block_boundary));
  const Sample s = read(*source, 0);
  EXPECT_EQ(s.ids, (std::vector<std::int32_t>{1, 2, 3, 9, 4, 5, 6, 7, 8, 1, 2, 9}));
  EXPECT_EQ(s.targets, s.ids);
  EXPECT_EQ(source->padding(), 0);
}

TEST(Padding, TargetCountsFollowFromTheIndex) {
  const std::string path = scratch() + "/a";
  write_folder(path, made_documents(200, 9, 50, 5), plain_kind(50), {97, 11, false});
  for (const Padding padding : {Padding::none, Padding::random_pad_first_block}) {
    const auto source = open_tokens({{path, 1}}, padded(24, 4, padding, true, 3));
    bool fewer = false;
    for (std::int64_t p = 0; p < 2 * source->samples(); ++p)
      for (const std::int64_t first : {0, 1, 4, 24}) {
        const Sample s = read(*source, p);
        const std::int64_t count = std::count_if(s.targets.begin() + first, s.targets.end(),
                                                 [](std::int32_t t) { return t >= 0; });
        ASSERT_EQ(source->targets(p, first), count);
        fewer = fewer || count < 24 - first;
      }
    EXPECT_EQ(fewer, padding != Padding::none);
  }
}

TEST(Padding, PlacesAreDrawnEvenlyOnceADocumentBySeed) {
  const std::string path = scratch() + "/a";
  const Documents documents(4000, {1, 2, 3, 4, 5, 6, 7});
  write_folder(path, documents, plain_kind(8), {3000, 100, false});
  const auto places = [&](std::uint64_t seed) {
    const auto source =
        open_tokens({{path, 1}}, padded(32, 4, Padding::random_pad_first_block, false, seed));
    return check_stream(stream_of(*source), documents, 4, 7);
  };
  const auto one = places(1);
  EXPECT_EQ(places(1), one);
  EXPECT_NE(places(2), one);
  for (std::int64_t a = 0; a < 4; ++a)  // 1000 expected, deviation 27
    EXPECT_NEAR(static_cast<double>(std::count(one.begin(), one.end(), a)), 1000, 140);
  const auto source =
      open_tokens({{path, 1}}, padded(32, 4, Padding::random_pad_first_block, false));
  for (std::int64_t k = 0; k < source->samples(); k += 7)
    EXPECT_EQ(read(*source, k), read(*source, k + source->samples()));  // the next epoch
}

// More documents than a decoded group holds, more groups than stay decoded.
TEST(Padding, ManyDocumentsNeedLittleMemory) {
  const std::string path = scratch() + "/a";
  const std::int64_t count =
      PaddedDocuments::kGroup * static_cast<std::int64_t>(PaddedDocuments::kGroups + 3) + 5;
  const Documents documents(static_cast<std::size_t>(count), {3});
  write_folder(path, documents, plain_kind(4), {100000, 8192, false});
  const auto source = open_tokens({{path, 1}}, padded(64, 2, Padding::pad_to_block_boundary, true));
  EXPECT_EQ(source->samples(), count * 2 / 64);
  std::vector<std::int32_t> expected;
  for (int i = 0; i < 32; ++i) expected.insert(expected.end(), {3, kPadding});
  for (std::int64_t p = 0; p < source->samples(); p += 13)
    ASSERT_EQ(read(*source, p).targets, expected);
}

TEST(Padding, DigestsTellPaddingsApart) {
  const std::string path = scratch() + "/a";
  write_folder(path, made_documents(50, 20, 50, 5), plain_kind(50));
  std::set<std::string> digests;
  for (const Padding padding :
       {Padding::none, Padding::random_pad_first_block, Padding::pad_to_block_boundary})
    for (const std::int64_t block : {2, 4})
      digests.insert(open_tokens({{path, 1}}, padded(16, block, padding))->digest());
  EXPECT_EQ(digests.size(), 5u);  // without padding blocks do not matter
}

TEST(Padding, RefusesContextsThatAreNoWholeBlocks) {
  const std::string path = scratch() + "/a";
  write_folder(path, made_documents(50, 20, 50, 5), plain_kind(50));
  expect_error(Category::config, {"multiple", "block"}, [&] {
    open_tokens({{path, 1}}, padded(15, 4, Padding::pad_to_block_boundary));
  });
  expect_error(Category::config, {"fewer than one sample"}, [&] {
    open_tokens({{path, 1}}, padded(4096, 4, Padding::pad_to_block_boundary));
  });
}

// Blends with padding: every replica layout and every start sees the same samples in the same
// order, and the same number of targets a step.
TEST(Padding, LoadersOfAnyLayoutAndStartAgree) {
  const std::string base = scratch();
  write_folder(base + "/a", made_documents(300, 30, 50, 5), plain_kind(50), {500, 64, false});
  write_folder(base + "/b", made_documents(100, 90, 50, 6), plain_kind(50), {700, 32, false});
  const std::vector<SourceSpec> specs = {{base + "/a", 0.7}, {base + "/b", 0.3}};
  const SourceOptions options = padded(16, 4, Padding::random_pad_first_block, true, 9);
  const std::int64_t steps = 40, batch = 12;
  const auto run = [&](std::int64_t replicas, std::int64_t micro, std::int64_t first) {
    std::vector<Sample> result(static_cast<std::size_t>((steps - first) * batch));
    std::vector<std::int64_t> counts;
    for (std::int64_t r = 0; r < replicas; ++r) {
      const auto source = open_tokens(specs, options);
      LoaderOptions loading;
      loading.global_batch = batch;
      loading.micro_batch = micro;
      loading.replica = r;
      loading.replicas = replicas;
      loading.first_step = first;
      loading.last_step = steps;
      loading.first_target = 4;
      Loader loader(*source, loading);
      for (std::int64_t n = 0; n < (steps - first) * batch / replicas / micro; ++n) {
        const Batch& b = loader.next();
        for (std::int64_t s = 0; s < micro; ++s) {
          const auto at = b.ids.begin() + s * 16, to = b.targets.begin() + s * 16;
          result[static_cast<std::size_t>(b.first_position - first * batch + s)] = {{at, at + 16},
                                                                                    {to, to + 16}};
        }
        if (r == 0 && b.micro_batch == 0) counts.push_back(b.step_targets);
        EXPECT_EQ(b.step_targets, counts[static_cast<std::size_t>(b.step - first)]);
      }
    }
    return std::pair{result, counts};
  };
  const auto [all, counts] = run(1, 12, 0);
  for (std::size_t step = 0; step < counts.size(); ++step) {
    std::int64_t targets = 0;
    for (std::size_t s = step * 12; s < step * 12 + 12; ++s)
      targets += std::count_if(all[s].targets.begin() + 4, all[s].targets.end(),
                               [](std::int32_t t) { return t >= 0; });
    EXPECT_EQ(counts[step], targets);
    EXPECT_LT(targets, 12 * 12);
  }
  for (const auto& [replicas, micro, first] :
       std::vector<std::array<std::int64_t, 3>>{{1, 3, 0}, {2, 6, 0}, {3, 2, 17}, {4, 1, 39}}) {
    const auto [samples, step_counts] = run(replicas, micro, first);
    EXPECT_TRUE(std::equal(samples.begin(), samples.end(), all.begin() + first * batch));
    EXPECT_TRUE(std::equal(step_counts.begin(), step_counts.end(), counts.begin() + first));
  }
}

}  // namespace
}  // namespace tessera::data
