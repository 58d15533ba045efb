// SPDX-License-Identifier: Apache-2.0
// A model inside an application that has threads of its own: the library takes any type with
// `concurrency()` and `parallel(n, f)`. This one spreads the calls over std::async; a game or a
// server would hand them to its job system.
//
//   custom_executor MODEL
#include <rwkv/model.hpp>

#include <future>
#include <iostream>
#include <thread>
#include <vector>

class JobSystem {
 public:
  std::size_t concurrency() const { return std::max(1u, std::thread::hardware_concurrency()); }

  /// f(0) ... f(n - 1), some of them elsewhere; returns when all are done.
  template <class F>
  void parallel(std::size_t n, F&& f) {
    std::vector<std::future<void>> elsewhere;
    for (std::size_t i = 1; i < n; ++i)
      elsewhere.push_back(std::async(std::launch::async, [&f, i] { f(i); }));
    if (n > 0) f(std::size_t{0});
  }  // the destructors of the futures wait
};
static_assert(rwkv::Executor<JobSystem>);

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: custom_executor MODEL\n";
    return 2;
  }
  const auto model = rwkv::load(argv[1]);
  const std::vector<rwkv::Token> prompt(64, 1);

  JobSystem jobs;
  rwkv::State mine(model.shape());
  rwkv::State alone(model.shape());
  rwkv::Workspace work(model.shape());
  model.forward(mine, prompt, work, jobs);
  model.forward(alone, prompt, work);
  std::cout << "with " << jobs.concurrency()
            << " threads and with one: " << (mine == alone ? "the same bits" : "different bits")
            << '\n';
  return mine == alone ? 0 : 1;
} catch (const rwkv::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
