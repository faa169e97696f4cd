// The record of measured choices: what goes into its JSON comes back, and nothing else is taken.
#include "kernels/algorithms.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/libraries.h"

namespace tessera::kernels {
namespace {

const char* const kKey = "gemm bf16 -> f32 NT 768 3072 32768 ld 768 3072 768 add align 16";

Algorithms sample() {
  Algorithms algorithms;
  algorithms.device = "NVIDIA \"H100\" 80GB";
  algorithms.library = "cuBLASLt 130000";
  algorithms.set(kKey, {"00ff7a", 86.25});
  algorithms.set("attention forward", {"native", 0});
  return algorithms;
}

// The category and message that reading `text` ends with.
std::string refusal(const std::string& text) {
  try {
    Algorithms::from_json(text, "RUN/algorithms.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::data) << text;
    return error.what();
  }
  ADD_FAILURE() << "took " << text;
  return "";
}

TEST(Algorithms, FindsWhatWasSet) {
  EXPECT_TRUE(Algorithms().empty());
  Algorithms algorithms = sample();
  EXPECT_FALSE(algorithms.empty());
  ASSERT_NE(algorithms.find(kKey), nullptr);
  EXPECT_EQ(algorithms.find(kKey)->value, "00ff7a");
  EXPECT_EQ(algorithms.find("gemm"), nullptr);
  algorithms.set(kKey, {"11", 3});
  EXPECT_EQ(algorithms.find(kKey)->value, "11");
}

TEST(Algorithms, JsonRoundTrip) {
  const std::string text = sample().to_json();
  const Algorithms read = Algorithms::from_json(text, "test");
  EXPECT_EQ(read.device, sample().device);
  EXPECT_EQ(read.library, sample().library);
  ASSERT_NE(read.find(kKey), nullptr);
  EXPECT_EQ(read.find(kKey)->value, "00ff7a");
  EXPECT_EQ(read.find(kKey)->microseconds, 86.25);
  EXPECT_EQ(read.to_json(), text);
  EXPECT_TRUE(Algorithms::from_json(Algorithms().to_json(), "test").empty());
}

TEST(Algorithms, TextDoesNotDependOnTheOrderOfChoices) {
  Algorithms other;
  other.device = sample().device;
  other.library = sample().library;
  other.set("attention forward", {"native", 0});
  other.set(kKey, {"00ff7a", 86.25});
  EXPECT_EQ(other.to_json(), sample().to_json());
}

TEST(Algorithms, RefusesWhatIsNoRecord) {
  for (const char* text :
       {"", "{", "[]", "null", "{}", R"({"version": 1})",
        R"({"version": "1", "device": "d", "library": "l", "choices": {}})",
        R"({"version": 1, "device": 1, "library": "l", "choices": {}})",
        R"({"version": 1, "device": "d", "library": "l"})",
        R"({"version": 1, "device": "d", "library": "l", "choices": {"k": "v"}})",
        R"({"version": 1, "device": "d", "library": "l", "choices": {"k": {"value": "v"}}})",
        R"({"version": 1, "device": "d", "library": "l",
            "choices": {"k": {"value": "v", "microseconds": null}}})"})
    EXPECT_NE(refusal(text).find("RUN/algorithms.json"), std::string::npos) << text;
  const std::string newer =
      refusal(R"({"version": 2, "device": "d", "library": "l", "choices": {}})");
  EXPECT_NE(newer.find("version 2"), std::string::npos) << newer;
}

TEST(Algorithms, LibrariesNeedACudaBuild) {
  if (kHasCuda) GTEST_SKIP() << "this build has CUDA";
  try {
    open_libraries();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::device);
  }
}

}  // namespace
}  // namespace tessera::kernels
