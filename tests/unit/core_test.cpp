// core/: random numbers, digests, integers, files, text, JSON, memory.
#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file_system.h"
#include "core/integers.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/random.h"
#include "core/sha256.h"
#include "core/text.h"

namespace tessera {
namespace {

// Known answers of Random123's kat_vectors for philox4x32-10.
TEST(Random, PhiloxKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, NormalHasUnitMoments) {
  const CounterRandom random(3, hash_name("some.weight"));
  double sum = 0, squares = 0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal(static_cast<std::uint64_t>(i));
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0 / n));
}

TEST(Random, StreamsAndSeedsDiffer) {
  EXPECT_NE(CounterRandom(1, 1).bits(0), CounterRandom(1, 2).bits(0));
  EXPECT_NE(CounterRandom(1, 1).bits(0), CounterRandom(2, 1).bits(0));
  EXPECT_EQ(CounterRandom(1, 1).bits(7), CounterRandom(1, 1).bits(7));
}

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Integers, OverflowIsAnError) {
  EXPECT_EQ(checked_mul(6, 7, "x"), 42);
  EXPECT_THROW(checked_mul(std::int64_t{1} << 62, 4, "x"), Error);
  EXPECT_THROW(checked_add(std::numeric_limits<std::int64_t>::max(), 1, "x"), Error);
  EXPECT_THROW(narrow<std::int32_t>(std::int64_t{1} << 40), Error);
  EXPECT_THROW(narrow<std::uint32_t>(-1), Error);
  EXPECT_THROW(div_exact(7, 2), Error);
}

TEST(Files, AtomicWriteReplaces) {
  FileSystem& files = FileSystem::posix();
  const std::string folder = std::string(TESSERA_BINARY_DIR) + "/tests/tmp-core";
  files.remove_all(folder);
  files.create_directories(folder);
  write_atomically(files, folder + "/a", "one");
  write_atomically(files, folder + "/a", "two");
  EXPECT_EQ(files.read(folder + "/a", 10), "two");
  EXPECT_EQ(files.list(folder), std::vector<std::string>{"a"});
  EXPECT_THROW(files.read(folder + "/a", 2), Error);
  EXPECT_THROW(files.read(folder + "/missing", 2), Error);
  EXPECT_GT(files.free_bytes(folder), 0);
  files.remove_all(folder);
}

TEST(Text, NumbersForPeople) {
  EXPECT_EQ(human_bytes(1536), "1.50 KiB");
  EXPECT_EQ(human_count(173164032), "173.2M");
  EXPECT_EQ(human_duration(125), "2m 05s");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(in_quotes("caf\xc3\xa9"), "\"caf\xc3\xa9\"");
  EXPECT_EQ(in_quotes("a\nb\x7f"), "\"a\\x0ab\\x7f\"");
  EXPECT_EQ(in_quotes("abcdef", 3), "\"abc...\"");
  EXPECT_EQ(nearest("wdith", {"heads", "width", "layers"}), "width");
  EXPECT_EQ(nearest("zzzzzz", {"heads", "width"}), "");
}

TEST(Json, RefusesWhatIsNotJson) {
  EXPECT_EQ(parse_json(R"({"a": [1, 2]})", "x").at("a").size(), 2u);
  EXPECT_THROW(parse_json("{", "x"), Error);
  EXPECT_THROW(parse_json(R"({"a": 1, "a": 2})", "x"), Error);
  EXPECT_THROW(parse_json(std::string(100000, '['), "x"), Error);
}

TEST(Memory, PlanAlignsAndNames) {
  MemoryPlan plan;
  const Buffer a = plan.reserve<float>("weights", 3);
  const Buffer b = plan.reserve<double>("gradients", 5);
  plan.reserve<float>("weights", 1);
  ASSERT_EQ(plan.segments().size(), 2u);
  EXPECT_EQ(plan.segments()[0].bytes, 512);
  Arena arena(plan);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.at<float>(a)) % 64, 0u);
  EXPECT_EQ(arena.at<double>(b)[4], 0.0);
  EXPECT_THROW(plan.reserve("x", std::int64_t{1} << 62, 8), Error);
}

TEST(Errors, ExitCodes) {
  EXPECT_EQ(exit_code(Category::config), 64);
  EXPECT_EQ(exit_code(Category::data), 65);
  EXPECT_EQ(exit_code(Category::internal), 70);
  EXPECT_EQ(exit_code(Category::io), 74);
  EXPECT_EQ(exit_code(Category::stopped), 75);
  EXPECT_EQ(exit_code(Category::disagreement), 17);
  EXPECT_THROW(TESSERA_CHECK(1 == 2), Error);
}

}  // namespace
}  // namespace tessera
