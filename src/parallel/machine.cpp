#include "parallel/machine.h"

#include <algorithm>

namespace tessera::parallel {

Machine h100_machine(std::int64_t ranks_a_node) {
  MachineRates r;
  r.name = "H100 80GB SXM";
  r.source = "defaults, from the measurements in docs/performance.md";
  // The product of 8192^3 was measured at 710 to 819 TFLOP/s, at the lower clocks of long runs
  // towards the lower end.
  r.matmul_bf16 = 750e12;
  r.matmul_fp32 = 50e12;
  r.processors = 132;
  r.tile = 128;
  r.least_depth = 1024;
  r.exposed_traffic = 0.3;
  r.memory_bandwidth = 2.7e12;  // 0.9 of the copy bandwidth
  r.optimizer_bandwidth = 2.85e12;
  // 382 and 280 TFLOP/s at length 2048, where tiles hold 1 + 128 / 2048 of the causal half.
  r.attention_forward = 382e12 * (1 + 128.0 / 2048);
  r.attention_backward = 280e12 * (1 + 128.0 / 2048);
  r.attention_tile = 128;
  r.tiny_window = 8;
  r.sort_seconds_an_id = 1e-9;
  r.launch_seconds = 1.5e-6;
  r.host_seconds = 50e-6;
  r.memory_bytes = 80'000'000'000;  // of 85.0e9; the rest is CUDA's, NCCL's and the libraries'

  Machine m;
  m.rates = r;
  m.ranks_a_node = ranks_a_node;
  // All-reduce bus bandwidth measured between two GPUs of a host; 0.85 of the adapter's 50 GB/s.
  // Latencies are those of NCCL's own tuning table for its simple protocol.
  m.inside = {333e9, 3.4e-6};
  m.between = {42.5e9, 14e-6};
  m.message_bandwidth = 40e9;  // on the two multiprocessors that a link holds (links.h)
  m.collective_start = 8.4e-6;
  m.host_step_seconds = 15e-6;
  return m;
}

Machine h200_machine(std::int64_t ranks_a_node) {
  Machine m = h100_machine(ranks_a_node);
  MachineRates& r = m.rates;
  r.name = "H200 141GB SXM";
  r.source = "defaults, from the measurements in docs/scaling.md";
  // 8192^3 at 690 to 722 TFLOP/s on the machine whose steps these constants are held to.
  r.matmul_bf16 = 705e12;
  r.memory_bandwidth = 3.6e12;  // 0.9 of the copy bandwidth
  r.optimizer_bandwidth = 3.95e12;
  r.attention_forward = 398e12 * (1 + 128.0 / 2048);
  r.attention_backward = 282e12 * (1 + 128.0 / 2048);
  r.memory_bytes = 145'000'000'000;  // of 150.7e9
  return m;
}

Machine cpu_machine(std::int64_t ranks_a_node, std::int64_t threads) {
  const auto cores = static_cast<double>(std::max<std::int64_t>(threads, 1));
  MachineRates r;
  r.name = "CPU, " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
  r.source = "rough defaults: 110 GFLOP/s and 15 GB/s a thread";
  r.matmul_bf16 = r.matmul_fp32 = 110e9 * cores;
  r.exposed_traffic = 0.3;
  r.memory_bandwidth = r.optimizer_bandwidth = 15e9 * cores;
  r.attention_forward = r.attention_backward = 75e9 * cores;
  r.sort_seconds_an_id = 0;
  r.launch_seconds = 5e-6;

  Machine m;
  m.rates = r;
  m.ranks_a_node = ranks_a_node;
  m.inside = {5e9, 2e-6};
  m.between = {1.1e9, 30e-6};
  m.collective_start = 5e-6;
  m.host_step_seconds = 15e-6;
  return m;
}

Machine default_machine(Device device, std::int64_t ranks_a_node) {
  return device == Device::cuda ? h100_machine(ranks_a_node) : cpu_machine(ranks_a_node);
}

Machine machine_of(const std::string& gpu, std::int64_t ranks_a_node) {
  return gpu.find("H200") != std::string::npos ? h200_machine(ranks_a_node)
                                               : h100_machine(ranks_a_node);
}

}  // namespace tessera::parallel
