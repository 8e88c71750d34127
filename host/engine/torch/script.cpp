// Makes of a TorchScript file one that computes in 16 bits. Why it is here: tch reaches a module's parameters and nothing of
// its graph, and what was traced or frozen has its weights there, as constants. Owns no policy: whether the module that comes
// out is exact enough is found by running it.

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/serialization/import.h>

#include "said.h"

namespace {

namespace jit = torch::jit;

// Numbers without dimensions stay exact: they do not decide in what kind is computed.
bool is_weight(const at::Tensor& tensor) {
  return tensor.defined() && tensor.scalar_type() == at::kFloat && tensor.dim() > 0;
}

void reduce_attributes(const jit::Module& module, at::ScalarType kind) {
  for (const auto& attribute : module.named_attributes()) {
    if (attribute.value.isTensor() && is_weight(attribute.value.toTensor())) {
      auto tensor = attribute.value.toTensor();
      tensor.set_data(tensor.to(kind));
    }
  }
}

// Where a graph asks for 32 bits by name (`x.float()`), it asks for `kind` afterwards.
void reduce_casts(jit::Node* node, at::ScalarType kind) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr) {
    return;
  }
  const auto& arguments = schema->arguments();
  for (std::size_t at = 0; at < node->inputs().size() && at < arguments.size(); ++at) {
    const auto value = jit::toIValue(node->input(at));
    if (arguments[at].name() == "dtype" && value && value->isInt() &&
        value->toInt() == static_cast<std::int64_t>(at::kFloat)) {
      const jit::WithInsertPoint before(node);
      node->replaceInput(at, node->owningGraph()->insertConstant(static_cast<std::int64_t>(kind)));
    }
  }
}

// Attention with a mask of 32 bits and everything else of 16 does not throw on a GPU: libtorch 2.11 reads the mask as if it
// had 16 (seen on an H100: off by more than the largest output). So there all casts go with the weights.
bool masks_attention(jit::Block* block) {
  static const auto attention = c10::Symbol::fromQualString("aten::scaled_dot_product_attention");
  for (auto* node : block->nodes()) {
    for (auto* inner : node->blocks()) {
      if (masks_attention(inner)) {
        return true;
      }
    }
    constexpr std::size_t mask = 3;
    if (node->kind() == attention && node->inputs().size() > mask && !node->input(mask)->mustBeNone()) {
      return true;
    }
  }
  return false;
}

void reduce_block(jit::Block* block, at::ScalarType kind, bool casts) {
  for (auto* node : block->nodes()) {
    for (auto* inner : node->blocks()) {
      reduce_block(inner, kind, casts);
    }
    const auto value = jit::attr::value;
    if (node->kind() == jit::prim::Constant && node->hasAttribute(value) &&
        node->kindOf(value) == jit::AttributeKind::t && is_weight(node->t(value))) {
      node->t_(value, node->t(value).to(kind));
      node->output()->inferTypeFrom(node->t(value));
    }
    if (casts) {
      reduce_casts(node, kind);
    }
  }
}

}  // namespace

using Take = void (*)(void* whose, const char* bytes, std::size_t length);

// Reads a file, and gives what it makes of it as the bytes of another.
extern "C" int tenon_script_reduced(const char* file, bool brain, bool casts, Take take, void* whose, char* text,
                                    std::size_t room) {
  return caught({text, room}, [&] {
    const at::NoGradGuard no_grad;
    const auto to = brain ? at::kBFloat16 : at::kHalf;
    auto module = jit::load(std::string(file), c10::Device(at::kCPU));
    module.eval();
    reduce_attributes(module, to);
    // Masks may be made in one function and used in another.
    const auto functions = module._ivalue()->compilation_unit()->get_functions();
    for (auto* function : functions) {
      if (auto* scripted = jit::tryToGraphFunction(*function)) {
        scripted->ensure_defined();
        casts = casts || masks_attention(scripted->graph()->block());
      }
    }
    for (auto* function : functions) {
      if (auto* scripted = jit::tryToGraphFunction(*function)) {
        reduce_block(scripted->graph()->block(), to, casts);
      }
    }
    std::ostringstream made;
    module.save(made);
    const std::string bytes = made.str();
    take(whose, bytes.data(), bytes.size());
  });
}
