// SPDX-License-Identifier: Apache-2.0
// Conversations.
// clang-format off
#include <rwkv/compiled/part.hpp>  // first
// clang-format on
#include <rwkv/chat.ipp>
#include <rwkv/text/chat_template.ipp>
