// The layer as a piece of training: windows of `length` rows, causal attention inside each.
//
// One class serves all stacks: vanilla and block decoder have one window a sequence (of L tokens or
// N = L / L_B blocks), the token decoder N - 1 windows of S = P + L_B - 1 positions.
#pragma once

#include <memory>
#include <vector>

#include "kernels/window_attention.h"
#include "model/layer_forward.h"
#include "model/piece.h"

namespace tessera::model {

// cos and sin of positions 0 .. length - 1, shared by a stack's layers: computed on the host, kept
// in the queue's memory.
template <typename T>
class RotaryTable {
 public:
  RotaryTable(const ModelConfig& config, std::int64_t length);
  // The first layer that asks reserves and fills.
  void plan(MemoryPlan& plan);
  void bind(const kernels::Queue& queue, const Arena& arena);

  const Wide<T>*cos = nullptr, *sin = nullptr;  // [length, rotary / 2] each

 private:
  std::vector<Wide<T>> cos_, sin_;
  Buffer cos_buffer_, sin_buffer_;
  bool planned_ = false;
};

// How layers are computed.
struct ModelOptions {
  // layer: layers keep their input alone and run again in the backward. attention_mlp: results of
  // matrix products are kept; norms, attention and GELU run again.
  Recompute recompute = Recompute::none;
  kernels::AttentionKernel attention = kernels::AttentionKernel::automatic;
  bool padding = false;  // batches of a block model may hold padding (core/targets.h)
};

// Windows of a stack.
struct WindowShape {
  std::int64_t a_sequence = 1;  // windows a sequence
  std::int64_t length = 0;      // rows a window
  bool padded = false;          // some rows may be no keys (Pass::key_mask)
};

template <typename T>
class Layer : public Piece<T> {
 public:
  // `prefix`: "gpt_neox", "block_decoder.gpt_neox", ...; `label`: for people.
  Layer(const ModelConfig& config, ParameterTable& table, const std::string& prefix,
        std::string label, std::int64_t index, WindowShape windows,
        std::shared_ptr<RotaryTable<T>> rotary, const ModelOptions& options);

  std::string name() const override { return label_; }
  Boundary output(std::int64_t sequences) const override;
  void plan(std::int64_t sequences, PiecePlan plan) override;
  void bind(const kernels::Queue& queue, const Arena& arena) override;
  std::int64_t workspace_bytes(const kernels::Queue& queue, std::int64_t sequences) const override;
  void forward(const Pass<T>& pass, const T* in, T* out) override;
  void backward(const Pass<T>& pass, const T* in, const T* dout, T* din) override;
  double multiply_adds() const override;

 private:
  struct Buffers {
    Buffer norm1, norm2, mean, rstd, qkv, attended, lse, up, activated;  // kept or recomputed
    Buffer joined;                                                       // forward scratch
    Buffer dup, dnorm1, dnorm2, dattended, dqkv;                         // backward scratch
    Buffer output;                                                       // recomputed, unused
  };
  kernels::WindowAttentionShape<T> attention_shape(std::int64_t sequences,
                                                   const std::uint8_t* key_mask = nullptr) const;
  kernels::WindowAttentionShape<T> attention_shape(const Pass<T>& pass) const {
    return attention_shape(pass.batch.sequences, windows_.padded ? pass.key_mask : nullptr);
  }
  // Where the forward's results lie: kept, or in scratch where the backward recomputes them.
  LayerBuffers<T> layer_buffers(const Pass<T>& pass) const;
  Wide<T>* lse(const Pass<T>& pass) const;
  void attend(const Pass<T>& pass, T* qkv, T* attended, bool again) const;
  void recompute(const Pass<T>& pass, const T* in);
  std::int64_t rows(const Pass<T>& pass) const {
    return pass.batch.sequences * windows_.a_sequence * windows_.length;
  }

  ModelConfig config_;
  std::string label_;
  WindowShape windows_;
  std::shared_ptr<RotaryTable<T>> rotary_;
  Recompute recompute_;
  kernels::AttentionKernel attention_;
  LayerParameters parameters_;
  Buffers buffers_;
};

}  // namespace tessera::model
