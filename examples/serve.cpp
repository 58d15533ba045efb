// SPDX-License-Identifier: Apache-2.0
// How a server generates: any model, sequences that come and go, one pass for all of them. Requests
// are lines of standard input; each answer is printed when it is complete.
//
//   printf 'The king\nThe queen\nOnce upon a time\n' | serve MODEL [MOST_AT_ONCE]
#include <rwkv/any_model.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/generate_batch.hpp>

#include <iostream>
#include <map>

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: serve MODEL [MOST_AT_ONCE] < REQUESTS\n";
    return 2;
  }
  rwkv::ThreadPool pool;
  const rwkv::Opened opened = rwkv::open(argv[1], {}, pool);
  const std::size_t most = argc > 2 ? std::stoul(argv[2]) : 8;
  rwkv::AnyWorkspace work = opened.model.workspace();
  rwkv::GenerateBatch batch(opened.model, opened.tokenizer());

  struct Request {
    std::string prompt;
    rwkv::AnyState state;  // must stay where it is while its sequence runs
  };
  std::map<std::size_t, Request> running;
  rwkv::GenerateOptions options{.max_tokens = 60, .stop_strings = {"\n"}};
  std::size_t next = 0;
  std::string line;
  while (true) {
    // New ones join whenever there is room; nobody waits for a batch to be full or to end.
    while (running.size() < most && std::getline(std::cin, line)) {
      if (line.empty()) continue;
      Request& request =
          running.emplace(next, Request{line, opened.model.initial_state()}).first->second;
      options.sampler.seed = next;
      next = batch.add(request.state, request.prompt, options) + 1;
    }
    if (running.empty()) break;
    batch.step(work, pool);
    for (auto it = running.begin(); it != running.end();) {
      if (!batch.ended(it->first)) {
        ++it;
        continue;
      }
      std::cout << it->first << ": " << it->second.prompt << batch.take(it->first).text << '\n';
      it = running.erase(it);
    }
  }
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
