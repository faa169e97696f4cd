// A machine as prediction sees it: how fast a rank computes and what links carry. Constants of the
// hardware and its libraries, none of a model (docs/scaling.md says where each comes from).
#pragma once

#include <cstdint>
#include <string>

#include "core/device.h"

namespace tessera::parallel {

// A directed link, per rank that uses it.
struct LinkRates {
  double bandwidth = 0;  // bytes/s
  double latency = 0;    // seconds a message, or a step of a ring
};

struct MachineRates {
  std::string name, source;

  // Matrix products: FLOP/s of a product whose tiles fill all processors, in bf16 and in fp32; a
  // product is cut into tiles of `tile` x `tile`, and along its depth into parts of
  // `least_depth` or more where tiles alone do not fill the processors.
  double matmul_bf16 = 0, matmul_fp32 = 0;
  std::int64_t processors = 1, tile = 1, least_depth = 1;
  // Share of a product's memory traffic that computing does not hide.
  double exposed_traffic = 0;

  double memory_bandwidth = 0;     // bytes/s (read + written) of element-wise operations
  double optimizer_bandwidth = 0;  // the same of AdamW, clearing and norms: long runs

  // Attention over long windows: FLOP/s on the causal half in tiles of `attention_tile`; windows of
  // up to `tiny_window` positions run at memory speed.
  double attention_forward = 0, attention_backward = 0;
  std::int64_t attention_tile = 1, tiny_window = 0;

  double sort_seconds_an_id = 0;  // embedding backward
  double launch_seconds = 0;      // between two operations
  double host_seconds = 0;        // of a step: the host waits for the loss and starts the update

  std::int64_t memory_bytes = 0;  // that a rank may plan; 0: no limit known
};

struct Machine {
  MachineRates rates;
  std::int64_t ranks_a_node = 8;
  LinkRates inside, between;     // within a node, from node to node
  double message_bandwidth = 0;  // bytes/s that one link of a pipeline carries at most; 0: no limit
  double collective_start = 0;   // seconds before a collective's first step
  double host_step_seconds = 0;  // one step of a small reduction between hosts
};

// H100 80GB SXM, 8 a node on NVLink 4, one 400 Gb/s adapter a GPU; the same processor with the
// H200's memory; or a CPU rank of `threads` threads on 10 Gb/s Ethernet.
Machine h100_machine(std::int64_t ranks_a_node = 8);
Machine h200_machine(std::int64_t ranks_a_node = 8);
Machine cpu_machine(std::int64_t ranks_a_node, std::int64_t threads = 1);
// What stages are cut by and plans assume where nothing is said: an H100, so that a layout does not
// depend on the GPU it runs on.
Machine default_machine(Device device, std::int64_t ranks_a_node);
// The machine of a GPU by CUDA's name for it ("NVIDIA H200"): an H200's, else an H100's.
Machine machine_of(const std::string& gpu, std::int64_t ranks_a_node);

}  // namespace tessera::parallel
