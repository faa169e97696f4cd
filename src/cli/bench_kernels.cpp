// tessera bench kernels: every operation at the shapes of the paper's models, with the fraction of
// the ceiling that the same run measured. bf16 on CUDA, float at small shapes on the CPU.
#include <cstdio>
#include <iostream>
#include <type_traits>

#include <CLI/CLI.hpp>

#include "cli/bench.h"
#include "cli/common.h"
#include "cli/kernel_bench.h"
#include "core/json.h"
#include "core/text.h"
#include "core/threads.h"
#include "kernels/adamw.h"
#include "kernels/cast.h"
#include "kernels/copy_rows.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gelu.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "kernels/rotary.h"
#include "kernels/squared_norms.h"
#include "kernels/sum.h"
#include "kernels/window_attention.h"

namespace tessera::cli {
namespace {

using Index = std::int64_t;
using namespace kernels;

std::string size(std::initializer_list<Index> numbers) {
  std::string text;
  for (const Index n : numbers) text += (text.empty() ? "" : " x ") + std::to_string(n);
  return text;
}
double product(std::initializer_list<Index> numbers) {
  double result = 1;
  for (const Index n : numbers) result *= static_cast<double>(n);
  return result;
}

template <typename T>
void linear(KernelBench& bench, Index rows, Index in, Index out, bool bias) {
  if (!bench.wants("linear forward") && !bench.wants("linear dx") && !bench.wants("linear dw"))
    return;
  const T *x = bench.random<T>(rows * in), *w = bench.random<T>(out * in, 0.02);
  const T* b = bench.random<T>(out);
  T *y = bench.random<T>(rows * out), *dx = bench.random<T>(rows * in);
  auto* dw = bench.random<Wide<T>>(out * in);
  const std::string shape = size({rows, in, out});
  const double work = 2 * product({rows, in, out});
  const Queue& q = bench.queue();
  bench.flops("linear forward", shape, work, [&] {
    linear_forward<T>(q, {rows, in, out, x, w, bias ? b : nullptr, y});
  });
  bench.flops("linear dx", shape, work, [&] {
    linear_backward<T>(q, {rows, in, out, x, w, y, dx, nullptr, nullptr});
  });
  bench.flops("linear dw", shape, work, [&] {
    linear_backward<T>(q, {rows, in, out, x, w, y, nullptr, dw, nullptr});
  });
  bench.forget();
}

template <typename T>
void rows_operations(KernelBench& bench, Index rows, Index width) {
  const Index ffn = 4 * width;
  const double unit = product({rows, width}) * sizeof(T);
  const std::string shape = size({rows, width}), wide = size({rows, ffn});
  const T *x = bench.random<T>(rows * width, 1.5), *gain = bench.random<T>(width, 0.1, 1);
  const T* bias = bench.random<T>(width);
  T *a = bench.random<T>(rows * width), *b = bench.random<T>(rows * width);
  T* residual = bench.random<T>(rows * width);
  T* dx = bench.random<T>(rows * width);
  auto *mean = bench.random<Wide<T>>(rows), *rstd = bench.random<Wide<T>>(rows);
  auto* sums = bench.random<Wide<T>>(6 * width);
  const Queue& q = bench.queue();
  bench.bytes("layer norm x2 forward", shape, 3 * unit, [&] {
    layer_norm_forward<T>(q, {rows, width, 1e-5, x, gain, bias, a, gain, bias, b, mean, rstd});
  });
  layer_norm_forward<T>(
      q, {rows, width, 1e-5, x, gain, bias, dx, nullptr, nullptr, nullptr, mean, rstd});
  bench.bytes("layer norm x2 backward", shape, 5 * unit, [&] {
    layer_norm_backward<T>(
        q, {rows, width, x, mean, rstd, gain, a, sums, sums + width, gain, b, sums + 2 * width,
            sums + 3 * width, residual, dx, sums + 4 * width, sums + 5 * width});
  });
  bench.forget();

  const T *up = bench.random<T>(rows * ffn, 2), *dy = bench.random<T>(rows * ffn);
  T* out = bench.random<T>(rows * ffn);
  auto* dbias = bench.random<Wide<T>>(ffn);
  bench.bytes("gelu forward", wide, 8 * unit, [&] { gelu_forward<T>(q, {rows * ffn, up, out}); });
  bench.bytes("gelu backward with bias", wide, 12 * unit, [&] {
    gelu_backward<T>(q, {rows, ffn, up, dy, out, dbias});
  });
  bench.bytes("bias gradient", wide, 4 * unit, [&] {
    linear_backward<T>(q, {rows, 1, ffn, nullptr, nullptr, dy, nullptr, nullptr, dbias});
  });
  bench.forget();
}

template <typename T>
void attention(KernelBench& bench, const std::string& name, Index windows, Index length,
               Index heads, Index d, AttentionKernel choice) {
  const std::string forward = name + " forward", backward = name + " backward";
  if (!bench.wants(forward) && !bench.wants(backward)) return;
  const Index rows = windows * length, width = heads * d, rotary = d / 4;
  T* qkv = bench.random<T>(rows * 3 * width);
  T *out = bench.random<T>(rows * width), *dqkv = bench.random<T>(rows * 3 * width);
  const T* dout = bench.random<T>(rows * width);
  auto* lse = bench.random<Wide<T>>(rows * heads);
  const auto* angles = bench.random<Wide<T>>(length * rotary);
  const WindowAttentionShape<T> s{windows, length, heads, d, rotary, angles, angles, choice};
  const std::string shape = size({windows, heads, length, d});
  const auto run_forward = [&] {
    window_attention_forward<T>(bench.queue(), {s, qkv, out, lse, true});
  };
  const auto run_backward = [&] {
    window_attention_backward<T>(bench.queue(), {s, qkv, out, lse, dout, dqkv});
  };
  if (length <= 64) {
    const double unit = product({rows, width}) * sizeof(T);
    bench.bytes(forward, shape, 4 * unit, run_forward);
    bench.bytes(backward, shape, 7 * unit, run_backward);
  } else {
    const double pairs = product({windows, heads, length, length, d}) / 2;  // the causal half
    bench.flops(forward, shape, 4 * pairs, run_forward);
    bench.flops(backward, shape, 10 * pairs, run_backward);
  }
  bench.forget();
}

template <typename T>
void vocabulary(KernelBench& bench, Index rows, Index vocab, Index width) {
  const Queue& q = bench.queue();
  if (bench.wants("cross entropy")) {
    T* logits = bench.random<T>(rows * vocab, 2);
    auto *losses = bench.random<Wide<T>>(rows), *weight = bench.random<Wide<T>>(1);
    CrossEntropy<T> c;
    c.rows = rows, c.vocab = vocab, c.logits = logits, c.targets = bench.random_ids(rows, vocab);
    c.losses = losses, c.weight = weight;
    bench.bytes("cross entropy", size({rows, vocab}), 2 * product({rows, vocab}) * sizeof(T),
                [&] { cross_entropy(q, c); });
    bench.forget();
  }
  const Index tokens = 4 * rows;
  const T* table = bench.random<T>(vocab * width);
  T* out = bench.random<T>(tokens * width);
  auto* dtable = bench.random<Wide<T>>(vocab * width);
  const std::int32_t* ids = bench.random_ids(tokens, vocab);
  EmbeddingShape s;
  s.rows = tokens, s.width = s.stride = width, s.vocab = vocab;
  const std::string shape = size({tokens, width});
  bench.bytes("embedding forward", shape, 2 * product({tokens, width}) * sizeof(T), [&] {
    embedding_forward<T>(q, {s, ids, table, out});
  });
  bench.bytes("embedding backward", shape, product({tokens, width}) * (sizeof(T) + 8.0), [&] {
    embedding_backward<T>(q, {s, ids, out, dtable});
  });
  bench.forget();
}

template <typename T>
void optimizer(KernelBench& bench, Index count) {
  const Queue& q = bench.queue();
  auto *p = bench.random<Wide<T>>(count), *m = bench.random<Wide<T>>(count);
  auto *v = bench.random<Wide<T>>(count, 0, 1), *g = bench.random<Wide<T>>(count);
  T* working = std::is_same_v<T, Wide<T>> ? nullptr : bench.random<T>(count);
  std::vector<TensorSlice> list;
  for (Index i = 0; i < count; i += kSliceElements)
    list.push_back({i, std::min(kSliceElements, count - i), 0, 0.1f});
  const auto slices = static_cast<Index>(list.size());
  auto* there = reinterpret_cast<TensorSlice*>(
      bench.random<float>(slices * static_cast<Index>(sizeof(TensorSlice)) / 4));
  upload(q.device, there, list.data(), slices * static_cast<Index>(sizeof(TensorSlice)), q.stream);
  auto* step = reinterpret_cast<AdamWStep*>(bench.random<float>(sizeof(AdamWStep) / 4));
  const AdamWStep scalars = adamw_step(1e-6, 1, 0.9, 0.95, 10);
  upload(q.device, step, &scalars, sizeof scalars, q.stream);
  auto* partial = reinterpret_cast<double*>(bench.random<float>(2 * slices + 2));
  const double n = static_cast<double>(count);
  bench.bytes("adamw", size({count}), n * (28 + (working ? 2 : 0)), [&] {
    adamw<T>(q, {there, slices, step, 0.9, 0.95, 1e-8, p, m, v, g, working});
  });
  bench.bytes("gradient norms", size({count}), 4 * n, [&] {
    squared_norms<Wide<T>>(q, {there, slices, g, partial, partial + slices, 1});
  });
  if constexpr (!std::is_same_v<T, Wide<T>>)
    bench.bytes("cast to bf16", size({count}), 6 * n, [&] {
      cast_to_bf16(q, {count, p, reinterpret_cast<std::uint16_t*>(working)});
    });
  bench.forget();
}

template <typename T>
void layout(KernelBench& bench, Index windows, Index length, Index heads, Index d) {
  const Queue& q = bench.queue();
  const Index width = heads * d, rows = windows * length, rotary_size = d / 4;
  T* qkv = bench.random<T>(rows * 3 * width);
  const auto* angles = bench.random<Wide<T>>(length * rotary_size);
  Rotary<T> r;
  r.rows = rows, r.heads = heads, r.head_size = d, r.rotary = rotary_size, r.length = length;
  r.cos = r.sin = angles, r.qkv = qkv;
  bench.bytes("rotary", size({windows, length, heads, d}),
              4 * product({rows, heads, rotary_size}) * sizeof(T), [&] { rotary(q, r); });
  const T* from = bench.random<T>(windows * 2 * width);
  CopyRows<T> c;
  c.groups = windows, c.runs_a_group = 2, c.width = width, c.from = from, c.from_group = 2 * width;
  c.to = qkv, c.to_group = 5 * width;
  if (windows * 5 * width <= rows * 3 * width)
    bench.bytes("copy rows", size({windows, 2, width}), 4 * product({windows, width}) * sizeof(T),
                [&] { copy_rows(q, c); });
  bench.forget();
}

void paper_shapes(KernelBench& bench) {
  using T = bf16;
  // Vanilla 160M: 16 x 2048 rows; block 170M's token decoder: 8176 windows of 5; 410M; 1.4B.
  for (const auto& [rows, width] : {std::pair<Index, Index>{32768, 768},
                                    {40880, 768},
                                    {32768, 1024},
                                    {40880, 1024},
                                    {20440, 2048}}) {
    linear<T>(bench, rows, width, 3 * width, true);
    linear<T>(bench, rows, width, width, true);
    linear<T>(bench, rows, width, 4 * width, true);
    linear<T>(bench, rows, 4 * width, width, true);
    rows_operations<T>(bench, rows, width);
  }
  linear<T>(bench, 16384, 768, 50304, false);
  attention<T>(bench, "tiny attention", 8176, 5, 12, 64, AttentionKernel::automatic);
  attention<T>(bench, "tiny attention", 8176, 5, 16, 64, AttentionKernel::automatic);
  attention<T>(bench, "tiny attention", 4088, 5, 16, 128, AttentionKernel::automatic);
  for (const auto& [windows, length, heads, d] :
       {std::tuple<Index, Index, Index, Index>{16, 2048, 12, 64},
        {16, 2048, 8, 64},
        {8, 2048, 16, 64},
        {16, 512, 12, 64},
        {8, 512, 16, 128}}) {
    attention<T>(bench, "native attention", windows, length, heads, d, AttentionKernel::native);
    attention<T>(bench, "cudnn attention", windows, length, heads, d, AttentionKernel::cudnn);
  }
  vocabulary<T>(bench, 8192, 50304, 768);
  optimizer<T>(bench, Index{162} << 20);
  layout<T>(bench, 16, 2048, 12, 64);
  layout<T>(bench, 8176, 5, 12, 64);
}

void laptop_shapes(KernelBench& bench) {
  using T = float;
  linear<T>(bench, 2048, 256, 1024, true);
  linear<T>(bench, 2048, 1024, 256, true);
  rows_operations<T>(bench, 4096, 256);
  attention<T>(bench, "tiny attention", 800, 5, 4, 64, AttentionKernel::native);
  attention<T>(bench, "native attention", 4, 512, 4, 64, AttentionKernel::native);
  vocabulary<T>(bench, 1024, 4096, 256);
  optimizer<T>(bench, Index{4} << 20);
  layout<T>(bench, 800, 5, 4, 64);
}

struct Options {
  std::string filter;
  bool cpu = false, json = false;
};

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

void run(const Options& options) {
  use_threads(1);
  const Device device = !options.cpu && cuda_device_count() > 0 ? Device::cuda : Device::cpu;
  KernelBench bench(device, options.filter);
  bench.cuda() ? paper_shapes(bench) : laptop_shapes(bench);
  if (options.json) {
    std::cout << OrderedJson({{"device", bench.cuda() ? device_info().name : "cpu"},
                              {"copy_bytes_per_second", bench.copy_bandwidth()},
                              {"gemm_flops_per_second", bench.gemm_rate()}})
                     .dump()
              << "\n";
    for (const KernelTime& t : bench.times()) {
      OrderedJson json = {
          {"operation", t.operation}, {"shape", t.shape}, {"microseconds", t.microseconds}};
      if (t.bytes > 0) json["bytes_per_second"] = 1e6 * t.bytes / t.microseconds;
      if (t.flops > 0) json["flops_per_second"] = 1e6 * t.flops / t.microseconds;
      json["fraction"] = t.fraction;
      std::cout << json.dump() << "\n";
    }
    return;
  }
  std::vector<std::vector<std::string>> rows = {
      {"operation", "shape", "us", "speed", "of ceiling"}};
  for (const KernelTime& t : bench.times())
    rows.push_back({t.operation, t.shape, number("%.1f", t.microseconds),
                    t.bytes > 0 ? number("%.0f GB/s", 1e-3 * t.bytes / t.microseconds)
                                : number("%.1f TFLOP/s", 1e-6 * t.flops / t.microseconds),
                    number("%.2f", t.fraction)});
  std::cout << format_table(rows) << "ceilings of this run: copy "
            << number("%.0f GB/s", 1e-9 * bench.copy_bandwidth()) << ", matrix product "
            << number("%.1f TFLOP/s", 1e-12 * bench.gemm_rate()) << "\n";
}

}  // namespace

void add_bench_kernels(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand(
      "kernels", "Every operation at the paper's shapes, beside the ceilings of the same run");
  command->add_option("--filter", options->filter, "Only operations whose name contains this");
  command->add_flag("--cpu", options->cpu, "The CPU's operations, although there is a GPU");
  command->add_flag("--json", options->json, "Print JSON lines");
  command->footer(example("tessera bench kernels --filter attention"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
