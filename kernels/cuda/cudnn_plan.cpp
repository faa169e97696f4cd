// cuDNN graphs: from the graph to an execution plan, and running it.
#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <utility>

#include "core/error.h"
#include "kernels/cuda/cudnn_graph.h"

namespace tessera::kernels::cuda {
namespace {

// The engine configurations that cuDNN proposes for the graph, best first.
std::vector<CudnnDescriptor> proposals(const CudnnDescriptor& graph, cudnnBackendHeurMode_t mode) {
  CudnnDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, graph.name() + ", heuristic");
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  heuristic.finalize();

  const std::string what = graph.name() + ", proposed engines";
  std::int64_t count = 0;
  check_cudnn(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
              what);
  std::vector<CudnnDescriptor> configurations;
  std::vector<cudnnBackendDescriptor_t> pointers;
  for (std::int64_t i = 0; i < count; ++i) {
    configurations.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                                graph.name() + ", engine " + std::to_string(i));
    pointers.push_back(configurations.back().get());
  }
  if (count > 0)
    check_cudnn(
        cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count, pointers.data()),
        what);
  configurations.erase(configurations.begin() + count, configurations.end());
  return configurations;
}

void need_deterministic(const CudnnDescriptor& configuration) {
  const CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR, configuration.name());
  cudnnBackendDescriptor_t pointer = engine.get();
  std::int64_t count = 0;
  check_cudnn(cudnnBackendGetAttribute(configuration.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &pointer),
              configuration.name());
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  check_cudnn(
      cudnnBackendGetAttribute(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                               CUDNN_TYPE_NUMERICAL_NOTE, notes.size(), &count, notes.data()),
      configuration.name());
  const auto end = notes.begin() + count;
  if (std::find(notes.begin(), end, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) != end)
    throw Error(Category::device, "cuDNN " + configuration.name() + ": not deterministic");
}

CudnnDescriptor make_plan(const CudnnDescriptor& configuration) {
  need_deterministic(configuration);
  CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, configuration.name());
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
  plan.finalize();
  return plan;
}

}  // namespace

CudnnPlan::CudnnPlan(CudnnDescriptor plan, std::vector<CudnnDescriptor> parts)
    : parts_(std::move(parts)), plan_(std::move(plan)) {
  std::int64_t count = 0;
  check_cudnn(cudnnBackendGetAttribute(plan_.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                       CUDNN_TYPE_INT64, 1, &count, &workspace_bytes_),
              plan_.name() + ", workspace");
}

CudnnPlan CudnnGraph::compile(cudnnHandle_t handle) && {
  CudnnDescriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, name_);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations_);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
  graph.finalize();

  std::string refusals;
  const auto attempt = [&refusals](const auto& step) {
    try {
      step();
    } catch (const Error& error) {
      refusals += std::string("; ") + error.what();
    }
  };
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    std::vector<CudnnDescriptor> configurations;
    attempt([&] { configurations = proposals(graph, mode); });
    for (CudnnDescriptor& configuration : configurations) {
      std::optional<CudnnDescriptor> plan;
      attempt([&] { plan = make_plan(configuration); });
      if (!plan) continue;
      std::vector<CudnnDescriptor> parts;
      for (auto* group : {&tensors_, &functions_, &operations_})
        std::move(group->begin(), group->end(), std::back_inserter(parts));
      parts.push_back(std::move(graph));
      parts.push_back(std::move(configuration));
      return {std::move(*plan), std::move(parts)};
    }
  }
  throw Error(Category::device, "cuDNN " + name_ + ": no engine takes this graph" + refusals);
}

void CudnnPlan::run(cudnnHandle_t handle, const std::vector<Binding>& bindings,
                    void* workspace) const {
  std::vector<std::int64_t> ids;
  std::vector<void*> pointers;
  for (const auto& [id, pointer] : bindings) {
    ids.push_back(id);
    pointers.push_back(pointer);
  }
  const auto count = static_cast<std::int64_t>(ids.size());
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, plan_.name() + ", arguments");
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
  pack.finalize();
  check_cudnn(cudnnBackendExecute(handle, plan_.get(), pack.get()), "run " + plan_.name());
}

}  // namespace tessera::kernels::cuda
