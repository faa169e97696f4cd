// What a training run needs before its first step: choices resolved against this build and these
// ranks, data opened, memory planned; and the start-up lines that say so.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/topology.h"
#include "config/config.h"
#include "core/device.h"
#include "core/memory.h"
#include "data/loader.h"
#include "data/token_source.h"
#include "model/parameter_table.h"

namespace tessera::train {

// The device that `device: auto` stands for here, and `precision: auto` on it (written back).
// Error{config} when the configuration asks for what this build or machine cannot do (each thing
// named). On CUDA the process takes the GPU of its number among the host's ranks.
Device resolve_device(Config& config, std::int64_t local_rank = 0);

// Every rank says where it is and what it runs (comm/roll_call.h). The table of ranks on rank 0 of
// several, "" elsewhere; Error{config} on all ranks where the job cannot work.
std::string call_roll(comm::Session& session, const comm::Topology& topology, Device device);

// Error{device} with the table and what would fit, when a plan is larger than the device's free
// memory. Nothing on the CPU.
void require_fits(const Config& config, Device device, const comm::Topology& topology,
                  const MemoryPlan& plan);

// How samples of `config`'s data are cut; `shuffle` is for training.
data::SourceOptions source_options(const Config& config, bool shuffle);

struct Data {
  std::unique_ptr<data::TokenSource> train, valid;  // valid may be null
};
// Opens data.train and data.valid. Error{config} when data.train is empty, has no whole sample, or
// its vocabulary is larger than model.vocab.
Data open_data(const Config& config);

// The loader of this rank's replica, from optimizer step `first_step` (from 0) on.
std::unique_ptr<data::Loader> make_loader(const Config& config, const comm::Topology& topology,
                                          data::TokenSource& source, std::int64_t first_step,
                                          std::int64_t last_step);

// Collective. Error{data} on all ranks when some see other data than rank 0.
void require_equal_data(const Data& data, comm::Communicator& ranks);

// Reads this rank's part (every `ranks`-th) of all shards of data.train and data.valid: Error{data}
// naming one whose SHA-256, checksums or ids are wrong.
void verify_data(const Config& config, std::int64_t rank, std::int64_t ranks);

// The start-up lines on rank 0: run, model, ranks, data, memory by segment.
void report_start(const Config& config, const std::string& run_path, const comm::Topology& topology,
                  const Data& data, const model::ParameterTable& table, const MemoryPlan& plan,
                  std::int64_t threads, Device device);

// A line of the log for each folder of training data: what the run's first `samples` samples took
// from it.
void report_use(const data::TokenSource& source, std::int64_t samples);

// The table of a memory plan, as printed there and by `tessera plan`.
std::string memory_table(const MemoryPlan& plan);
// Two lines on a model: kind, sizes, parameters, FLOPs a token.
std::string model_lines(const ModelConfig& config, const model::ParameterTable& table);

// Version and commit of this program: "0.1.0+1a2b3c4".
std::string build_name();

}  // namespace tessera::train
