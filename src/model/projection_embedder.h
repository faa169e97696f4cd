// The block embedder that projects: the L_B embeddings of a block through one convolution whose
// kernel and stride are L_B.
//
//   u_i = b + sum over k of W[:, :, k] E[x_i,k]       E [V, D], N(0, 0.02)
//                                                      W [D, D, L_B], N(0, 1/sqrt(D L_B)); b [D], 0
// out [B N, D]. W is stored as published everywhere: in memory, in checkpoints and in exports. Its
// rows have the L_B numbers of a component side by side, so a block's embeddings, [L_B, D], are
// turned to [D, L_B] and the rest is a linear layer: u_i = W z_i + b, z_i[c L_B + k] = E[x_i,k][c].
#pragma once

#include "model/piece.h"

namespace tessera::model {

// The forward of `blocks` blocks, for training and generation.
template <typename T>
struct ProjectBlocks {
  std::int64_t blocks = 0;
  const std::int32_t* ids = nullptr;  // [blocks, L_B]
  const T* table = nullptr;
  const T* weight = nullptr;
  const T* bias = nullptr;
  T* embedded = nullptr;  // [blocks, L_B, D], scratch
  T* turned = nullptr;    // [blocks, D, L_B], z
  T* out = nullptr;       // [blocks, D]
};
template <typename T>
void project_blocks(const kernels::Queue& queue, const ModelConfig& config,
                    const ProjectBlocks<T>& args);

template <typename T>
class ProjectionEmbedder : public Piece<T> {
 public:
  ProjectionEmbedder(const ModelConfig& config, ParameterTable& table);

  std::string name() const override { return "block embedder"; }
  Boundary output(std::int64_t sequences) const override;
  void plan(std::int64_t sequences, PiecePlan plan) override;
  void forward(const Pass<T>& pass, const T* in, T* out) override;
  void backward(const Pass<T>& pass, const T* in, const T* dout, T* din) override;
  double multiply_adds() const override;

 private:
  std::int64_t blocks(std::int64_t sequences) const {
    return sequences * (config_.context / config_.block_length);
  }

  ModelConfig config_;
  std::int64_t table_, weight_, bias_;
  Buffer embedded_, turned_;
};

}  // namespace tessera::model
