// SPDX-License-Identifier: Apache-2.0
// Conversations.
#include <rwkv/compiled/part.hpp>
#include <rwkv/chat.ipp>
#include <rwkv/text/chat_template.ipp>
