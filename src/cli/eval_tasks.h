// The half of `tessera eval` that scores tasks, running text and requests of given token ids.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/common.h"
#include "comm/communicator.h"
#include "core/device.h"
#include "core/json.h"
#include "eval/tasks.h"

namespace tessera::cli {

struct TaskOptions {
  std::vector<std::string> tasks, texts;  // names; files of running text
  std::vector<std::string> requests;      // files of {"context": [ids], "continuation": [ids]}
  std::string folder;                     // of the tasks' files
  std::string tokenizer;                  // "" = the checkpoint's
  std::string padding = "auto";           // auto | pad | no-pad
  std::int64_t limit = 0;                 // items a task; 0 = all
  std::int64_t batch_tokens = 0;          // together; 0 = by the device
  std::string items;                      // JSONL of every request and its score; "" = none
};

// Whether there is anything for run_tasks to do.
bool asks(const TaskOptions& options);

// On all ranks; results on all. Error{config} before any work where something is missing.
std::vector<eval::TaskResult> run_tasks(const TaskOptions& options, const LoadedModel& loaded,
                                        Device device, Precision precision,
                                        comm::Communicator& ranks);

std::string task_table(const std::vector<eval::TaskResult>& results);
OrderedJson to_json(const eval::TaskResult& result);

}  // namespace tessera::cli
