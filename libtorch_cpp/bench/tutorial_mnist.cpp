// LeNet-5 on MNIST as in libtorch's tutorial (pytorch/examples/cpp/mnist): torch::data's loader loads, normalises and stacks one image at
// a time; torch::nn and autograd do the rest. It is the baseline that `lenet5` is compared with.
#include <torch/torch.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <string>

struct LeNet5 : torch::nn::Module {
  LeNet5() {
    register_module("c1", c1);
    register_module("c3", c3);
    register_module("c5", c5);
    register_module("f6", f6);
    register_module("out", out);
  }

  torch::Tensor forward(torch::Tensor x) {
    x = torch::max_pool2d(torch::relu(c1->forward(x)), 2);
    x = torch::max_pool2d(torch::relu(c3->forward(x)), 2);
    x = torch::relu(c5->forward(x)).flatten(1);
    x = torch::relu(f6->forward(x));
    return torch::log_softmax(out->forward(x), 1);
  }

  torch::nn::Conv2d c1{torch::nn::Conv2dOptions(1, 6, 5).padding(2)}, c3{torch::nn::Conv2dOptions(6, 16, 5)},
      c5{torch::nn::Conv2dOptions(16, 120, 5)};
  torch::nn::Linear f6{120, 84}, out{84, 10};
};

int main(int count, char** arguments) {
  std::map<std::string, std::string> flags{{"--batch-size", "64"}, {"--threads", "2"}, {"--samples", "60000"}, {"--epochs", "1"}};
  for (int i = 1; i + 1 < count; i += 2) flags[arguments[i]] = arguments[i + 1];
  if (count % 2 == 0 || !flags.contains("--data") || flags.size() != 5) {
    std::fprintf(stderr, "usage: tutorial_mnist --data DIR [--batch-size N] [--threads N] [--samples N] [--epochs N]\n");
    return 2;
  }
  const size_t batch_size = std::stoul(flags["--batch-size"]), samples = std::stoul(flags["--samples"]);
  torch::manual_seed(1);
  torch::set_num_threads(std::stoi(flags["--threads"]));

  LeNet5 model;
  torch::optim::Adam optimizer(model.parameters(), torch::optim::AdamOptions(0.01));
  const auto load = [&](torch::data::datasets::MNIST::Mode mode) {
    return torch::data::datasets::MNIST(flags["--data"], mode)
        .map(torch::data::transforms::Normalize<>(0.1307, 0.3081))
        .map(torch::data::transforms::Stack<>());
  };
  auto train_loader = torch::data::make_data_loader(load(torch::data::datasets::MNIST::Mode::kTrain),
                                                    torch::data::samplers::RandomSampler(static_cast<int64_t>(samples)),
                                                    torch::data::DataLoaderOptions(batch_size).drop_last(true));
  auto test_loader = torch::data::make_data_loader(load(torch::data::datasets::MNIST::Mode::kTest), 1000);

  const auto start = std::chrono::steady_clock::now();
  for (int epoch = 0; epoch < std::stoi(flags["--epochs"]); ++epoch) {
    for (auto& batch : *train_loader) {
      optimizer.zero_grad();
      auto loss = torch::nll_loss(model.forward(batch.data), batch.target);
      loss.backward();
      optimizer.step();
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  torch::NoGradGuard no_grad;
  int64_t right = 0, tested = 0;
  for (auto& batch : *test_loader) {
    right += model.forward(batch.data).argmax(1).eq(batch.target).sum().item<int64_t>();
    tested += batch.target.size(0);
  }
  const double trained = static_cast<double>(samples / batch_size * batch_size) * std::stoi(flags["--epochs"]);
  std::printf("{\"seconds\": %.3f, \"samples_per_second\": %.1f, \"accuracy\": %.4f}\n", seconds, trained / seconds,
              static_cast<double>(right) / static_cast<double>(tested));
}
