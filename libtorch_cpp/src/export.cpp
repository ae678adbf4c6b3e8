#include "export.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <sstream>

#include "error.h"
#include "files.h"

namespace {

using torch::jit::Module;

constexpr double tolerance = 1e-5;

constexpr char convolution[] = R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.relu(torch.max_pool2d(torch.conv2d(x, self.weight, self.bias), [2, 2]))
)";

constexpr char linear[] = R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.linear(x, self.weight.flatten(1), self.bias)
)";

constexpr char lenet5[] = R"(
def forward(self, image: Tensor) -> Dict[str, Tensor]:
    x = (image.permute(0, 3, 1, 2) / 255 - self.mean) / self.std
    x = torch.constant_pad_nd(x, [2, 2, 2, 2])
    x = self.c3.forward(self.c1.forward(x)).flatten(1)
    x = torch.relu(self.c5.forward(x))
    x = torch.relu(self.f6.forward(x))
    logits = self.out.forward(x)
    return {"probabilities": torch.softmax(logits, 1), "logits": logits}
)";

Module layer(const std::string& name, const char* forward, const Tensors& weights,
             const std::shared_ptr<torch::jit::CompilationUnit>& unit) {
  Module module(c10::QualifiedName("__torch__.LeNet5_" + name), unit);
  for (const char* kind : {"weight", "bias"}) {
    module.register_parameter(kind, weights.at(name + "." + kind).clone(), /*is_buffer=*/false);
  }
  module.define(forward);
  return module;
}

}  // namespace

void export_torchscript(const std::filesystem::path& file, const Tensors& weights, double mean, double std) {
  const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  Module module(c10::QualifiedName("__torch__.LeNet5"), unit);
  module.register_attribute("mean", c10::FloatType::get(), mean);
  module.register_attribute("std", c10::FloatType::get(), std);
  for (const char* name : {"c1", "c3"}) module.register_module(name, layer(name, convolution, weights, unit));
  for (const char* name : {"c5", "f6", "out"}) module.register_module(name, layer(name, linear, weights, unit));
  module.define(lenet5);  // last, because it refers to the layers
  module.eval();
  module.save(file.string());
}

double verify_export(const std::filesystem::path& folder) {
  const std::string golden_file = (folder / "golden.safetensors").string();
  const Tensors golden = parse_safetensors(golden_file, read_file(golden_file));
  const auto image = golden.find("image");
  const int64_t n = image == golden.end() || image->second.dim() == 0 ? 0 : image->second.size(0);
  const at::Tensor images = expect_tensor(golden_file, golden, "image", at::kFloat, {n, 28, 28, 1});
  const at::Tensor labels = expect_tensor(golden_file, golden, "label", at::kLong, {n});

  const std::string model_file = (folder / "model.pt").string();
  if (!std::filesystem::exists(model_file)) throw Error(model_file + " is missing: train again");
  Module module = torch::jit::load(model_file);
  const auto answers = module.forward({images}).toGenericDict();
  double largest = 0;
  for (const char* name : {"logits", "probabilities"}) {
    const at::Tensor answer = answers.at(name).toTensor();
    const at::Tensor expected = expect_tensor(golden_file, golden, name, at::kFloat, {n, 10});
    const auto difference = (answer - expected).abs().max().item<double>();
    if (!at::allclose(answer, expected, tolerance, tolerance)) {
      std::ostringstream text;
      text << model_file << " differs from golden.safetensors by " << difference << " in " << name << ", expected at most " << tolerance
           << ": train again";
      throw Error(text.str());
    }
    if (!answer.argmax(1).equal(labels)) throw Error(model_file + " gives different labels than golden.safetensors: train again");
    largest = std::max(largest, difference);
  }
  return largest;
}
