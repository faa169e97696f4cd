// The block decoder's final layer norm: its output is the context embeddings c [B N, D].
#pragma once

#include "model/piece.h"

namespace tessera::model {

template <typename T>
class FinalNorm : public Piece<T> {
 public:
  FinalNorm(const ModelConfig& config, ParameterTable& table, const std::string& prefix,
            std::string label, std::int64_t rows_a_sequence);

  std::string name() const override { return label_; }
  Boundary output(std::int64_t sequences) const override;
  void plan(std::int64_t sequences, PiecePlan plan) override;
  void forward(const Pass<T>& pass, const T* in, T* out) override;
  void backward(const Pass<T>& pass, const T* in, const T* dout, T* din) override;
  double multiply_adds() const override { return 0; }

 private:
  ModelConfig config_;
  std::string label_;
  std::int64_t rows_a_sequence_;
  std::int64_t gain_, bias_;
  Buffer mean_, rstd_;
};

}  // namespace tessera::model
