// Causal attention as cuDNN graphs of elementary operations. The patterns (order of operations,
// which tensors are virtual, bf16 where a product reads it) are those that cuDNN fuses.
#include "kernels/cuda/cudnn_attention_graphs.h"

namespace tessera::kernels::cuda {
namespace {

using Layout = CudnnGraph::Layout;
using Tensor = CudnnGraph::Tensor;

constexpr cudnnDataType_t kBf16 = CUDNN_DATA_BFLOAT16;
constexpr cudnnDataType_t kFloat = CUDNN_DATA_FLOAT;

// Layouts of the tensors of one attention, dimensions [windows, heads, length, ...].
struct Layouts {
  explicit Layouts(const CudnnAttentionShape& s)
      : fused{{s.windows, s.heads, s.length, s.head_size},
              {s.length * s.heads * 3 * s.head_size, 3 * s.head_size, s.heads * 3 * s.head_size,
               1}},
        out{{s.windows, s.heads, s.length, s.head_size},
            {s.length * s.heads * s.head_size, s.head_size, s.heads * s.head_size, 1}},
        scores(CudnnGraph::packed({s.windows, s.heads, s.length, s.length})),
        row(CudnnGraph::packed({s.windows, s.heads, s.length, 1})) {}

  Layout fused;   // q, k, v in qkv [windows * length, heads, 3, d]
  Layout out;     // [windows * length, heads, d]
  Layout scores;  // [windows, heads, length, length]
  Layout row;     // [windows, heads, length, 1]
};

// scale * q k^T: what both directions begin with.
Tensor scaled_scores(CudnnGraph& graph, const Layouts& layouts, Tensor q, Tensor k_transposed,
                     Tensor scale) {
  const Tensor products =
      graph.matmul("q k", q, k_transposed, graph.between("products", kFloat, layouts.scores));
  return graph.pointwise("scale", CUDNN_POINTWISE_MUL, {products, scale},
                         graph.between("scores", kFloat, layouts.scores));
}

// x where the query's position is the key's or later, else `masked`.
Tensor causal(CudnnGraph& graph, const Layouts& layouts, Tensor x, Tensor masked) {
  const auto positions = [&](const std::string& name, std::int64_t axis) {
    return graph.position(name, axis, x, graph.between(name, CUDNN_DATA_INT32, layouts.scores));
  };
  const Tensor query = positions("query position", 2), key = positions("key position", 3);
  const Tensor seen = graph.pointwise("seen", CUDNN_POINTWISE_CMP_GE, {query, key},
                                      graph.between("seen", CUDNN_DATA_BOOLEAN, layouts.scores),
                                      CUDNN_DATA_BOOLEAN);
  return graph.pointwise("mask", CUDNN_POINTWISE_BINARY_SELECT, {x, masked, seen},
                         graph.between("masked scores", kFloat, layouts.scores));
}

}  // namespace

std::string CudnnAttentionShape::describe() const {
  return "windows " + std::to_string(windows) + " length " + std::to_string(length) + " heads " +
         std::to_string(heads) + " size " + std::to_string(head_size);
}

CudnnPlan cudnn_attention_forward_plan(const CudnnAttentionShape& shape, cudnnHandle_t handle) {
  const Layouts layouts(shape);
  CudnnGraph graph("attention forward, " + shape.describe());
  const Tensor q = graph.memory(kCudnnQ, "q", kBf16, layouts.fused);
  const Tensor k = graph.memory(kCudnnK, "k", kBf16, CudnnGraph::transposed(layouts.fused));
  const Tensor v = graph.memory(kCudnnV, "v", kBf16, layouts.fused);
  const Tensor out = graph.memory(kCudnnOut, "out", kBf16, layouts.out);
  const Tensor lse = graph.memory(kCudnnLse, "lse", kFloat, layouts.row);
  const Tensor scale = graph.scalar(kCudnnScale, "scale");
  const Tensor masked = graph.scalar(kCudnnMasked, "masked");
  const auto scores = [&](const char* name, cudnnDataType_t type = kFloat) {
    return graph.between(name, type, layouts.scores);
  };
  const auto row = [&](const char* name) { return graph.between(name, kFloat, layouts.row); };

  const Tensor s = causal(graph, layouts, scaled_scores(graph, layouts, q, k, scale), masked);
  const Tensor most = graph.reduce("most", CUDNN_REDUCE_TENSOR_MAX, s, row("most"));
  const Tensor shifted =
      graph.pointwise("shift", CUDNN_POINTWISE_SUB, {s, most}, scores("shifted"));
  const Tensor weights = graph.pointwise("exp", CUDNN_POINTWISE_EXP, {shifted}, scores("weights"));
  const Tensor sum = graph.reduce("sum", CUDNN_REDUCE_TENSOR_ADD, weights, row("sum"));
  const Tensor log_sum = graph.pointwise("log", CUDNN_POINTWISE_LOG, {sum}, row("log sum"));
  graph.pointwise("lse", CUDNN_POINTWISE_ADD, {most, log_sum}, lse);
  const Tensor p =
      graph.pointwise("normalise", CUDNN_POINTWISE_DIV, {weights, sum}, scores("p", kBf16));
  graph.matmul("p v", p, v, out);
  return std::move(graph).compile(handle);
}

CudnnPlan cudnn_attention_backward_plan(const CudnnAttentionShape& shape, cudnnHandle_t handle) {
  const Layouts layouts(shape);
  const Layout transposed_scores = CudnnGraph::transposed(layouts.scores);
  CudnnGraph graph("attention backward, " + shape.describe());
  const Tensor q = graph.memory(kCudnnQ, "q", kBf16, layouts.fused);
  const Tensor k_transposed =
      graph.memory(kCudnnK, "k", kBf16, CudnnGraph::transposed(layouts.fused));
  const Tensor v_transposed =
      graph.memory(kCudnnV, "v", kBf16, CudnnGraph::transposed(layouts.fused));
  const Tensor out = graph.memory(kCudnnOut, "out", kBf16, layouts.out);
  const Tensor dout = graph.memory(kCudnnDout, "dout", kBf16, layouts.out);
  const Tensor lse = graph.memory(kCudnnLse, "lse", kFloat, layouts.row);
  const Tensor dq = graph.memory(kCudnnDq, "dq", kBf16, layouts.fused);
  const Tensor dk = graph.memory(kCudnnDk, "dk", kBf16, layouts.fused);
  const Tensor dv = graph.memory(kCudnnDv, "dv", kBf16, layouts.fused);
  const Tensor inner = graph.memory(kCudnnInner, "inner", kFloat, layouts.row);
  const Tensor scale = graph.scalar(kCudnnScale, "scale");
  const Tensor one = graph.scalar(kCudnnOne, "one");
  const Tensor masked = graph.scalar(kCudnnMasked, "masked");
  const auto scores = [&](const char* name) { return graph.between(name, kFloat, layouts.scores); };

  // inner_i = sum of dout_i * out_i (the product with one marks where dropout would come).
  const Tensor both =
      graph.pointwise("dout * out", CUDNN_POINTWISE_MUL, {dout, out},
                      graph.between("dout * out", kFloat, CudnnGraph::packed(layouts.out.dims)));
  const Tensor summed = graph.reduce("sum of dout * out", CUDNN_REDUCE_TENSOR_ADD, both,
                                     graph.between("sum of dout * out", kFloat, layouts.row));
  graph.pointwise("inner", CUDNN_POINTWISE_MUL, {summed, one}, inner);

  // p = exp(masked scores - lse); dv = p^T dout.
  const Tensor s = scaled_scores(graph, layouts, q, k_transposed, scale);
  const Tensor shifted = graph.pointwise("shift", CUDNN_POINTWISE_SUB, {s, lse}, scores("shifted"));
  const Tensor p = graph.pointwise("exp", CUDNN_POINTWISE_EXP,
                                   {causal(graph, layouts, shifted, masked)}, scores("p"));
  const Tensor p_transposed =
      graph.view("p transposed", p, graph.between("p transposed", kBf16, transposed_scores));
  graph.matmul("p dout", p_transposed, dout, dv);

  // ds = scale * p * (dout v^T - inner); dk = ds^T q; dq = ds k. Writing dq from the product is the
  // deterministic form: ds goes through the workspace and each dq is summed by one block. With a
  // float accumulator between the product and dq cuDNN adds to it atomically instead.
  const Tensor dp = graph.matmul("dout v", dout, v_transposed, scores("dp"));
  const Tensor centred =
      graph.pointwise("dp - inner", CUDNN_POINTWISE_SUB, {dp, inner}, scores("centred"));
  const Tensor weighted =
      graph.pointwise("times p", CUDNN_POINTWISE_MUL, {centred, p}, scores("weighted"));
  const Tensor ds = graph.pointwise("ds", CUDNN_POINTWISE_MUL, {weighted, scale}, scores("ds"));
  const Tensor ds_transposed =
      graph.view("ds transposed", ds, graph.between("ds transposed", kBf16, transposed_scores));
  graph.matmul("ds q", ds_transposed, q, dk);
  const Tensor k = graph.view("k", k_transposed, graph.between("k again", kBf16, layouts.fused));
  graph.matmul("ds k", ds, k, dq);
  return std::move(graph).compile(handle);
}

}  // namespace tessera::kernels::cuda
