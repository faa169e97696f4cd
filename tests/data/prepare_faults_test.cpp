// Every single call of `prepare` that changes files goes wrong in turn, HDF5's included: the error
// is one sentence that names a file, nothing half opens, and the next run gives what an undisturbed
// one gives. The same with a kill before every call.
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file_system.h"
#include "data/shard_folder.h"
#include "tests/data/data_support.h"
#include "tests/data/failing_calls.h"
#include "tests/data/prepare_support.h"

namespace tessera::data {
namespace {

enum Outcome { done, clear_error, other_error, other_end, killed };

class PrepareFaults : public ::testing::TestWithParam<Fault> {
 protected:
  PrepareFaults() {
    write_file(base + "/a.jsonl", json_lines(made_texts(40, 400)));
    options = bytes_options({base + "/a.jsonl"}, base + "/whole");
    options.threads = 1;
    options.shard_tokens = 2500;
    options.valid_fraction = 0.3;
    prepare(options);
    options.out = base + "/out";
  }

  // In a child, whose n-th call goes wrong; what it says comes back in `message`.
  Outcome run(long n, std::string& message) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      Outcome outcome = done;
      std::string said;
      fail_call(n, GetParam());
      try {
        prepare(options);
      } catch (const Error& error) {
        said = error.what();
        outcome = error.category() == Category::io && said.find(base) != std::string::npos &&
                          said.find('\n') == std::string::npos
                      ? clear_error
                      : other_error;
      }
      if (outcome == done && counted_calls() < n) said = "no such call";
      fail_call(0, GetParam());
      [[maybe_unused]] const auto written = ::write(ends[1], said.data(), said.size());
      std::exit(outcome);  // with HDF5's own clean-up
    }
    ::close(ends[1]);
    message.clear();
    char buffer[512];
    for (ssize_t size; (size = ::read(ends[0], buffer, sizeof buffer)) > 0;)
      message.append(buffer, static_cast<std::size_t>(size));
    ::close(ends[0]);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) return static_cast<Outcome>(WEXITSTATUS(status));
    return WTERMSIG(status) == SIGKILL ? killed : other_end;
  }

  const std::string base = scratch();
  PrepareOptions options;
};

TEST_P(PrepareFaults, AnyCall) {
  const auto whole = tree_of(base + "/whole");
  ASSERT_GE(whole.size(), 6u);
  const bool kills = GetParam() == Fault::kill;
  int wrong = 0;
  long n = 1;
  for (;; ++n) {
    std::filesystem::remove_all(options.out);
    std::string message;
    const Outcome outcome = run(n, message);
    if (message == "no such call") break;
    if (GetParam() == Fault::short_write) {
      ASSERT_EQ(outcome, done) << n << ": " << message;
      ASSERT_EQ(tree_of(options.out), whole) << n;
      continue;
    }
    ASSERT_TRUE(outcome == (kills ? killed : clear_error) || (!kills && outcome == done))
        << n << ": " << message << " " << outcome;
    wrong += outcome != done;
    // What is there opens whole or not at all.
    for (const std::string part : {"/train", "/valid"}) {
      if (is_shard_folder(options.out + part)) {
        ASSERT_EQ(verify_shards(options.out + part), std::vector<std::string>{}) << n;
      }
    }
    if (outcome != done && tree_of(options.out) != whole) prepare(options);
    ASSERT_EQ(tree_of(options.out), whole) << n << ": " << message;
  }
  if (GetParam() != Fault::short_write) {
    EXPECT_GT(wrong, 40);
  }
  EXPECT_GT(n, 60);
}

std::string name_of(const ::testing::TestParamInfo<Fault>& fault) {
  constexpr const char* kNames[] = {"InputOutput", "NoSpace", "ShortWrite", "Kill"};
  return kNames[static_cast<std::size_t>(fault.param)];
}

INSTANTIATE_TEST_SUITE_P(All, PrepareFaults,
                         ::testing::Values(Fault::input_output, Fault::no_space, Fault::short_write,
                                           Fault::kill),
                         name_of);

}  // namespace
}  // namespace tessera::data
