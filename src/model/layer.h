// The layer as a piece of training: windows of `length` rows, causal attention inside each.
//
// One class serves all stacks: vanilla and block decoder have one window a sequence (of L tokens or
// N = L / L_B blocks), the token decoder N - 1 windows of S = P + L_B - 1 positions.
#pragma once

#include <memory>
#include <vector>

#include "model/layer_forward.h"
#include "model/piece.h"

namespace tessera::model {

// cos and sin of positions 0 .. length - 1, shared by a stack's layers.
template <typename T>
struct RotaryTable {
  RotaryTable(const ModelConfig& config, std::int64_t length);
  std::vector<T> cos, sin;  // [length, rotary / 2] each
};

// Windows of a stack.
struct WindowShape {
  std::int64_t a_sequence = 1;  // windows a sequence
  std::int64_t length = 0;      // rows a window
};

template <typename T>
class Layer : public Piece<T> {
 public:
  // `prefix`: "gpt_neox", "block_decoder.gpt_neox", ...; `label`: for people.
  Layer(const ModelConfig& config, ParameterTable& table, const std::string& prefix,
        std::string label, std::int64_t index, WindowShape windows,
        std::shared_ptr<const RotaryTable<T>> rotary, bool recompute);

  std::string name() const override { return label_; }
  Boundary output(std::int64_t sequences) const override;
  void plan(std::int64_t sequences, PiecePlan plan) override;
  void forward(const Pass<T>& pass, const T* in, T* out) override;
  void backward(const Pass<T>& pass, const T* in, const T* dout, T* din) override;
  double multiply_adds() const override;

 private:
  struct Buffers {
    Buffer norm1, norm2, mean, rstd, qkv, attended, lse, up, activated;  // kept for the backward
    Buffer projected, down;                                              // forward scratch
    Buffer dup, dnorm1, dnorm2, dattended, dqkv;                         // backward scratch
    Buffer output;                                                       // recomputed, unused
  };
  void compute(const Pass<T>& pass, const T* in, T* out) const;
  // Kept buffers live in scratch when the backward recomputes them.
  T* at(const Pass<T>& pass, const Buffer& buffer) const {
    return recompute_ ? pass.temporary(buffer) : pass.kept(buffer);
  }
  void rotate(const Pass<T>& pass, T* qkv, bool backward) const;
  std::int64_t rows(const Pass<T>& pass) const {
    return pass.batch.sequences * windows_.a_sequence * windows_.length;
  }

  ModelConfig config_;
  std::string label_;
  WindowShape windows_;
  std::shared_ptr<const RotaryTable<T>> rotary_;
  bool recompute_;
  LayerParameters parameters_;
  Buffers buffers_;
};

}  // namespace tessera::model
