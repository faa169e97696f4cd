// Times every CPU operation at the shapes of a small block model, on one thread and on two, beside
// the speeds of matrix product and copy measured in the same run.
//
// Columns: milliseconds (best of several calls), GFLOP/s and its share of the matrix product's, or
// GB/s (each operand counted once) and its share of the copy's.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <omp.h>

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/copy_rows.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gelu.h"
#include "kernels/gemm.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "kernels/residual.h"
#include "kernels/rotary.h"
#include "kernels/squared_norm.h"

namespace tessera::kernels {
namespace {

using Index = std::int64_t;
constexpr Index kRows = 4096, kWidth = 256, kHeads = 4, kHead = 64, kFfn = 1024, kVocab = 4096;

double seconds(const std::function<void()>& call) {
  call();
  double best = 1e9, total = 0;
  for (int turn = 0; turn < 50 && (turn < 5 || total < 0.15); ++turn) {
    const auto start = std::chrono::steady_clock::now();
    call();
    const double time =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::min(best, time);
    total += time;
  }
  return best;
}

std::vector<float> values(Index count) {
  std::vector<float> x(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return x;
}

class Report {
 public:
  Report() {
    const Index n = 1024;
    const auto a = values(n * n), b = values(n * n);
    std::vector<float> c(static_cast<std::size_t>(n * n));
    Gemm<float> g;
    g.m = g.n = g.k = g.lda = g.ldb = g.ldc = n;
    g.a = a.data(), g.b = b.data(), g.c = c.data();
    gemm_ = 2.0 * n * n * n / seconds([&] { cpu::gemm(g); }) / 1e9;
    const auto from = values(16 << 20);
    std::vector<float> to(from.size());
    const Index share = static_cast<Index>(from.size()) / omp_get_max_threads();
    const double time = seconds([&] {
#pragma omp parallel
      std::memcpy(to.data() + share * omp_get_thread_num(),
                  from.data() + share * omp_get_thread_num(),
                  static_cast<std::size_t>(share) * sizeof(float));
    });
    copy_ = 2.0 * static_cast<double>(from.size()) * sizeof(float) / time / 1e9;
    std::printf("\n%d thread(s), %s: matrix product %.1f GFLOP/s, copy %.1f GB/s\n",
                omp_get_max_threads(), cpu::gemm_library(), gemm_, copy_);
  }
  void flops(const char* name, double count, const std::function<void()>& call) const {
    const double time = seconds(call), speed = count / time / 1e9;
    std::printf("  %-38s %9.3f ms %8.1f GFLOP/s %5.2f of gemm\n", name, time * 1e3, speed,
                speed / gemm_);
  }
  // `count` floats read or written.
  void floats(const char* name, double count, const std::function<void()>& call) const {
    const double time = seconds(call), speed = count * sizeof(float) / time / 1e9;
    std::printf("  %-38s %9.3f ms %8.1f GB/s    %5.2f of copy\n", name, time * 1e3, speed,
                speed / copy_);
  }

 private:
  double gemm_ = 0, copy_ = 0;
};

void linear(const Report& report, const char* name, Index rows, Index in, Index out) {
  const auto x = values(rows * in), w = values(out * in), bias = values(out);
  auto y = values(rows * out), dx = values(rows * in), dw = values(out * in), db = values(out);
  const double count = 2.0 * static_cast<double>(rows * in * out);
  const LinearForward<float> f{rows, in, out, x.data(), w.data(), bias.data(), y.data()};
  const LinearBackward<float> b{rows,     in,        out,   x.data(),  w.data(),
                                y.data(), dx.data(), false, dw.data(), db.data()};
  report.flops((std::string(name) + " forward").c_str(), count, [&] { cpu::linear_forward(f); });
  report.flops((std::string(name) + " backward").c_str(), 2 * count,
               [&] { cpu::linear_backward(b); });
}

void attention(const Report& report, const char* name, Index windows, Index length) {
  const Index rows = windows * length;
  const auto qkv = values(rows * 3 * kWidth), dout = values(rows * kWidth);
  auto out = values(rows * kWidth), lse = values(rows * kHeads), dqkv = values(rows * 3 * kWidth);
  const AttentionShape s = fused_attention_shape(windows, length, kHeads, kHead);
  AttentionForward<float> f;
  f.shape = s, f.q = qkv.data(), f.k = f.q + kHead, f.v = f.k + kHead;
  f.out = out.data(), f.lse = lse.data();
  AttentionBackward<float> b;
  b.shape = s, b.q = f.q, b.k = f.k, b.v = f.v, b.out = f.out, b.lse = f.lse;
  b.dout = dout.data(), b.dq = dqkv.data(), b.dk = b.dq + kHead, b.dv = b.dk + kHead;
  const double pairs = static_cast<double>(windows * kHeads * length * (length + 1)) / 2;
  const double row = static_cast<double>(rows * kWidth);
  const std::string forward = std::string(name) + " forward",
                    backward = std::string(name) + " backward";
  if (length <= kTinyWindow) {
    report.floats(forward.c_str(), 4 * row, [&] { cpu::attention_forward(f); });
    report.floats(backward.c_str(), 8 * row, [&] { cpu::attention_backward(b); });
  } else {
    report.flops(forward.c_str(), 4 * pairs * kHead, [&] { cpu::attention_forward(f); });
    report.flops(backward.c_str(), 10 * pairs * kHead, [&] { cpu::attention_backward(b); });
  }
}

void decode(const Report& report, Index windows, Index keys) {
  const auto cache = values(2 * windows * kHeads * keys * kHead), q = values(windows * kWidth);
  auto out = values(windows * kWidth);
  AttentionForward<float> f;
  f.shape = {windows, kHeads,      kHead, 1, keys, kWidth, kWidth, kHead, kHeads * keys * kHead,
             kHead,   keys * kHead};
  f.q = q.data(), f.k = cache.data(), f.v = f.k + windows * kHeads * keys * kHead;
  f.out = out.data();
  report.floats("attention decode 16 x 1024 keys", static_cast<double>(cache.size()),
                [&] { cpu::attention_forward(f); });
}

void rows_operations(const Report& report) {
  const double n = static_cast<double>(kRows * kWidth);
  const auto x = values(kRows * kWidth), a = values(kRows * kWidth), b = values(kRows * kWidth);
  auto y = values(kRows * kWidth), z = y, mean = values(kRows), rstd = mean;
  auto gain = values(kWidth), bias = gain, dgain = gain, dbias = gain;
  LayerNormForward<float> f;
  f.rows = kRows, f.width = kWidth, f.x = x.data(), f.gain1 = f.gain2 = gain.data();
  f.bias1 = f.bias2 = bias.data(), f.y1 = y.data(), f.y2 = z.data();
  f.mean = mean.data(), f.rstd = rstd.data();
  report.floats("layer norm x2 forward", 3 * n, [&] { cpu::layer_norm_forward(f); });
  LayerNormBackward<float> g;
  g.rows = kRows, g.width = kWidth, g.x = x.data(), g.mean = f.mean, g.rstd = f.rstd;
  g.gain1 = g.gain2 = gain.data(), g.dy1 = a.data(), g.dy2 = b.data(),
  g.dresidual = g.dx = y.data();
  g.dgain1 = g.dgain2 = dgain.data(), g.dbias1 = g.dbias2 = dbias.data();
  report.floats("layer norm x2 backward", 5 * n, [&] {
    std::fill(y.begin(), y.end(), 0.0f);  // dx is also the residual gradient: keep it finite
    cpu::layer_norm_backward(g);
  });
  const ResidualJoin<float> join{kRows * kWidth, x.data(), a.data(), b.data(), y.data()};
  report.floats("residual join", 4 * n, [&] { cpu::residual_join(join); });
  auto qkv = values(kRows * 3 * kWidth);
  const Index length = 64, rotary_size = 16;
  std::vector<float> cosine(length * rotary_size / 2), sine(cosine.size());
  rotary_tables(length, rotary_size, 10000.0, cosine.data(), sine.data());
  Rotary<float> r;
  r.rows = kRows, r.heads = kHeads, r.head_size = kHead, r.rotary = rotary_size, r.length = length;
  r.cos = cosine.data(), r.sin = sine.data(), r.qkv = qkv.data();
  report.floats("rotary", 2.0 * kRows * kHeads * 2 * rotary_size, [&] { cpu::rotary(r); });
  const auto h = values(kRows * kFfn), dh = values(kRows * kFfn);
  auto out = values(kRows * kFfn);
  const GeluForward<float> gf{kRows * kFfn, h.data(), out.data()};
  const GeluBackward<float> gb{kRows * kFfn, h.data(), dh.data(), out.data()};
  report.floats("gelu forward", 2.0 * kRows * kFfn, [&] { cpu::gelu_forward(gf); });
  report.floats("gelu backward", 3.0 * kRows * kFfn, [&] { cpu::gelu_backward(gb); });
}

void vocabulary_operations(const Report& report) {
  auto logits = values(kRows * kVocab), losses = values(kRows);
  std::vector<std::int32_t> ids(kRows);
  for (Index i = 0; i < kRows; ++i) ids[i] = static_cast<std::int32_t>(i * 7919 % kVocab);
  CrossEntropy<float> c{kRows, kVocab, logits.data(), ids.data(), losses.data(), 1, false};
  report.floats("cross entropy, loss only", 1.0 * kRows * kVocab, [&] { cpu::cross_entropy(c); });
  c.gradient = true;
  report.floats("cross entropy with gradient", 2.0 * kRows * kVocab,
                [&] { cpu::cross_entropy(c); });
  auto table = values(kVocab * kWidth), out = values(kRows * kWidth);
  EmbeddingShape s;
  s.rows = kRows, s.width = s.stride = kWidth, s.vocab = kVocab;
  const EmbeddingForward<float> f{s, ids.data(), table.data(), out.data()};
  const EmbeddingBackward<float> b{s, ids.data(), out.data(), table.data()};
  report.floats("embedding forward", 2.0 * kRows * kWidth, [&] { cpu::embedding_forward(f); });
  report.floats("embedding backward", 3.0 * kRows * kWidth, [&] { cpu::embedding_backward(b); });
  const CopyRows<float> copy{800,           2,          kWidth, out.data(), 2 * kWidth,
                             logits.data(), 5 * kWidth, false};
  report.floats("copy rows", 2.0 * 1600 * kWidth, [&] { cpu::copy_rows(copy); });
}

void optimizer(const Report& report) {
  const Index n = 8 << 20;
  auto p = values(n), m = values(n), v = values(n);
  const auto g = values(n);
  for (float& x : v) x = x * x;
  AdamW<float> a;
  a.count = n, a.parameter = p.data(), a.m = m.data(), a.v = v.data(), a.gradient = g.data();
  a.lr = 1e-3;
  report.floats("adamw, 8M parameters", 7.0 * static_cast<double>(n), [&] { cpu::adamw(a); });
  double sum = 0;
  report.floats("squared norm, 8M", static_cast<double>(n),
                [&] { sum += cpu::squared_norm(g.data(), n); });
  if (sum < 0) std::printf("impossible\n");
}

void all() {
  const Report report;
  linear(report, "linear 4096 x 256 -> 768 (qkv)", kRows, kWidth, 3 * kWidth);
  linear(report, "linear 4096 x 256 -> 256 (dense)", kRows, kWidth, kWidth);
  linear(report, "linear 4096 x 256 -> 1024 (up)", kRows, kWidth, kFfn);
  linear(report, "linear 4096 x 1024 -> 256 (down)", kRows, kFfn, kWidth);
  linear(report, "linear 4096 x 256 -> 4096 (head)", kRows, kWidth, kVocab);
  linear(report, "linear 16 x 256 -> 1024 (decode)", 16, kWidth, kFfn);
  linear(report, "linear 1 x 256 -> 1024 (decode)", 1, kWidth, kFfn);
  attention(report, "attention 800 x 5", 800, 5);
  attention(report, "attention 16 x 64", 16, 64);
  attention(report, "attention 8 x 256", 8, 256);
  attention(report, "attention 2 x 1024", 2, 1024);
  decode(report, 16, 1024);
  rows_operations(report);
  vocabulary_operations(report);
  optimizer(report);
}

}  // namespace
}  // namespace tessera::kernels

int main() {
  for (const int threads : {1, 2}) {
    if (threads > omp_get_num_procs()) continue;
    omp_set_num_threads(threads);
    tessera::kernels::all();
  }
}
