#include "parallel/piece_work.h"

#include <algorithm>

#include "core/error.h"
#include "core/integers.h"
#include "model/head.h"

namespace tessera::parallel {
namespace {

// Sums over rows cross a norm backward's thread blocks: it moves its bytes this much slower.
constexpr double kNormBackward = 1.2;

class Builder {
 public:
  Builder(const ModelConfig& config, std::int64_t sequences, Recompute recompute,
          Precision precision, Device device)
      : c_(config),
        sequences_(sequences),
        recompute_(recompute),
        device_(device),
        element_(static_cast<double>(element_bytes(precision))) {}

  std::vector<PieceWork> vanilla() {
    const std::int64_t rows = sequences_ * c_.context;
    embedding("embedding", rows, c_.width);
    layers("layer ", c_.layers, rows, c_.context);
    head(rows, sequences_ * (c_.context - 1));
    return std::move(pieces_);
  }

  std::vector<PieceWork> block() {
    const std::int64_t blocks = c_.context / c_.block_length;
    const std::int64_t window = c_.prefix + c_.block_length - 1;
    const std::int64_t upper = sequences_ * blocks, lower = sequences_ * (blocks - 1) * window;
    if (c_.embedder == Embedder::projection)
      projection(upper);
    else
      embedding("block embedder", sequences_ * c_.context, c_.width / c_.block_length);
    layers("block decoder layer ", c_.block_layers, upper, blocks);
    final_norm(upper);
    expansion(upper);
    layers("token decoder layer ", c_.token_layers, lower, window);
    head(lower, sequences_ * (blocks - 1) * c_.block_length);
    return std::move(pieces_);
  }

 private:
  // rows x columns elements, moved once.
  double moved(std::int64_t rows, std::int64_t columns) const {
    return element_ * static_cast<double>(rows) * static_cast<double>(columns);
  }
  // One element-wise operation over `times` such arrays.
  void moves(Work& work, std::int64_t rows, std::int64_t columns, double times) const {
    work.bytes += times * moved(rows, columns);
    work.operations += 1;
  }
  // y = x W^T, with a residual read where `add`.
  void forward(Work& work, std::int64_t rows, std::int64_t in, std::int64_t out,
               bool add = false) const {
    work.products.push_back(
        {rows, out, in, moved(rows, in) + moved(out, in) + moved(rows, out) * (add ? 2 : 1)});
  }
  // dx = dy W; dW += dy^T x.
  void backward(Work& work, std::int64_t rows, std::int64_t in, std::int64_t out) const {
    work.products.push_back({rows, in, out, moved(rows, out) + moved(out, in) + moved(rows, in)});
    work.products.push_back(
        {out, in, rows,
         moved(rows, out) + moved(rows, in) +
             2.0 * kWideBytes * static_cast<double>(out) * static_cast<double>(in)});
  }
  void embed_backward(Work& work, std::int64_t rows, std::int64_t width) const {
    // Gradients read; rows of the table's gradient read and written.
    work.bytes += moved(rows, width) +
                  2.0 * kWideBytes * static_cast<double>(rows) * static_cast<double>(width);
    work.operations += 2;
    work.ids += rows;
  }

  void embedding(const std::string& name, std::int64_t rows, std::int64_t width) {
    PieceWork piece{name, {}, {}};
    moves(piece.forward, rows, width, 2);
    embed_backward(piece.backward, rows, width);
    pieces_.push_back(std::move(piece));
  }

  // Look-up, transposition and product; the first two again in the backward.
  void projection(std::int64_t rows) {
    const std::int64_t tokens = rows * c_.block_length, in = c_.block_length * c_.width;
    PieceWork piece{"block embedder", {}, {}};
    Work turned;
    moves(turned, tokens, c_.width, 2);
    moves(turned, tokens, c_.width, 2);
    piece.forward.add(turned);
    forward(piece.forward, rows, in, c_.width);
    piece.backward.add(turned);
    backward(piece.backward, rows, in, c_.width);
    moves(piece.backward, rows, c_.width, 1);  // bias gradient
    moves(piece.backward, tokens, c_.width, 2);
    embed_backward(piece.backward, tokens, c_.width);
    pieces_.push_back(std::move(piece));
  }

  void final_norm(std::int64_t rows) {
    PieceWork piece{"block decoder final norm", {}, {}};
    moves(piece.forward, rows, c_.width, 2);
    moves(piece.backward, rows, c_.width, 3 * kNormBackward);
    pieces_.push_back(std::move(piece));
  }

  void expansion(std::int64_t rows) {
    const std::int64_t prefix = c_.prefix * c_.width;
    const std::int64_t fed = rows * (c_.block_length - 1);
    PieceWork piece{"expansion and token embedding", {}, {}};
    forward(piece.forward, rows, c_.width, prefix);
    moves(piece.forward, rows, prefix, 2);
    moves(piece.backward, rows, prefix, 1);  // cleared
    moves(piece.backward, rows, prefix, 2);
    if (fed > 0) {
      moves(piece.forward, fed, c_.width, 2);
      embed_backward(piece.backward, fed, c_.width);
    }
    moves(piece.backward, rows, prefix, 1);  // bias gradient
    backward(piece.backward, rows, c_.width, prefix);
    pieces_.push_back(std::move(piece));
  }

  void layers(const std::string& label, std::int64_t count, std::int64_t rows,
              std::int64_t length) {
    const PieceWork piece = layer(rows, length);
    for (std::int64_t i = 0; i < count; ++i) {
      pieces_.push_back(piece);
      pieces_.back().name = label + std::to_string(i);
    }
  }

  PieceWork layer(std::int64_t rows, std::int64_t length) const {
    const std::int64_t width = c_.width, ffn = c_.ffn_mult * width;
    Work norms, attention, activation;
    moves(norms, rows, width, 3);
    attention.attention.push_back({rows, length, width, c_.rotary_pct, false});
    moves(activation, rows, ffn, 2);

    PieceWork piece;
    Work& f = piece.forward;
    f.add(norms);
    forward(f, rows, width, 3 * width);
    f.add(attention);
    forward(f, rows, width, width, true);
    forward(f, rows, width, ffn);
    f.add(activation);
    forward(f, rows, ffn, width, true);

    Work& b = piece.backward;
    if (recompute_ == Recompute::layer) b.add(f);
    if (recompute_ == Recompute::attention_mlp)
      for (const Work& again : {norms, attention, activation}) b.add(again);
    backward(b, rows, ffn, width);
    moves(b, rows, ffn, 3);
    backward(b, rows, width, ffn);
    backward(b, rows, width, width);
    b.attention.push_back({rows, length, width, c_.rotary_pct, true});
    backward(b, rows, width, 3 * width);
    moves(b, rows, width, 5 * kNormBackward);
    return piece;
  }

  void head(std::int64_t rows, std::int64_t predicting) {
    PieceWork piece{"head", {}, {}};
    Work& f = piece.forward;
    moves(f, predicting, c_.width, 2);
    moves(f, predicting, c_.width, 2);
    const std::int64_t chunk = model::head_chunk_rows(c_, device_, predicting);
    for (std::int64_t begin = 0; begin < predicting; begin += chunk) {
      const std::int64_t some = std::min(chunk, predicting - begin);
      forward(f, some, c_.width, c_.vocab);
      moves(f, some, c_.vocab, 2);
      backward(f, some, c_.width, c_.vocab);
    }
    moves(piece.backward, predicting, c_.width, 3 * kNormBackward);
    moves(piece.backward, rows, c_.width, 1);  // cleared
    moves(piece.backward, predicting, c_.width, 2);
    pieces_.push_back(std::move(piece));
  }

  const ModelConfig& c_;
  std::int64_t sequences_;
  Recompute recompute_;
  Device device_;
  double element_;
  std::vector<PieceWork> pieces_;
};

}  // namespace

void Work::add(const Work& other) {
  products.insert(products.end(), other.products.begin(), other.products.end());
  attention.insert(attention.end(), other.attention.begin(), other.attention.end());
  bytes += other.bytes;
  operations += other.operations;
  ids += other.ids;
}

std::int64_t element_bytes(Precision precision) {
  TESSERA_CHECK(precision != Precision::automatic);
  return precision == Precision::bf16 ? 2 : 4;
}

std::vector<PieceWork> piece_work(const ModelConfig& config, std::int64_t sequences,
                                  Recompute recompute, Precision precision, Device device) {
  Builder builder(config, sequences, recompute, precision, device);
  return config.kind == ModelKind::vanilla ? builder.vanilla() : builder.block();
}

}  // namespace tessera::parallel
