#include "cli/kernel_bench/cases.h"

namespace tessera::cli {

KernelSuite paper_suite() {
  KernelSuite suite;
  // Token decoders see P + L_B - 1 = 5 positions for each of 511 predicted blocks a sequence.
  suite.stacks = {{"vanilla 160M", 16, 2048, 12, 64},      {"block 170M tokens", 8176, 5, 12, 64},
                  {"block 170M blocks", 16, 512, 12, 64},  {"vanilla 410M", 16, 2048, 16, 64},
                  {"block 1.4B tokens", 8176, 5, 16, 128}, {"block 1.4B blocks", 16, 512, 16, 128}};
  suite.chunk = 8192;
  suite.vocab = 50304;
  suite.classifier_widths = {768, 1024, 2048};
  suite.sequences = 16;
  suite.context = 2048;
  suite.width = 768;
  suite.parameters = 162'000'000 / 16384 * 16384;
  suite.caches = {
      {{"vanilla 160M", 128, 1, 12, 64}, 2112},      {{"vanilla 160M, alone", 1, 1, 12, 64}, 2112},
      {{"block 170M blocks", 2048, 1, 12, 64}, 528}, {{"block 170M tokens", 4096, 1, 12, 64}, 5},
      {{"block 1.4B blocks", 256, 1, 16, 128}, 528}, {{"block 1.4B tokens", 1024, 1, 16, 128}, 5}};
  return suite;
}

KernelSuite small_suite() {
  KernelSuite suite;
  suite.stacks = {{"vanilla", 8, 256, 4, 64}, {"block tokens", 504, 5, 4, 64}};
  suite.chunk = 512;
  suite.vocab = 4096;
  suite.classifier_widths = {256};
  suite.sequences = 8;
  suite.context = 256;
  suite.width = 256;
  suite.parameters = 4 << 20;
  suite.caches = {{{"vanilla", 8, 1, 4, 64}, 256}, {{"block tokens", 256, 1, 4, 64}, 5}};
  return suite;
}

}  // namespace tessera::cli
