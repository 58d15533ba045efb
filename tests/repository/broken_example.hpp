// SPDX-License-Identifier: Apache-2.0
// An example that does not compile, for comment_examples.py to find:
//
//   std::vector<int> numbers;
//   numbers.no_such_function();
#pragma once
