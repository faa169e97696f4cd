// Exports over earlier ones while the disk fails, the process dies or the power goes, at every
// single call: the folder holds the old export, or the new one, or nothing that can be taken for a
// model; and exporting again cures it.
#include <algorithm>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>

#include "checkpoints/exchange.h"
#include "checkpoints/import_source.h"
#include "checkpoints/names.h"
#include "tests/checkpoints/crash_disk.h"
#include "tests/checkpoints/faulty_files.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {
namespace {

namespace fs = std::filesystem;

enum class Before { nothing, single, shards };
enum class State { old_export, none, new_export };  // in the order of their coming
constexpr std::int64_t kShardBytes = 300;           // the sample tensors in four files

bool is_half_written(const std::string& name) {
  return name.ends_with(".safetensors.tmp");
}

struct Scenario {
  const char* name;
  Before before;
  bool shards;  // of the new export
};

void PrintTo(const Scenario& scenario, std::ostream* out) {
  *out << scenario.name;
}

class FaultsOfExports : public ::testing::TestWithParam<Scenario> {
 protected:
  FaultsOfExports() {
    config_.model.kind = ModelKind::vanilla;
    config_.model.vocab = 31;
    config_.model.width = 5;
    fs::create_directories(start_);
    if (GetParam().before != Before::nothing)
      run(FileSystem::posix(), start_, old_, GetParam().before == Before::shards);
  }

  void run(FileSystem& files, const std::string& root, const CheckpointReader& checkpoint,
           bool shards) const {
    export_model(files, checkpoint, config_, root + "/out",
                 {TensorType::f32, shards ? kShardBytes : kDefaultShardBytes, true});
  }

  // The new export on a fresh copy of the start. `prepare` sets the fault.
  std::unique_ptr<FaultyFiles> attempt(const std::function<void(FaultyFiles&)>& prepare) const {
    copy_folder(start_, work_);
    auto files = std::make_unique<FaultyFiles>(work_);
    prepare(*files);
    try {
      run(*files, work_, new_, GetParam().shards);
    } catch (const Killed&) {
    }
    return files;
  }

  // What a reader of ROOT/out finds, told by every value and by what the description says.
  State state_of(const std::string& root, const std::string& when) const {
    const std::string out = root + "/out";
    State weights = State::none;
    try {
      const ImportSource source(out);
      source.require(sample_tensors());
      weights = holds(source, old_)   ? State::old_export
                : holds(source, new_) ? State::new_export
                                      : State::none;
      EXPECT_NE(weights, State::none) << when << ": a mixture";
    } catch (const Error&) {
    }
    if (!describes_model(out)) return State::none;
    EXPECT_EQ(imported_config(out).vocab, 31) << when;
    if (weights == State::none) return State::none;  // refused by name
    EXPECT_TRUE(FileSystem::posix().exists(out + "/" + kTokenizerName)) << when;
    if (const auto origin = export_origin(out)) {
      EXPECT_EQ(origin->step, weights == State::new_export ? 2 : 1) << when;
    }
    return weights;
  }

  // Exporting again leaves exactly the new export.
  void expect_cured(const std::string& when) const {
    FaultyFiles faultless(work_);  // it waits for no disk
    run(faultless, work_, new_, GetParam().shards);
    EXPECT_EQ(state_of(work_, when), State::new_export) << when;
    EXPECT_EQ(FileSystem::posix().list(work_ + "/out"), whole_) << when;
  }

  static bool holds(const ImportSource& source, const CheckpointReader& checkpoint) {
    return std::all_of(
        checkpoint.tensors().begin(), checkpoint.tensors().end(), [&](const TensorInfo& tensor) {
          const auto& from = source.tensors().at(tensor.name);
          std::vector<float> wanted(static_cast<std::size_t>(from.entry->count())), found = wanted;
          checkpoint.read(CheckpointReader::Kind::param, tensor.name, 0, from.entry->count(),
                          wanted.data());
          from.file->read_floats(*from.entry, 0, from.entry->count(), found.data());
          return found == wanted;
        });
  }

  long calls_of_a_good_run() {
    const long calls = attempt([](FaultyFiles&) {})->calls();
    EXPECT_EQ(state_of(work_, "without a fault"), State::new_export);
    whole_ = FileSystem::posix().list(work_ + "/out");
    EXPECT_EQ(std::count_if(whole_.begin(), whole_.end(), is_weight_file),
              GetParam().shards ? 3 : 1);
    return calls;
  }

  State at_start() const {
    return GetParam().before == Before::nothing ? State::none : State::old_export;
  }

  const TemporaryFolder folder_;
  const CheckpointReader old_{write_checkpoint(FileSystem::posix(), folder_ / "c", 1, 1, 1)};
  const CheckpointReader new_{write_checkpoint(FileSystem::posix(), folder_ / "c", 2, 1, 2)};
  const std::string start_ = folder_ / "start", work_ = folder_ / "work";
  Config config_;
  std::vector<std::string> whole_;  // names of a whole new export
};

INSTANTIATE_TEST_SUITE_P(All, FaultsOfExports,
                         ::testing::Values(Scenario{"SingleAlone", Before::nothing, false},
                                           Scenario{"ShardsAlone", Before::nothing, true},
                                           Scenario{"SingleOverSingle", Before::single, false},
                                           Scenario{"SingleOverShards", Before::shards, false},
                                           Scenario{"ShardsOverSingle", Before::single, true},
                                           Scenario{"ShardsOverShards", Before::shards, true}),
                         [](const auto& each) { return each.param.name; });

TEST_P(FaultsOfExports, AnyFailingCallIsOneSentenceAndLeavesNoMixture) {
  const long calls = calls_of_a_good_run();
  ASSERT_GT(calls, 15);
  for (const Failure failure : {Failure::input_output, Failure::no_space}) {
    int kept_old = 0, nothing = 0;
    for (long n = 1; n <= calls; ++n) {
      const std::string when = "call " + std::to_string(n) + ", " + reason_of(failure);
      bool failed = false;
      try {
        attempt([&](FaultyFiles& files) { files.fail_at(n, failure); });
      } catch (const Error& error) {
        failed = true;
        const std::string message = error.what();
        EXPECT_EQ(error.category(), Category::io) << when;
        EXPECT_NE(message.find(reason_of(failure)), std::string::npos) << message;
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
      }
      const State state = state_of(work_, when);
      // A full disk takes what needs no space. Else what fails is told.
      EXPECT_TRUE(failed || (failure == Failure::no_space && state == State::new_export)) << when;
      kept_old += failed && state == at_start();
      // What was on its way is gone again: it may be large.
      const auto left = FileSystem::posix().list(work_ + "/out");
      EXPECT_EQ(std::count_if(left.begin(), left.end(), is_half_written), 0) << when;
      nothing += state == State::none;
      expect_cured(when);
    }
    EXPECT_GT(kept_old, 3);
    EXPECT_GT(nothing, 3);
  }
}

TEST_P(FaultsOfExports, KilledAtAnyCallTheFolderHoldsNoMixture) {
  const long calls = calls_of_a_good_run();
  State before = at_start();
  for (long n = 1; n <= calls; ++n) {
    const std::string when = "killed at call " + std::to_string(n);
    attempt([&](FaultyFiles& files) { files.kill_at(n); });
    const State state = state_of(work_, when);
    EXPECT_GE(state, before) << when;
    before = state;
    expect_cured(when);
  }
  EXPECT_EQ(before, State::new_export);
}

TEST_P(FaultsOfExports, APowerCutAtAnyPointLeavesNoMixtureWhateverReachedTheDisk) {
  calls_of_a_good_run();
  copy_folder(start_, work_);
  RecordingFiles files;
  run(files, work_, new_, GetParam().shards);
  ASSERT_GT(files.log.size(), 15u);
  std::map<State, int> seen;
  const std::string after = folder_ / "after";
  for_each_state(start_, work_, files.log, [&](const auto& tree, std::size_t done) {
    materialise(tree, after);
    const State state = state_of(after, "power cut after " + std::to_string(done));
    EXPECT_TRUE(state == State::new_export || done < files.log.size())
        << "the export was reported, and is lost";
    ++seen[state];
  });
  EXPECT_GT(seen[State::none], 10);
  EXPECT_GT(seen[State::new_export], 3);
  if (at_start() == State::old_export) {
    EXPECT_GT(seen[State::old_export], 10);
  }
}

}  // namespace
}  // namespace tessera::checkpoints::testing
